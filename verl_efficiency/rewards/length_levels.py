r"""Length levels: the prompt asks for short, medium or long reasoning; a correct answer pays for what it overruns its level by.

With response length ``L``, limit of a response ``L_max`` (tokens) and the share ``k`` of the row's level::

    b     = k · L_max                                         the level's budget, tokens
    score = max(1 − λ · min(max(0, L − b) / b, o_max), margin) if correct, else 0

Nothing pays for length: ``long`` is a permission, and an answer at ``medium`` may be as short as one at ``short``.

TLDR (arXiv 2505.07961) trains one model on prompts for several levels, which is the behaviour built here. The term in its
reward was not to be found: this one is ours, the overrun of ``token_budget``, and so are the shares.

>>> told = {"length_level": "short", "response_tokens": 300, "response_limit": 800}  # 200 allowed
>>> length_levels("sums", r"\boxed{4}", "4", told)["score"]
0.85
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verl_efficiency.rewards.accuracy import accuracy
from verl_efficiency.rewards.inputs import (
    AnswerSettings,
    read_column,
    read_settings,
    require_column,
    response_cost,
    row_name,
)
from verl_efficiency.settings import require, unknown

LEVELS = ("short", "medium", "long")


@dataclass(frozen=True)
class LengthLevelsSettings(AnswerSettings):
    """Settings of ``length_levels``.

    Args:
        short, medium, long: share of the limit that the level allows, above 0, from small to large.
        level_column: path of the column that says ``short``, ``medium`` or ``long``, below ``extra_info``.
        max_tokens: L_max, above 0; unset, the run's own limit of a response.
        penalty: λ, score lost at an overrun of 100 %.
        overrun_max: o_max, the overrun beyond which the penalty stays the same.
        margin: the least that a correct answer is worth, in [0, 1].
    """

    needs_cost: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "level": "", "budget": 0.0, "overrun": 0.0}

    short: float = 0.25
    medium: float = 0.5
    long: float = 1.0
    level_column: str = "extra_info.length_level"
    max_tokens: int | None = None
    penalty: float = 0.3
    overrun_max: float = 2.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.short <= self.medium <= self.long,
            "short",
            (self.short, self.medium, self.long),
            "above 0, and short ≤ medium ≤ long",
        )
        require_column("level_column", self.level_column)
        require(
            self.max_tokens is None or self.max_tokens > 0,
            "max_tokens",
            self.max_tokens,
            "a number of tokens above 0, or null for the run's limit",
        )
        for name in ("penalty", "overrun_max"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number of at least 0")
        require(0 <= self.margin <= 1, "margin", self.margin, "in [0, 1]")

    @property
    def columns(self) -> dict[str, str]:
        return {"level": self.level_column}


def length_levels(
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
        extra_info: ``response_tokens`` and ``response_limit`` from our reward manager, and the level.
        settings: see :class:`LengthLevelsSettings`.

    Returns:
        What ``accuracy`` returns, with ``score`` in [0, 1]; ``level``, a text; ``budget``, tokens; ``overrun``, of this
        response, whether correct or not, at least 0.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: no token count, no level, or one that does not exist; a ground truth that is no text.
    """
    chosen = read_settings(LengthLevelsSettings, settings)
    row = row_name(data_source, extra_info)
    tokens = response_cost(extra_info, "response_tokens", "length_levels", row)
    limit = chosen.max_tokens or response_cost(extra_info, "response_limit", "length_levels", row)
    level = read_column(extra_info, chosen.level_column, "length_levels", row)
    if level not in LEVELS:
        raise ValueError(f"{chosen.level_column}: {unknown('level', level, LEVELS)} ({row})")
    budget = float(getattr(chosen, level) * limit)
    overrun = max(0.0, tokens - budget) / budget
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **chosen.for_accuracy)
    if result["acc"] == 1:
        result["score"] = max(1 - chosen.penalty * min(overrun, chosen.overrun_max), chosen.margin)
    return result | {"level": level, "budget": budget, "overrun": overrun}


compute_score = length_levels
