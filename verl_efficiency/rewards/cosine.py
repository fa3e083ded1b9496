r"""Cosine length reward: a correct answer is worth less the longer it is, a wrong one is punished less the longer it is.

With response length ``L`` and limit ``L_max`` (tokens)::

    f(a, b) = b + ½ · (a − b) · (1 + cos(π · L / L_max))       from a at L = 0 to b at L = L_max
    score   = f(correct_short, correct_long)                    correct
              f(wrong_short, wrong_long)                        wrong
              exceeded                                          L + margin ≥ L_max, whether correct or not

Paper: Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373; the defaults are those of its code (r_0^c = 2,
r_L^c = 1, r_0^w = −10, r_L^w = 0, r_e = −10, a margin of 16 tokens). It was made to steady the growth of length, and a wrong
answer gains by being long there: to save tokens instead, set ``wrong_short=0 exceeded=0``. We refuse values with which a
wrong answer could score above a correct one within the limit. The score of a correct answer is no 0/1: leave the threshold of
an estimator that reads correctness from the score out of it, and use verl's ``grpo``.

>>> told = {"response_tokens": 500, "response_limit": 1000}
>>> [round(cosine("sums", text, "4", told)["score"], 6) for text in (r"\boxed{4}", r"\boxed{5}")]
[1.5, -5.0]
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verl_efficiency.rewards.accuracy import accuracy
from verl_efficiency.rewards.inputs import AnswerSettings, read_settings, response_cost, row_name
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class CosineRewardSettings(AnswerSettings):
    """Settings of ``cosine`` as a reward.

    Args:
        correct_short, correct_long: score of a correct answer at length 0 and just below the limit.
        wrong_short, wrong_long: score of a wrong answer, or none, at length 0 and just below the limit; at most 0.
        exceeded: score of a response that reaches the limit; at most 0.
        margin: tokens before the limit that count as reaching it, at least 0.
        max_tokens: L_max, above 0; unset, the run's own limit of a response.
    """

    needs_cost: ClassVar[bool] = True
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
        require(
            self.max_tokens is None or self.max_tokens > 0,
            "max_tokens",
            self.max_tokens,
            "a number of tokens above 0, or null for the run's limit",
        )
        require(self.margin >= 0, "margin", self.margin, "a number of tokens of at least 0")
        for name in ("wrong_short", "wrong_long", "exceeded"):
            require(getattr(self, name) <= 0, name, getattr(self, name), "at most 0, so that nothing wrong is rewarded")
        if self.correct_long > self.correct_short:
            raise SettingsError(
                f"correct_long: must not be above correct_short, which would pay for length, got "
                f"{self.correct_long:g} and {self.correct_short:g}"
            )
        require(self.correct_long > 0, "correct_long", self.correct_long, "above 0, so that correct is above wrong")


def cosine(
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
        extra_info: ``response_tokens`` and ``response_limit`` from our reward manager.
        settings: see :class:`CosineRewardSettings`.

    Returns:
        What ``accuracy`` returns, with another ``score``; ``exceeded``, 1 where the response reaches the limit, else 0.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: no token count; a ground truth that is no text.
    """
    chosen = read_settings(CosineRewardSettings, settings)
    row = row_name(data_source, extra_info)
    tokens = response_cost(extra_info, "response_tokens", "cosine", row)
    limit = chosen.max_tokens or response_cost(extra_info, "response_limit", "cosine", row)
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **chosen.for_accuracy)
    exceeded = tokens + chosen.margin >= limit
    if exceeded:
        score = chosen.exceeded
    elif result["acc"] == 1:
        score = _between(chosen.correct_short, chosen.correct_long, tokens / limit)
    else:
        score = _between(chosen.wrong_short, chosen.wrong_long, tokens / limit)
    return result | {"score": score, "exceeded": float(exceeded)}


compute_score = cosine


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
