r"""Stop properly: a response that the token limit cut off is worth a part of its score, or a fixed penalty.

::

    score = 1[correct]                 the response ended by itself
            coef · 1[correct]          cut off, 0 ≤ coef ≤ 1
            coef                       cut off, coef < 0, whether correct or not

From ProRL v2 (NVIDIA; published as code and guides, in NeMo RL and OpenRLHF as ``stop_properly_penalty_coef``, whose sign has
the same two meanings in OpenRLHF; no paper of its own known to us). 0 is the value of NeMo RL's recipe for it; DLER
(arXiv 2510.15110) trains with 0.1. Not for ``batched_accuracy``, where running into the limit is what teaches.

>>> told = {"response_tokens": 1000, "truncated": True}
>>> [stop_properly("sums", r"\boxed{4} so", "4", told, coef=coef)["score"] for coef in (0.0, 0.1, -0.5)]
[0.0, 0.1, -0.5]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verl_efficiency.rewards.accuracy import accuracy
from verl_efficiency.rewards.inputs import AnswerSettings, read_settings, response_cost, row_name
from verl_efficiency.settings import require


@dataclass(frozen=True)
class StopProperlySettings(AnswerSettings):
    """Settings of ``stop_properly``.

    Args:
        coef: what a response that was cut off keeps, 0 to 1; below 0, the score of every one of them.
    """

    needs_cost: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "truncated": 0.0}

    coef: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.coef <= 1, "coef", self.coef, "at most 1")


def stop_properly(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float | str]:
    """Score one response, as verl calls it.

    Args:
        data_source: named in errors.
        solution_str: the decoded response.
        ground_truth: the answer.
        extra_info: ``truncated`` from our reward manager.
        settings: see :class:`StopProperlySettings`.

    Returns:
        What ``accuracy`` returns, with another ``score``; ``truncated``, 1 if the response was cut off, else 0.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: not known whether the response was cut off; a ground truth that is no text.
    """
    chosen = read_settings(StopProperlySettings, settings)
    truncated = response_cost(extra_info, "truncated", "stop_properly", row_name(data_source, extra_info))
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **chosen.for_accuracy)
    if truncated:
        result["score"] = chosen.coef * float(result["acc"]) if chosen.coef >= 0 else chosen.coef
    return result | {"truncated": float(truncated)}


compute_score = stop_properly
