"""GR³ (group relative reward rescaling): a positive score is divided by 1 + α times its relative length.

With score ``s``, length ``L`` and mean length of the group (generated tokens)::

    r = s / (1 + α · L / mean length)      s > 0
    r = s                                  s ≤ 0

Paper: "Tackling Length Inflation Without Trade-offs: Group Relative Reward Rescaling for Reinforcement Learning", arXiv
2603.10535. The formula, α = 0.33 and the advantage ``dr_grpo`` are those of a re-implementation,
github.com/PrimeIntellect-ai/prime-rl at c1bbbf923 (``length_shaping_alpha``; later versions do not have it). That code also
drops groups in which all rewards are equal. Our choices: such groups stay and learn to be short (``algorithm.filter_groups``
drops them), and scores of 0 and below do not change, because dividing a negative score would reward length.

**Calibration.** The paper chooses α before training: the largest α with r_max / (1 + α) ≥ mean shaped reward in about 99.9 % of
the groups. A correct answer of mean length then has an advantage of at least 0. We know this rule from a reader of its eq. 13.
Two metrics look at the groups of the batch that have right and wrong answers. ``calibrated`` is the share of them that satisfy
the rule at your α. ``calibrated_alpha`` is the largest α that satisfies it, from 0 to 4 in steps of 0.01 (0 if even 0.01 is too
large, or there is no such group). Lower ``alpha`` if ``calibrated`` is well below 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require_at_least_0

CALIBRATED_SHARE = 0.999
LARGEST_ALPHA = 400  # hundredths


@dataclass(frozen=True)
class Gr3Settings(ShapingSettings):
    """Settings of ``gr3``.

    Attributes:
        alpha: α, how much length counts. At the mean length the reward is divided by 1 + α.
    """

    advantage: AdvantageName = "dr_grpo"
    alpha: float = 0.33

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "alpha")


def gr3(rollouts: Rollouts, settings: Gr3Settings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Mean length 20, α = 1: rewards 1 / 1.5, 1 / 2.5 and 0 (mean 0.3556):

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 30, 20]), ["a", "a", "a"])
    >>> [round(a, 4) for a in gr3(r, Gr3Settings(alpha=1.0)).advantages_B.tolist()]
    [0.3111, 0.0444, -0.3556]
    """
    mean_G = rollouts.mean(rollouts.lengths_B)
    relative_B = rollouts.lengths_B / torch.where(mean_G > 0, mean_G, 1.0)[rollouts.groups_B]
    scores_B = paper_scores_of(rollouts, settings)
    shaped_B = _rescaled(scores_B, relative_B, settings.alpha)
    metrics = _calibration(rollouts, scores_B, relative_B, settings.alpha)
    return shaped_outcome(rollouts, shaped_B, settings, **metrics)


def _rescaled(scores_B: Tensor, relative_B: Tensor, alpha: float) -> Tensor:
    """The reward r, from the lengths relative to the group's mean."""
    return torch.where(scores_B > 0, scores_B / (1 + alpha * relative_B), scores_B)


def _calibration(rollouts: Rollouts, scores_B: Tensor, relative_B: Tensor, alpha: float) -> dict[str, float]:
    """The metrics ``calibrated`` and ``calibrated_alpha``."""
    right_G, count_G = rollouts.count(rollouts.correct_B), rollouts.count()
    mixed_G = (right_G > 0) & (right_G < count_G)
    best_G = rollouts.largest(scores_B)[mixed_G]

    def share(alpha: float) -> float:
        mean_G = rollouts.mean(_rescaled(scores_B, relative_B, alpha))[mixed_G]
        return (best_G / (1 + alpha) >= mean_G).double().mean().item()

    if not len(best_G):
        return {"calibrated": 1.0, "calibrated_alpha": 0.0}
    low, high = 0, LARGEST_ALPHA  # hundredths; the rule holds at low and, as far as we know, not at high + 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if share(middle / 100) >= CALIBRATED_SHARE else (low, middle - 1)
    return {"calibrated": share(alpha), "calibrated_alpha": low / 100}
