"""GR³: the reward is divided by a factor that grows with the length relative to the group's mean.

With score ``s``, length ``L`` and mean length of the group (generated tokens)::

    r = s / (1 + α · L / mean length)      s > 0
    r = s                                  s ≤ 0

Paper: "Tackling Length Inflation Without Trade-offs: Group Relative Reward Rescaling for Reinforcement Learning", arXiv
2603.10535: multiplicative rescaling relative to the group. The form and α = 0.33 are those of
github.com/PrimeIntellect-ai/prime-rl (``length_shaping_alpha``), which re-implements it. Not here: the paper's
advantage-aware calibration, whose formula we have not seen. Our choice: rewards of 0 and below stay, since dividing a
negative one would reward length.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, shaped_outcome
from verl_efficiency.settings import require


@dataclass(frozen=True)
class Gr3Settings(ShapingSettings):
    """Settings of ``gr3``.

    Attributes:
        alpha: α, how much length counts; at the mean length the reward is divided by 1 + α.
    """

    alpha: float = 0.33

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "alpha", self.alpha, "a number of at least 0")


def gr3(rollouts: Rollouts, settings: Gr3Settings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Mean length 20, α = 1: rewards 1 / 1.5, 1 / 2.5 and 0 (mean 0.3556):

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 30, 20]), ["a", "a", "a"])
    >>> [round(a, 4) for a in gr3(r, Gr3Settings(alpha=1.0, advantage="dr_grpo")).advantages_B.tolist()]
    [0.3111, 0.0444, -0.3556]
    """
    mean_G = rollouts.mean(rollouts.lengths_B)
    relative_B = rollouts.lengths_B / torch.where(mean_G > 0, mean_G, 1.0)[rollouts.groups_B]
    scores_B = rollouts.scores_B
    return shaped_outcome(
        rollouts, torch.where(scores_B > 0, scores_B / (1 + settings.alpha * relative_B), scores_B), settings
    )
