"""Variance routing: GRPO where the rewards of a group vary, a reference where they do not."""

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
from verl_efficiency.settings import SettingsError, require_at_least_0

_OF_OTHER_ROUTERS = (
    *("demonstration", "truncated_demonstrations", "dont_reprompt_on_self_success"),
    *("include_environment_feedback", "environment_feedback_only_without_solution", "feedback_template"),
)


@dataclass(frozen=True)
class VarianceRoutingSettings(DistillationSettings):
    """Settings of ``variance_routing``; those of the teacher count with ``distil=True`` only.

    Attributes:
        variance_threshold: groups whose population variance is below this learn from a reference, the others by GRPO.
        signal: variance of the ``score``, or of ``correctness`` (0/1; the one to take when the score is shaped by length).
        reference_weight: w, the advantage of a reference rollout; not with ``distil=True``.
        advantage: group advantage of the other groups: grpo, dr_grpo, rloo or batch.
        correct_threshold: a score of at least this is correct.
        distil: False: the reference rollout itself is imitated. True (needs the trainer ``efficiency_sync``): its siblings
            learn from the self-teacher that has seen it, and all-wrong groups from a reference solution.
        reference_column: column of the data set with a correct solution of each problem, for all-wrong groups.
        store_responses: the shortest correct response to every prompt so far is kept (and saved with the checkpoints), and
            serves where the column has nothing.
    """

    advantage: AdvantageName = "grpo"
    variance_threshold: float = 0.05
    signal: Literal["score", "correctness"] = "score"
    reference_weight: float = 1.0
    correct_threshold: float = 0.5
    distil: bool = False
    reference_column: str | None = None
    store_responses: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "variance_threshold", "reference_weight")
        own = {*VarianceRoutingSettings.__annotations__, "max_response_length"} - {
            "reference_column",
            "store_responses",
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
    """The shortest correct response to every prompt so far: text and tokens, by the prompt's lasting name."""

    texts: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    def offer(self, prompt: str, text: str, length: int) -> None:
        """Keep ``text`` if it is the first, or shorter than the one kept."""
        if self._wants(prompt, length):
            self.texts[prompt], self.lengths[prompt] = text, length

    def offer_all(self, rollouts: Rollouts, text_of: Callable[[int], str]) -> None:
        """:meth:`offer` every correct rollout; ``text_of(row)`` is asked for those only that are kept."""
        assert rollouts.prompt_ids_G is not None
        for row in rollouts.correct_B.nonzero().flatten().tolist():
            prompt, length = rollouts.prompt_ids_G[int(rollouts.groups_B[row])], int(rollouts.lengths_B[row])
            if self._wants(prompt, length):
                self.offer(prompt, text_of(row), length)

    def completed(self, references_G: Sequence[str | None], prompts_G: Sequence[str]) -> tuple[str | None, ...]:
        """The references, and the stored response of a prompt where there is none."""
        return tuple(text or self.texts.get(name) for text, name in zip(references_G, prompts_G, strict=True))

    def _wants(self, prompt: str, length: int) -> bool:
        return length < self.lengths.get(prompt, length + 1)


def route_by_variance(rollouts: Rollouts, settings: VarianceRoutingSettings) -> Routes:
    """Trainer form: flat groups learn from the teacher, the others by GRPO.

    All correct: the siblings of the shortest one, with that as the demonstration; itself is skipped. All wrong: the prompt's
    reference solution is the demonstration; without one the group is skipped.
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
    """GRPO where the rewards of a group vary, learning from the best reference where they do not.

    Per group, with ``v`` the population variance of the signal, as an estimator on any trainer (``distil=False``)::

        v ≥ variance_threshold           group advantage of the scores
        v < threshold, someone correct   +w on the shortest correct rollout (the first of equals), 0 on its siblings
        v < threshold, nobody correct    0 (skipped, counted in the metrics)

    ``+w`` on a rollout's tokens is the gradient of w · KL(reference ‖ policy) estimated on one sample. This form can only use
    references that are rollouts of the batch. With ``distil=True`` the flat groups learn from a self-teacher instead, see
    :func:`route_by_variance` and ``teacher.py``; that form serves all-wrong groups too. For 0/1 scores and up to
    18 rollouts ``v < 0.05`` means exactly all right or all wrong. The SRPO paper (arXiv 2604.02288) routes by sample, not by
    variance: that is ``sample_routing``.

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
    """(G,) bool: the groups whose signal varies too little to learn from."""
    signal_B = rollouts.scores_B if settings.signal == "score" else rollouts.correct_B.double()
    return rollouts.variance(signal_B) < settings.variance_threshold


def _shortest_correct(rollouts: Rollouts) -> Tensor:
    """(B,) bool: the shortest correct rollout of each group, the first of equals."""
    row_B = torch.arange(len(rollouts.lengths_B), device=rollouts.lengths_B.device)
    shortest_B = rollouts.correct_B & (
        rollouts.lengths_B == rollouts.smallest(rollouts.lengths_B, rollouts.correct_B)[rollouts.groups_B]
    )
    return shortest_B & (row_B == rollouts.smallest(row_B, shortest_B)[rollouts.groups_B])
