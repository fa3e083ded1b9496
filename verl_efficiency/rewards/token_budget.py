r"""Reward form of ``token_budget``: a correct answer pays for its tokens over a budget that grows with the difficulty.

With response length ``L`` (tokens) and difficulty ``d ∈ [0, 1]`` from the data set::

    b(d)  = b_min + (b_max − b_min) · d                       budget, tokens
    o     = max(0, L − b) / b                                 overrun, relative
    score = max(1 − λ · min(o, o_max), margin) if correct, else 0

The formula and the names are those of the estimator (:mod:`verl_efficiency.methods.shaping.token_budget`); a wrong answer is
worth 0 whatever its length. What the reward form lacks, and why: verl hands a reward one response at a time and sends each to
a reward worker drawn at random. The solve rate of a group (``difficulty=group``), a running average of it (``running``,
``blend``) and budgets that follow the run would each be seen in part by every worker, differently in each, and be lost on
resume. They need ``algorithm.adv_estimator=token_budget``, which sees the whole step on the driver; here they are refused.

The combination is ours; see the estimator for the papers. Tokens of tools count here, and do not in the estimator.

>>> told = {"difficulty": 0.5, "response_tokens": 450}  # a budget of 300, overrun by half
>>> token_budget("sums", r"\boxed{4}", "4", told, b_min=100, b_max=500)["score"]
0.85
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
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class TokenBudgetRewardSettings(AnswerSettings):
    """Settings of ``token_budget`` as a reward. ``b_min`` and ``b_max`` must be given.

    Args:
        difficulty: ``data``; the estimator's other sources are refused, see the module.
        difficulty_column: path of the column with d in [0, 1], below ``extra_info``.
        b_min, b_max: budget in tokens at d = 0 and d = 1, above 0.
        penalty: λ, score lost at an overrun of 100 %.
        overrun_max: o_max, the overrun beyond which the penalty stays the same.
        margin: the least that a correct answer is worth, in [0, 1].
    """

    needs_cost: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "budget": 0.0, "overrun": 0.0}

    difficulty: str = "data"
    difficulty_column: str = "extra_info.difficulty"
    b_min: float | None = None
    b_max: float | None = None
    penalty: float = 0.3
    overrun_max: float = 2.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.difficulty != "data":
            raise SettingsError(
                f"difficulty: must be 'data' in a reward, which sees neither its group nor other steps, got "
                f"{self.difficulty!r}; for group, running and blend use algorithm.adv_estimator=token_budget"
            )
        require_column("difficulty_column", self.difficulty_column)
        for name in ("b_min", "b_max"):
            value = getattr(self, name)
            require(
                value is not None and value > 0,
                name,
                value,
                "a number of tokens above 0 (a reward cannot follow the run; algorithm.adv_estimator=token_budget can)",
            )
        if self.b_min is not None and self.b_max is not None and self.b_min > self.b_max:
            raise SettingsError(f"b_min: must not be above b_max, got b_min={self.b_min:g} and b_max={self.b_max:g}")
        for name in ("penalty", "overrun_max"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number of at least 0")
        require(0 <= self.margin <= 1, "margin", self.margin, "in [0, 1]")

    @property
    def columns(self) -> dict[str, str]:
        return {"difficulty": self.difficulty_column}


def token_budget(
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
        extra_info: ``response_tokens`` from our reward manager, and the difficulty.
        settings: see :class:`TokenBudgetRewardSettings`.

    Returns:
        What ``accuracy`` returns, with ``score`` in [0, 1]; ``budget``, tokens; ``overrun``, of this response, whether correct
        or not, at least 0.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: no token count, no difficulty, or one outside [0, 1]; a ground truth that is no text.
    """
    chosen = read_settings(TokenBudgetRewardSettings, settings)
    row = row_name(data_source, extra_info)
    tokens = response_cost(extra_info, "response_tokens", "token_budget", row)
    difficulty = read_number(extra_info, chosen.difficulty_column, "token_budget", row)
    if not 0 <= difficulty <= 1:
        raise ValueError(f"{chosen.difficulty_column} must be in [0, 1], got {difficulty:g} ({row})")
    assert chosen.b_min is not None  # checked when built, and so is b_max
    assert chosen.b_max is not None
    budget = chosen.b_min + (chosen.b_max - chosen.b_min) * difficulty
    overrun = max(0.0, tokens - budget) / budget
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **chosen.for_accuracy)
    if result["acc"] == 1:
        result["score"] = max(1 - chosen.penalty * min(overrun, chosen.overrun_max), chosen.margin)
    return result | {"budget": budget, "overrun": overrun}


compute_score = token_budget
