"""ShorterBetter: every answer is pulled towards the length of the shortest correct answer of its group.

With score ``s`` and length ``L`` (generated tokens)::

    L* = shortest correct length of the group; mean length if no answer is correct
    r  = alpha · s − beta · |L − L*|

Paper: "ShorterBetter: Guiding Reasoning Models to Find Optimal Inference Length for Efficient Reasoning", arXiv
2504.21370; code: github.com/JingyangYi/ShorterBetter at 6399366 (``verl/verl/workers/reward_manager/naive.py``), where
alpha = 2 and beta = 0.001. Wrong answers pay too, as in that code: a wrong answer as long as the shortest correct one
scores above a longer wrong answer. Our choice: ``s`` is the score, where the paper has an indicator of correctness. The
two are equal for scores of 0 and 1.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class ShorterBetterSettings(ShapingSettings):
    """Settings of ``shorter_better``.

    Attributes:
        alpha: weight of the score.
        beta: reward lost per token away from the group's best length.
    """

    alpha: float = 2.0
    beta: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha > 0, "alpha", self.alpha, "a number above 0")
        require_at_least_0(self, "beta")


def shorter_better(rollouts: Rollouts, settings: ShorterBetterSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Here L* = 100, and the rewards are 2, 2 − 0.1 and 0 − 0.02 (mean 1.2933):

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([100, 200, 80]), ["a", "a", "a"])
    >>> [round(a, 4) for a in shorter_better(r, ShorterBetterSettings(advantage="dr_grpo")).advantages_B.tolist()]
    [0.7067, 0.6067, -1.3133]
    """
    shortest_G = rollouts.smallest(rollouts.lengths_B, rollouts.correct_B)
    best_G = torch.where(shortest_G.isfinite(), shortest_G, rollouts.mean(rollouts.lengths_B))
    away_B = (rollouts.lengths_B - best_G[rollouts.groups_B]).abs()
    return shaped_outcome(
        rollouts, settings.alpha * paper_scores_of(rollouts, settings) - settings.beta * away_B, settings
    )
