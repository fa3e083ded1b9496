r"""Take the domain of a letter off an answer: the ``k\in\mathbb{Z}`` of ``x=2k\pi, k\in\mathbb{Z}``.

math-verify would read the domain as a further value. As with other conditions, one side may leave it out; where both have one,
the two must be the same, and the letter may have another name.
"""

import re
from dataclasses import dataclass

from verl_efficiency.grading.quick import MAX_CHARS, PRINT, SPACE

# What stands before a domain: a comma, a \quad, "\text{ where }"; blanks alone do not separate.
_JOINT = rf"{PRINT}\s*\{{\s*,?\s*(?:where|for|with)\s*\}}"
_SEPARATOR = rf"(?=(?:\s|~|\\[,;: ])*(?:[,;]|\\q?quad(?![a-zA-Z])|{_JOINT}))(?:{SPACE}|[,;]|{_JOINT})+"
_SET = (  # \mathbb{Z}, \mathbb{N}^*, N_+
    r"(?:\\(?:math(?:bb|bf|rm)|text(?:bf)?|boldsymbol)\s*)?\{?\s*(?P<set>[NZQRC])\s*\}?\s*(?P<positive>[\^_]?\s*\{?\s*[*+]\s*\}?)?"
)
_RELATION = r"(?P<relation>(?:\\(?:geq?|leq?|neq?)(?![a-zA-Z])|[<>]=?)\s*[^,;()<>=\s](?:[^,;()<>=]*[^,;()<>=\s])?)"
_DOMAIN = re.compile(  # ", k\in\mathbb{Z}", "(n \ge 1)"
    rf"(?P<rest>.+?)(?:{_SEPARATOR}|(?:{SPACE})*(?=\())(?P<round>\(\s*)?"
    rf"(?P<letter>[A-Za-z])\s*(?:\\in(?![a-zA-Z])\s*{_SET}|{_RELATION})\s*(?(round)\))",
    re.DOTALL,
)
_IN_BRACES = re.compile(
    r"(?:\\left\s*)?\\\{\s*[a-z]\s*(?:\\mid(?![a-zA-Z])|[|:])\s*(?P<rest>.+?)\s*(?:\\right\s*)?\\\}", re.DOTALL
)
_CONDITION = re.compile(
    r"[<>]|\\(?:in|geq?|leq?|neq?|cup|cap|text)(?![a-zA-Z])"
)  # an answer that is a condition itself
_MAX_CONDITIONS = 2  # n \ge 2, n \in N


@dataclass(frozen=True)
class _Answer:
    """An answer, its letter, and where the letter lies."""

    text: str
    letter: str
    domain: frozenset[str]


def without_domains(answer: str, gold: str) -> tuple[str, str]:
    r"""Both texts without the domain of their letter, unless the two domains differ.

    >>> without_domains(r"x=n\pi, n\in\mathbb{Z}", r"k\pi \ (k \in Z)"), without_domains(r"2^n, n\ge1", "2^n")
    (('x=k\\pi', 'k\\pi'), ('2^n', '2^n'))
    >>> without_domains("2n, n>1", "2n, n>2"), without_domains("x>1, x<3", "k=1, k>2")
    (('2n, n>1', '2n, n>2'), ('x>1, x<3', 'k=1, k>2'))
    """
    left, right = _read(answer), _read(gold)
    if left and right:
        if left.domain != right.domain or (left.letter != right.letter and right.letter in left.text):
            return answer, gold
        return _renamed(left, right.letter), right.text
    return left.text if left else answer, right.text if right else gold


def _read(text: str) -> _Answer | None:
    """The answer in ``text`` and its domain, if it has one that every value depends on."""
    if (
        len(text) > MAX_CHARS
        or "\\begin" in text
        or not re.search(r"\\in(?![a-zA-Z])|[<>]|\\[gln]eq?(?![a-zA-Z])", text)
    ):
        return None
    if braces := _IN_BRACES.fullmatch(text):
        text = braces["rest"]
    letters: set[str] = set()
    domain: set[str] = set()
    while len(domain) < _MAX_CONDITIONS and (found := _DOMAIN.fullmatch(text)):
        text = found["rest"]
        letters.add(found["letter"])
        domain.add(_named(found))
    values = _values(text)
    if len(letters) != 1 or _CONDITION.search(text) or (len(values) > 1 and not any("in" in part for part in domain)):
        return None
    letter = letters.pop()
    return _Answer(text, letter, frozenset(domain)) if all(_holds(value, letter) for value in values) else None


def _named(found: re.Match[str]) -> str:
    r"""A domain in one spelling: ``\mathbb{N}^*``, ``N_+`` and ``Z^+`` are one set."""
    if found["set"]:
        return "in " + (
            "N+" if found["positive"] and found["set"] in "NZ" else found["set"] + "+" * bool(found["positive"])
        )
    return re.sub(r"\s", "", found["relation"]).replace("eq", "e").replace(">=", r"\ge").replace("<=", r"\le")


def _values(text: str) -> list[str]:
    """``text`` cut at the commas outside of brackets."""
    values, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign in ",;" and depth == 0 and text[place - 1] != "\\":
            values.append(text[start:place])
            start = place + 1
    return [*values, text[start:]]


def _holds(value: str, letter: str) -> bool:
    """Whether the right side of a value depends on the letter. That of ``k = 1`` does not: ``k > 2`` is another value then."""
    return (
        re.search(rf"(?<![A-Za-z]){letter}|{letter}(?![A-Za-z])", re.sub(r"\\[A-Za-z]+", " ", value.rpartition("=")[2]))
        is not None
    )


def _renamed(answer: _Answer, letter: str) -> str:
    """The answer with another letter for its own. Commands keep their letters."""
    if answer.letter == letter:
        return answer.text
    return re.sub(
        rf"\\[A-Za-z]+|{answer.letter}", lambda part: letter if part[0] == answer.letter else part[0], answer.text
    )
