r"""LCPO-Max: a correct answer, in no more tokens than the prompt allows; the more it saves, the better.

With the response's tokens ``n`` and the limit ``n*`` that the prompt states::

    score = 1[correct] · clip(α · (n* − n) + δ, 0, 1)

Paper: L1, arXiv 2503.04697. Its code has ``clip(½ + ½ · α' · (n* − n), 0, 1)``, which is ours with δ = ½ and α = α'/2; its
prompts end in ``Think for maximum {n*} tokens.``. Its script for this form sets no α: our choice is 0.0003, as in
``lcpo_exact``. δ is the score of a correct answer that uses its whole limit, so an answer that is a little too long keeps some
reward. A correct answer can score below ½: use verl's ``grpo``, not an estimator that reads correctness from the score.

>>> told = {"target_tokens": 1000, "response_tokens": 1500}
>>> [round(lcpo_max("sums", text, "4", told)["score"], 6) for text in (r"\boxed{4}", r"\boxed{5}")]
[0.35, 0.0]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import AnswerSettings, Response, Result, graded, reward
from verl_efficiency.rewards.lcpo_exact import TargetSettings
from verl_efficiency.settings import require


@dataclass(frozen=True)
class LcpoMaxSettings(TargetSettings):
    """Settings of ``lcpo_max``.

    Args:
        delta: δ, score of a correct answer that uses its whole limit, in [0, 1].
    """

    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "target_tokens": 0.0, "within_target": 0.0}

    delta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.delta <= 1, "delta", self.delta, "in [0, 1]")


@reward(LcpoMaxSettings)
def lcpo_max(response: Response, settings: LcpoMaxSettings) -> Result:
    """Returns what ``accuracy`` returns, with ``score`` in [0, 1]; ``target_tokens``, n*; ``within_target``, 1 if n ≤ n*, else
    0."""
    tokens, target = response.tokens, settings.target(response)
    result = graded(response, settings)
    saving = min(max(settings.alpha * (target - tokens) + settings.delta, 0.0), 1.0)
    score = float(result["acc"]) * saving
    return result | {"score": score, "target_tokens": target, "within_target": float(tokens <= target)}


compute_score = lcpo_max
