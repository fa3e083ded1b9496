r"""Reward of batched contextual reinforcement: how many of the N problems of a prompt are answered correctly.

    score = accuracy_weight · (1/N) Σ_i 1[answer_i = truth_i] + format_weight · format

Answer i is the content of ``Answer{i}::\boxed{…}``, or of your own template. There is no length term: the pressure comes from
the token limit that the problems share (``data.max_response_length``). A response that the limit cuts off keeps the credit for
the answers it finished.

The tag alone says which problem an answer belongs to: under ``### Problem 2``, an ``Answer1::`` answers problem 1, and a box
without a tag answers none. One exception: boxes in a row after a tag are parts of one answer, as in
``Answer1::\boxed{3} \text{ and } \boxed{4}``. Empty boxes, placeholders and boxes that are cut off do not count, as in
``accuracy``; see :func:`verl_efficiency.grading.extract_answer`.

Paper: arXiv 2604.02322. It publishes neither the weights nor what the format requires: both are our choice.

>>> result = batched_accuracy("sums", r"1+1=2. Answer1::\boxed{2} 2+2=", '["2", "4"]')
>>> result["score"], result["finished"], result["correct_by_problem"]
(0.5, 0.5, '10')
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from verl_efficiency.grading import grade_batch
from verl_efficiency.rewards.answer_form import (
    PAPER_FORM,
    PAPER_HEADER,
    find_answers,
    find_headers,
    find_in_order,
    find_in_sections,
    read_form,
)
from verl_efficiency.rewards.base import AnswerSettings, Response, Result, reward
from verl_efficiency.rewards.ground_truth import is_listed, read_all_answers, read_answers
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class BatchedAccuracySettings(AnswerSettings):
    r"""Settings of ``batched_accuracy``.

    Args:
        accuracy_weight: weight of the mean correctness, above 0.
        format_weight: weight of the format (1 or 0), at least 0. Keep it small beside a problem's share accuracy_weight / N:
            the model then learns it early, and never gains more from it than from an answer. 0 trains on accuracy alone.
        answer_template: how an answer is written, see :mod:`verl_efficiency.rewards.answer_form`; unset, what the prompt asks
            for: ``extra_info.answer_template``, which packing writes for your own template, else the paper's form.
        duplicates: which answer counts when a problem is answered more than once: ``last``, ``first`` or ``none``.
        fallback: where problems without an answer in the form find one. ``none``: nowhere. ``section``: the last box under
            their own ``problem_header``. ``order``: the same; in a response without such headers, box k answers problem k, if
            no answer is in the form and there are at most N boxes. A box that quotes the problem then counts like any other.
        problem_header: how the line that opens a problem's section begins, with ``{index}``; for ``fallback``. One that begins
            with ``#`` stands for headings of every level, and for those in bold.
        strip_thinking: whether answers inside ``<think>…</think>`` do not count; see ``accuracy``.
        marker: for a plain ground truth only: the answer is what follows the last such text on its line or the next, or stands
            between two (``<answer>…</answer>``); unset, the last box.
    """

    ranks_correct: ClassVar[bool] = False
    ranks_wrong: ClassVar[bool] = True  # by the format
    extras: ClassVar[Mapping[str, float | str]] = {
        **dict.fromkeys(("score", "acc", "acc_first", "acc_last", "format", "finished", "strays", "problems"), 0.0),
        **{"tokens_per_problem": 0.0, "correct_by_problem": "", "answers": ""},
    }

    accuracy_weight: float = 1.0
    format_weight: float = 0.1
    answer_template: str | None = None
    duplicates: Literal["last", "first", "none"] = "last"
    fallback: Literal["none", "section", "order"] = "none"
    problem_header: str = PAPER_HEADER

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.accuracy_weight > 0, "accuracy_weight", self.accuracy_weight, "a number above 0")
        require_at_least_0(self, "format_weight")
        read_form(self.answer_template or PAPER_FORM)
        find_headers("", self.problem_header)


@reward(BatchedAccuracySettings)
def batched_accuracy(response: Response, settings: BatchedAccuracySettings) -> Result:
    r"""The ground truth is a list of N answers (a JSON text in a row of ``pack_rows``), or one answer, so that single problems
    validate with the same reward: then N = 1 and the last ``\boxed{…}`` is the answer.

    Returns:
        ``score``, 0 to accuracy_weight + format_weight; ``acc``, the share of correct answers, 0 to 1; ``acc_first`` and
        ``acc_last``, 1 if the first, and the last, problem is answered correctly (a tight limit hits the last ones);
        ``format``, 1 if the N answers stand in the form, each exactly once, in order and without others, in a response that is
        not known to be truncated, else 0 (one plain answer: if there is an answer); ``finished``, the share of problems with an
        answer; ``strays``, the number of answers to problems that do not exist; ``problems``, N; ``tokens_per_problem``,
        response tokens / N, or -1 where they are not known (verl's own reward managers do not count them);
        ``correct_by_problem``, ``1`` or ``0`` for each problem; ``answers``, a JSON list with null for a missing answer.

    Raises:
        ValueError: a ground truth that is missing, empty, a worked solution, or not a list of N answers; a prompt that asks
            for another form than ``answer_template``.
    """
    info = response.info
    truths = read_truths(response)
    text = settings.answering_part(response)
    truncated = bool(info.get("truncated", False))
    answers: list[str | None]
    strays = 0
    if truths is None:
        truths = read_answers(response.ground_truth)
        answers = [settings.find_answer(response)]
        complete = answers != [None]
    else:
        count = len(truths)
        found = find_answers(text, read_form(form_of(settings, response)), truncated=truncated)
        answers = pick_answers(found, count, settings.duplicates)
        complete = [index for index, _ in found] == list(range(1, count + 1))
        strays = sum(not 1 <= index <= count for index, _ in found)
        headers = find_headers(text, settings.problem_header) if settings.fallback != "none" else []
        if headers:
            spare = pick_answers(find_in_sections(text, headers), count, settings.duplicates)
            tagged = {index for index, _ in found}
            answers = [answers[k] if k + 1 in tagged else spare[k] for k in range(count)]
        elif settings.fallback == "order" and not found:
            answers = pick_answers(find_in_order(text, count), count, settings.duplicates)
    correct = [verdict.correct for verdict in grade_batch(answers, truths)]
    accuracy = sum(correct) / len(truths)
    in_format = float(complete and not truncated)
    tokens = info.get("response_tokens")
    return {
        "score": settings.accuracy_weight * accuracy + settings.format_weight * in_format,
        "acc": accuracy,
        "acc_first": float(correct[0]),
        "acc_last": float(correct[-1]),
        "format": in_format,
        "finished": sum(answer is not None for answer in answers) / len(truths),
        "strays": float(strays),
        "problems": float(len(truths)),
        "tokens_per_problem": -1.0 if tokens is None else tokens / len(truths),
        "correct_by_problem": "".join("1" if right else "0" for right in correct),
        "answers": json.dumps(answers, ensure_ascii=False),
    }


compute_score = batched_accuracy


def form_of(settings: BatchedAccuracySettings, response: Response) -> str:
    """The template in which the row's answers are written. Two that differ are refused: every response would score 0."""
    asked, given = response.info.get("answer_template"), settings.answer_template
    if asked and given and asked != given:
        raise ValueError(
            f"answer_template: is {given!r}, but the prompt of {response.row} asks for {asked!r}; leave the setting out, or "
            "pack the data with it"
        )
    return given or asked or PAPER_FORM


def read_truths(response: Response) -> list[str] | None:
    """The N answers of a packed row, or None for the answer of a single problem, whose prompt asks for no tag.

    >>> read_truths(Response("", "", '["4", "5"]', "sums", {"n": 2}))
    ['4', '5']
    >>> read_truths(Response("", "", "[4, 5]", "intervals", {})) is None
    True
    """
    truth, count = response.ground_truth, response.info.get("n")
    try:
        answers = read_all_answers(truth, count)
    except ValueError as error:
        raise ValueError(f"reward_model.ground_truth of {response.row} {error}") from None
    by_tag = len(answers) > 1 or (count == 1 and is_listed(truth))
    return answers if by_tag else None


def pick_answers(found: list[tuple[int, str]], count: int, duplicates: str) -> list[str | None]:
    """One answer, or None, for each of the problems 1..count.

    >>> found = [(1, "3"), (1, "4"), (3, "5")]
    >>> pick_answers(found, 2, "last"), pick_answers(found, 2, "first"), pick_answers(found, 2, "none")
    (['4', None], ['3', None], [None, None])
    """
    by_index: dict[int, list[str]] = {}
    for index, answer in found:
        by_index.setdefault(index, []).append(answer)
    picked: list[str | None] = []
    for index in range(1, count + 1):
        given = by_index.get(index, [])
        if not given or (duplicates == "none" and len(given) > 1):
            picked.append(None)
        else:
            picked.append(given[0 if duplicates == "first" else -1])
    return picked
