r"""Reward of batched contextual reinforcement: how many of the N problems of a prompt are answered right.

    score = accuracy_weight · (1/N) Σ_i 1[answer_i = truth_i] + format_weight · format

Answer i is the content of ``Answer{i}::\boxed{…}``, or of your own template. There is no length term: the pressure comes from
the token limit that the problems share (``data.max_response_length``). A response cut off by it keeps the credit of the
answers it finished. The tag alone says which problem an answer belongs to: under ``### Problem 2`` an ``Answer1::`` is an
answer to problem 1, and a box without a tag is none, however many there are. One exception: boxes in a row with a tagged box
are parts of the same answer, as in ``Answer1::\boxed{3} \text{ and } \boxed{4}``. Empty boxes, placeholders and boxes that are
cut off are skipped as in ``accuracy``, see :func:`verl_efficiency.grading.extract_answer`.

Paper: arXiv 2604.02322. It publishes neither the weights nor what the format asks for: both are our choice.

>>> result = batched_accuracy("sums", r"1+1=2. Answer1::\boxed{2} 2+2=", '["2", "4"]')
>>> result["score"], result["finished"], result["correct_by_problem"]
(0.5, 0.5, '10')
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
from verl_efficiency.rewards.ground_truth import is_listed, read_answers
from verl_efficiency.rewards.inputs import AnswerSettings, read_settings, require_text, row_name
from verl_efficiency.settings import require


@dataclass(frozen=True)
class BatchedAccuracySettings(AnswerSettings):
    r"""Settings of ``batched_accuracy``.

    Args:
        accuracy_weight: weight of the mean correctness, above 0.
        format_weight: weight of the format (1 or 0), at least 0. Small beside a problem's share accuracy_weight / N, so
            that the format is learnt early and is never worth an answer; 0 trains on the accuracy alone.
        answer_template: how an answer is written, see :mod:`verl_efficiency.rewards.answer_form`; unset, what the prompt asks
            for: ``extra_info.answer_template``, which packing writes with a form of yours, else the paper's form.
        duplicates: which answer counts when an index is answered more than once: ``last``, ``first`` or ``none``.
        fallback: where a response leaves the form, problems without an answer in it take: ``none``, nothing; ``section``, the
            last box under their own ``problem_header``; ``order``, the same, and where there is no such header box k for
            problem k, if the response has no answer in the form and no more than N boxes. A box that quotes the problem then
            counts like any other.
        problem_header: how the line that opens the section of a problem begins, with ``{index}``; for the fall-backs. One that
            begins with ``#`` stands for headings of every level, and for those in bold.
        strip_thinking: whether answers inside ``<think>…</think>`` do not count; see ``accuracy``.
        marker: for a plain ground truth: the answer is what follows the last such text on its line, or stands
            between two (``<answer>…</answer>``); unset, the last box.
    """

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
        require(self.accuracy_weight > 0, "accuracy_weight", self.accuracy_weight, "a number above 0")
        require(self.format_weight >= 0, "format_weight", self.format_weight, "a number of at least 0")
        super().__post_init__()
        read_form(self.answer_template or PAPER_FORM)
        find_headers("", self.problem_header)


def batched_accuracy(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float | str]:
    r"""Score one response, as verl calls it.

    Args:
        data_source: named in errors.
        solution_str: the decoded response.
        ground_truth: a list of N answers (in a row of ``pack_rows`` a JSON text), or one answer: then N = 1 and the last
            ``\boxed{…}`` is the answer, so that single problems validate with the same function. See
            :mod:`verl_efficiency.rewards.ground_truth`.
        extra_info: ``n`` (N) and ``answer_template`` (from ``pack_rows``), ``response_tokens``, ``truncated`` and
            ``thinking_opened`` (from our reward manager) are read where given.
        settings: see :class:`BatchedAccuracySettings`.

    Returns:
        ``score``, from 0 to accuracy_weight + format_weight; ``acc``, the share of problems answered right, 0..1;
        ``acc_first`` and ``acc_last``, 1 if the first and if the last problem is answered right (the last ones suffer from a
        tight limit); ``format``, 1 if each of the N answers stands there in the form exactly once, in order and without
        others, and the response is not known to be truncated, else 0 (N = 1 with a plain answer: if there is an answer);
        ``finished``, the share of problems with an answer; ``strays``, the number of answers to problems that do not exist;
        ``problems``, N; ``tokens_per_problem``, response tokens / N, or -1 where the token count is not known (verl's own
        reward managers do not give it); ``correct_by_problem``, one ``1`` or ``0`` for each problem; ``answers``, a JSON list
        with null for a missing answer.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: a ground truth that is missing, empty, a worked solution, or not a list of N answers; a response that is
            not a text; a prompt that asks for another form than ``answer_template``.
    """
    chosen = read_settings(BatchedAccuracySettings, settings)
    extra_info = extra_info or {}
    require_text(solution_str, row_name(data_source, extra_info))
    truths = read_truths(ground_truth, extra_info, data_source)
    text = chosen.answering_part(solution_str, extra_info)
    truncated = bool(extra_info.get("truncated", False))
    answers: list[str | None]
    strays = 0
    if truths is None:
        truths = read_answers(ground_truth)
        answers = [chosen.find_answer(solution_str, extra_info)]
        complete = answers != [None]
    else:
        count = len(truths)
        found = find_answers(text, read_form(form_of(chosen, extra_info, data_source)), truncated=truncated)
        answers = pick_answers(found, count, chosen.duplicates)
        complete = [index for index, _ in found] == list(range(1, count + 1))
        strays = sum(not 1 <= index <= count for index, _ in found)
        headers = find_headers(text, chosen.problem_header) if chosen.fallback != "none" else []
        if headers:
            spare = pick_answers(find_in_sections(text, headers), count, chosen.duplicates)
            tagged = {index for index, _ in found}
            answers = [answers[k] if k + 1 in tagged else spare[k] for k in range(count)]
        elif chosen.fallback == "order" and not found:
            answers = pick_answers(find_in_order(text, count), count, chosen.duplicates)
    correct = [verdict.correct for verdict in grade_batch(answers, truths)]
    accuracy = sum(correct) / len(truths)
    in_format = float(complete and not truncated)
    tokens = extra_info.get("response_tokens")
    return {
        "score": chosen.accuracy_weight * accuracy + chosen.format_weight * in_format,
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


def form_of(settings: BatchedAccuracySettings, extra_info: Mapping[str, Any], data_source: str) -> str:
    """The template in which a row's answers are written; two that differ would score every response 0."""
    asked, given = extra_info.get("answer_template"), settings.answer_template
    if asked and given and asked != given:
        raise ValueError(
            f"answer_template: is {given!r}, but the prompt of {row_name(data_source, extra_info)} asks for {asked!r}; leave "
            "the setting out, or pack the data with it"
        )
    return given or asked or PAPER_FORM


def read_truths(ground_truth: Any, extra_info: Mapping[str, Any], data_source: str) -> list[str] | None:
    """The N answers of a packed row, or None for the answer of a single problem, whose prompt asks for no tag.

    >>> read_truths('["4", "5"]', {"n": 2}, "sums")
    ['4', '5']
    >>> read_truths("[4, 5]", {}, "intervals") is None
    True
    """
    row = f"reward_model.ground_truth of {row_name(data_source, extra_info)}"
    count = extra_info.get("n")
    try:
        answers = read_answers(ground_truth, count)
    except ValueError as error:
        raise ValueError(f"{row} {error}") from None
    if len(answers) != (count or len(answers)):
        raise ValueError(f"{row}: must be a list of {count} answers (extra_info.n), got {ground_truth!r}")
    by_tag = len(answers) > 1 or (count == 1 and is_listed(ground_truth))
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
