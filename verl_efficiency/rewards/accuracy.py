r"""Reward of a single problem: 1 if its answer equals the ground truth, else 0.

The answer is the content of the last ``\boxed{…}``, or what follows your own ``marker``. Boxes in a row are one answer in
parts. Empty boxes, placeholders and boxes that are cut off are skipped. See :func:`verl_efficiency.grading.extract_answer`.

>>> accuracy("sums", r"2+2 is \boxed{4}", "4")["score"]
1.0
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verl_efficiency.grading import grade
from verl_efficiency.rewards.ground_truth import one_answer
from verl_efficiency.rewards.inputs import AnswerSettings, read_settings, require_text, row_name


@dataclass(frozen=True)
class AccuracySettings(AnswerSettings):
    """Settings of ``accuracy``."""


def accuracy(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float | str]:
    """Score one response, as verl calls it.

    Args:
        data_source: named in errors.
        solution_str: the decoded response.
        ground_truth: the answer: a text, a number, or a list of one, see :mod:`verl_efficiency.rewards.ground_truth`.
        extra_info: ``response_tokens`` and ``thinking_opened`` (from our reward manager) are read where given.
        settings: see :class:`AccuracySettings`.

    Returns:
        ``score`` and ``acc``, 1 or 0; ``finished``, 1 if there is an answer; ``tokens``, the response's tokens, or -1 where
        they are not known; ``status``, see :class:`verl_efficiency.grading.Status`; ``answer``, empty if there is none.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: a response that is not a text; a ground truth that is missing, empty, a worked solution or a list of
            several answers.
    """
    chosen = read_settings(AccuracySettings, settings)
    require_text(solution_str, row_name(data_source, extra_info))
    try:
        truth = one_answer(ground_truth, (extra_info or {}).get("n"))
    except ValueError as error:
        raise ValueError(f"reward_model.ground_truth of {row_name(data_source, extra_info)} {error}") from None
    answer = chosen.find_answer(solution_str, extra_info or {})
    verdict = grade(answer, truth)
    tokens = (extra_info or {}).get("response_tokens")
    return {
        "score": float(verdict.correct),
        "acc": float(verdict.correct),
        "finished": float(answer is not None),
        "tokens": -1.0 if tokens is None else float(tokens),
        "status": verdict.status.value,
        "answer": answer or "",
    }


compute_score = accuracy
