"""The simplest reward for short answers: every response pays for its tokens, right or wrong."""

from collections.abc import Mapping
from typing import Any

from verl_efficiency.rewards import accuracy


def flat_penalty(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    weight: float,
    max_tokens: int,
) -> dict[str, float | str]:
    """``1[correct] − weight · tokens / max_tokens``, called as verl calls a reward.

    >>> flat_penalty("sums", r"\\boxed{4}", "4", {"response_tokens": 20}, weight=0.5, max_tokens=40)["score"]
    0.75
    """
    result = accuracy(data_source, solution_str, ground_truth, extra_info)
    return {**result, "score": result["acc"] - weight * extra_info["response_tokens"] / max_tokens}
