"""GRLC (group relative length control): the reward weighs the thinking and the answer of a rollout by separate length terms.

With score ``s``, and ``L`` the thinking tokens or the answer tokens, with minimum and maximum over the group::

    w = 1 − (L − min L) / (max L − min L)     0 if all are equal
    r = s + thinking_weight · (w_thinking − its mean over the group)
          + answer_weight · (w_answer − its mean over the group)
          + thinking_bonus                    the shortest thinking of the group
          + answer_bonus                      the shortest answer of the group

A bonus goes to the shortest that is not empty, the first of equals. Its score must be at least that of place ⌊top_share · n⌋
among the n scores of the group (of place 1 if that is 0).

NVIDIA uses it for its Nemotron 3 models; code: github.com/NVIDIA-NeMo/Gym at 07d6b0d
(``resources_servers/genrm_compare/utils.py``). There all four weights are 0. Its examples set the first two to about 0.1: our
defaults. Its scores come from a judge (1 to 5) and its lengths are in characters; here they are tokens. Right and wrong answers
are treated the same, so a short wrong answer scores above a long wrong one. A model that does not think has answers only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class GrlcSettings(ShapingSettings):
    """Settings of ``grlc``.

    Attributes:
        thinking_weight, answer_weight: score between the shortest and the longest of a group.
        thinking_bonus, answer_bonus: score added for the shortest of a group.
        top_share: share of the group, by score, that can get a bonus, in [0, 1].
    """

    thinking_weight: float = 0.1
    answer_weight: float = 0.1
    thinking_bonus: float = 0.0
    answer_bonus: float = 0.0
    top_share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "thinking_weight", "answer_weight", "thinking_bonus", "answer_bonus")
        require(0 <= self.top_share <= 1, "top_share", self.top_share, "in [0, 1]")
        require(
            self.cost == "generated", "cost", self.cost, "left out: grlc has thinking_weight and answer_weight instead"
        )

    @property
    def parts(self) -> frozenset[str]:
        return frozenset({"thinking"})


def grlc(rollouts: Rollouts, settings: GrlcSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Thinking of 10 and 30 tokens gives ±0.05, answers of 8 and 4 tokens give ∓0.1:

    >>> from dataclasses import replace
    >>> r = Rollouts.build(torch.tensor([1., 1.]), torch.tensor([18, 34]), ["a", "a"])
    >>> r, s = replace(r, thinking_B=torch.tensor([10, 30])), GrlcSettings(answer_weight=0.2, advantage="dr_grpo")
    >>> [round(a, 4) for a in grlc(r, s).advantages_B.tolist()]
    [-0.05, 0.05]
    """
    if rollouts.thinking_B is None:
        raise ValueError("grlc needs thinking_B: the thinking tokens of every rollout")
    thinking_B = rollouts.thinking_B
    answer_B = rollouts.lengths_B - thinking_B
    term_B = settings.thinking_weight * _shortness(rollouts, thinking_B)
    term_B += settings.answer_weight * _shortness(rollouts, answer_B)
    best_B = _among_the_best(rollouts, settings.top_share)
    term_B += settings.thinking_bonus * (_shortest(rollouts, thinking_B) & best_B).double()
    term_B += settings.answer_bonus * (_shortest(rollouts, answer_B) & best_B).double()
    metrics = {"thinking_tokens": rollouts.average(thinking_B), "answer_tokens": rollouts.average(answer_B)}
    return shaped_outcome(rollouts, paper_scores_of(rollouts, settings) + term_B, settings, **metrics)


def _shortness(rollouts: Rollouts, count_B: Tensor) -> Tensor:
    """(B,) float64: w minus its mean over the group; 0 for padding."""
    groups_B = rollouts.groups_B
    low_B, high_B = rollouts.smallest(count_B)[groups_B], rollouts.largest(count_B)[groups_B]
    weight_B = torch.where(high_B > low_B, 1 - (count_B - low_B) / (high_B - low_B), 0.0)
    return torch.where(rollouts.real_B, weight_B - rollouts.mean(weight_B)[groups_B], 0.0)


def _among_the_best(rollouts: Rollouts, share: float) -> Tensor:
    """(B,) bool: score at least that of place ⌊share · n⌋ (at least place 1) in a group of n ≥ 2 rollouts."""
    count_G = rollouts.count()
    last_G = ((count_G * share).floor() - 1).clamp_min(0)
    is_last_B = rollouts.places([-rollouts.scores_B]) == last_G[rollouts.groups_B]
    threshold_G = rollouts.smallest(rollouts.scores_B, is_last_B)
    return (rollouts.scores_B >= threshold_G[rollouts.groups_B]) & (count_G > 1)[rollouts.groups_B] & rollouts.real_B


def _shortest(rollouts: Rollouts, count_B: Tensor) -> Tensor:
    """(B,) bool: the shortest of each group that is not empty, the first of equals."""
    empty_B = count_B == 0
    return (rollouts.places([empty_B, count_B]) == 0) & ~empty_B & rollouts.real_B
