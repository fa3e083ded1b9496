r"""Cosine length reward: the longer a correct answer, the less it scores; the longer a wrong one, the less it is punished.

With response length ``L`` and limit ``L_max`` (tokens)::

    f(a, b) = b + ½ · (a − b) · (1 + cos(π · L / L_max))       from a at L = 0 to b at L = L_max
    score   = f(correct_short, correct_long)                    correct
              f(wrong_short, wrong_long)                        wrong
              exceeded                                          L + margin ≥ L_max, whether correct or not

Paper: Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373; the defaults are those of its code (r_0^c = 2,
r_L^c = 1, r_0^w = −10, r_L^w = 0, r_e = −10, a margin of 16 tokens). The paper uses it to stabilise the growth of length, so a
long wrong answer scores above a short one. To save tokens, set ``wrong_short=0 exceeded=0``. Our choice: we refuse values with
which a wrong answer could score above a correct one within the limit. The score of a correct answer is not 0 or 1, so use
verl's ``grpo``, not an estimator that reads correctness from the score.

>>> told = {"response_tokens": 500, "response_limit": 1000}
>>> [round(cosine("sums", text, "4", told)["score"], 6) for text in (r"\boxed{4}", r"\boxed{5}")]
[1.5, -5.0]
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import AnswerSettings, Response, Result, graded, require_limit, reward
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class CosineRewardSettings(AnswerSettings):
    """Settings of ``cosine`` as a reward.

    Args:
        correct_short, correct_long: score of a correct answer at length 0 and just below the limit.
        wrong_short, wrong_long: score of a wrong or missing answer at length 0 and just below the limit; at most 0.
        exceeded: score of a response that reaches the limit; at most 0.
        margin: a response that is this close to the limit (tokens, at least 0) counts as reaching it.
        max_tokens: L_max, above 0; unset, the run's own limit of a response.
    """

    needs_cost: ClassVar[bool] = True
    ranks_wrong: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "exceeded": 0.0}

    correct_short: float = 2.0
    correct_long: float = 1.0
    wrong_short: float = -10.0
    wrong_long: float = 0.0
    exceeded: float = -10.0
    margin: int = 16
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_limit(self.max_tokens)
        require(self.margin >= 0, "margin", self.margin, "a number of tokens of at least 0")
        for name in ("wrong_short", "wrong_long", "exceeded"):
            require(getattr(self, name) <= 0, name, getattr(self, name), "at most 0, so that nothing wrong is rewarded")
        if self.correct_long > self.correct_short:
            raise SettingsError(
                f"correct_long: must not be above correct_short, which would pay for length, got "
                f"{self.correct_long:g} and {self.correct_short:g}"
            )
        require(self.correct_long > 0, "correct_long", self.correct_long, "above 0, so that correct is above wrong")


@reward(CosineRewardSettings)
def cosine(response: Response, settings: CosineRewardSettings) -> Result:
    """Returns what ``accuracy`` returns, with another ``score``; ``exceeded``, 1 if the response reaches the limit, else 0."""
    tokens, limit = response.tokens, settings.max_tokens or response.limit
    result = graded(response, settings)
    exceeded = tokens + settings.margin >= limit
    if exceeded:
        score = settings.exceeded
    elif result["acc"] == 1:
        score = _between(settings.correct_short, settings.correct_long, tokens / limit)
    else:
        score = _between(settings.wrong_short, settings.wrong_long, tokens / limit)
    return result | {"score": score, "exceeded": float(exceeded)}


compute_score = cosine


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
