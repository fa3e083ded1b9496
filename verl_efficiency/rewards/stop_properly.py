r"""Stop properly: a response that the token limit cut off keeps a part of its score, or gets a fixed penalty.

::

    score = 1[correct]                 the response ended by itself
            coef · 1[correct]          cut off, 0 ≤ coef ≤ 1
            coef                       cut off, coef < 0, whether correct or not

From ProRL v2 (NVIDIA; published as code and guides, in NeMo RL and OpenRLHF as ``stop_properly_penalty_coef``; we know of no
paper). In OpenRLHF the sign of the coefficient has the same two meanings. NeMo RL's recipe uses 0, DLER (arXiv 2510.15110) 0.1.
Not for ``batched_accuracy``, where the token limit is what teaches.

>>> told = {"response_tokens": 1000, "truncated": True}
>>> [stop_properly("sums", r"\boxed{4} so", "4", told, coef=coef)["score"] for coef in (0.0, 0.1, -0.5)]
[0.0, 0.1, -0.5]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import AnswerSettings, Response, Result, graded, reward
from verl_efficiency.settings import require


@dataclass(frozen=True)
class StopProperlySettings(AnswerSettings):
    """Settings of ``stop_properly``.

    Args:
        coef: the share of its score that a cut-off response keeps, 0 to 1; below 0, the score of every cut-off response.
    """

    needs_cost: ClassVar[bool] = True
    ranks_wrong: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "truncated": 0.0}

    coef: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.coef <= 1, "coef", self.coef, "at most 1")


@reward(StopProperlySettings)
def stop_properly(response: Response, settings: StopProperlySettings) -> Result:
    """Returns what ``accuracy`` returns, with another ``score``; ``truncated``, 1 if the response was cut off, else 0."""
    result, truncated = graded(response, settings), response.truncated
    if truncated:
        result["score"] = settings.coef * float(result["acc"]) if settings.coef >= 0 else settings.coef
    return result | {"truncated": float(truncated)}


compute_score = stop_properly
