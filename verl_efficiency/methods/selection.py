"""Selection: sample more rollouts than are learned from; the advantage of the others is 0.

Dropping happens in the advantages, so it changes what is learned but saves no computation: the dropped rollouts still
pass through the update.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, group_advantage
from verl_efficiency.methods.cost import CostSettings
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import require


@dataclass(frozen=True)
class GfpoSettings(CostSettings):
    """Settings of ``gfpo``.

    Attributes:
        keep: rollouts of a group to learn from; null: half of them, rounded up. Smaller groups are kept whole.
        metric: keep the shortest (``length``), or those with the most score per token (``token_efficiency``).
        advantage: grpo, dr_grpo or rloo, among those kept.
        correct_threshold: a score of at least this is correct (for the metrics only).
    """

    keep: int | None = None
    metric: Literal["length", "token_efficiency"] = "length"
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.keep is None or self.keep >= 1, "keep", self.keep, "a whole number of at least 1, or null")


def gfpo(rollouts: Rollouts, settings: GfpoSettings, state: None = None) -> Outcome:
    """GFPO (group filtered policy optimisation): the group advantage among the k best rollouts, 0 for the others.

    The best are the shortest, or those with the most score per token ``s / L``; of equals the one with the higher
    score, then the earlier one. Mean and deviation of the group advantage are those of the k kept.

    Paper: "Sample More to Think Less: Group Filtered Policy Optimization for Concise Reasoning", arXiv 2508.09726,
    section 3, read in its text; no official code. It samples 8, 16 or 24 and keeps 4, 6 or 8 of them; half the group is
    our default. It divides by the deviation over k, verl's ``grpo`` (and ours) by that over k − 1: its advantages are ours
    times √(k / (k − 1)). Ties: our choice. Its variant that keeps more of hard problems (4, 6, 8 or 8 of 16, by the
    quartile of the mean reward among all problems so far) is not here.

    (B,) float64. The two shortest of four are kept, one right and one wrong:

    >>> r = Rollouts.build(torch.tensor([1., 0., 1., 0.]), torch.tensor([20, 10, 30, 40]), ["a"] * 4)
    >>> gfpo(r, GfpoSettings(advantage="dr_grpo")).advantages_B.tolist()
    [0.5, -0.5, 0.0, 0.0]
    >>> gfpo(r, GfpoSettings(advantage="dr_grpo", metric="token_efficiency")).advantages_B.tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    per_token_B = rollouts.scores_B / rollouts.lengths_B.clamp_min(1)
    worst_B = rollouts.lengths_B if settings.metric == "length" else -per_token_B
    place_B = place_in_group(rollouts, [worst_B, -rollouts.scores_B])
    kept_B = place_B < _wanted(rollouts, settings.keep)[rollouts.groups_B]
    return _outcome_of_kept(rollouts, kept_B, settings.advantage)


@dataclass(frozen=True)
class GrpoRocSettings(CostSettings):
    """Settings of ``grpo_roc``.

    Attributes:
        keep: rollouts of a group to learn from; null: half of them, rounded up. Smaller groups are kept whole.
        min_correct, min_wrong: of each at least this many, where there are as many.
        advantage: grpo, dr_grpo or rloo, among those kept.
        correct_threshold: a score of at least this is correct.
    """

    keep: int | None = None
    min_correct: int = 2
    min_wrong: int = 2
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.keep is None or self.keep >= 1, "keep", self.keep, "a whole number of at least 1, or null")
        for name in ("min_correct", "min_wrong"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a whole number of at least 0")
        least = self.min_correct + self.min_wrong
        require(
            self.keep is None or self.keep >= least, "keep", self.keep, f"at least min_correct + min_wrong = {least}"
        )


def grpo_roc(rollouts: Rollouts, settings: GrpoRocSettings, state: None = None) -> Outcome:
    """GRPO-RoC (resampling on correct): keep the best of the correct rollouts and any of the wrong ones, in proportion.

    Of a group of n with c correct and w wrong, k are kept: ``round(k · c / n)`` correct and ``round(k · w / n)`` wrong
    ones, but at least ``min_wrong`` and ``min_correct`` where there are as many (the other kind makes room). The
    correct are kept from the best on; the wrong as they come, so that all ways to fail stay represented.

    Paper: "rStar2-Agent: Agentic Reasoning Technical Report", arXiv 2508.20722; code: github.com/microsoft/rStar at
    ecbfb94 (``rstar2_agent/down_sample/roc.py``), which keeps 16 of 32, at least 2 and 2. There "best" means few tool
    errors and clean answer tags; an estimator sees no text, so here (our choice) it means short. Also ours: a group of
    at most k is kept whole (there, a smaller one is dropped).

    (B,) float64. Three of four are right: two of the shortest right ones and the wrong one would be 2 + 0 of k = 2,
    held at one wrong (min_wrong = 1) and one right:

    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 0.]), torch.tensor([20, 10, 30, 40]), ["a"] * 4)
    >>> s = GrpoRocSettings(advantage="dr_grpo", min_correct=1, min_wrong=1)
    >>> grpo_roc(r, s).advantages_B.tolist()
    [0.0, 0.5, 0.0, -0.5]
    """
    correct_B, count_G = rollouts.correct_B, rollouts.count()
    right_G, wrong_G, wanted_G = rollouts.count(correct_B), rollouts.count(~correct_B), _wanted(rollouts, settings.keep)
    keep_right_G, keep_wrong_G = (wanted_G * part_G / count_G.clamp_min(1) for part_G in (right_G, wrong_G))
    keep_right_G, keep_wrong_G = keep_right_G.round(), keep_wrong_G.round()
    few_G = (keep_wrong_G < settings.min_wrong) & (
        keep_right_G < settings.min_correct
    )  # k too small for both: keep all

    least_wrong_G = wrong_G.clamp_max(settings.min_wrong)
    short_G = keep_wrong_G <= least_wrong_G
    keep_wrong_G = torch.where(short_G, least_wrong_G, keep_wrong_G)
    keep_right_G = torch.where(short_G, wanted_G - least_wrong_G, keep_right_G)
    least_right_G = right_G.clamp_max(settings.min_correct)
    short_G = keep_right_G <= least_right_G
    keep_right_G = torch.where(short_G, least_right_G, keep_right_G)
    keep_wrong_G = torch.where(short_G, wanted_G - least_right_G, keep_wrong_G)

    quality_B = torch.where(correct_B, rollouts.lengths_B, 0)
    place_B = place_in_group(rollouts, [~correct_B, quality_B])  # the correct ones first, then the wrong as they come
    place_of_wrong_B = place_B - right_G[rollouts.groups_B]
    kept_B = torch.where(
        correct_B, place_B < keep_right_G[rollouts.groups_B], place_of_wrong_B < keep_wrong_G[rollouts.groups_B]
    )
    return _outcome_of_kept(rollouts, kept_B | (few_G | (count_G <= wanted_G))[rollouts.groups_B], settings.advantage)


def place_in_group(rollouts: Rollouts, keys: Sequence[Tensor]) -> Tensor:
    """(B,) int64: place 0, 1, … of each real rollout in its group by the ``keys`` (the first one first), then by row."""
    group_B = torch.where(rollouts.real_B, rollouts.groups_B, rollouts.G)  # padding: behind all groups
    order = torch.arange(len(group_B), device=group_B.device)
    for key_B in [*reversed(keys), group_B]:
        order = order[torch.argsort(key_B[order], stable=True)]
    sizes = torch.bincount(group_B, minlength=rollouts.G + 1)
    starts = sizes.cumsum(0) - sizes
    place_B = torch.empty_like(order)
    place_B[order] = torch.arange(len(order), device=order.device) - starts[group_B[order]]
    return place_B


def _wanted(rollouts: Rollouts, keep: int | None) -> Tensor:
    """(G,) float64: how many rollouts of each group to keep."""
    count_G = rollouts.count()
    return (count_G / 2).ceil() if keep is None else count_G.clamp_max(keep)


def _outcome_of_kept(rollouts: Rollouts, kept_B: Tensor, advantage: AdvantageName) -> Outcome:
    """The group advantage among the kept; 0 for the others."""
    kept_B = kept_B & rollouts.real_B
    kept = replace(rollouts, real_B=kept_B, correct_B=rollouts.correct_B & kept_B)
    metrics = {
        "solve_rate": rollouts.correct_B.sum().item() / max(int(rollouts.real_B.sum()), 1),
        "kept_solve_rate": kept.correct_B.sum().item() / max(int(kept_B.sum()), 1),
        "kept": kept_B.sum().item() / max(int(rollouts.real_B.sum()), 1),
    }
    return Outcome(group_advantage(advantage, rollouts.scores_B, kept), metrics)
