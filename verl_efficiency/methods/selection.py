"""Selection: sample more rollouts than are learned from; the advantage of the others is 0.

Dropping happens in the advantages, so it changes what is learned but saves no computation: the dropped rollouts still
pass through the update.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
        adaptive: keep more of the groups that are harder than others of the run; then ``keep`` is left out.
        keep_easiest, keep_easy, keep_hard, keep_hardest: share of a group that is kept, rounded up, in each quarter of the
            groups of the run so far by mean score; with ``adaptive`` only.
        metric: keep the shortest (``length``), or those with the most score per token (``token_efficiency``).
        advantage: grpo, dr_grpo, rloo or batch, among those kept.
        correct_threshold: a score of at least this is correct (for the metrics only).
    """

    keep: int | None = None
    adaptive: bool = False
    keep_easiest: float = 0.25
    keep_easy: float = 0.375
    keep_hard: float = 0.5
    keep_hardest: float = 0.5
    metric: Literal["length", "token_efficiency"] = "length"
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.keep is None or self.keep >= 1, "keep", self.keep, "a whole number of at least 1, or null")
        for name, default in (("keep_easiest", 0.25), ("keep_easy", 0.375), ("keep_hard", 0.5), ("keep_hardest", 0.5)):
            share = getattr(self, name)
            require(0 < share <= 1, name, share, "in (0, 1]")
            require(self.adaptive or share == default, name, share, "left out without adaptive=True")
        require(not self.adaptive or self.keep is None, "keep", self.keep, "left out with adaptive=True")

    @property
    def shares(self) -> tuple[float, ...]:
        """What is kept of a group, from the hardest quarter to the easiest."""
        return self.keep_hardest, self.keep_hard, self.keep_easy, self.keep_easiest

    @property
    def keeps_state(self) -> bool:
        return self.adaptive


@dataclass
class GfpoState:
    """How often a group of the run had which mean score, rounded to a thousandth; for ``adaptive``.

    With scores of 0 and 1 these are at most n + 1 values for groups of n, so the quarters are exact.

    Attributes:
        means: in ascending order.
        counts: groups with each.
    """

    means: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, means: Sequence[float]) -> None:
        """Count more groups."""
        known = dict(zip(self.means, self.counts, strict=True))
        for mean in means:
            known[round(mean, 3)] = known.get(round(mean, 3), 0) + 1
        self.means = sorted(known)
        self.counts = [known[mean] for mean in self.means]

    def quarter(self, mean: float) -> int:
        """0 for a group among the hardest quarter of all that were counted, 3 for one among the easiest.

        Groups of equal mean score share the middle of their places.

        >>> state = GfpoState()
        >>> state.add([0.0, 0.5, 0.5, 1.0])
        >>> [state.quarter(mean) for mean in (0.0, 0.5, 1.0)]
        [0, 2, 3]
        """
        place = self.means.index(round(mean, 3))
        middle = sum(self.counts[:place]) + self.counts[place] / 2
        return int(4 * middle / sum(self.counts))


def gfpo(rollouts: Rollouts, settings: GfpoSettings, state: GfpoState | None = None) -> Outcome:
    """GFPO (group filtered policy optimisation): the group advantage among the k best rollouts, 0 for the others.

    The best are the shortest, or those with the most score per token ``s / L``; of equals the one with the higher
    score, then the earlier one. Mean and deviation of the group advantage are those of the k kept.

    Paper: "Sample More to Think Less: Group Filtered Policy Optimization for Concise Reasoning", arXiv 2508.09726, read in
    its text; no official code. The saving comes from sampling more: keeping 6 of 8 cuts 2–12 % of the excess length, 4 of
    24 most by length, 8 of 16 by token efficiency most of all (71–85 %); a quarter to a third kept is best, and what the
    recipe does. Half the group is our default. Its loss is divided by the tokens of all rollouts of the group, kept or not,
    as verl's ``token-mean`` does. It divides by the deviation over k, verl's ``grpo`` (and ours) by that over k − 1: its
    advantages are ours times √(k / (k − 1)), 1.15 at k = 4. Ties: our choice.

    ``adaptive`` is its variant that keeps more of hard problems: 4, 6, 8 or 8 of 16, from the easiest quarter of the
    groups to the hardest, by the mean score of a group among all of the run so far (its own step counts). The paper holds
    these in a t-digest. Here it is a table of rounded means, which is exact for scores of 0 and 1.

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
    wanted_G = (
        _wanted(rollouts, settings.keep) if not settings.adaptive else _wanted_by_difficulty(rollouts, settings, state)
    )
    return _outcome_of_kept(rollouts, place_B < wanted_G[rollouts.groups_B], settings.advantage)


def _wanted_by_difficulty(rollouts: Rollouts, settings: GfpoSettings, state: GfpoState | None) -> Tensor:
    """(G,) float64: how many rollouts of each group to keep; ``state`` counts this step first."""
    if state is None:
        raise ValueError("adaptive=True needs a GfpoState")
    count_G, means = rollouts.count(), rollouts.mean(rollouts.scores_B).tolist()
    real = (count_G > 0).tolist()
    state.add([mean for mean, there in zip(means, real, strict=True) if there])
    shares = [settings.shares[state.quarter(mean)] if there else 0.0 for mean, there in zip(means, real, strict=True)]
    wanted_G = count_G * torch.tensor(shares, dtype=torch.float64, device=count_G.device)
    return (wanted_G - 1e-9).ceil()  # 10 · 0.7 is a little above 7


@dataclass(frozen=True)
class GrpoRocSettings(CostSettings):
    """Settings of ``grpo_roc``.

    Attributes:
        keep: rollouts of a group to learn from; null: half of them, rounded up. Smaller groups are kept whole.
        min_correct, min_wrong: of each at least this many, where there are as many.
        advantage: grpo, dr_grpo, rloo or batch, among those kept.
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
