r"""Read the plain numbers that most answers are: integers, decimals, fractions, percentages, powers of ten.

Value is exact. Digits are ASCII only: look-alikes from other scripts are no number here.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# Longer texts are no plain number; the bound keeps exact arithmetic cheap.
_MAX_CHARS = 64
_SIMILAR = re.compile(r"\\[dtc]frac")
_NUMBER = re.compile(
    r"""(?:\\?\$)?\s*(?P<sign>[-+]?)\s*(?:\\?\$)?\s*(?:
      (?P<thousands>[1-9][0-9]{0,2}(?:(?:,|\s|~|\\[,;\ ])[0-9]{3})+)(?P<thousandths>\.[0-9]+)?
    | (?P<fixed>[0-9]*\.[0-9]*)\\overline\s*\{\s*(?P<repeating>[0-9]+)\s*\}
    | (?P<plain>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)
      (?:(?:[eE]|\s*\\(?:times|cdot)\s*10\s*\^\s*(?P<brace>\{)?\s*)(?P<exponent>[-+]?[0-9]{1,3})\s*(?(brace)\}))?
    | (?P<whole>[0-9]+)?\s*\\frac\s*(?:
        \{\s*(?P<top>-?[0-9]+)\s*\}\s*\{\s*(?P<bottom>[0-9]+)\s*\} | (?P<digit_top>[0-9])\s*(?P<digit_bottom>[0-9]))
    | (?:(?P<whole_slash>[0-9]+)\s+)?(?P<over>[0-9]+)\s*/\s*(?P<under>[0-9]+)
    )\s*(?P<percent>\\?%)?\s*\.?\s*\$?""",
    re.VERBOSE,
)
_SEPARATORS = re.compile(r"[,\s~\\;]")


@dataclass(frozen=True)
class Number:
    """A plain number.

    Attributes:
        value: what is written, a percent sign left out.
        decimal: it is written with a decimal point or a power of ten.
        percent: a percent sign follows.
    """

    value: Fraction
    decimal: bool
    percent: bool


@lru_cache(maxsize=4096)
def read_number(text: str) -> Number | None:
    r"""The number that ``text`` is, or ``None``.

    >>> read_number(r"-1\frac{1}{2}").value, read_number("1,024.50").value, read_number("3x")
    (Fraction(-3, 2), Fraction(2049, 2), None)
    """
    if len(text) > _MAX_CHARS:
        return None
    text = text.replace("\\!", "").replace("{,}", ",").replace("\N{MINUS SIGN}", "-")
    match = _NUMBER.fullmatch(_SIMILAR.sub(r"\\frac", text.strip()))
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    return Number(
        -value if match["sign"] == "-" else value,
        decimal="." in (match["plain"] or match["thousandths"] or "") or match["exponent"] is not None,
        percent=match["percent"] is not None,
    )


def _value(match: re.Match[str]) -> Fraction | None:
    if match["thousands"]:
        return Fraction(_SEPARATORS.sub("", match["thousands"]) + (match["thousandths"] or ""))
    if match["repeating"]:
        whole, _, places = match["fixed"].partition(".")
        period = match["repeating"]
        shifted = int(whole + places + period) - int(whole + places or 0)
        return Fraction(shifted, 10 ** len(places) * (10 ** len(period) - 1))
    if match["plain"]:
        return Fraction(match["plain"]) * Fraction(10) ** int(match["exponent"] or 0)
    top = int(match["top"] or match["digit_top"] or match["over"])
    bottom = int(match["bottom"] or match["digit_bottom"] or match["under"])
    whole = int(match["whole"] or match["whole_slash"] or 0)
    if bottom == 0 or (whole and top < 0):
        return None
    return whole + Fraction(top, bottom)
