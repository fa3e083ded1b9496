"""Routing: which rollout learns by which signal."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, group_advantage
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, require


@dataclass(frozen=True)
class VarianceRoutingSettings(MethodSettings):
    """Settings of ``variance_routing``.

    Attributes:
        variance_threshold: groups whose population variance is below this learn from a reference, the others by GRPO.
        signal: variance of the ``score``, or of ``correctness`` (0/1; the one to take when the score is shaped by length).
        reference_weight: w, the advantage of a reference rollout.
        advantage: group advantage of the other groups: grpo, dr_grpo or rloo.
        correct_threshold: a score of at least this is correct.
    """

    variance_threshold: float = 0.05
    signal: Literal["score", "correctness"] = "score"
    reference_weight: float = 1.0
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        require(self.variance_threshold >= 0, "variance_threshold", self.variance_threshold, "a number of at least 0")
        require(self.reference_weight >= 0, "reference_weight", self.reference_weight, "a number of at least 0")


def variance_routing(rollouts: Rollouts, settings: VarianceRoutingSettings, state: None = None) -> Outcome:
    """Estimator form of variance routing: GRPO where rewards vary, imitation of the best reference where they do not.

    Per group, with ``v`` the population variance of the signal::

        v ≥ variance_threshold           group advantage of the scores
        v < threshold, someone correct   +w on the shortest correct rollout (the first of equals), 0 on its siblings
        v < threshold, nobody correct    0 (skipped, counted in the metrics)

    ``+w`` on a rollout's tokens is the gradient of w · KL(reference ‖ policy) estimated on one sample. This form can only use
    references that are rollouts of the batch; references for all-wrong groups need the trainer form. For 0/1 scores and up to
    18 rollouts ``v < 0.05`` means exactly all right or all wrong. The SRPO paper (arXiv 2604.02288) routes by sample, not by
    variance: that is ``sample_routing``.

    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 0., 0., 0.]), torch.tensor([9, 7, 5, 4, 4, 4]), list("aabbcc"))
    >>> out = variance_routing(r, VarianceRoutingSettings(advantage="dr_grpo"))
    >>> out.advantages_B.tolist()
    [0.0, 1.0, 0.5, -0.5, 0.0, 0.0]
    """
    signal_B = rollouts.scores_B if settings.signal == "score" else rollouts.correct_B.double()
    flat_G = rollouts.variance(signal_B) < settings.variance_threshold
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


def _shortest_correct(rollouts: Rollouts) -> Tensor:
    """(B,) bool: the shortest correct rollout of each group, the first of equals."""
    row_B = torch.arange(len(rollouts.lengths_B), device=rollouts.lengths_B.device)
    shortest_B = rollouts.correct_B & (
        rollouts.lengths_B == rollouts.smallest(rollouts.lengths_B, rollouts.correct_B)[rollouts.groups_B]
    )
    return shortest_B & (row_B == rollouts.smallest(row_B, shortest_B)[rollouts.groups_B])
