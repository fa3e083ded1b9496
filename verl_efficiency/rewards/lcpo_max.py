r"""LCPO-Max: a correct answer, in no more tokens than the prompt allows; the more it saves, the better.

With the response's tokens ``n`` and the limit ``n*`` that the prompt states::

    score = 1[correct] · clip(α · (n* − n) + δ, 0, 1)

Paper: L1, arXiv 2503.04697. Its code has ``clip(½ + ½ · α' · (n* − n), 0, 1)``, which is ours with δ = ½ and α = α'/2, and
prompts that end in ``Think for maximum {n*} tokens.``; its script for this form sets no α, so that α = 0.0003, the one of
``lcpo_exact``, is our choice. δ is what a correct answer earns that uses its limit up: it lets one that is a little too long
keep some of its reward. A correct answer can therefore score below ½: use verl's ``grpo``, not an estimator that reads
correctness from the score.

>>> told = {"target_tokens": 1000, "response_tokens": 1500}
>>> [round(lcpo_max("sums", text, "4", told)["score"], 6) for text in (r"\boxed{4}", r"\boxed{5}")]
[0.35, 0.0]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verl_efficiency.rewards.accuracy import accuracy
from verl_efficiency.rewards.inputs import AnswerSettings, read_settings, require_column, row_name
from verl_efficiency.rewards.lcpo_exact import read_target
from verl_efficiency.settings import require


@dataclass(frozen=True)
class LcpoMaxSettings(AnswerSettings):
    """Settings of ``lcpo_max``.

    Args:
        alpha: α, score gained for each token saved, at least 0.
        delta: δ, score of a correct answer that is as long as it may be, in [0, 1].
        target_column: path of the column with n*, the limit that the row's prompt states, below ``extra_info``.
    """

    needs_cost: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "target_tokens": 0.0, "within_target": 0.0}

    alpha: float = 0.0003
    delta: float = 0.5
    target_column: str = "extra_info.target_tokens"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "alpha", self.alpha, "a number of at least 0")
        require(0 <= self.delta <= 1, "delta", self.delta, "in [0, 1]")
        require_column("target_column", self.target_column)

    @property
    def columns(self) -> dict[str, str]:
        return {"target": self.target_column}


def lcpo_max(
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
        extra_info: ``response_tokens`` from our reward manager, and the limit.
        settings: see :class:`LcpoMaxSettings`.

    Returns:
        What ``accuracy`` returns, with ``score`` in [0, 1]; ``target_tokens``, n*; ``within_target``, 1 if n ≤ n*, else 0.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: no token count, no limit, or one that is not above 0; a ground truth that is no text.
    """
    chosen = read_settings(LcpoMaxSettings, settings)
    tokens, target = read_target(extra_info, chosen.target_column, "lcpo_max", row_name(data_source, extra_info))
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **chosen.for_accuracy)
    saving = min(max(chosen.alpha * (target - tokens) + chosen.delta, 0.0), 1.0)
    score = float(result["acc"]) * saving
    return result | {"score": score, "target_tokens": target, "within_target": float(tokens <= target)}


compute_score = lcpo_max
