"""LASER-D: three target lengths, for easy, medium and hard problems. They are chosen again every ``update_every`` steps.

A problem is easy if at least ⅔ of its rollouts are correct, medium if at least ⅓ are, else hard. With n rollouts per problem,
``coverage(T)`` the share of a band's rollouts of at most T tokens, and T on a grid up to the limit::

    n_right = ⌊⅔ n⌋ easy, ⌊⅓ n⌋ medium, 1 hard    correct rollouts expected of n
    target  = smallest T with ⌊coverage(T) · n_right⌋ ≥ expected_correct,
              or the limit if there is no such T
    r = s + bonus     correct and L ≤ target of the problem's band
    r = s             otherwise

Paper: "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping", arXiv 2505.15612; code:
github.com/hkust-nlp/Laser at c9e7c4e (``verl/utils/reward_score/length_penalty.py``). Its scripts set bonus 0.5 (on the scale
of 1 and −0.5, as in ``laser``), n = 8, and new targets every 20 steps. Their grid has steps of 1024 tokens up to 16384. That is
the limit in 16 parts, our default.

Our choices:

* The coverage counts the training rollouts since the last choice, so the first targets come from the first batch. (That code
  samples 500 problems for it.)
* A band without rollouts keeps its target.
* n is the size of the largest group of the batch, and n_right is at least 1.
* A solve rate of exactly ⅓ or ⅔ has the same band for coverage and for the bonus. (That code counts its coverage in the harder
  band. With n = 8 there are no such rates.)

In our trials on a small task, the published form lost accuracy, and ``advantage=dr_grpo`` kept it.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0

BANDS = ("hard", "medium", "easy")


@dataclass(frozen=True)
class LaserDSettings(LimitedShapingSettings):
    """Settings of ``laser_d``.

    Attributes:
        bonus: added to the score of a correct answer within its target.
        update_every: the targets are chosen again after this many steps.
        grid_points: the targets are multiples of max_response_length / grid_points.
        min_target: the lowest target allowed, tokens; the official scripts vary it from 1024 to 4096.
        expected_correct: how many of n_right must fit within a target.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, -0.5)

    bonus: float = 0.5
    update_every: int = 20
    grid_points: int = 16
    min_target: int = 0
    expected_correct: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "bonus")
        for name in ("update_every", "grid_points", "expected_correct"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        require(self.min_target >= 0, "min_target", self.min_target, "a number of tokens of at least 0")

    @property
    def keeps_state(self) -> bool:
        return True


@dataclass
class LaserDState:
    """What is carried from step to step.

    Attributes:
        steps: batches seen.
        targets: target length of hard, medium and easy problems, tokens; empty before the first batch.
        counts: rollouts since the last choice, for each band by the first grid point that covers their length.
    """

    steps: int = 0
    targets: list[int] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)


def laser_d(rollouts: Rollouts, settings: LaserDSettings, state: LaserDState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated first.

    The grid is 10, 20, 30, 40 tokens. A solve rate of ¾ is easy, so n_right = ⌊⅔ · 4⌋ = 2. Two of four rollouts have at most 10
    tokens, and ⌊½ · 2⌋ = 1 is enough: the target is 10. With bonus 0.6 the rewards are 1.4, 1.4, 1, 0 on a 0/1 scale (mean
    0.95):

    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 0.]), torch.tensor([6, 10, 25, 40]), ["a"] * 4)
    >>> s = LaserDSettings(max_response_length=40, grid_points=4, bonus=0.6, advantage="dr_grpo")
    >>> [round(a, 4) for a in laser_d(r, s, LaserDState()).advantages_B.tolist()]
    [0.45, 0.45, 0.05, -0.95]
    """
    targets_B = target_lengths(rollouts, settings, state)
    within_B = rollouts.correct_B & (rollouts.lengths_B <= targets_B)
    shaped_B = paper_scores_of(rollouts, settings) + settings.bonus * within_B.double()
    return shaped_outcome(rollouts, shaped_B, settings, **target_metrics(state))


def target_lengths(rollouts: Rollouts, settings: LaserDSettings, state: LaserDState) -> Tensor:
    """(B,) int64: the target of each rollout. Counts this batch in ``state``, and chooses new targets if they are due."""
    grid = torch.arange(1, settings.grid_points + 1) * settings.limit // settings.grid_points
    correct_G, count_G = rollouts.count(rollouts.correct_B), rollouts.count()
    band_B = ((3 * correct_G >= count_G).long() + (3 * correct_G >= 2 * count_G).long())[rollouts.groups_B]

    columns = settings.grid_points + 1  # the last one counts what is longer than the limit
    if (
        len(state.counts) != len(BANDS) or len(state.counts[0]) != columns
    ):  # the first batch, or another grid after a resume
        state.counts = [[0] * columns for _ in BANDS]
    place_B = torch.searchsorted(grid.to(rollouts.lengths_B), rollouts.lengths_B)
    seen = torch.bincount((band_B * columns + place_B)[rollouts.real_B], minlength=len(BANDS) * columns)
    state.counts = (torch.tensor(state.counts) + seen.reshape(len(BANDS), columns).cpu()).tolist()

    if not state.targets or state.steps % settings.update_every == 0:
        largest_group = int(count_G.max()) if len(count_G) else 1
        state.targets = _choose(state, grid, largest_group, settings)
        state.counts = [[0] * columns for _ in BANDS]
    state.steps += 1
    return torch.tensor(state.targets, device=band_B.device)[band_B]


def _choose(state: LaserDState, grid: Tensor, largest_group: int, settings: LaserDSettings) -> list[int]:
    """Targets of hard, medium and easy problems. The arithmetic is in whole numbers, so nothing is rounded."""
    counts = torch.tensor(state.counts)
    covered, total = counts.cumsum(1)[:, :-1], counts.sum(1, keepdim=True)
    right = torch.tensor([1, max(1, largest_group // 3), max(1, 2 * largest_group // 3)])[:, None]
    enough = (covered * right >= settings.expected_correct * total) & (grid >= settings.min_target)
    targets: list[int] = []
    for band in range(len(BANDS)):
        chosen = grid[enough[band]].tolist()[:1] or [settings.limit]
        targets += chosen if total[band] else state.targets[band : band + 1] or [settings.limit]
    return targets


def target_metrics(state: LaserDState) -> dict[str, float]:
    """The targets in force, for the log."""
    return {f"target_{band}": target for band, target in zip(BANDS, state.targets, strict=True)}
