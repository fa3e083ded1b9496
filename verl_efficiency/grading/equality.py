"""Decide the easy comparisons without symbolic work: same string, or two plain numbers."""

import re
from fractions import Fraction

_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*(?:"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(?P<decimals>\.[0-9]{1,12})?"
    r"|\\frac\s*\{\s*(?P<top>-?[0-9]{1,6})\s*\}\s*\{\s*(?P<bottom>[0-9]{1,6})\s*\}"
    r"|(?P<over>[0-9]{1,6})/(?P<under>[0-9]{1,6})"
    r")"
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ALNUM = re.compile(r"[0-9A-Za-z]")


def quick_equal(answer: str, gold: str) -> bool | None:
    """``True`` or ``False`` where the answer is plain to see, ``None`` where math-verify has to decide.

    >>> quick_equal("1,000", "1000"), quick_equal("0.5", "1/2"), quick_equal("41", "42"), quick_equal("x + 1", "1 + x")
    (True, True, False, None)
    """
    answer, gold = answer.strip(), gold.strip()
    if answer == gold and _ALNUM.search(_COMMAND.sub("", answer)):
        return True
    left, right = _number(answer), _number(gold)
    if left is None or right is None:
        return None
    (left_value, left_decimal), (right_value, right_decimal) = left, right
    if left_value == right_value:
        return True
    # math-verify rounds to six decimals as soon as one side is a decimal.
    if (left_decimal or right_decimal) and abs(left_value - right_value) < Fraction(2, 10**6):
        return None
    return False


def _number(text: str) -> tuple[Fraction, bool] | None:
    """Value of a plain number, and whether it is written as a decimal."""
    text = text.removeprefix("$").removesuffix("$").removeprefix("\\$")
    match = _NUMBER.fullmatch(text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
    if match is None:
        return None
    sign = -1 if match["sign"] == "-" else 1
    if match["whole"]:
        digits = match["whole"].replace(",", "") + (match["decimals"] or "")
        if len(digits) > 15:
            return None
        return sign * Fraction(digits), match["decimals"] is not None
    bottom = int(match["bottom"] or match["under"])
    if bottom == 0:
        return None
    return sign * Fraction(int(match["top"] or match["over"]), bottom), False
