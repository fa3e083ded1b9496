r"""LCPO-Exact: a correct answer, in as many tokens as the prompt asks for.

With the response's tokens ``n`` and the target ``n*`` that the prompt states::

    score = 1[correct] − α · |n* − n|

Paper: L1, arXiv 2503.04697; α = 0.0003 as in its training script, whose prompts end in ``Think for {n*} tokens.`` with n* drawn
from 100 to 4000. As there, a correct answer far from its target scores below a wrong one close to it; no wrong answer scores
above 0. ``lcpo_max`` has neither trait.

>>> told = {"target_tokens": 1000, "response_tokens": 1500}
>>> [round(lcpo_exact("sums", text, "4", told)["score"], 6) for text in (r"\boxed{4}", r"\boxed{5}")]
[0.85, -0.15]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verl_efficiency.rewards.accuracy import accuracy
from verl_efficiency.rewards.inputs import (
    AnswerSettings,
    read_number,
    read_settings,
    require_column,
    response_cost,
    row_name,
)
from verl_efficiency.settings import require


@dataclass(frozen=True)
class LcpoExactSettings(AnswerSettings):
    """Settings of ``lcpo_exact``.

    Args:
        alpha: α, score lost for each token off the target, at least 0.
        target_column: path of the column with n*, the target that the row's prompt states, below ``extra_info``.
    """

    needs_cost: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "target_tokens": 0.0, "off_target": 0.0}

    alpha: float = 0.0003
    target_column: str = "extra_info.target_tokens"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "alpha", self.alpha, "a number of at least 0")
        require_column("target_column", self.target_column)

    @property
    def columns(self) -> dict[str, str]:
        return {"target": self.target_column}


def lcpo_exact(
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
        extra_info: ``response_tokens`` from our reward manager, and the target.
        settings: see :class:`LcpoExactSettings`.

    Returns:
        What ``accuracy`` returns, with another ``score``; ``target_tokens``, n*; ``off_target``, |n* − n| tokens.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: no token count, no target, or one that is not above 0; a ground truth that is no text.
    """
    chosen = read_settings(LcpoExactSettings, settings)
    tokens, target = read_target(extra_info, chosen.target_column, "lcpo_exact", row_name(data_source, extra_info))
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **chosen.for_accuracy)
    off_target = abs(target - tokens)
    score = float(result["acc"]) - chosen.alpha * off_target
    return result | {"score": score, "target_tokens": target, "off_target": off_target}


compute_score = lcpo_exact


def read_target(extra_info: Mapping[str, Any] | None, column: str, reward: str, row: str) -> tuple[float, float]:
    """(tokens of the response, tokens that its prompt asks for)."""
    tokens = response_cost(extra_info, "response_tokens", reward, row)
    target = read_number(extra_info, column, reward, row)
    if target <= 0:
        raise ValueError(f"{column} must be a number of tokens above 0, got {target:g} ({row})")
    return float(tokens), target
