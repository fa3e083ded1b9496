"""GFPO: learn only from the shortest rollouts of each group, or from those with the highest score per token."""

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
        adaptive: keep more rollouts of harder groups. Leave ``keep`` out.
        keep_easiest, keep_easy, keep_hard, keep_hardest: share of a group to keep, rounded up, per quartile of mean score
            among all groups of the run so far; with ``adaptive`` only.
        metric: keep the shortest rollouts (``length``), or those with the highest score per token (``token_efficiency``).
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
        """Share of a group to keep, from the hardest quartile to the easiest."""
        return self.keep_hardest, self.keep_hard, self.keep_easy, self.keep_easiest

    @property
    def keeps_state(self) -> bool:
        return self.adaptive


@dataclass
class GfpoState:
    """Histogram of the mean scores of all groups so far, for ``adaptive``.

    Means are rounded to a thousandth. With scores of 0 and 1, groups of n have at most n + 1 different means, so the quartiles
    are exact.

    Attributes:
        means: distinct mean scores, ascending.
        counts: number of groups with each mean.
    """

    means: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, means: Sequence[float]) -> None:
        """Count the groups with these mean scores."""
        known = dict(zip(self.means, self.counts, strict=True))
        for mean in means:
            known[round(mean, 3)] = known.get(round(mean, 3), 0) + 1
        self.means = sorted(known)
        self.counts = [known[mean] for mean in self.means]

    def quarter(self, mean: float) -> int:
        """The quartile of a group with this mean score among all counted groups: 0 is the hardest, 3 the easiest.

        Groups with equal mean score all take their middle rank.

        >>> state = GfpoState()
        >>> state.add([0.0, 0.5, 0.5, 1.0])
        >>> [state.quarter(mean) for mean in (0.0, 0.5, 1.0)]
        [0, 2, 3]
        """
        place = self.means.index(round(mean, 3))
        middle = sum(self.counts[:place]) + self.counts[place] / 2
        return int(4 * middle / sum(self.counts))


def gfpo(rollouts: Rollouts, settings: GfpoSettings, state: GfpoState | None = None) -> Outcome:
    """GFPO (group filtered policy optimisation): the group advantage over the k best rollouts, 0 for the others.

    The best rollouts are the shortest, or those with the highest score per token ``s / L``. Ties go to the higher score, then
    to the earlier rollout (our choice). The mean and the standard deviation are those of the k kept rollouts.

    Paper: "Sample More to Think Less: Group Filtered Policy Optimization for Concise Reasoning", arXiv 2508.09726; full text
    read, no official code.

    * Shorter responses come from sampling more. Keeping 6 of 8 cuts excess length by 2–12 %. By length, 4 of 24 cuts most. By
      token efficiency, 8 of 16 cuts most of all (71–85 %).
    * The paper finds k of a quarter to a third of the group best; the recipe uses that. Our default is half the group.
    * The loss is divided by the tokens of all rollouts, kept or not, as in verl's ``token-mean``.
    * The paper's standard deviation divides by k; verl's ``grpo`` and ours divide by k − 1. The paper's advantages are ours
      times √(k / (k − 1)), 1.15 at k = 4.

    ``adaptive`` is the paper's variant that keeps more rollouts of hard problems: 4, 6, 8 or 8 of 16, from the easiest quartile
    to the hardest. A quartile ranks the mean score of a group among all groups so far, those of the current step included. The
    paper stores the means in a t-digest. We store a table of rounded means, which is exact for scores of 0 and 1.

    Returns advantages (B,) float64. Here the two shortest of four rollouts are kept, one correct and one wrong:

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
    """(G,) float64: number of rollouts to keep per group. Counts the groups of this step in ``state`` first."""
    if state is None:
        raise ValueError("adaptive=True needs a GfpoState")
    count_G, means = rollouts.count(), rollouts.mean(rollouts.scores_B).tolist()
    real = (count_G > 0).tolist()
    state.add([mean for mean, there in zip(means, real, strict=True) if there])
    shares = [settings.shares[state.quarter(mean)] if there else 0.0 for mean, there in zip(means, real, strict=True)]
    wanted_G = count_G * torch.tensor(shares, dtype=torch.float64, device=count_G.device)
    return (wanted_G - 1e-9).ceil()  # 10 · 0.7 is a little above 7
