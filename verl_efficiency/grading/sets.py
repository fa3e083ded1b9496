r"""Compare sets of real numbers in any notation: ``x > 3``, ``(3, \infty)``, ``\{x : x > 3\}``, ``x \in (3, \infty)``.

A text is read here where it certainly is a set of numbers: it has a condition, a union, an infinite end, a complement, or a
bracket that is not round. ``(3, 5)`` alone may be a point. math-verify decides where it reads both texts itself, and for finite
sets, for conditions on more than one letter, and for everything that has to be solved first (``x^2 < 4``).
"""

import re
from dataclasses import dataclass
from typing import Any

from verl_efficiency.grading.evaluate import too_large
from verl_efficiency.grading.parse import read
from verl_efficiency.grading.quick import every, same_elements
from verl_efficiency.grading.values import same


def _command(names: str) -> str:
    return rf"\\(?:{names})(?![a-zA-Z])"


def _joining(word: str, signs: str) -> str:
    """The word in print or bare, or one of its signs: ``, \\text{ or }``, ``or``, ``\\lor``."""
    return rf",?\s*\\(?:text|mathrm|mbox)\s*\{{\s*,?\s*{word}\s*\}}|(?<![A-Za-z\\]){word}(?![A-Za-z])|{_command(signs)}"


# LaTeX, and the sign that stands for it below.
_SIGNS = [
    (re.compile(pattern), sign)
    for pattern, sign in (
        (_command("left|right|[bB]igg?[lr]?") + r"|\\[,;:! ]|\\q?quad(?![a-zA-Z])|\\?\$", " "),
        (_joining("or", "lor|vee"), "∨"),
        (_joining("and", "land|wedge"), "∧"),
        (r"\\text\s*\{\s*such that\s*\}|" + _command("mid|vert|colon"), "|"),
        (_command("leq?|leqslant") + "|<=", "≤"),
        (_command("geq?|geqslant") + "|>=", "≥"),
        (r"\\(?:neq?(?![a-zA-Z])|not\s*=)|!=", "≠"),
        (_command("lt"), "<"),
        (_command("gt"), ">"),
        (_command("cup"), "∪"),
        (_command("cap"), "∩"),
        (_command("setminus|backslash|smallsetminus"), "∖"),
        (_command("in"), "∈"),
        (r"\\\{|" + _command("lbrace"), "⟨"),
        (r"\\\}|" + _command("rbrace"), "⟩"),
        (_command("lbrack"), "["),
        (_command("rbrack"), "]"),
        (r"\\mathbb\s*\{\s*R\s*\}(?!\s*[\^_])|" + _command("Re"), "ℝ"),
        (_command("emptyset"), "∅"),
    )
]
_LOOKS_LIKE = re.compile(r"[∨∪∩∖∈≤≥≠<>⟨ℝ]|\\infty|[\[\]]")  # what only a set has
_UNREAD = re.compile(r"[=≤≥≠<>∈∨∧;|:]|ℝ\s*-|^\s*\]|\[\s*$")  # what math-verify does not read as a set: "]0, 1["
_RELATION = re.compile(r"[≤≥≠<>=]")
_LETTER = re.compile(
    r"(?:[A-Za-z]|\\(?:alpha|beta|theta|lambda|mu|phi|omega))(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]+\}))?"
)  # x_1
_EXCLUDED = re.compile(rf"(\s*{_LETTER.pattern}\s*≠)[^≠]*")  # the "x ≠" of "x ≠ 0, 1"
_UNKNOWN = re.compile("[txyz]")  # letters that a condition is on rather than a parameter
_INTERVAL = re.compile(r"([\[\]()])(.*)([\[\]()])", re.DOTALL)  # [0, 1)
_LONGEST = 300
Piece = tuple[Any, Any, bool, bool]  # an interval: its ends, and whether each is open


class Unreadable(Exception):
    """This is not a set of real numbers, or not one that is read here."""


@dataclass(frozen=True)
class Region:
    """A set of real numbers, and the letter that it is a condition on, if it names one."""

    numbers: Any
    letter: str | None


def same_region(gold: str, answer: str) -> bool | None:
    r"""Whether two texts describe the same set of real numbers; ``None`` where one of them is not read here.

    >>> same_region("x > 3", r"(3, \infty)"), same_region("[0;1]", "[0,1]"), same_region("3 < x < 5", "(3, 5]")
    (True, True, False)
    >>> same_region("(3, 5)", "(3, 5]"), same_region("x > 3", "y > 3")
    (None, None)
    """
    left, right = _signs(gold), _signs(answer)
    if not (_UNREAD.search(left) or _UNREAD.search(right)) or not (_set_like(left) and _set_like(right)):
        return None
    if max(len(left), len(right)) > _LONGEST:
        return None
    try:
        first, second = _region(left), _region(right)
        if first.letter and second.letter and first.letter != second.letter:
            return None
        return _same_pieces(_pieces(first.numbers), _pieces(second.numbers))
    except (Unreadable, ValueError, TypeError, NotImplementedError):  # sympy raises the last three: an interval up to i
        return None


def _set_like(text: str) -> bool:
    return _LOOKS_LIKE.search(text) is not None or text.startswith("(") or "∅" in text


def _signs(text: str) -> str:
    """``text`` with each LaTeX command of a set as one sign."""
    for sign, short in _SIGNS:
        text = sign.sub(short, text)
    return text.strip()


def _region(text: str, within: bool = False) -> Region:
    """The set that a text describes. With ``within``, the text stands in the braces of a set, where a comma means *and*."""
    from sympy import Complement, Intersection, Union

    text = text.strip()
    for sign in "∨∧":
        parts = _split(text, sign)
        if len(parts) > 1:
            regions = [_region(part, within) for part in parts]
            # "Increasing on (0, 1) and (2, 3)": sets in a list are united. Conditions hold together.
            together = sign == "∧" and any(region.letter for region in regions)
            combine = Intersection if together else Union
            return Region(combine(*(region.numbers for region in regions)), _letter(regions))
    parts = _split(text, ",")
    if len(parts) > 1 and not _INTERVAL.fullmatch(text):
        if excluded := _EXCLUDED.fullmatch(parts[0]):  # x ≠ 0, 1
            parts = [part if _RELATION.search(part) else excluded[1] + part for part in parts]
        regions = [_region(part, within) for part in parts]
        ranges = [part for part in parts if not re.search("[≠∈]", part)]
        if all(region.letter for region in regions) and (within or (len(ranges) < len(parts) and len(ranges) <= 1)):
            return Region(Intersection(*(region.numbers for region in regions)), _letter(regions))
        raise Unreadable  # the comma may mean "and" or "or"
    member = _split(text, "∈")
    if len(member) == 2 and _LETTER.fullmatch(member[0].strip()):
        return Region(_region(member[1]).numbers, member[0].strip())
    if len(_split(text, _RELATION)) > 1:
        return _condition(text)
    for sign, combine in (("∪", Union), ("∩", Intersection), ("∖", Complement)):
        parts = _split(text, sign)
        if len(parts) > 1:
            sets = [_region(part).numbers for part in parts]
            if combine is Complement and len(sets) != 2:
                raise Unreadable
            return Region(combine(*sets), None)
    minus = re.fullmatch(r"ℝ\s*-\s*(⟨.*⟩)", text)
    return Region(Complement(_atom("ℝ"), _atom(minus[1])), None) if minus else Region(_atom(text), None)


def _letter(regions: list[Region]) -> str | None:
    """The one letter that all of them are conditions on."""
    letters = {region.letter for region in regions if region.letter}
    if len(letters) > 1:
        raise Unreadable
    return letters.pop() if letters else None


def _split(text: str, sign: str | re.Pattern[str]) -> list[str]:
    """``text`` cut at a sign outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{⟨") - (character in ")]}⟩")
        if depth == 0 and (character == sign if isinstance(sign, str) else sign.match(character)):
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _condition(text: str) -> Region:
    """``x < 3``, ``3 > x``, ``3 < x ≤ 5``, ``x ≠ 1``, ``|x| < 2``: one letter between numbers."""
    from sympy import Complement, FiniteSet, Intersection, S

    sides, signs = _split(text, _RELATION), [sign for sign in text if _RELATION.match(sign)]
    sides = [side.strip() for side in sides]
    if len(signs) != len(sides) - 1 or len(sides) > 3:
        raise Unreadable
    # "x > a" is a condition on x. "a > b" is a condition on neither.
    middle = 1 if len(sides) == 3 or _UNKNOWN.fullmatch(sides[1]) or not _LETTER.fullmatch(sides[0].strip("| ")) else 0
    letter, size = sides[middle].strip("| "), "|" in sides[middle]
    numbers = [_number(side) for index, side in enumerate(sides) if index != middle]
    if not _LETTER.fullmatch(letter) or (size and (len(numbers) > 1 or not sides[middle].startswith("|"))):
        raise Unreadable
    letters = {symbol.name for number in numbers for symbol in number.free_symbols}
    if letter.lstrip("\\") in letters or (letters and not _UNKNOWN.fullmatch(letter)):
        raise Unreadable
    result: Any = S.Reals
    for index, (sign, number) in enumerate(zip(signs, numbers, strict=True)):
        if sign in "=≠":
            if len(signs) > 1 or size:
                raise Unreadable
            return Region(FiniteSet(number) if sign == "=" else Complement(S.Reals, FiniteSet(number)), letter)
        below = (sign in "<≤") == (middle <= index)  # the letter lies below the number
        result = Intersection(result, _half_line(number, below, sign in "<>", size))
    return Region(result, letter)


def _half_line(number: Any, below: bool, strict: bool, size: bool) -> Any:
    """All x below (or above) a number; with ``size``, all x whose ``|x|`` is."""
    from sympy import Interval, Union, oo

    if not size:
        return Interval(-oo, number, True, strict) if below else Interval(number, oo, strict, True)
    if not (number.is_comparable and number > 0):
        raise Unreadable
    inside = Interval(-number, number, strict, strict)
    return inside if below else Union(Interval(-oo, -number, True, strict), Interval(number, oo, strict, True))


def _atom(text: str) -> Any:
    """ℝ, ∅, a set in braces, or an interval."""
    from sympy import FiniteSet, Interval, S, oo

    text = text.strip()
    if text == "ℝ":
        return S.Reals
    if text == "∅":
        return S.EmptySet
    if text.startswith("⟨") and text.endswith("⟩"):
        return _braces(text[1:-1])
    bracketed = _INTERVAL.fullmatch(text)
    if not bracketed:
        raise Unreadable
    opening, inside, closing = bracketed.groups()
    ends = _split(inside, ";") if ";" in inside else _split(inside, ",")
    if len(ends) == 1 and (opening, closing) == ("(", ")"):
        return _region(inside).numbers
    if len(ends) != 2:
        raise Unreadable
    start, end = map(_number, ends)
    if start.is_comparable and end.is_comparable and not bool(start < end):
        raise Unreadable
    return Interval(start, end, opening in "(]" or start == -oo, closing in ")[" or end == oo) or FiniteSet()


def _braces(text: str) -> Any:
    """``x | x > 3``, ``x ∈ ℝ : x > 3``, or a list of numbers."""
    from sympy import FiniteSet, Intersection

    for sign in ("|", ":"):
        head, *conditions = _split(text, sign)
        if conditions:
            condition = _region(sign.join(conditions), within=True)
            domain = _region(head) if "∈" in head else None
            if condition.letter != (domain.letter if domain else head.strip()):
                raise Unreadable
            return Intersection(domain.numbers, condition.numbers) if domain else condition.numbers
    return FiniteSet(*map(_number, _split(text, ",")))


def _number(text: str) -> Any:
    """The end of an interval: a number, which may contain letters."""
    from sympy import Expr

    expression = next(iter(read(text)), None)
    if not isinstance(expression, Expr) or too_large(expression):
        raise Unreadable
    return expression.doit()


def _pieces(numbers: Any) -> list[Piece]:
    """The intervals of a set. A finite set, and what sympy cannot work out, are left to math-verify."""
    from sympy import FiniteSet, Interval, S, Union, oo

    if numbers is S.Reals:
        return [(-oo, oo, True, True)]
    pieces: list[Piece] = []
    for part in numbers.args if isinstance(numbers, Union) else [numbers]:
        if isinstance(part, Interval):
            pieces.append((part.start, part.end, bool(part.left_open), bool(part.right_open)))
        elif isinstance(part, FiniteSet):
            pieces += [(element, element, False, False) for element in part.args]
        elif part is not S.EmptySet:
            raise Unreadable
    if pieces and all(start == end for start, end, _, _ in pieces):
        raise Unreadable
    return pieces


def _same_pieces(gold: list[Piece], answer: list[Piece]) -> bool | None:
    if len(gold) == len(answer):
        return same_elements(gold, answer, _same_piece)
    known = all(end.is_comparable or end.is_infinite for piece in gold + answer for end in piece[:2])
    return False if known else None


def _same_piece(gold: Piece, answer: Piece) -> bool | None:
    if gold[2:] != answer[2:]:
        return False
    return every([left == right or same(left, right) for left, right in zip(gold[:2], answer[:2], strict=True)])
