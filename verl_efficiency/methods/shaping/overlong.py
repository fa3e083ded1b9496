"""Overlong: DAPO's soft punishment of answers that come close to the token limit.

With score ``s``, length ``L`` (generated tokens), the limit ``L_max`` and the last ``L_cache`` tokens before it as a
buffer::

    r = s                                                   L ≤ L_max − L_cache
    r = s − factor · (L − (L_max − L_cache)) / L_cache      inside the buffer
    r = s − factor                                          L ≥ L_max

Paper: "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", arXiv 2503.14476, equation 13. verl has the
same in its reward manager ``dapo`` (``reward.reward_kwargs.overlong_buffer_cfg``), which adds the penalty to the score
itself. As an estimator the score stays what the reward gave, so that accuracy can be read from it, and it runs with any
reward manager and on OpenRLHF.

By default the buffer is a fifth of the limit, as in DAPO (4,096 of 20,480 tokens). DAPO scores 1 and −1 with a factor of 1.
On a 0/1 scale that factor equals 0.5 (see :mod:`verl_efficiency.methods.shaping.base`). So a correct answer at the limit
still scores above every wrong one outside the buffer. Right and wrong answers pay the same, so a short wrong answer scores
above a long wrong one. Advantage ``grpo`` as in DAPO.
"""

from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import SettingsError, require, require_at_least_0


@dataclass(frozen=True)
class OverlongSettings(LimitedShapingSettings):
    """Settings of ``overlong``.

    Attributes:
        buffer: L_cache, tokens before the limit in which the penalty grows; null: a fifth of the limit.
        factor: the penalty at the limit, for scores of 1 and −1.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, -1.0)

    buffer: int | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.buffer is None or self.buffer >= 1, "buffer", self.buffer, "at least 1 token, or null")
        require_at_least_0(self, "factor")
        limit = self.max_response_length
        if self.buffer is not None and limit is not None and self.buffer > limit:
            raise SettingsError(f"buffer: must be at most max_response_length={limit}, got {self.buffer}")


def overlong(rollouts: Rollouts, settings: OverlongSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Limit 100, buffer 20: 90 tokens are half-way into it. Rewards 1, 0.75 and −0.5:

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([80, 90, 100]), ["a", "a", "a"])
    >>> s = OverlongSettings(max_response_length=100, advantage="dr_grpo")
    >>> [round(a, 4) for a in overlong(r, s).advantages_B.tolist()]
    [0.5833, 0.3333, -0.9167]
    """
    buffer = settings.limit / 5 if settings.buffer is None else settings.buffer
    into_B = (rollouts.lengths_B.double() - (settings.limit - buffer)) / buffer
    penalty_B = settings.factor * into_B.clamp(0, 1)
    share = rollouts.average(into_B > 0)
    return shaped_outcome(rollouts, paper_scores_of(rollouts, settings) - penalty_B, settings, overlong=share)
