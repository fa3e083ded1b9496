"""Short-RL: Kimi's length reward for correct answers only, without a difference among nearly shortest ones, and paused
while accuracy is below its best.

With score ``s``, length ``L`` (generated tokens), the shortest and longest correct answer of the group, and the
accuracy of this batch and its maximum over all batches so far::

    λ = ½                                           L ≤ L_min + length_tolerance
    λ = ½ − (L − L_min) / (L_max − L_min + 1e-5)    longer
    r = s + weight · λ    correct, and accuracy ≥ best − accuracy_tolerance
    r = s                 otherwise

Paper: "Efficient RL Training for Reasoning Models via Length-Aware Optimization", arXiv 2505.12284; code:
github.com/lblankl/Short-RL at 07cea8a, ``deepscaler/deepscaler/rewards/ShortRL.py``. Tolerances 100 tokens and 0.05 as
its ``deepscaler/scripts/train/Short-RL.sh`` (200 tokens for its logic puzzles). The current batch counts for the best
accuracy, as there. There λ is added as it is (weight 1) to scores of 3 and −0.5: 2 or −1.5, and 1 for the form. ``s`` and
``r`` are on that scale (see ``shaping/base.py``). On a 0/1 scale a weight of 1 equals 1/3.5 = 0.29.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require_at_least_0

EPSILON = 1e-5


@dataclass(frozen=True)
class ShortRlSettings(ShapingSettings):
    """Settings of ``short_rl``.

    Attributes:
        length_tolerance: tokens over the shortest correct answer that cost nothing.
        accuracy_tolerance: how far the accuracy of a batch may be below the best one before length is left alone.
        weight: weight of the length reward, on the scale of 3 and −0.5.
    """

    paper_scores: ClassVar[tuple[float, float]] = (3.0, -0.5)

    length_tolerance: float = 100
    accuracy_tolerance: float = 0.05
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "length_tolerance", "accuracy_tolerance", "weight")

    @property
    def keeps_state(self) -> bool:
        return True


@dataclass
class ShortRlState:
    """best_accuracy: the highest accuracy of a batch so far."""

    best_accuracy: float = 0.0


def short_rl(rollouts: Rollouts, settings: ShortRlSettings, state: ShortRlState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated first.

    The second is within 5 tokens of the shortest (½ each), the third the longest (½ − 1); the wrong one gets no length
    reward. At a weight of 3.5 the rewards are 1.5, 1.5, 0.5 and 0 at 0/1 scores:

    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 0.]), torch.tensor([10, 15, 30, 2]), ["a"] * 4)
    >>> s = ShortRlSettings(length_tolerance=5.0, weight=3.5, advantage="dr_grpo")
    >>> [round(a, 4) for a in short_rl(r, s, ShortRlState()).advantages_B.tolist()]
    [0.625, 0.625, -0.375, -0.875]
    """
    accuracy = rollouts.average(rollouts.correct_B)
    state.best_accuracy = max(state.best_accuracy, accuracy)
    on = accuracy >= state.best_accuracy - settings.accuracy_tolerance

    correct_B = rollouts.correct_B
    shortest_B = rollouts.smallest(rollouts.lengths_B, correct_B)[rollouts.groups_B]
    longest_B = rollouts.largest(rollouts.lengths_B, correct_B)[rollouts.groups_B]
    over_B = rollouts.lengths_B - shortest_B
    term_B = torch.where(over_B > settings.length_tolerance, 0.5 - over_B / (longest_B - shortest_B + EPSILON), 0.5)
    shaped_B = paper_scores_of(rollouts, settings) + torch.where(correct_B, settings.weight * on * term_B, 0.0)
    return shaped_outcome(rollouts, shaped_B, settings, shaping_on=float(on), best_accuracy=state.best_accuracy)
