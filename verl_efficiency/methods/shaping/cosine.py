"""Cosine reward: from ``shortest`` at no tokens to ``longest`` at the limit, with one pair for correct and one for wrong
answers.

With length ``L`` (generated tokens) and the limit L_max::

    r = longest + ½ (shortest − longest) (1 + cos(π L / L_max))
    r = exceed                                  L + margin ≥ L_max, right or wrong

This reward replaces the score. A wrong answer gains from being long, never from being short. By default
(``unsolved=leave``) a group that nobody solved learns nothing. ``unsolved=as_published`` is the formula above for every group,
so there the model learns to be long.

Paper: "Demystifying Long Chain-of-Thought Reasoning in LLMs", arXiv 2502.03373; code: github.com/eddycmu/demystify-long-cot at
e90cf9b, ``openrlhf/openrlhf/reward/cosine.py``, which has the margin of 16 tokens. The values 2 → 1, −10 → 0 and −10 are those
of its script ``section_4.2__active_scaling_of_cot_length__cosine.sh``. Our choices: a group advantage (there PPO), and the
limit of the run as L_max (there a separate number). Not here: its repetition penalties, which need the text.
"""

import math
from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedShapingSettings, Unsolved, shaped_outcome
from verl_efficiency.settings import require


@dataclass(frozen=True)
class CosineSettings(LimitedShapingSettings):
    """Settings of ``cosine``.

    Attributes:
        correct_shortest, correct_longest: reward of a correct answer at length 0 and at the limit.
        wrong_shortest, wrong_longest: reward of a wrong answer at length 0 and at the limit.
        exceed: reward of an answer that reaches the limit.
        margin: an answer this many tokens short of the limit already counts as reaching it.
    """

    correct_shortest: float = 2.0
    correct_longest: float = 1.0
    wrong_shortest: float = -10.0
    wrong_longest: float = 0.0
    exceed: float = -10.0
    margin: int = 16
    unsolved: Unsolved = "leave"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.margin >= 0, "margin", self.margin, "a number of tokens of at least 0")


def cosine(rollouts: Rollouts, settings: CosineSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. At half the limit r is half-way: 1.5 and −5. The third answer reaches the limit: −10 (mean
    −4.5):

    >>> r = Rollouts.build(torch.tensor([1., 0., 1.]), torch.tensor([50, 50, 100]), ["a", "a", "a"])
    >>> s = CosineSettings(max_response_length=100, advantage="dr_grpo")
    >>> [round(a, 4) for a in cosine(r, s).advantages_B.tolist()]
    [6.0, -0.5, -5.5]
    """
    lengths_B = rollouts.lengths_B.double()
    early_B = (1 + torch.cos(math.pi * (lengths_B / settings.limit).clamp_max(1))) / 2  # 1 at no tokens, 0 at the limit
    right_B = settings.correct_longest + (settings.correct_shortest - settings.correct_longest) * early_B
    wrong_B = settings.wrong_longest + (settings.wrong_shortest - settings.wrong_longest) * early_B
    shaped_B = torch.where(rollouts.correct_B, right_B, wrong_B)
    exceeded_B = rollouts.reached(settings.limit - settings.margin)
    exceeded = rollouts.average(exceeded_B)
    return shaped_outcome(rollouts, torch.where(exceeded_B, settings.exceed, shaped_B), settings, exceeded=exceeded)
