"""GRPO-LEAD: an exponential length term for correct answers, and advantages weighted by the difficulty of the problem.

With length ``L`` (generated tokens), mean μ and sample standard deviation σ of the lengths of the group's correct rollouts, and
solve rate ρ of the group::

    r = exp(−α · (L − μ) / (σ + 1e-6))    correct; σ = 1 for a sole one
    r = wrong_reward                      wrong
    A = group advantage of r
    A ← A · w(ρ) if A > 0, else A · w(1 − ρ)
    w(x) = 0.4 + 1.1 / (1 + exp(10 (x − 0.75)))

Paper: "GRPO-LEAD: A Difficulty-Aware Reinforcement Learning Approach for Concise Mathematical Reasoning in Language Models",
arXiv 2504.09696; code: github.com/aeroplanepaper/GRPO-LEAD at 9344bef (``verl/verl/trainer/main_ppo.py``,
``…/ppo/core_algos.py``). α = 0.05, the wrong reward −1 and the weights are as there; ``r`` is on the scale of 1 and −1 (see
``shaping/base.py``).

That code ignores lengths where the three shortest rollouts of a group average at most 4000 tokens (never in a group of one or
two). ``shape_above`` does this too. It is off by default (our choice: 4000 suits runs of 8k–14k tokens only).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0

EPSILON = 1e-6


@dataclass(frozen=True)
class GrpoLeadSettings(ShapingSettings):
    """Settings of ``grpo_lead``.

    Attributes:
        alpha: α, strength of the length term.
        wrong_reward: reward of a wrong answer, at most 0; ``combine=decoupled`` uses its score instead.
        shape_above: lengths count only if the three shortest rollouts of a group average more tokens than this; 0: always.
        lightest, heaviest: the weight w of very easy and very hard problems.
        midpoint: solve rate at which w is half-way between them.
        steepness: how sharply w changes at the midpoint.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, -1.0)

    alpha: float = 0.05
    wrong_reward: float = -1.0
    shape_above: float = 0.0
    lightest: float = 0.4
    heaviest: float = 1.5
    midpoint: float = 0.75
    steepness: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "alpha", "shape_above", "lightest", "heaviest")
        require(self.wrong_reward <= 0, "wrong_reward", self.wrong_reward, "a number of at most 0")


def grpo_lead(rollouts: Rollouts, settings: GrpoLeadSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. μ = 20, σ = 14.14, z = ∓0.7071; ρ = ½, w(½) = 1.4166.

    With α = 0 the rewards are 1, 1, −1, −1 on the scale of ±1, which is 1, 1, 0, 0 on a 0/1 scale:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0., 0.]), torch.tensor([10, 30, 5, 50]), ["a"] * 4)
    >>> s = GrpoLeadSettings(alpha=0.0, advantage="dr_grpo")
    >>> [round(a, 4) for a in grpo_lead(r, s).advantages_B.tolist()]
    [0.7083, 0.7083, -0.7083, -0.7083]
    >>> s = GrpoLeadSettings(advantage="dr_grpo")  # exp(±0.0354) = 1.036, 0.9653; on a 0/1 scale 1.018, 0.9826
    >>> [round(a, 4) for a in grpo_lead(r, s).advantages_B.tolist()]
    [0.7335, 0.6835, -0.7085, -0.7085]
    """
    correct_B, lengths_B = rollouts.correct_B, rollouts.lengths_B
    deviation_G = rollouts.variance(lengths_B, correct_B, correction=1).sqrt()
    deviation_G = torch.where(rollouts.count(correct_B) > 1, deviation_G, 1.0)
    z_B = (lengths_B - rollouts.mean(lengths_B, correct_B)[rollouts.groups_B]) / (
        deviation_G[rollouts.groups_B] + EPSILON
    )
    if settings.shape_above:
        three_G = rollouts.mean(lengths_B, rollouts.places([lengths_B]) < 3)
        z_B = torch.where((three_G > settings.shape_above)[rollouts.groups_B], z_B, 0.0)
    shaped_B = torch.where(correct_B, torch.exp(-settings.alpha * z_B), settings.wrong_reward)
    rate_B = rollouts.solve_rate()[rollouts.groups_B]

    def weighted(advantages_B: Tensor) -> Tensor:
        return advantages_B * _weight(torch.where(advantages_B > 0, rate_B, 1 - rate_B), settings)

    return shaped_outcome(rollouts, shaped_B, settings, weighted)


def _weight(rate_B: Tensor, settings: GrpoLeadSettings) -> Tensor:
    """w: from ``heaviest`` at a low rate to ``lightest`` at a high one."""
    fall_B = torch.sigmoid(-settings.steepness * (rate_B - settings.midpoint))
    return settings.lightest + (settings.heaviest - settings.lightest) * fall_B
