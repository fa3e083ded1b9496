"""Leash: tokens over a target length cost. The price rises while the mean length is over the target, and falls otherwise.

With score ``s``, length ``L`` (generated tokens), target length T and price λ::

    r = clip(s − λ · max(0, L / T − 1), −1, 1)
    λ ← clip(λ + step · (mean L of the batch / T − 1), 0, max_price)

λ is updated after the rewards are computed (dual ascent).

Paper: "Leash: Adaptive Length Penalty and Reward Shaping for Efficient Large Reasoning Model", arXiv 2512.21540;
code: github.com/YanhaoLi-Cc/verl at b03e677 (its first author's),
``verl/recipe/constraint/constraint_reward_manager.py``, whose defaults are ours: T = 4096, λ from 0.01, step 0.02, at
most 2. Its scores are ±1, and ``s`` and ``r`` are on that scale (see ``shaping/base.py``). On a 0/1 scale r is
clip(s − ½ λ · max(0, L / T − 1), 0, 1). The clip keeps a wrong answer at −1, so a wrong answer never pays for its length.
The clip alone does not change a score outside ±1, for example of a graded reward. A score above 1 can pay down to −1. A
score below −1 pays nothing.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class LeashSettings(ShapingSettings):
    """Settings of ``leash``.

    Attributes:
        target_length: T, the mean length towards which the price steers the run, generated tokens.
        initial_price: λ of the first step.
        step: how fast λ follows, per step, at a mean length of twice the target.
        max_price: the highest λ.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, -1.0)

    target_length: float = 4096
    initial_price: float = 0.01
    step: float = 0.02
    max_price: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.target_length > 0, "target_length", self.target_length, "a number of tokens above 0")
        require_at_least_0(self, "initial_price", "step", "max_price")

    @property
    def keeps_state(self) -> bool:
        return True


@dataclass
class LeashState:
    """price: λ of the next step; None before the first."""

    price: float | None = None


def leash(rollouts: Rollouts, settings: LeashSettings, state: LeashState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated afterwards.

    With λ = 0.4 and a target of 20, a correct answer of 30 tokens loses 0.2 on the ±1 scale, which is 0.1 on the 0/1 scale. A
    wrong answer loses nothing. The rewards are 1, 0.9, 0 (mean 0.6333). The mean length is 20, so λ does not change:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([0, 30, 30]), ["a", "a", "a"])
    >>> s, state = LeashSettings(target_length=20.0, initial_price=0.4, advantage="dr_grpo"), LeashState()
    >>> [round(a, 4) for a in leash(r, s, state).advantages_B.tolist()], state.price
    ([0.3667, 0.2667, -0.6333], 0.4)
    """
    price = settings.initial_price if state.price is None else state.price
    over_B = rollouts.lengths_B.double() / settings.target_length - 1
    scores_B = paper_scores_of(rollouts, settings)
    shaped_B = scores_B - price * over_B.clamp_min(0)
    shaped_B = torch.maximum(torch.minimum(shaped_B, scores_B.clamp_min(1)), scores_B.clamp_max(-1))
    state.price = price
    if bool(rollouts.real_B.any()):
        state.price += settings.step * over_B[rollouts.real_B].mean().item()
        state.price = min(max(state.price, 0.0), settings.max_price)
    return shaped_outcome(rollouts, shaped_B, settings, price=price)
