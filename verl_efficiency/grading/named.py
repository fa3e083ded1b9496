r"""Read lists that name their parts: ``\text{Alice}=5, \text{Bob}=3``, and several options, ``A and C``.

Names in words are compared as single letters are. ``A=5, B=3`` equals itself in another order, and the bare list ``5, 3``.
Beside a point, a list of letters is a point: ``y=2, x=1`` is ``(1,2)``.
"""

import itertools
import re
from functools import lru_cache

from verl_efficiency.grading.quick import MAX_CHARS, PRINT, SPACE
from verl_efficiency.grading.words import CHANGERS, MATHEMATICS, is_noun

_LETTERS = "PQUVWGHKXYZABFJ"  # that stand for names
_NAMED = re.compile(  # \text{Alice} = 5, Alice: 5
    rf"(?:{SPACE})*(?:{PRINT}\s*\{{\s*(?P<printed>[^{{}}=:]*[a-z][^{{}}=:]*?)(?P<inside>\s*[=:])?\s*\}}|(?P<plain>[A-Za-z]{{3,20}}))"
    rf"(?:{SPACE})*(?(inside)|[=:])(?P<value>[^=:]*)",
    re.DOTALL,
)
_JOINT = re.compile(rf",?\s*{PRINT}\s*\{{\s*,?\s*and\s*\}}|,?\s(?<![A-Za-z\\])and\s|[,;]|{PRINT}\s*\{{\s*[,;]\s*\}}")
_ASSIGNED = re.compile(r"\s*(?P<letter>[A-Za-z])(?:_\{?(?P<index>[0-9])\}?)?\s*=(?P<value>[^=]+)")
_POINT = ("(", r"\left(")
_NAME_OF_POINT = re.compile(  # P(3, -1), \text{Vertex: }(0, 2)
    rf"(?:(?<![A-Za-z\\}}])[A-Z](?:_\{{?[0-9]\}}?)?|{PRINT}\s*\{{\s*[A-Za-z ]{{3,}}:\s*\}})(?:{SPACE})*(?=(?:\\left\s*)?\()"
)
_OPENING, _CLOSING = "([{", ")]}"
_PRINTED = re.compile(rf"{PRINT}\s*\{{([^{{}}]*)\}}")
_BLANK = re.compile(rf"(?:{SPACE})+|\\(?:left|right)(?![a-zA-Z])|\$")
_AND = re.compile(r"\s*,?\s*(?:(?<![A-Za-z])and(?![A-Za-z])|\\?&)\s*|\s*[,;]\s*|\s+")
_BEFORE = re.compile(r"(?:both|(?:options?|choices?|answers?|statements?)(?: are)?)\s+|\s+only$", re.IGNORECASE)
_OPTION = "[A-HJ-UW-Z]"  # I and V may be numerals
_OPTIONS = re.compile(
    rf"{_OPTION}(?:,{_OPTION}){{1,4}}|{_OPTION}{{2,5}}|\({_OPTION}\)(?:,?\({_OPTION}\)){{1,4}}|\({_OPTION}(?:,{_OPTION}){{1,4}}\)"
)


def without_names(answer: str, gold: str) -> tuple[str, str]:
    r"""Both texts with a letter for each name in a list.

    >>> without_names(r"\text{Alice}=5, \text{Bob}=3", r"Bob: 3, Alice: 5"), without_names("Alice=5, Bob=3", "5, 3")
    (('P=5, Q=3', 'Q=3, P=5'), ('P=5, Q=3', '5, 3'))
    >>> without_names(r"\text{Area} = 5", "5"), without_names("x=1, y=2", "(1,2)")
    (('\\text{Area} = 5', '5'), ('x=1, y=2', '(1,2)'))
    """
    lists = [_read(text) for text in (answer, gold)]
    if not any(lists):
        return answer, gold
    free = [letter for letter in _LETTERS if letter not in answer + gold]
    names = list(dict.fromkeys(name for parts in lists for name, _ in parts))
    if len(names) > len(free):
        return answer, gold
    letters = dict(zip(names, free, strict=False))
    left, right = (", ".join(f"{letters[name]}={value}" for name, value in parts) for parts in lists)
    return left or answer, right or gold


@lru_cache(maxsize=256)  # one reference, many answers
def _read(text: str) -> tuple[tuple[str, str], ...]:
    """The names in a list, in lower case, each with its value; empty where one part has no name of its own."""
    if len(text) > MAX_CHARS or ("=" not in text and ":" not in text):
        return ()
    parts = [_NAMED.fullmatch(part) for part in _parts(text)]
    named = [(_name(part), part["value"].strip()) for part in parts if part]
    fine = len(named) == len(parts) > 1 and all(name and value for name, value in named)
    return tuple(named) if fine and len(dict(named)) == len(named) else ()


def _name(part: re.Match[str]) -> str:
    """The name of a part; empty where it may be something else: a product of letters, a function, "or Bob"."""
    if part["plain"]:
        return part["plain"].lower() if is_noun(part["plain"]) and part["plain"].lower() not in CHANGERS else ""
    words = part["printed"].lower().split()
    return "" if len("".join(words)) < 2 or not (CHANGERS | MATHEMATICS).isdisjoint(words) else " ".join(words)


def _parts(text: str) -> list[str]:
    """``text`` cut at commas and "and" outside of brackets."""
    parts, start, depth, seen = [], 0, 0, 0
    for joint in _JOINT.finditer(text):
        between = text[seen : joint.start()]
        depth += sum(map(between.count, _OPENING)) - sum(map(between.count, _CLOSING))
        seen = joint.end()
        if depth == 0:
            parts.append(text[start : joint.start()])
            start = seen
    return [*parts, text[start:]]


def as_points(answer: str, gold: str) -> tuple[str, str]:
    """Both texts. Beside a point, a list of letters with values becomes a point: ``y=2, x=1`` is ``(1,2)``.

    Letters that follow each other come in the order of the alphabet. Others stay as they are written, since a problem may ask
    for ``(n, k)``.

    >>> as_points("y=2, x=1", "(1,2)"), as_points("(1,2)", "x_2=2 and x_1=1")
    (('(1,2)', '(1,2)'), ('(1,2)', '(1,2)'))
    >>> as_points("n=5, k=3", "(5,3)"), as_points("x=1, x=2", "(1,2)")
    (('(5,3)', '(5,3)'), ('x=1, x=2', '(1,2)'))
    >>> as_points("A(1,2), B(3,4)", "(1,2),(3,4)"), as_points("P(3)", "(3,4)")
    (('(1,2), (3,4)', '(1,2),(3,4)'), ('P(3)', '(3,4)'))
    """
    if gold.startswith(_POINT):
        return _point(answer), gold
    return answer, _point(gold) if answer.startswith(_POINT) else gold


@lru_cache(maxsize=256)
def _point(text: str) -> str:
    """The point that a list of ``letter = value`` stands for, or points without their names; ``text`` for something else."""
    if len(text) > MAX_CHARS:
        return text
    if "=" not in text:
        named = all("," in part and _NAME_OF_POINT.match(part.strip()) for part in _parts(text))
        return _NAME_OF_POINT.sub("", text) if named else text
    parts = [_ASSIGNED.fullmatch(part) for part in _parts(text)]
    values = {(ord(part["letter"]), int(part["index"] or 0)): part["value"].strip() for part in parts if part}
    if len(values) < max(2, len(parts)):
        return text
    places = sorted(values)
    steps = {(other - one, index - before) for (one, before), (other, index) in itertools.pairwise(places)}
    in_order = places if steps in ({(1, 0)}, {(0, 1)}) else list(values)
    return f"({','.join(values[place] for place in in_order)})"


def same_options(answer: str, gold: str) -> bool | None:
    """Whether two texts name the same 2 to 5 options in the same order; ``None`` where the order or the options differ.

    >>> same_options("A and C", "AC"), same_options("(A), (C)", "A, C"), same_options("BAC", "ABC")
    (True, True, None)
    """
    left, right = _options(answer), _options(gold)
    return True if left and left == right else None


@lru_cache(maxsize=256)
def _options(text: str) -> str:
    """The letters of the options that a text names, or nothing."""
    if len(text) > MAX_CHARS:
        return ""
    plain = _BEFORE.sub("", _BLANK.sub(" ", _PRINTED.sub(r" \1 ", text)).strip())
    listed = _AND.sub(",", plain)
    letters = re.sub("[(),]", "", listed)
    return letters if _OPTIONS.fullmatch(listed) and len(set(letters)) == len(letters) else ""
