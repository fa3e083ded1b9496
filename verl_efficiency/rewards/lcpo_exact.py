r"""LCPO-Exact: a correct answer, in exactly as many tokens as the prompt asks for.

With the response's tokens ``n`` and the target ``n*`` that the prompt states::

    score = 1[correct] − α · |n* − n|

Paper: L1, arXiv 2503.04697. α = 0.0003 as in its training script, whose prompts end in ``Think for {n*} tokens.`` with n* drawn
from 100 to 4000. As in the paper, a correct answer far from its target scores below a wrong one close to it, and no wrong
answer scores above 0. ``lcpo_max`` never ranks a wrong answer above a correct one.

>>> told = {"target_tokens": 1000, "response_tokens": 1500}
>>> [round(lcpo_exact("sums", text, "4", told)["score"], 6) for text in (r"\boxed{4}", r"\boxed{5}")]
[0.85, -0.15]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import AnswerSettings, Response, Result, graded, reward
from verl_efficiency.settings import require_at_least_0


@dataclass(frozen=True)
class TargetSettings(AnswerSettings):
    """Settings of both forms of LCPO.

    Args:
        alpha: α, score for each token, at least 0.
        target_column: path of the column with n*, the number of tokens that the row's prompt states, below ``extra_info``.
    """

    needs_cost: ClassVar[bool] = True

    alpha: float = 0.0003
    target_column: str = "extra_info.target_tokens"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "alpha")

    def target(self, response: Response) -> float:
        """n*.

        Raises:
            ValueError: it is missing or not above 0.
        """
        target = response.number(self.target_column)
        if target <= 0:
            raise ValueError(
                f"{self.target_column} must be a number of tokens above 0, got {target:g} ({response.row})"
            )
        return target


@dataclass(frozen=True)
class LcpoExactSettings(TargetSettings):
    """Settings of ``lcpo_exact``."""

    ranks_wrong: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "target_tokens": 0.0, "off_target": 0.0}


@reward(LcpoExactSettings)
def lcpo_exact(response: Response, settings: LcpoExactSettings) -> Result:
    """Returns what ``accuracy`` returns, with another ``score``; ``target_tokens``, n*; ``off_target``, |n* − n| tokens."""
    tokens, target = response.tokens, settings.target(response)
    off_target = abs(target - tokens)
    result = graded(response, settings)
    score = float(result["acc"]) - settings.alpha * off_target
    return result | {"score": score, "target_tokens": target, "off_target": off_target}


compute_score = lcpo_exact
