"""Kimi k1.5: a term that falls linearly from ½ at the shortest rollout of the group to −½ at the longest.

With score ``s``, length ``L`` (generated tokens), and L_min and L_max over all rollouts of the group, right or wrong::

    λ = ½ − (L − L_min) / (L_max − L_min)      0 where all lengths are equal
    r = s + w · λ                              correct
    r = s + w · min(0, λ)                      wrong

Paper: "Kimi k1.5: Scaling Reinforcement Learning with LLMs", arXiv 2501.12599, which does not give w. 0.4 is the value of a
re-implementation, github.com/hkust-nlp/Laser at c9e7c4e (``verl/utils/reward_score/length_penalty.py``), for scores of 1 and
−0.5. ``s`` and ``r`` are on that scale (see ``shaping/base.py``). On a 0/1 scale this w equals 0.27. A long wrong answer scores
below a short wrong one, as in that code.

By default (``unsolved=leave``) a group that nobody solved has no length term. ``unsolved=as_published`` is the formula above
for every group. With ``grpo`` it can collapse: where many groups are unsolved, the model learns to be wrong in few tokens.

In a group that is all correct, only lengths differ. ``grpo`` divides by the standard deviation, so even a small length term
becomes a full-size advantage. In our trials on a small task, ``advantage=dr_grpo`` lost less accuracy than the published form,
and with ``combine=decoupled`` as well it lost the least.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, Unsolved, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require_at_least_0


@dataclass(frozen=True)
class KimiSettings(ShapingSettings):
    """Settings of ``kimi``.

    Attributes:
        weight: w, the weight of the length term. The shortest correct rollout gains w/2, the longest loses w/2.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, -0.5)

    weight: float = 0.4
    unsolved: Unsolved = "leave"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "weight")


def kimi(rollouts: Rollouts, settings: KimiSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Lengths 10, 20, 30 give λ = ½, 0, −½.

    At w = 0.6 the rewards are 1.3, 1 and −0.8 on the scale of 1 and −0.5. On the 0/1 scale they are 1.2, 1 and −0.2 (mean ⅔):

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 20, 30]), ["a", "a", "a"])
    >>> [round(a, 4) for a in kimi(r, KimiSettings(weight=0.6, advantage="dr_grpo")).advantages_B.tolist()]
    [0.5333, 0.3333, -0.8667]
    """
    shortest_B = rollouts.smallest(rollouts.lengths_B)[rollouts.groups_B]
    span_B = rollouts.largest(rollouts.lengths_B)[rollouts.groups_B] - shortest_B
    term_B = torch.where(span_B > 0, 0.5 - (rollouts.lengths_B - shortest_B) / span_B, 0.0)
    term_B = torch.where(rollouts.correct_B, term_B, term_B.clamp_max(0))
    return shaped_outcome(rollouts, paper_scores_of(rollouts, settings) + settings.weight * term_B, settings)
