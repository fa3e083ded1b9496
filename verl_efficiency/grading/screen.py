r"""Answers of which math-verify would read only a part, or something else than is written.

It strips a trailing ``\text{…}`` as a unit whatever it says, reads ``3 4`` as the mixed number 7, drops the subscript of a
number, and takes one side of ``3 = 4``. Each of these can earn a reward for an answer that names two candidates.
"""

import re
from fractions import Fraction

from verl_efficiency.grading.numbers import read_number

_LAYOUT = re.compile(r"\\(?:[,;:!> ]|(?:q?quad|left|right|[lc]?dots|displaystyle)(?![a-zA-Z]))|\\?\$|[~\"']|\s+")
_AND_OR = re.compile(r",?\s*\\text\s*\{\s*(?:and|or)\s*\}")
# The first two alternatives step over digits that belong to a command, an exponent or a subscript.
_ADJACENT = re.compile(
    r"""\\[a-zA-Z]+\s*[0-9]* | [\^_]\s*-?[0-9]+
    | (?P<bad>[0-9]\s+[0-9]
    | [0-9]\s*\)?\s*\(\s*[0-9]+\s*\)(?!\s*[\^!])
    | [0-9]\s*\{\s*[0-9]
    | (?:^|[=+\-*/,;(])\s*\{\s*[0-9]+\s*\}\s*[{(]?\s*[0-9]
    | [0-9]\s*(?!or|and)[A-Za-z]{1,8}\s*[0-9]
    | [0-9]\.[0-9]*\.[0-9])""",
    re.VERBOSE,
)
_SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9_}])[0-9]+\s*_")
_UNIT = re.compile(r"\\(?:text(?:normal|bf|it|rm)?|math(?:rm|it|bf)|mbox)\{")
_CANDIDATE = re.compile(r"(?<!\^)(?<!\^\{)(?<!\^-)(?<!\^\{-)\d|\b(?:and|or|nor|not|but)\b")
_SIDES = re.compile(r"(?<![\\<>!]):?=+|\\(?:equiv|approx|to|(?:long)?[rR]ightarrow|Longrightarrow|implies)(?![a-zA-Z])")
_ARGUMENT = re.compile(  # the 2 of P(X=2) = 1/2, and of a subscript
    r"(?:(?<![\\A-Za-z])[A-Za-z]|\\Pr|\})\s*\([^()]*\)|_\s*\{[^{}]*\}"
)
_INVISIBLE = re.compile(r"\\[hv]?phantom(?![a-zA-Z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def misread(text: str) -> bool:
    r"""Whether math-verify would take ``text`` for something that it does not say.

    >>> [misread(text) for text in (r"3 \text{ or four}", "3 4", "5_000", "3 = 4", r"3 \boxed{4}", "3} + {4")]
    [True, True, True, True, True, True]
    >>> [misread(text) for text in (r"3 \text{ cm}^2", r"3 \frac{1}{2}", r"\frac 1 2", "x = 3", "P(X=2) = 3", "x_1")]
    [False, False, False, False, False, False]
    """
    plain = _LAYOUT.sub(" ", text)
    return (
        not _balanced(text)
        or "\\boxed" in text
        or "\\fbox" in text
        or _INVISIBLE.search(text) is not None
        or _SUBSCRIPT.search(plain) is not None
        or any(match["bad"] for match in _ADJACENT.finditer(plain))
        or _hides_a_candidate(plain)
        or _sides_differ(plain)
    )


def _balanced(text: str) -> bool:
    depth = 0
    for token in _BRACE.findall(text):
        depth += (token == "{") - (token == "}")
        if depth < 0:
            return False
    return depth == 0


def _hides_a_candidate(text: str) -> bool:
    """A trailing unit that holds a number or a word that joins two answers; math-verify strips it unread."""
    text = _AND_OR.sub(",", text).strip()
    unit = _UNIT.search(text)
    ends_in_unit = text.endswith("}") or text[:-2].endswith("}")
    return bool(unit and unit.start() > 0 and ends_in_unit and _CANDIDATE.search(text, unit.end()))


def _sides_differ(text: str) -> bool:
    """Two plain numbers are set equal and are not; 1% is allowed for rounding, with an approximation sign 5%."""
    sides = _SIDES.split(_ARGUMENT.sub(" ", text))
    numbers = [
        number for side in sides if (number := read_number(side.strip(" ()")) or read_number(side.strip(" (){}")))
    ]
    tolerance = Fraction(5 if "\\approx" in text else any(number.decimal for number in numbers), 100)
    return any(
        abs(first.value - second.value) > tolerance * abs(first.value) for first in numbers for second in numbers
    )
