"""DRPO: a softmax over lengths weighs the correct rollouts; the wrong ones share the opposite weight equally.

Per group of n rollouts, length ``L`` (generated tokens) and the limit L_max::

    A_i = n · w_i                      correct
    A_i = −n / number of wrong ones    wrong
    A_i = 0                            group all correct or all wrong
    w = softmax of (1 − L / L_max) / temperature over the correct rollouts

Paper: "DRPO: Efficient Reasoning via Decoupled Reward Policy Optimization", arXiv 2510.04474; code:
github.com/Optimization-AI/DRPO at 405f702 (``compute_policy_loss_drpo`` in ``verl/verl/trainer/ppo/core_algos.py``).
Temperature 0.1 (its λ) and the weights are as there. These advantages give the gradient of its loss at the policy that
sampled, with ``loss_agg_mode=seq-mean-token-mean`` (the recipe sets it): the loss scores a rollout by its mean token
log-probability, and each group counts 1.

Two things differ. There, a softmax of their log-probabilities over τ = 10 weighs the wrong rollouts. Here they weigh the same
(τ → ∞), because an estimator sees no log-probabilities. At τ = 10 a difference of 0.5 in mean log-probability changes a weight
by 5 %. There, a penalty holds the KL divergence below 1e-4. Here verl's clipping and ``use_kl_loss`` limit it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from verl_efficiency.methods.cost import CostSettings
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedSettings
from verl_efficiency.settings import require


@dataclass(frozen=True)
class DrpoSettings(CostSettings, LimitedSettings):
    """Settings of ``drpo``, which has its own advantage.

    Attributes:
        temperature: the higher, the less length counts among correct rollouts; → ∞ weighs them equally.
        correct_threshold: a score of at least this is correct.
    """

    advantage: ClassVar[str] = "drpo"  # type: ignore[misc]
    temperature: float = 0.1
    correct_threshold: float = 0.5

    @property
    def aggregation(self) -> str:
        return "seq-mean-token-mean"

    def __post_init__(self) -> None:
        CostSettings.__post_init__(self)
        LimitedSettings.__post_init__(self)
        require(self.temperature > 0, "temperature", self.temperature, "a number above 0")


def drpo(rollouts: Rollouts, settings: DrpoSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. The weights are ∝ exp(0.5) and exp(0.25) at temperature 1. The two wrong rollouts share −4:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0., 0.]), torch.tensor([50, 75, 9, 99]), ["a"] * 4)
    >>> [round(a, 4) for a in drpo(r, DrpoSettings(temperature=1.0, max_response_length=100)).advantages_B.tolist()]
    [2.2487, 1.7513, -2.0, -2.0]
    """
    count_G = rollouts.count()
    right_G, wrong_G = rollouts.count(rollouts.correct_B), rollouts.count(~rollouts.correct_B)
    excess_B = rollouts.lengths_B.double() / settings.limit / settings.temperature
    shortest_G = rollouts.smallest(excess_B, rollouts.correct_B)
    weight_B = torch.exp(shortest_G[rollouts.groups_B] - excess_B)  # relative to the shortest correct one: at most 1
    share_B = weight_B / rollouts.total(weight_B, rollouts.correct_B)[rollouts.groups_B]
    blame_B = 1 / wrong_G.clamp_min(1)[rollouts.groups_B]
    mixed_B = ((right_G > 0) & (wrong_G > 0))[rollouts.groups_B] & rollouts.real_B
    advantages_B = count_G[rollouts.groups_B] * torch.where(rollouts.correct_B, share_B, -blame_B)
    metrics = {"solve_rate": rollouts.average(rollouts.correct_B), "mixed": rollouts.average(mixed_B)}
    return Outcome(torch.where(mixed_B, advantages_B, 0.0), metrics)
