r"""Length levels: the prompt asks for short, medium or long reasoning; a correct answer loses score for exceeding its level.

With response length ``L``, limit of a response ``L_max`` (tokens) and the share ``k`` of the row's level::

    b     = k · L_max                                         the level's budget, tokens
    score = max(1 − λ · min(max(0, L − b) / b, o_max), margin) if correct, else 0

A long answer never earns more: ``long`` allows length and does not ask for it.

TLDR (arXiv 2505.07961) trains one model on prompts for several levels. This reward does the same. We could not find the
length term of the paper's reward. Ours is the overrun of ``token_budget``, and the shares are our choice too.

>>> told = {"length_level": "short", "response_tokens": 300, "response_limit": 800}  # 200 allowed
>>> length_levels("sums", r"\boxed{4}", "4", told)["score"]
0.85
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import OverrunSettings, Response, Result, require_limit, reward
from verl_efficiency.settings import require, unknown

LEVELS = ("short", "medium", "long")


@dataclass(frozen=True)
class LengthLevelsSettings(OverrunSettings):
    """Settings of ``length_levels``.

    Args:
        short, medium, long: share of the limit that the level allows, above 0, from small to large.
        level_column: path of the column that says ``short``, ``medium`` or ``long``, below ``extra_info``.
        max_tokens: L_max, above 0; unset, the run's own limit of a response.
    """

    extras: ClassVar[Mapping[str, float | str]] = {**OverrunSettings.extras, "level": ""}

    short: float = 0.25
    medium: float = 0.5
    long: float = 1.0
    level_column: str = "extra_info.length_level"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.short, self.medium, self.long)
        require(0 < self.short <= self.medium <= self.long, "short", shares, "above 0, and short ≤ medium ≤ long")
        require_limit(self.max_tokens)


@reward(LengthLevelsSettings)
def length_levels(response: Response, settings: LengthLevelsSettings) -> Result:
    """Returns what ``accuracy`` returns, with ``score`` in [0, 1]; ``level``, a text; ``budget``, tokens; ``overrun`` of the
    response, correct or not, at least 0."""
    tokens, limit = response.tokens, settings.max_tokens or response.limit
    level = response.column(settings.level_column)
    if level not in LEVELS:
        raise ValueError(f"{settings.level_column}: {unknown('level', level, LEVELS)} ({response.row})")
    return settings.graded(response, tokens, float(getattr(settings, level) * limit)) | {"level": level}


compute_score = length_levels
