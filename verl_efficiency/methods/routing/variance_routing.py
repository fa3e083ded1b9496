"""Variance routing: groups whose rewards vary learn by GRPO, the others from a reference rollout or solution."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, group_advantage
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.base import DISTIL, GRPO, NO_SOURCE, REFERENCE, SKIP, Routes, route, routed_outcome
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.settings import SettingsError, require, require_at_least_0

_OF_OTHER_ROUTERS = (
    *("demonstration", "truncated_demonstrations", "dont_reprompt_on_self_success"),
    *("include_environment_feedback", "environment_feedback_only_without_solution", "feedback_template"),
)


@dataclass(frozen=True)
class VarianceRoutingSettings(DistillationSettings):
    """Settings of ``variance_routing``; those of the teacher apply with ``distil=True`` only.

    Attributes:
        variance_threshold: groups with a population variance below this learn from a reference, the others by GRPO.
        signal: variance of the ``score``, or of ``correctness`` (0/1), which suits scores shaped by length.
        reference_weight: w, the advantage of a reference rollout; not with ``distil=True``.
        advantage: group advantage of groups that learn by GRPO: grpo, dr_grpo, rloo or batch.
        correct_threshold: a score of at least this is correct.
        distil: False: imitate the reference rollout itself. True (needs one of our trainers): its siblings learn
            from the self-teacher that sees it, and all-wrong groups learn from a teacher that sees a reference solution.
        reference_column: column of the data set with a correct solution of each problem, for all-wrong groups.
        store_responses: store the shortest correct response to every prompt, save it with the checkpoints, and use it as the
            reference solution of prompts whose column is empty.
        stored_characters: most characters of all stored responses together, about as many bytes of memory and of the
            checkpoint. A response that does not fit is not stored.
    """

    advantage: AdvantageName = "grpo"
    variance_threshold: float = 0.05
    signal: Literal["score", "correctness"] = "score"
    reference_weight: float = 1.0
    correct_threshold: float = 0.5
    distil: bool = False
    reference_column: str | None = None
    store_responses: bool = False
    stored_characters: int = 1_000_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "variance_threshold", "reference_weight")
        require(self.stored_characters >= 1, "stored_characters", self.stored_characters, "a number of at least 1")
        if not self.store_responses and self.stored_characters != type(self).stored_characters:
            raise SettingsError(
                "stored_characters: nothing is stored without store_responses=True; set it, or leave this out"
            )
        own = {*VarianceRoutingSettings.__annotations__, "max_response_length"} - {
            "reference_column",
            "store_responses",
            "stored_characters",
        }
        for setting in fields(self):
            if getattr(self, setting.name) == setting.default:
                continue
            if setting.name in _OF_OTHER_ROUTERS:
                raise SettingsError(f"{setting.name}: variance_routing does not use it; leave it out")
            if not self.distil and setting.name not in own:
                raise SettingsError(f"{setting.name}: only the teacher uses it; set distil=True too, or leave it out")
            if self.distil and setting.name == "reference_weight":
                raise SettingsError(f"{setting.name}: only the form without a teacher uses it; leave it out")

    @property
    def needs_trainer(self) -> bool:
        return self.distil

    @property
    def reads_feedback(self) -> bool:
        return False

    @property
    def columns(self) -> dict[str, str]:
        return {"reference": self.reference_column} if self.reference_column else {}

    @property
    def names_prompts(self) -> bool:
        return self.store_responses

    @property
    def keeps_state(self) -> bool:
        return self.store_responses


@dataclass
class StoredResponses:
    """The shortest correct response to every prompt so far: text and tokens, by the prompt's name, the same in every epoch."""

    texts: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        """Characters of all responses together."""
        return sum(map(len, self.texts.values()))

    def offer_all(self, rollouts: Rollouts, text_of: Callable[[int], str], most_characters: int) -> int:
        """Store the correct rollouts whose prompt has no response yet, or a longer one.

        Args:
            rollouts: the batch, with the names of its prompts.
            text_of: the text of a row; called only for rows to store.
            most_characters: the limit of :attr:`characters`. A response beyond it is not stored, and the stored ones stay.

        Returns:
            How many responses did not fit.
        """
        assert rollouts.prompt_ids_G is not None
        free, refused = most_characters - self.characters, 0
        for row in rollouts.correct_B.nonzero().flatten().tolist():
            prompt, length = rollouts.prompt_ids_G[int(rollouts.groups_B[row])], int(rollouts.lengths_B[row])
            if length >= self.lengths.get(prompt, math.inf):
                continue
            text = text_of(row)
            added = len(text) - len(self.texts.get(prompt, ""))
            if added > max(free, 0):
                refused += 1
                continue
            self.texts[prompt], self.lengths[prompt] = text, length
            free -= added
        return refused

    def completed(self, references_G: Sequence[str | None], prompts_G: Sequence[str]) -> tuple[str | None, ...]:
        """The references; the stored response of a prompt replaces a missing one."""
        return tuple(text or self.texts.get(name) for text, name in zip(references_G, prompts_G, strict=True))


def route_by_variance(rollouts: Rollouts, settings: VarianceRoutingSettings) -> Routes:
    """Trainer form: flat groups (variance below the threshold) learn from the teacher, the others by GRPO.

    In a flat group with correct rollouts, the shortest one is the demonstration for its siblings and is itself skipped. In an
    all-wrong group, the prompt's reference solution is the demonstration. A group without one is skipped.
    """
    flat_B = _flat(rollouts, settings)[rollouts.groups_B] & rollouts.real_B
    shortest_B = _shortest_correct(rollouts)
    row_B = torch.arange(len(shortest_B), device=shortest_B.device)
    source_G = rollouts.smallest(row_B, shortest_B)
    has_G = torch.tensor([bool(text) for text in rollouts.references_G or [None] * rollouts.G], device=flat_B.device)
    source_G = torch.where(source_G.isfinite(), source_G, torch.where(has_G, float(REFERENCE), float(NO_SOURCE)))
    source_B = source_G.long()[rollouts.groups_B]
    distil_B = flat_B & ~shortest_B & (source_B != NO_SOURCE)
    return Routes(
        route_B=torch.where(distil_B, DISTIL, torch.where(flat_B | ~rollouts.real_B, SKIP, GRPO)),
        source_B=torch.where(distil_B, source_B, NO_SOURCE),
        feedback_B=torch.zeros_like(distil_B),
    )


def variance_routing(
    rollouts: Rollouts, settings: VarianceRoutingSettings, state: StoredResponses | None = None
) -> Outcome:
    """Groups whose rewards vary learn by GRPO. Flat groups learn from a reference.

    With ``distil=False`` this is an estimator for any trainer. ``v`` is the population variance of the signal in a group::

        v ≥ variance_threshold           group advantage of the scores
        v < threshold, any correct       +w on the shortest correct rollout (ties: the first), 0 on its siblings
        v < threshold, none correct      0 (skipped, counted in the metrics)

    ``+w`` on the tokens of a rollout is the one-sample estimate of the gradient of w · KL(reference ‖ policy). Only rollouts of
    the batch can be references.

    With ``distil=True`` flat groups learn from a self-teacher, all-wrong groups included; see :func:`route_by_variance` and
    ``teacher.py``. For 0/1 scores and up to 18 rollouts, ``v < 0.05`` means all correct or all wrong. The SRPO paper (arXiv
    2604.02288) routes by sample and not by variance: see ``sample_routing``.

    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 0., 0., 0.]), torch.tensor([9, 7, 5, 4, 4, 4]), list("aabbcc"))
    >>> out = variance_routing(r, VarianceRoutingSettings(advantage="dr_grpo"))
    >>> out.advantages_B.tolist()
    [0.0, 1.0, 0.5, -0.5, 0.0, 0.0]
    """
    if settings.distil:
        return routed_outcome(rollouts, route(route_by_variance, rollouts, settings), settings)
    flat_G = _flat(rollouts, settings)
    real_G = rollouts.count() > 0
    solved_G = rollouts.count(rollouts.correct_B) > 0

    flat_B = flat_G[rollouts.groups_B]
    reference_B = _shortest_correct(rollouts) & flat_B
    advantages_B = group_advantage(settings.advantage, rollouts.scores_B, rollouts)
    advantages_B = torch.where(flat_B, settings.reference_weight * reference_B.double(), advantages_B)

    groups = max(int(real_G.sum()), 1)
    metrics = {
        "grpo_groups": int((~flat_G & real_G).sum()) / groups,
        "reference_groups": int((flat_G & solved_G & real_G).sum()) / groups,
        "skipped_groups": int((flat_G & ~solved_G & real_G).sum()) / groups,
    }
    return Outcome(advantages_B, metrics)


def _flat(rollouts: Rollouts, settings: VarianceRoutingSettings) -> Tensor:
    """(G,) bool: the groups whose signal has a variance below the threshold."""
    signal_B = rollouts.scores_B if settings.signal == "score" else rollouts.correct_B.double()
    return rollouts.variance(signal_B) < settings.variance_threshold


def _shortest_correct(rollouts: Rollouts) -> Tensor:
    """(B,) bool: the shortest correct rollout of each group; ties go to the first."""
    row_B = torch.arange(len(rollouts.lengths_B), device=rollouts.lengths_B.device)
    shortest_B = rollouts.correct_B & (
        rollouts.lengths_B == rollouts.smallest(rollouts.lengths_B, rollouts.correct_B)[rollouts.groups_B]
    )
    return shortest_B & (row_B == rollouts.smallest(row_B, shortest_B)[rollouts.groups_B])
