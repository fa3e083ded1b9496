"""Group advantages: one number per rollout from the rewards of its group.

For a group of ``n`` rollouts with rewards ``r``, mean ``μ`` and sample standard deviation ``σ`` (divided by n − 1):

* ``grpo``      (r − μ) / (σ + ε)          DeepSeekMath, arXiv 2402.03300
* ``dr_grpo``   r − μ                      "Understanding R1-Zero-like training", arXiv 2503.20783
* ``rloo``      (r − μ) · n / (n − 1)      reward minus the mean of the others; arXiv 2402.14740
* ``batch``     (a − m) / √(v + 1e-8)      with a = r − μ; mean m and variance v over all tokens of the batch

``batch`` is verl's ``reinforce_plus_plus_baseline`` (REINFORCE++, arXiv 2501.03262), which DLER uses. In m and v a rollout
counts once per token. As in verl, the advantage of a group of one is its reward (``batch`` whitens it too). Padding gets 0.
"""

from typing import Literal

import torch
from torch import Tensor

from verl_efficiency.methods.rollouts import Rollouts

AdvantageName = Literal["grpo", "dr_grpo", "rloo", "batch"]
EPSILON = 1e-6
VARIANCE_EPSILON = 1e-8


def group_advantage(name: AdvantageName, rewards_B: Tensor, rollouts: Rollouts) -> Tensor:
    """(B,) float64: the advantage ``name`` of ``rewards_B`` within the groups of ``rollouts``.

    >>> r = Rollouts.build(torch.tensor([1., 0., 1., 1.]), torch.tensor([5, 5, 5, 5]), ["a", "a", "b", "b"])
    >>> group_advantage("dr_grpo", r.scores_B, r).tolist()
    [0.5, -0.5, 0.0, 0.0]
    >>> group_advantage("rloo", r.scores_B, r).tolist()
    [1.0, -1.0, 0.0, 0.0]
    """
    if name == "batch":
        return _whiten(group_advantage("dr_grpo", rewards_B, rollouts), rollouts)
    advantage_B = _standardise(name, rewards_B.double(), rollouts, rollouts.real_B)
    alone_B = rollouts.count()[rollouts.groups_B] == 1
    return torch.where(alone_B & rollouts.real_B, rewards_B.double(), advantage_B)


def decoupled_advantage(
    name: AdvantageName, scores_B: Tensor, length_rewards_B: Tensor, rollouts: Rollouts, *, length_weight: float
) -> Tensor:
    """(B,) float64: ``A_accuracy + length_weight · A_length``, where ``A_length`` compares correct rollouts only.

    With length in the reward before normalisation, a correct but long rollout can get a negative advantage (DRPO,
    arXiv 2510.04474). Here the length term is centred among the correct rollouts of a group, so it is 0 for a sole one. In a
    group with wrong rollouts it lowers a correct one at most to 0, or to the best wrong one if that is above 0 (our choice: no
    wrong rollout overtakes a correct one). With ``batch`` the two terms are those of ``dr_grpo``, and their sum is whitened.
    """
    if name == "batch":
        plain_B = decoupled_advantage("dr_grpo", scores_B, length_rewards_B, rollouts, length_weight=length_weight)
        return _whiten(plain_B, rollouts)
    accuracy_B = group_advantage(name, scores_B, rollouts)
    length_B = length_weight * _standardise(name, length_rewards_B.double(), rollouts, rollouts.correct_B)
    best_wrong_B = rollouts.largest(accuracy_B, ~rollouts.correct_B)[rollouts.groups_B]  # −inf if none is wrong
    floor_B = torch.where(best_wrong_B.isfinite(), torch.minimum(accuracy_B, best_wrong_B.clamp_min(0)), -torch.inf)
    return torch.where(rollouts.correct_B, torch.maximum(accuracy_B + length_B, floor_B), accuracy_B)


def _standardise(name: AdvantageName, values_B: Tensor, rollouts: Rollouts, mask_B: Tensor) -> Tensor:
    """The formula of ``name`` over the rollouts in ``mask_B``; 0 for a sole one and outside the mask."""
    centred_B = values_B - rollouts.mean(values_B, mask_B)[rollouts.groups_B]
    if name == "grpo":
        deviation_G = rollouts.variance(values_B, mask_B, correction=1).sqrt()
        centred_B = centred_B / (deviation_G[rollouts.groups_B] + EPSILON)
    elif name == "rloo":
        count_B = rollouts.count(mask_B)[rollouts.groups_B]
        centred_B = centred_B * count_B / (count_B - 1).clamp_min(1)
    elif name != "dr_grpo":
        raise ValueError(f"unknown group advantage {name!r}. Known: grpo, dr_grpo, rloo, batch")
    return torch.where(mask_B, centred_B, 0.0)


def _whiten(advantage_B: Tensor, rollouts: Rollouts) -> Tensor:
    """(B,) ``advantage_B`` with mean 0 and variance 1 over the tokens of the real rollouts; 0 for padding.

    It is the sample variance over tokens. A batch of at most one token has none and is only shifted.
    """
    tokens_B = torch.where(rollouts.real_B, rollouts.lengths_B, 0).double()
    tokens = tokens_B.sum()
    centred_B = advantage_B - (tokens_B * advantage_B).sum() / tokens.clamp_min(1)
    variance = (tokens_B * centred_B.square()).sum() / (tokens - 1).clamp_min(1)
    return torch.where(rollouts.real_B, centred_B * torch.rsqrt(variance + VARIANCE_EPSILON), 0.0)
