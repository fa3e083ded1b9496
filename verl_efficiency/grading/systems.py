r"""Read what LaTeX stacks in lines: the system ``\begin{cases} x=1 \\ y=2 \end{cases}``, and functions in pieces.

A system is written as the list that it stands for, ``x=1, y=2``. A function in pieces keeps its form: it equals only a function
with the same values under the same conditions.
"""

import re
from collections.abc import Callable

from verl_efficiency.grading.quick import MAX_CHARS, PRINT, SPACE, every, same_elements

_KIND = r"[dr]?cases|align(?:ed|at|edat)?\*?|array|gather(?:ed)?\*?|split|eqnarray\*?|matrix"
_STACK = re.compile(  # \left\{ \begin{array}{l} … \end{array} \right.
    rf"(?:\\left\s*(?:\\\{{|\.)|\\\{{|\\lbrace)?\s*\\begin\s*\{{(?P<kind>{_KIND})\}}\s*(?:\[[a-z]\])?(?:\{{[lcr|\s0-9@]*\}})?"
    rf"(?P<lines>(?:(?!\\begin|\\end).)*)\\end\s*\{{(?P=kind)\}}\s*(?:\\right(?![a-zA-Z])\s*(?:\\\}}|\.)?)?",
    re.DOTALL,
)
_NEW_LINE = re.compile(r"\\\\(?:\s*\[[^\]]*\])?|\\(?:newline|cr)(?![a-zA-Z])")
_END = rf"(?:{SPACE}|[,;&]|{PRINT}\s*\{{\s*,?\s*(?:and)?\s*[,;.]?\s*\}})+"
_AROUND = re.compile(rf"^{_END}|{_END}\.?$|\.$")
_SIGN = r"(?:\\(?:leq?(?:slant)?|geq?(?:slant)?|lt|gt)(?![a-zA-Z])|[=<>≤≥])"
_RELATION = re.compile(_SIGN)
_BESIDE = re.compile(rf"\s*&\s*(?={_SIGN})|(?P<sign>{_SIGN})\s*&\s*")  # the & of "x &= 1"
_BRACKETS = re.compile(r"\([^()]*\)|\{[^{}]*\}")
_NAME = re.compile(rf"{PRINT}\s*\{{[^{{}}]*\}}(?=\s*=)")  # the \text{Alice} of "\text{Alice} = 5"
_SEVERAL = re.compile(r"[,;&:]|\\(?:text|mathrm|mbox|q?quad|begin|end|left|right)(?![a-zA-Z])|[=<>]\s*$|^\s*[=<>]")
_BETWEEN = re.compile(
    rf"(?:{SPACE}|[,;]|{PRINT}\s*\{{\s*,?\s*(?:or|and)\s*\}}|\\(?:lor|vee|cup)(?![a-zA-Z])|(?<![a-zA-Z])(?:or|and)(?![a-zA-Z]))*"
)
_LETTER = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]+\}))?")
# What names a function before its pieces, and words in its conditions.
_FUNCTION = re.compile(r"\s*(?:\\?[a-zA-Z]+(?:_\{?[a-zA-Z0-9]+\}?|'+)?\s*(?:\([^()=]*\))?|\|[a-z]\|)\s*=\s*")
_IF = re.compile(rf"{PRINT}\s*\{{([^{{}}]*)\}}")
_WORDS = re.compile(r"(?<![a-zA-Z\\])(?:if|for|when|where)(?![a-zA-Z])|\\q?quad(?![a-zA-Z])|[,;]?\s*$|^\s*[,;]")
_CONDITION = re.compile(rf"{_SIGN}|\\(?:in|neq?|notin|mid|equiv)(?![a-zA-Z])|(?<![A-Za-z\\])[A-Za-z]{{3,}}")
_OTHERWISE = re.compile(r"\W*(?:otherwise|else|elsewhere)\W*", re.IGNORECASE)
Piece = tuple[str, str]  # a value and its condition


def unstack(text: str) -> str:
    r"""``text`` with a system as a list. Two systems or more become points if they have the same letters.

    >>> unstack(r"\left\{\begin{array}{l} x=1, \\ y=2 \end{array}\right.")
    'x=1, y=2'
    >>> unstack(r"\begin{aligned} x &>1 \\ x &<3 \end{aligned}")
    'x>1 \\land x<3'
    >>> unstack(r"\begin{cases} x=1 \\ y=2 \end{cases} \text{ or } \begin{cases} x=2 \\ y=1 \end{cases}")
    '(1,2), (2,1)'
    >>> unstack(r"\begin{cases} x & x>0 \\ 0 & x\le 0 \end{cases}")
    '\\begin{cases} x & x>0 \\\\ 0 & x\\le 0 \\end{cases}'
    """
    if "\\begin" not in text or len(text) > MAX_CHARS:
        return text
    stacks = list(_STACK.finditer(text))
    systems = [_system(stack["lines"]) for stack in stacks]
    if not stacks or not all(systems) or not all(map(_BETWEEN.fullmatch, _STACK.sub("\0", text).split("\0"))):
        return text
    if len(systems) == 1:
        lines = systems[0]
        return (", " if all("=" in line for line in lines) else r" \land ").join(lines)
    sides = [[line.partition("=") for line in lines] for lines in systems]
    letters = {tuple(left.strip() for left, _, _ in lines) for lines in sides}
    if len(letters) != 1 or not all(map(_LETTER.fullmatch, letters.pop())):
        return text
    return ", ".join(f"({','.join(right.strip() for _, _, right in lines)})" for lines in sides)


def _system(text: str) -> list[str]:
    """The relations of a system, two or more; empty where a line is not one relation."""
    lines = [_AROUND.sub("", _AROUND.sub("", line)) for line in _NEW_LINE.split(text)]
    lines = [_BESIDE.sub(lambda beside: beside["sign"] or "", line) for line in lines if line]
    return lines if len(lines) > 1 and all(map(_is_relation, lines)) else []


def _is_relation(line: str) -> bool:
    """Whether a line is one relation and holds no condition: ``x=1``, ``x+y>3``. The ``-x, x>0`` of a function does not."""
    outside = _BRACKETS.sub("0", _BRACKETS.sub("0", _NAME.sub("name", line, count=1) if _NAME.match(line) else line))
    return len(_RELATION.findall(outside)) == 1 and not _SEVERAL.search(outside)


def same_pieces(gold: str, answer: str, equal: Callable[[str, str], bool | None]) -> bool | None:
    r"""Whether two functions in pieces have the same pieces, in any order; ``None`` where neither text is one.

    Args:
        gold: the reference.
        answer: the answer.
        equal: compares two values, or two conditions.

    >>> function = r"f(x) = \begin{cases} x, & x>0 \\ 0 & \text{otherwise} \end{cases}"
    >>> other = r"\begin{cases} 0, & \text{else} \\ x & \text{if } x>0 \end{cases}"
    >>> same_pieces(function, other, lambda one, other: one == other)
    True
    """
    golds, answers = pieces(gold), pieces(answer)
    if not golds and not answers:
        return None
    if len(golds) != len(answers):
        return False

    def same(left: Piece, right: Piece) -> bool | None:
        return every([one == other or equal(one, other) for one, other in zip(left, right, strict=True)])

    return same_elements(golds, answers, same)


def pieces(text: str) -> list[Piece]:
    """The values of a function in pieces, each with its condition; empty where ``text`` is something else."""
    named = _FUNCTION.match(text)
    stack = _STACK.fullmatch(text[named.end() :].strip() if named else text)
    lines = [line for line in _NEW_LINE.split(stack["lines"]) if line.strip()] if stack else []
    found = [_piece(line) for line in lines]
    return [piece for piece in found if piece] if len(found) > 1 and all(found) else []


def _piece(line: str) -> Piece | None:
    """A line with one value and one condition, without the words between them."""
    cells = (
        line.split("&")
        if "&" in line
        else re.split(rf",(?={SPACE})|(?={PRINT}\s*\{{\s*(?:if|for|when|,|otherwise))", line, maxsplit=1)
    )
    value, condition = (_WORDS.sub(" ", _IF.sub(r" \1 ", cell)).strip() for cell in (cells[0], " ".join(cells[1:])))
    value, condition = value.rstrip(",; "), condition.rstrip(".,; ")
    if _OTHERWISE.fullmatch(condition):
        condition = "otherwise"
    return (value, condition) if value and _CONDITION.search(condition) and not _RELATION.search(value) else None
