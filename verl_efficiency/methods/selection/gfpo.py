"""GFPO: learn from the shortest rollouts of a group, or from those with the most score per token."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection.base import SelectionSettings, outcome_of_kept, wanted
from verl_efficiency.settings import require


@dataclass(frozen=True)
class GfpoSettings(SelectionSettings):
    """Settings of ``gfpo``.

    Attributes:
        adaptive: keep more of the groups that are harder than others of the run; then ``keep`` is left out.
        keep_easiest, keep_easy, keep_hard, keep_hardest: share of a group that is kept, rounded up, in each quarter of the
            groups of the run so far by mean score; with ``adaptive`` only.
        metric: keep the shortest (``length``), or those with the most score per token (``token_efficiency``).
    """

    adaptive: bool = False
    keep_easiest: float = 0.25
    keep_easy: float = 0.375
    keep_hard: float = 0.5
    keep_hardest: float = 0.5
    metric: Literal["length", "token_efficiency"] = "length"

    def __post_init__(self) -> None:
        super().__post_init__()
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
    its text; no official code. The saving comes from sampling more rollouts. Keeping 6 of 8 cuts 2–12 % of the excess
    length. Among cuts by length, 4 of 24 saves most. The largest saving (71–85 %) is 8 of 16 by token efficiency. Keeping
    a quarter to a third works best in the paper, and the recipe does that. Our default is half the group.

    As in verl's ``token-mean``, the loss is divided by the tokens of all rollouts of the group, kept or not. The paper's
    deviation divides by k, and that of verl's ``grpo`` (and ours) by k − 1. So the paper's advantages are ours times
    √(k / (k − 1)), 1.15 at k = 4. How ties are broken is our choice.

    ``adaptive`` is the paper's variant that keeps more rollouts of hard problems: 4, 6, 8 or 8 of 16, from the easiest
    quarter of the groups to the hardest. The quarters come from the mean scores of all groups of the run so far, this step
    included. The paper keeps these in a t-digest. Here it is a table of rounded means, which is exact for scores of 0 and 1.

    (B,) float64. The two shortest of four are kept, one right and one wrong:

    >>> r = Rollouts.build(torch.tensor([1., 0., 1., 0.]), torch.tensor([20, 10, 30, 40]), ["a"] * 4)
    >>> gfpo(r, GfpoSettings(advantage="dr_grpo")).advantages_B.tolist()
    [0.5, -0.5, 0.0, 0.0]
    >>> gfpo(r, GfpoSettings(advantage="dr_grpo", metric="token_efficiency")).advantages_B.tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    per_token_B = rollouts.scores_B / rollouts.lengths_B.clamp_min(1)
    worst_B = rollouts.lengths_B if settings.metric == "length" else -per_token_B
    place_B = rollouts.places([worst_B, -rollouts.scores_B])
    wanted_G = (
        wanted(rollouts, settings.keep) if not settings.adaptive else _wanted_by_difficulty(rollouts, settings, state)
    )
    return outcome_of_kept(rollouts, place_B < wanted_G[rollouts.groups_B], settings.advantage)


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
