r"""Reward form of ``token_budget``: a correct answer pays for its tokens over a budget that grows with the difficulty.

With response length ``L`` (tokens) and difficulty ``d ∈ [0, 1]`` from the data set::

    b(d)  = b_min + (b_max − b_min) · d                       budget, tokens
    o     = max(0, L − b) / b                                 overrun, relative
    score = max(1 − λ · min(o, o_max), margin) if correct, else 0

Formula and names are those of the estimator with ``budget_floor=null``: a reward does not see the correct rollouts of a group.
:mod:`verl_efficiency.methods.shaping.token_budget` names the papers; the combination is ours. A wrong answer scores 0 at any
length. Tokens of tools count here; the estimator leaves them out.

The reward form takes its difficulty from the data set only. verl hands a reward one response at a time, on a reward worker
drawn at random. Each worker would see only a part of a group's solve rate (``difficulty=group``), of its running average
(``running``, ``blend``) or of the lengths that budgets follow, and lose it on resume. ``algorithm.adv_estimator=token_budget``
has them: it sees the whole step on the driver.

>>> told = {"difficulty": 0.5, "response_tokens": 450}  # a budget of 300, overrun by half
>>> token_budget("sums", r"\boxed{4}", "4", told, b_min=100, b_max=500)["score"]
0.85
"""

from dataclasses import dataclass

from verl_efficiency.rewards.base import OverrunSettings, Response, Result, reward
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class TokenBudgetRewardSettings(OverrunSettings):
    """Settings of ``token_budget`` as a reward. ``b_min`` and ``b_max`` must be given.

    Args:
        difficulty: ``data``; the estimator's other sources are refused, see the module.
        difficulty_column: path of the column with d in [0, 1], below ``extra_info``.
        b_min, b_max: budget in tokens at d = 0 and d = 1, above 0.
    """

    difficulty: str = "data"
    difficulty_column: str = "extra_info.difficulty"
    b_min: float | None = None
    b_max: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.difficulty != "data":
            raise SettingsError(
                f"difficulty: must be 'data' in a reward, which sees neither its group nor other steps, got "
                f"{self.difficulty!r}; for group, running and blend use algorithm.adv_estimator=token_budget"
            )
        expected = (
            "a number of tokens above 0 (b_min and b_max have no defaults here: a reward cannot follow the run, but "
            "algorithm.adv_estimator=token_budget can)"
        )
        for name in ("b_min", "b_max"):
            value = getattr(self, name)
            require(value is not None and value > 0, name, value, expected)
        if self.b_min is not None and self.b_max is not None and self.b_min > self.b_max:
            raise SettingsError(f"b_min: must not be above b_max, got b_min={self.b_min:g} and b_max={self.b_max:g}")


@reward(TokenBudgetRewardSettings)
def token_budget(response: Response, settings: TokenBudgetRewardSettings) -> Result:
    """Returns what ``accuracy`` returns, with ``score`` in [0, 1]; ``budget``, tokens; ``overrun`` of the response, correct or
    not, at least 0."""
    tokens, difficulty = response.tokens, response.number(settings.difficulty_column)
    if not 0 <= difficulty <= 1:
        raise ValueError(f"{settings.difficulty_column} must be in [0, 1], got {difficulty:g} ({response.row})")
    assert settings.b_min is not None  # checked when built, and so is b_max
    assert settings.b_max is not None
    return settings.graded(response, tokens, settings.b_min + (settings.b_max - settings.b_min) * difficulty)


compute_score = token_budget
