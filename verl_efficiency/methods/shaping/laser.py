"""LASER: a correct answer within the target length gets a fixed bonus.

With score ``s`` and length ``L`` (generated tokens)::

    r = s + bonus     correct and L ≤ target_length
    r = s             otherwise

Paper: "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping", arXiv 2505.15612; code:
github.com/hkust-nlp/Laser at c9e7c4e (``verl/utils/reward_score/length_penalty.py``, type "reward"). Bonus 0.5 as
there, where scores are 1 and −0.5. ``s`` and ``r`` are on that scale (see ``shaping/base.py``). On a 0/1 scale the bonus
equals 0.33. Its scripts use target lengths of 2048, 4096 and 8192, of which 4096 is our default.
"""

from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class LaserSettings(ShapingSettings):
    """Settings of ``laser``.

    Attributes:
        target_length: generated tokens up to which a correct answer gets the bonus.
        bonus: what it gets.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, -0.5)

    target_length: float = 4096
    bonus: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.target_length > 0, "target_length", self.target_length, "a number of tokens above 0")
        require_at_least_0(self, "bonus")


def laser(rollouts: Rollouts, settings: LaserSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. A target of 20: rewards 1.3333, 1 and 0 at 0/1 scores (mean 0.7778):

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([20, 21, 3]), ["a", "a", "a"])
    >>> [round(a, 4) for a in laser(r, LaserSettings(target_length=20.0, advantage="dr_grpo")).advantages_B.tolist()]
    [0.5556, 0.2222, -0.7778]
    """
    within_B = rollouts.correct_B & (rollouts.lengths_B <= settings.target_length)
    shaped_B = paper_scores_of(rollouts, settings) + settings.bonus * within_B.double()
    within = within_B.sum().item() / max(int(rollouts.correct_B.sum()), 1)
    return shaped_outcome(rollouts, shaped_B, settings, within_target=within)
