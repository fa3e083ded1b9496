"""Arora and Zanette: a correct answer loses up to α of its reward, by how its length compares with the group's correct
ones.

With score ``s``, length ``L`` (generated tokens), and mean μ and population standard deviation σ_L of the lengths of
the group's correct rollouts::

    z = (L − μ) / (σ_L + 1e-7)
    r = s · (1 − α · sigmoid(z))     correct
    r = s                            wrong
    r = min(s, 0)                    correct, but stopped by the limit (no end)

Paper: "Training Language Models to Reason Efficiently", arXiv 2502.04463; code:
github.com/Zanette-Labs/efficient-reasoning at e3611e4, ``reward_server/math_server.py``. Advantage ``rloo`` and α = 0.1
as its ``run_rloo_1.5B.sh`` (the paper varies α). Our choice: ``s`` is the score, where the paper has an indicator of
correctness. The two are equal for scores of 0 and 1.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.advantages import AdvantageName
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require

EPSILON = 1e-7


@dataclass(frozen=True)
class AroraSettings(LimitedShapingSettings):
    """Settings of ``arora``.

    Attributes:
        alpha: α in [0, 1), the share of its reward that a very long correct answer loses.
        max_response_length: limit on generated tokens, at which an answer counts as cut off; null: none is cut off.
    """

    advantage: AdvantageName = "rloo"
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.alpha < 1, "alpha", self.alpha, "in [0, 1)")


def arora(rollouts: Rollouts, settings: AroraSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Two correct of 10 and 30 tokens (z = ∓1, sigmoid 0.269 and 0.731), one wrong; α = 0.1:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 30, 5]), ["a", "a", "a"])
    >>> [round(a, 4) for a in arora(r, AroraSettings()).advantages_B.tolist()]
    [0.5097, 0.4403, -0.95]
    """
    limit = settings.max_response_length
    cut_B = rollouts.correct_B & rollouts.reached(limit) if limit else torch.zeros_like(rollouts.correct_B)
    correct_B = rollouts.correct_B & ~cut_B
    mean_G = rollouts.mean(rollouts.lengths_B, correct_B)
    deviation_G = rollouts.variance(rollouts.lengths_B, correct_B).sqrt()
    z_B = (rollouts.lengths_B - mean_G[rollouts.groups_B]) / (deviation_G[rollouts.groups_B] + EPSILON)
    factor_B = torch.where(correct_B, 1 - settings.alpha * torch.sigmoid(z_B), 1.0)
    scores_B = paper_scores_of(rollouts, settings)
    shaped_B = torch.where(cut_B, scores_B.clamp_max(0), scores_B * factor_B)
    return shaped_outcome(rollouts, shaped_B, settings)
