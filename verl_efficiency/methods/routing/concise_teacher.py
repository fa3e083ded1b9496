"""Concise teacher (CRISP): the teacher is the model with an instruction to be concise; the student has no instruction."""

from dataclasses import dataclass, fields

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.base import DISTIL, INSTRUCTION, NO_SOURCE, SKIP, Routes, route, routed_outcome
from verl_efficiency.methods.teacher import DistillationSettings, check_template
from verl_efficiency.settings import SettingsError

_OF_DEMONSTRATIONS = (
    *("demonstration", "truncated_demonstrations", "dont_reprompt_on_self_success", "solution_template"),
    *("remove_thinking_from_demonstration", "include_environment_feedback", "feedback_template", "reprompt_template"),
    "environment_feedback_only_without_solution",
)


@dataclass(frozen=True)
class ConciseTeacherSettings(DistillationSettings):
    """Settings of ``concise_teacher``: those of the teacher, without demonstrations and feedback.

    Attributes:
        instruction_template: the teacher's question. ``{prompt}`` is the student's question.
        correct_threshold: a score of at least this is correct. Learning does not use scores.
    """

    alpha: float = 1.0
    is_clip: float | None = None
    teacher_update_rate: float = 1.0
    teacher_refresh_steps: int = 50
    correct_threshold: float = 0.5
    instruction_template: str = (
        "{prompt}\n\nSolve this concisely and correctly. Write only the steps that lead to the answer: do not restate the "
        "problem, do not digress, and do not check again what is settled."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("instruction_template", self.instruction_template, ["prompt"])
        for setting in fields(self):
            if setting.name in _OF_DEMONSTRATIONS and getattr(self, setting.name) != setting.default:
                raise SettingsError(
                    f"{setting.name}: concise_teacher shows no demonstration and no feedback; leave it out"
                )

    @property
    def reads_feedback(self) -> bool:
        return False

    def teacher_question(self, question: str, demonstration: str | None, feedback: str | None) -> str:
        return self.instruction_template.format(prompt=question)


def route_to_instruction(rollouts: Rollouts, settings: ConciseTeacherSettings) -> Routes:
    """Route every rollout to the teacher, correct or wrong."""
    real_B = rollouts.real_B
    return Routes(
        route_B=torch.where(real_B, DISTIL, SKIP),
        source_B=torch.where(real_B, INSTRUCTION, NO_SOURCE),
        feedback_B=torch.zeros_like(real_B),
    )


def concise_teacher(rollouts: Rollouts, settings: ConciseTeacherSettings, state: None = None) -> Outcome:
    """CRISP (first called OPSDC): the self-teacher is the model with an instruction to be concise.

    T is the set of tokens of all rollouts, p the student, q the teacher. The teacher reads the same response after its own
    question::

        L = 1/|T| · Σ_t KL(p ‖ q)

    The KL is over the student's K most likely tokens and a bucket for the rest. All advantages are 0. The reward is only
    logged, so no ground truth is needed. The teacher's weights are a copy of the student's, made at the start and again every
    ``teacher_refresh_steps`` steps.

    Paper: "CRISP: Compressed Reasoning via Iterative Self-Policy Distillation", arXiv 2603.05433: reverse KL on every
    rollout, a refresh every 50 steps, 57–59 % fewer tokens on MATH-500. Code read: github.com/jaeh8nkim/opsdc (a
    reproduction), with learning rate 1e-6, batch size 32, one rollout per prompt. That code takes the KL over the whole
    vocabulary and the mean over each micro-batch; ours takes the mean over the mini-batch. The wording of the instruction is
    ours; change it with ``instruction_template``.

    >>> r = Rollouts.build(torch.tensor([1., 0.]), torch.tensor([5, 9]), list("ab"))
    >>> concise_teacher(r, ConciseTeacherSettings()).metrics
    {'grpo_share': 0.0, 'distil_share': 1.0, 'skip_share': 0.0}
    """
    return routed_outcome(rollouts, route(route_to_instruction, rollouts, settings), settings)
