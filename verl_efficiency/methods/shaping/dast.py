"""DAST: a reward between the problem's token budget and the length; correct answers under it gain, wrong ones over it
lose less.

With length ``L`` (generated tokens), solve rate p of the group, mean length of its correct rollouts, and the limit
L_max::

    B = p · mean correct length + (1 − p) · L_max     budget, tokens
    λ = (L − B) / B
    r = max(½ − ½ λ, 0.1)           correct
    r = min(0.9 λ − 0.1, −0.1)      wrong

Paper: "DAST: Difficulty-Adaptive Slow Thinking for Large Reasoning Models", arXiv 2503.04472; r is its eq. 1–2, read in
its text. The paper does not use r for reinforcement learning and leaves that for later. It ranks 20 sampled answers by
r (L_max 4096), builds pairs of two correct or two wrong answers, keeps those that differ enough, and trains with SimPO.
Only 9–12 % of its pairs are of wrong answers. Here r replaces the score. (UI-R1, arXiv 2503.21620, eq. 5–7, adds r to
the score.) So a group that is all wrong learns at full strength to be longer; ``unsolved=leave`` stops that. A wrong
answer gains from being long, never from being short. Every correct answer scores at least 0.2 above every wrong one.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedShapingSettings, shaped_outcome


@dataclass(frozen=True)
class DastSettings(LimitedShapingSettings):
    """Settings of ``dast``: only those of every shaping method."""


def dast(rollouts: Rollouts, settings: DastSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Half are right with 20 tokens on average and the limit is 60: B = 40; λ = −¾, −¼, ½, −½:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0., 0.]), torch.tensor([10, 30, 60, 20]), ["a"] * 4)
    >>> s = DastSettings(max_response_length=60, advantage="dr_grpo")
    >>> [round(a, 4) for a in dast(r, s).advantages_B.tolist()]  # rewards 0.875, 0.625, −0.1, −0.55
    [0.6625, 0.4125, -0.3125, -0.7625]
    """
    rate_G = rollouts.solve_rate()
    budget_G = rate_G * rollouts.mean(rollouts.lengths_B, rollouts.correct_B) + (1 - rate_G) * settings.limit
    budget_B = budget_G.clamp_min(1)[rollouts.groups_B]  # nothing but empty correct answers: no budget of zero
    overrun_B = (rollouts.lengths_B - budget_B) / budget_B
    right_B, wrong_B = (0.5 - 0.5 * overrun_B).clamp_min(0.1), (0.9 * overrun_B - 0.1).clamp_max(-0.1)
    shaped_B = torch.where(rollouts.correct_B, right_B, wrong_B)
    budget = budget_B[rollouts.real_B].mean().item() if bool(rollouts.real_B.any()) else float("nan")
    return shaped_outcome(rollouts, shaped_B, settings, budget=budget)
