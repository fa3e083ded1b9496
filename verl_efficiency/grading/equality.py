"""Decide the easy comparisons without symbolic work: the same text, or two plain numbers."""

import re
from fractions import Fraction
from functools import lru_cache

from verl_efficiency.grading.choices import same_choice
from verl_efficiency.grading.numbers import Number, read_number
from verl_efficiency.grading.spelling import fold_words

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\{th\})?")
_CONTENT = re.compile(r"[0-9A-Za-z]")
_IN_BASE = re.compile(r"([0-9][0-9A-Za-z]*)\s*_\s*(?:\{\s*([0-9]{1,2})\s*\}|([0-9]{1,2}))")
_LAYOUT = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\!|(?<!\\)\$")
_SPACE = re.compile(r"(?:\s|~|\\[,;: ]|\\q?quad(?![a-zA-Z]))+")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)|mbox)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})*")
_LOOSE_SPACE = re.compile(r" (?![0-9A-Za-z])|(?<![0-9A-Za-z]) ")


def quick_equal(answer: str, gold: str) -> bool | None:
    r"""``True`` or ``False`` where the answer is plain to see, ``None`` where math-verify has to decide.

    >>> quick_equal("1,000", "1000"), quick_equal("0.5", "1/2"), quick_equal("41", "42"), quick_equal("x + 1", "1 + x")
    (True, True, False, None)
    >>> quick_equal(r"\left( 3, \dfrac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"), quick_equal("52_8", "52_{9}")
    (True, False)
    """
    answer, gold = answer.strip(), gold.strip()
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return int(answer) == int(gold)
    if answer == gold or _same_text(answer, gold):
        return True if _CONTENT.search(_COMMAND.sub("", gold)) else None
    if (same := same_choice(_plain(answer), _plain(gold))) is not None:
        return same
    left, right = read_number(answer), read_number(gold)
    if left and right:
        return same_number(left, right)
    return _same_in_base(answer, gold)


def _same_text(answer: str, gold: str) -> bool:
    """The same but for what only moves ink, or words in capitals and not."""
    left, right = _LOOSE_SPACE.sub("", _plain(answer)), _LOOSE_SPACE.sub("", _plain(gold))
    if _WORDS.fullmatch(left) and _WORDS.fullmatch(right):
        printed = _TEXT.search(answer + gold) is not None
        return fold_words(left, printed=printed) == fold_words(right, printed=printed)
    return left == right


@lru_cache(maxsize=8)  # a comparison asks more than once
def _plain(text: str) -> str:
    """``text`` without layout and fonts, with single spaces."""
    text = re.sub(r"\\[dtc]frac", r"\\frac", _LAYOUT.sub("", text))
    return _SPACE.sub(" ", _TEXT.sub(r" \1 ", text)).strip()


def same_number(answer: Number, gold: Number) -> bool | None:
    """Whether two numbers are equal; ``None`` where they are as close as rounding makes them."""
    if answer.percent != gold.percent:
        return _same_percentage(answer, gold)
    difference, scale = abs(answer.value - gold.value), max(abs(answer.value), abs(gold.value))
    if difference == 0:
        return True
    # Where one side is a decimal, math-verify compares six decimals. That is too coarse below about 1e-6.
    if (answer.decimal or gold.decimal) and difference < max(Fraction(2, 10**6), scale / 10**12):
        return None if difference < scale / 1000 else False
    return False


def _same_percentage(answer: Number, gold: Number) -> bool:
    """50% is 0.5; it is also 50, unless only the answer has the sign and a decimal stands against it (0.5% is not 0.5)."""
    part, plain = (answer, gold) if answer.percent else (gold, answer)
    if part.value == 100 * plain.value:
        return True
    return part.value == plain.value and (gold.percent or not plain.decimal)


def _same_in_base(answer: str, gold: str) -> bool | None:
    """Digits with their base as subscript; a base that the reference leaves out must be one in which the digits exist."""
    left, right = _IN_BASE.fullmatch(answer), _IN_BASE.fullmatch(gold)
    if left and right:
        same_base = int(left[2] or left[3]) == int(right[2] or right[3])
        return same_base and left[1].lower() == right[1].lower()
    if left and _INTEGER.fullmatch(gold):
        return left[1] == gold and _is_number_in_base(left[1], int(left[2] or left[3]))
    if right and _INTEGER.fullmatch(answer):
        return right[1] == answer
    return None


def _is_number_in_base(digits: str, base: int) -> bool:
    return 2 <= base <= 36 and all(int(digit, 36) < base for digit in digits)
