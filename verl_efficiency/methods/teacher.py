"""The self-teacher: the same model, with a correct solution or feedback in its prompt, scores the student's own tokens.

This file has its settings and its prompts. Names and defaults are those of SDPO (arXiv 2601.20802, ``actor.yaml`` at
lasgroup/SDPO @0e6d510). The losses are in ``distillation.py``, the routers in ``routing/``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from verl_efficiency.methods.advantages import AdvantageName
from verl_efficiency.settings import MethodSettings, SettingsError, require

# Also up to a lone </think>: if the chat template opens the thinking in the prompt, a response holds only its end.
_THINKING = re.compile(r"\A(?:(?!<think>).)*?</think>|<think>.*?</think>", flags=re.DOTALL)


@dataclass(frozen=True)
class DistillationSettings(MethodSettings):
    """Settings of the self-teacher and of its loss.

    Attributes:
        advantage: group advantage of rollouts that learn by GRPO: grpo, dr_grpo (as in SRPO), rloo or batch.
        full_logit_distillation: True: divergence over the student's top-K tokens. False: the sampled token only, with the
            advantage ``w · (log q − log π_old)`` in the trainer's own loss and clipping; alpha must be 1.
        alpha: 0: KL(teacher ‖ student), 1: KL(student ‖ teacher), between: generalised Jensen–Shannon.
        distillation_topk: K, the number of the student's most likely tokens, taken before the update. Each of verl's workers
            stores 6 · K bytes per routed token of its rows until the update is over.
        target_dtype: how verl's workers store the teacher's log-probabilities: ``float16`` (error at most 0.05 % of a
            log-probability), or ``float32``, which takes 8 · K bytes per routed token. OpenRLHF always stores float32.
        distillation_add_tail: True: one more bucket holds the remaining probability. False: renormalise within the top K.
        is_clip: multiply a token's loss by ``min(π / π_old, is_clip)``, without gradient; null: no factor.
        entropy_beta: β of the token weight ``exp(−β · teacher entropy)``, normalised to mean 1 over all routed tokens of the
            batch; 0: equal weights.
        teacher_regularization: ``ema``: the teacher is an exponential average of the actor; ``none``: it is the actor.
        teacher_update_rate: τ of ``teacher ← (1 − τ) · teacher + τ · actor``.
        teacher_refresh_steps: training steps between two updates of the teacher.
        max_reprompt_len: maximum length of the teacher's prompt in tokens.
        reprompt_truncation: which end of a longer prompt to cut off, or ``error``.
        dont_reprompt_on_self_success: a correct rollout is never its own demonstration.
        remove_thinking_from_demonstration: remove ``<think>…</think>`` from a demonstration, and the text before a lone
            ``</think>`` (SDPO's code keeps that text). If nothing remains, show the whole response.
        include_environment_feedback: show the teacher the feedback that the reward returns (key ``feedback``).
        environment_feedback_only_without_solution: show feedback only if there is no demonstration.
        reprompt_template: holds ``{prompt}``, ``{solution}``, ``{feedback}``.
        solution_template: holds ``{successful_previous_attempt}``.
        feedback_template: holds ``{feedback_raw}``. All three are as in ``actor.yaml``; SDPO's dataclass has more line breaks.
        demonstration: which correct sibling to show: the ``first`` (as in SDPO's code) or the ``shortest``.
        truncated_demonstrations: whether a truncated response may be a demonstration (the paper does not say).
        max_response_length: response limit in tokens, tool output included; in verl, null means ``data.max_response_length``.
        chunk_tokens: number of tokens whose logits are processed at once. More is a little faster and takes more memory.
        router: ``package.module.function``, your own router in place of the method's. It also gets the token ids of the
            responses.
    """

    advantage: AdvantageName = "dr_grpo"
    full_logit_distillation: bool = True
    alpha: float = 0.5
    distillation_topk: int = 100
    target_dtype: Literal["float16", "float32"] = "float16"
    distillation_add_tail: bool = True
    is_clip: float | None = 2.0
    entropy_beta: float = 0.0
    teacher_regularization: Literal["ema", "none"] = "ema"
    teacher_update_rate: float = 0.05
    teacher_refresh_steps: int = 1
    max_reprompt_len: int = 10240
    reprompt_truncation: Literal["right", "left", "error"] = "right"
    dont_reprompt_on_self_success: bool = True
    remove_thinking_from_demonstration: bool = True
    include_environment_feedback: bool = True
    environment_feedback_only_without_solution: bool = True
    reprompt_template: str = "{prompt}{solution}{feedback}\n\nCorrectly solve the original question."
    solution_template: str = "\nCorrect solution:\n\n{successful_previous_attempt}"
    feedback_template: str = "\nThe following is feedback from your unsuccessful earlier attempt:\n\n{feedback_raw}"
    demonstration: Literal["first", "shortest"] = "first"
    truncated_demonstrations: bool = True
    max_response_length: int | None = None
    chunk_tokens: int = 512
    router: str | None = None

    def __post_init__(self) -> None:
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "in [0, 1]")
        if not self.full_logit_distillation:
            require(
                self.alpha == 1, "alpha", self.alpha, "1 with full_logit_distillation=False (one token has no mixture)"
            )
        unused: dict[str, str] = {}
        if not self.full_logit_distillation:
            of_topk = ("distillation_topk", "target_dtype", "distillation_add_tail", "is_clip")
            unused |= dict.fromkeys(of_topk, "full_logit_distillation=False")
        if self.teacher_regularization == "none":
            unused |= dict.fromkeys(("teacher_update_rate", "teacher_refresh_steps"), "teacher_regularization=none")
        for name, reason in unused.items():
            value = getattr(self, name)
            require(value == getattr(type(self), name), name, value, f"left out: {reason} does not use it")
        require(self.distillation_topk >= 1, "distillation_topk", self.distillation_topk, "at least 1")
        require(self.is_clip is None or self.is_clip > 0, "is_clip", self.is_clip, "above 0, or null")
        require(self.entropy_beta >= 0, "entropy_beta", self.entropy_beta, "a number of at least 0")
        require(0 <= self.teacher_update_rate <= 1, "teacher_update_rate", self.teacher_update_rate, "in [0, 1]")
        refresh = self.teacher_refresh_steps
        require(refresh >= 1, "teacher_refresh_steps", refresh, "a whole number of at least 1")
        require(self.max_reprompt_len >= 1, "max_reprompt_len", self.max_reprompt_len, "at least 1 token")
        require(self.chunk_tokens >= 1, "chunk_tokens", self.chunk_tokens, "at least 1 token")
        check_template("reprompt_template", self.reprompt_template, ["prompt", "solution", "feedback"])
        check_template("solution_template", self.solution_template, ["successful_previous_attempt"])
        check_template("feedback_template", self.feedback_template, ["feedback_raw"])

    @property
    def needs_trainer(self) -> bool:
        return True

    @property
    def reads_feedback(self) -> bool:
        return self.include_environment_feedback

    @property
    def reads_responses(self) -> bool:
        return self.router is not None or not self.truncated_demonstrations

    @property
    def single_output(self) -> str:
        reason = (
            "a self-teacher scores one response to the question of the data set, and later outputs answer other prompts"
        )
        return reason if self.needs_trainer else ""

    @property
    def reads(self) -> frozenset[str]:
        before = {"scores", "masks"} if self.needs_trainer else set()
        return super().reads | before | ({"responses"} if self.keeps_state else set())

    def teacher_question(self, question: str, demonstration: str | None, feedback: str | None) -> str:
        """The teacher's version of ``question``.

        Raises:
            ValueError: there is neither a demonstration nor feedback.
        """
        if not demonstration and not feedback:
            raise ValueError("a teacher without a demonstration and without feedback knows no more than the student")
        if demonstration and self.remove_thinking_from_demonstration:
            demonstration = _THINKING.sub("", demonstration).strip() or demonstration
        return self.reprompt_template.format(
            prompt=question,
            solution=self.solution_template.format(successful_previous_attempt=demonstration) if demonstration else "",
            feedback=self.feedback_template.format(feedback_raw=feedback) if feedback else "",
        )


def check_template(name: str, template: str, placeholders: Sequence[str]) -> None:
    """Refuse a template with a missing or an unknown placeholder.

    Raises:
        SettingsError: naming the setting ``name``.
    """
    known = ", ".join(f"{{{key}}}" for key in placeholders)
    require(all(f"{{{key}}}" in template for key in placeholders), name, template, f"a text that holds {known}")
    try:
        template.format(**dict.fromkeys(placeholders, ""))
    except (KeyError, IndexError, ValueError) as error:
        raise SettingsError(
            f"{name}: {error!r} in {template!r}; the only braces are {known}, others are doubled: {{{{ }}}}"
        ) from None


def teacher_messages(
    messages: Sequence[Mapping], demonstration: str | None, feedback: str | None, settings: DistillationSettings
) -> list[dict]:
    """The teacher's prompt: the student's messages, with demonstration and feedback added to the last one.

    Args:
        messages: the student's prompt; the last message is the user's question, as text.
        demonstration: a correct response, or None.
        feedback: the reward's feedback on this rollout, or None.

    Raises:
        ValueError: both are missing or empty, or the question is not plain text.

    >>> teacher_messages([{"role": "user", "content": "1+1?"}], "<think>hm</think>2", None, DistillationSettings())
    [{'role': 'user', 'content': '1+1?\\nCorrect solution:\\n\\n2\\n\\nCorrectly solve the original question.'}]
    """
    *earlier, last = (dict(message) for message in messages)
    if not isinstance(last["content"], str):
        raise ValueError(f"self-distillation is for text prompts; this one holds {type(last['content']).__name__}")
    last["content"] = settings.teacher_question(last["content"], demonstration, feedback)
    return [*earlier, last]


def truncate_prompt(token_ids: list[int], settings: DistillationSettings) -> list[int]:
    """Truncate a teacher's prompt to ``max_reprompt_len`` tokens.

    ``right`` cuts off the end, as SDPO does. That removes the end of the template and the tokens that open the answer.

    Raises:
        ValueError: the prompt is longer, and ``reprompt_truncation`` is ``error``.
    """
    limit = settings.max_reprompt_len
    if len(token_ids) <= limit:
        return token_ids
    if settings.reprompt_truncation == "error":
        raise ValueError(
            f"a teacher's prompt has {len(token_ids)} tokens, more than max_reprompt_len={limit}; raise it, or set "
            "reprompt_truncation to right or left"
        )
    return token_ids[:limit] if settings.reprompt_truncation == "right" else token_ids[-limit:]
