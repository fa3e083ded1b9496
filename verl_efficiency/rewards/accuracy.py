r"""A single problem: 1 if the answer of the response equals the ground truth, else 0.

The answer is what the last ``\boxed{…}`` holds, or what follows your own ``marker``. Boxes in a row are one answer in parts.
Empty boxes, placeholders and boxes that are cut off do not count. See :func:`verl_efficiency.grading.extract_answer`.

>>> accuracy("sums", r"2+2 is \boxed{4}", "4")["score"]
1.0
"""

from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import AnswerSettings, Response, Result, graded, reward


@dataclass(frozen=True)
class AccuracySettings(AnswerSettings):
    """Settings of ``accuracy``."""

    ranks_correct: ClassVar[bool] = False


@reward(AccuracySettings)
def accuracy(response: Response, settings: AccuracySettings) -> Result:
    """Returns ``score`` and ``acc``, 1 or 0; ``finished``, ``tokens``, ``status`` and ``answer``, see
    :func:`verl_efficiency.rewards.base.graded`."""
    return graded(response, settings)


compute_score = accuracy
