"""A correct answer loses score in proportion to its length, relative to the longest of its group.

With score ``s`` and length ``L``::

    r = s − weight · L / max L     correct
    r = s                          wrong
"""

from dataclasses import dataclass

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require


@dataclass(frozen=True)
class FlatPenaltySettings(ShapingSettings):  # advantage, combine, length_weight, cost, correct_threshold
    """Settings of ``flat_penalty``.

    Attributes:
        weight: score lost by the longest correct rollout of a group.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight >= 0, "weight", self.weight, "a number of at least 0")


def flat_penalty(rollouts: Rollouts, settings: FlatPenaltySettings) -> Outcome:
    """Advantages, (B,) float64."""
    longest_G = rollouts.largest(rollouts.lengths_B).clamp_min(1)
    share_B = rollouts.lengths_B / longest_G[rollouts.groups_B] * rollouts.correct_B
    return shaped_outcome(rollouts, paper_scores_of(rollouts, settings) - settings.weight * share_B, settings)
