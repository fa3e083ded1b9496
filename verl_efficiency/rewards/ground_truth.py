r"""Ground truths as data sets have them: read if they have one clear meaning, otherwise refused with the fix.

One answer may be a text, a number, a list or array of one, or, as in some public data sets, such a list written as a text.
Several problems in one prompt have a list of as many answers.

>>> read_answers(5), read_answers(0.5), read_answers(["5"]), read_answers('["5"]'), read_answers("[4, 5]")
(['5'], ['0.5'], ['5'], ['5'], ['[4, 5]'])
>>> read_answers("48 / 2 = 24 clips\n#### 24")  # doctest: +ELLIPSIS
Traceback (most recent call last):
ValueError: is a worked solution ... keep the answer alone: what follows '####' (`verl-efficiency pack` does it ...)
"""

import itertools
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from verl_efficiency.grading import extract_boxed
from verl_efficiency.grading.quick import MAX_CHARS

NO_VALUE = ("nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT")  # how programs print an empty cell
MARKS = ("####", "The answer is", "the answer is", "Final answer:", "Final Answer:", "Answer:", "A:")
PACK_DOES = "`verl-efficiency pack` does it with"
SHOWN = 60  # characters of a value in a message
_PRINT = re.compile(r"\\(?:begin|end|text(?:bf|it|rm)?|mathrm|mbox)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_WORDS_BESIDE_A_BOX = 4
_WORDS_ON_LINES = 8
_WORDS_OF_A_SENTENCE = 15
_ONE_QUOTED = re.compile(r"\[\s*'([^']*)'\s*\]")


def read_answers(ground_truth: Any, count: int | None = None) -> list[str]:
    """The answers in a ground truth as texts: one, or those of a list.

    Args:
        ground_truth: a text, a number, or a list, tuple or array of them. A text that is a JSON list with a text in it is read
            as that list. A JSON list of numbers is one answer (a pair, an interval), unless it has ``count`` of them.
        count: the number of answers, if known (``extra_info.n``).

    Raises:
        ValueError: it is none of these, empty, a missing value, or a worked solution. The message continues "the ground truth
            of row 3 …" and gives the fix.
    """
    values = _listed(ground_truth, count)
    if values is None:
        return [_answer(ground_truth)]
    if not values:
        raise ValueError(f"is an empty list, {_shown(ground_truth)}; write the answer as a text")
    try:
        return [_answer(value) for value in values]
    except ValueError as error:
        if len(values) == 1:
            raise
        raise ValueError(f"is a list of {len(values)}, {_shown(ground_truth)}, and one of them {error}") from None


def read_all_answers(ground_truth: Any, count: int | None) -> list[str]:
    """:func:`read_answers` for a row that packs ``count`` problems (None: not known).

    Raises:
        ValueError: see :func:`read_answers`; or there are more or fewer answers.
    """
    answers = read_answers(ground_truth, count)
    if len(answers) != (count or len(answers)):
        raise ValueError(f"must be a list of {count} answers (extra_info.n), got {_shown(ground_truth)}")
    return answers


def is_listed(ground_truth: Any) -> bool:
    """Whether a ground truth is a list of answers and not one alone."""
    return _listed(ground_truth) is not None


def one_answer(ground_truth: Any, count: int | None = None) -> str:
    """The answer of a single problem; ``count`` as for :func:`read_answers`.

    Raises:
        ValueError: see :func:`read_answers`; or there are several answers.
    """
    answers = read_answers(ground_truth, count)
    if len(answers) > 1:
        raise ValueError(
            f"is a list of answers, {_shown(ground_truth)}. One problem with several parts: write one text, '0, 1'. Several "
            "spellings of one answer: keep one. Several problems in one prompt: use batched_accuracy"
        )
    return answers[0]


def sentences(answers: Sequence[str]) -> list[int]:
    """The positions of answers with so many words, or characters, that only an exact copy is correct."""
    return [
        number
        for number, answer in enumerate(answers)
        if len(answer) > MAX_CHARS or len(_words(answer)) >= _WORDS_OF_A_SENTENCE
    ]


def _listed(ground_truth: Any, count: int | None = None) -> list[Any] | None:
    if isinstance(ground_truth, str):
        return _list_in_text(ground_truth, count or 1) if ground_truth[:16].lstrip().startswith("[") else None
    if isinstance(ground_truth, list | tuple):
        return list(ground_truth)
    if getattr(ground_truth, "ndim", 0) == 1:  # a NumPy array
        return list(ground_truth)
    return None


def _list_in_text(text: str, count: int) -> list[Any] | None:
    if quoted := _ONE_QUOTED.fullmatch(text.strip()):  # as Python prints a list of one
        return [quoted[1]]
    try:
        values = json.loads(text)
    except ValueError:  # most texts with a bracket are mathematics
        return None
    if all(type(value) in (int, float) for value in values):
        return values if len(values) == count > 1 else None
    return values


def _answer(value: Any) -> str:
    """One answer as a text."""
    if isinstance(value, str):
        if problem := _problem(value):
            raise ValueError(problem)
        return value
    if value is None:
        raise ValueError("is missing (null); fill it, or leave the row out")
    number = _number(value)
    if number is None:
        raise ValueError(
            f"is {_shown(value)} ({type(value).__name__}), neither a text nor a number; write the answer as a text"
        )
    if not math.isfinite(number):
        raise ValueError(f"is {number}, which is not an answer; fill it, or leave the row out")
    if isinstance(number, Decimal):
        return format(number, "f")
    return str(int(number)) if number == int(number) else repr(number)


def _number(value: Any) -> int | float | Decimal | None:
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return None
    if isinstance(value, int | float | Decimal) and type(value).__module__ in ("builtins", "decimal"):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a NumPy number, or an array without dimensions
        item = value.item()
        # 0.1 in 32 bits is 0.1, not 0.10000000149011612
        return float(str(value)) if isinstance(item, float) else item if type(item) is int else None
    return None


@lru_cache(maxsize=4096)
def _problem(text: str) -> str | None:
    """Why a text is not an answer, or None."""
    stripped = text.strip()
    if not stripped:
        return f"is an empty text, {text!r}; fill it, or leave the row out"
    if stripped in NO_VALUE:
        return (f"is {stripped!r}, the print of a missing value; fill it, or leave the row out (if it is meant, write "
                f"\\text{{{stripped}}})")  # fmt: skip
    if (fix := _fix_of_solution(stripped)) is None:
        return None
    return f"is a worked solution ({_shown(stripped)}), and no response equals it; keep the answer alone: {fix}"


def option_for(text: str) -> str | None:
    """The option of ``verl-efficiency pack`` and ``grade`` that finds the answer in a worked solution, or None."""
    stripped = text.strip()
    fix = _fix_of_solution(stripped) or ""
    return fix.partition(f"({PACK_DOES} ")[2].removesuffix(")") or None


def _fix_of_solution(text: str) -> str | None:
    """Where a worked solution has its answer; None for any other text."""
    if "####" in text:
        return f"what follows '####' ({PACK_DOES} --answer-after '####')"
    if "\\boxed" in text and (boxes := extract_boxed(text)):
        beside = text[: boxes[0].start] + " ".join(text[a.end : b.start] for a, b in itertools.pairwise(boxes))
        if len(_words(beside + " " + text[boxes[-1].end :])) >= _WORDS_BESIDE_A_BOX:
            return f"what its last box holds ({PACK_DOES} --answer-in-box)"
    if "\n" in text and len(_words(text)) >= _WORDS_ON_LINES:
        last = text.splitlines()[-1].lstrip()
        if mark := next((mark for mark in MARKS if last.startswith(mark)), None):
            return f"what follows {mark!r} ({PACK_DOES} --answer-after '{mark}')"
        return "name the column that holds it, or cut it out of the solution"
    return None


def _words(text: str) -> list[str]:
    return _WORD.findall(_PRINT.sub(" ", text))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
