r"""Where the boxes of a text are, and which of them stand in a row. Pure string work, one pass, time linear in the text.

A box is ``\boxed{…}`` or ``\fbox{…}``. A box without braces holds what follows the command: a number, a letter, a fraction, a
root, a text or another command, as in ``$\boxed 2$`` and ``$\boxed\frac12$``. TeX boxes only the 4 of ``\boxed 42``, but the
writer means 42, and so do we. A box without braces counts only where the mathematics, the line or the sentence ends behind it.
Otherwise, what follows could belong to the answer, as in ``$\boxed x^2$``.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

from verl_efficiency.grading.equality import quick_equal

_GROUP = r"\{(?:[^{}]|\{[^{}]{0,100}\}){0,100}\}"
_ARGUMENT = rf"[ ]?(?:{_GROUP}|[0-9A-Za-z])"
_BARE = rf"""(?P<bare>\\(?:boxed|fbox)(?![a-zA-Z])[ \t]{{0,4}}(?P<content>
      -?[0-9]{{1,3}}(?:,[0-9]{{3}})+(?:\.[0-9]+)? | -?[0-9]{{1,40}}(?:\.[0-9]{{1,40}})? | [A-Za-z]
    | -?\\[dtc]?frac(?![a-zA-Z]){_ARGUMENT}{_ARGUMENT} | -?\\sqrt(?:\[[0-9]\])?{_ARGUMENT}
    | \\(?:text(?:bf|it|rm)?|math(?:rm|bf|bb)|mbox)[ ]?{_GROUP} | -?\\[a-zA-Z]{{1,20}})
    (?=[ \t]{{0,4}}(?:\$|\\[)\]]|\n|\Z)|\.(?:[\s$]|\Z)))"""
# One token per place where the depth of braces changes. A doubled backslash is a line break, except that a model which escapes
# twice writes \\boxed{…}: that still opens a box. Escaped braces are print, not structure.
_TOKEN = re.compile(
    rf"""(?P<box>\\(?:boxed|fbox)\s*\{{) | {_BARE} | \\\\(?!(?:boxed|fbox)\s*\{{) | \\[{{}}]
    | (?P<open>\{{) | (?P<close>\}})""",
    re.VERBOSE,
)
_PRINT = r"\s|\$|~|`|\*\*|&|\\[,;:!>()\[\]\\ ]|\\(?:q?quad|displaystyle|textstyle)(?![a-zA-Z])"
_AROUND = re.compile(rf"(?:{_PRINT}|[.,;])*")
_BETWEEN = re.compile(
    rf"(?:{_PRINT}|[,;]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])"
    r"|\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s?\{[\s,;~]*(?:and|or)?[\s,;~]*\})*"
)
_JOINER = re.compile(r"(?<!\\)[,;]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])")
_MAX_BETWEEN = 80  # characters; bounds the search
_MAX_CUT_OFF = 200  # characters that are kept of a box that never closes
_MAX_COMPARED = 16  # parts of a row, and characters of a part, up to which equal values count once; beyond, equal texts
_MAX_PART = 100


@dataclass(frozen=True)
class Box:
    """A ``\\boxed{content}``; ``text[start:end]`` is the whole of it, command and braces included."""

    start: int
    end: int
    content: str


class Row(NamedTuple):
    r"""Boxes joined by a comma, a semicolon, "and" or "or", with nothing else but blanks and print between them.

    Most often a row is a single box. Boxes with blanks alone between them are no row: the last of them counts.

    Attributes:
        start: where its first box begins.
        end: where its last box ends.
        parts: what each box holds; a box that holds nothing but a box is opened.
        cut_off: what a box that continues the row but never closes begins with; ``None`` if there is no such box.
    """

    start: int
    end: int
    parts: tuple[str, ...]
    cut_off: str | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether no part of it says anything, see :func:`says_something`."""
        return not any(says_something(part) for part in self.parts)

    @property
    def answer(self) -> str | None:
        r"""The one answer that the row gives: its parts that say something, joined by commas, equal parts once.

        ``None`` where it says nothing, and where it is cut off in a part that it did not give before.

        >>> [row.answer for row in find_rows(r"\boxed{3} \text{ or } \boxed{4}. \boxed{1/2} = \boxed{\frac12}, \boxed{0.5}")]
        ['3, 4', '1/2', '0.5']
        """
        said = [part for part in self.parts if says_something(part)]
        if len(said) == 1 and self.cut_off is None:
            return said[0]
        if not said or (self.cut_off and not any(part.startswith(self.cut_off) for part in said)):
            return None
        different: list[str] = []
        for part in dict.fromkeys(said):
            if len(different) < _MAX_COMPARED and len(part) <= _MAX_PART:
                different = [other for other in different if len(other) > _MAX_PART or not quick_equal(part, other)]
            different.append(part)
        return ", ".join(different)


class _Span(NamedTuple):  # faster to make than a dataclass: hostile texts have many
    """A box by its places: the whole of it, what it holds, and what its innermost box holds if it holds nothing else."""

    start: int
    left: int
    right: int
    end: int
    core: tuple[int, int]


def extract_boxed(text: str) -> list[Box]:
    r"""Every outermost ``\boxed{…}`` or ``\fbox{…}`` in order of appearance, with braces that balance or without braces.

    A box that never closes is no box, but boxes inside it are found. Boxes inside a box belong to its content.

    >>> [box.content for box in extract_boxed(r"\boxed{1} or $\boxed 2$ or \boxed{\frac{1}{2}} or \boxed{3")]
    ['1', '2', '\\frac{1}{2}']
    """
    return [Box(span.start, span.end, text[span.left : span.right]) for span in _outermost(text)[0]]


def find_rows(text: str) -> list[Row]:
    r"""The outermost boxes of a text, in rows, in order of appearance.

    >>> [row.parts for row in find_rows(r"\boxed{98, 2} \text{ and } \boxed{99}, $\boxed{4}$; then \boxed{\boxed{5}}")]
    [('98, 2', '99', '4'), ('5',)]
    """
    spans, unclosed = _outermost(text)
    rows: list[list[_Span]] = []
    for span in spans:
        if rows and _joined(text, rows[-1][-1].end, span.start):
            rows[-1].append(span)
        else:
            rows.append([span])
    found = []
    for row in rows:
        end, cut_off = row[-1].end, None
        if unclosed and (following := bisect_left(unclosed, (end, 0))) < len(unclosed):
            start, left = unclosed[following]
            cut_off = text[left : left + _MAX_CUT_OFF].strip() if _joined(text, end, start) else None
        found.append(Row(row[0].start, end, tuple(text[slice(*span.core)].strip() for span in row), cut_off))
    return found


def open_boxes(text: str) -> str:
    r"""What the boxes hold where a text is a box, or a row of them, and nothing else; else the text.

    >>> open_boxes(r"$\boxed 2$"), open_boxes(r"\boxed{1} and \boxed{2}."), open_boxes(r"3 \boxed{4}")
    ('2', '1, 2', '3 \\boxed{4}')
    """
    if "\\boxed" not in text and "\\fbox" not in text:
        return text
    rows = find_rows(text)
    if len(rows) != 1 or not _AROUND.fullmatch(text[: rows[0].start] + text[rows[0].end :]):
        return text
    return rows[0].answer or text


def _joined(text: str, end: int, start: int) -> bool:
    if start - end > _MAX_BETWEEN or _BETWEEN.fullmatch(text, end, start) is None:
        return False
    return _JOINER.search(text, end, start) is not None


def _outermost(text: str) -> tuple[list[_Span], list[tuple[int, int]]]:
    """Every outermost box, and (start, start of the content) of every box that never closes."""
    first = min((place for command in ("\\boxed", "\\fbox") if (place := text.find(command)) >= 0), default=len(text))
    outermost: list[_Span] = []
    waiting: list[tuple[int, int] | None] = []  # None for a plain brace
    for token in _TOKEN.finditer(text, first):  # a brace before the first box changes nothing
        if token.lastgroup == "close":
            if waiting and (opening := waiting.pop()):
                start, left = opening
                right, end = token.span()
                core, inside = (left, right), 0
                while outermost and outermost[-1][0] > start:
                    inner = outermost.pop()
                    inside += 1
                if inside == 1 and not text[left : inner.start].strip() and not text[inner.end : right].strip():
                    core = inner.core
                outermost.append(_Span(start, left, right, end, core))
        elif token.lastgroup == "bare":
            left, right = token.span("content")
            outermost.append(_Span(token.start(), left, right, right, (left, right)))
        elif token.lastgroup:
            waiting.append(token.span() if token.lastgroup == "box" else None)
    return outermost, [opening for opening in waiting if opening]


# What a model copies from an instruction, or leaves open.
_FONT = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf|tt)|mbox|emph)\s*(?=\{)|\*\*|(?<!\\)[{}]|[$`\"']"
)
_NOTHING = re.compile(
    r"""(?:[\s~]|\\(?:[,;:!\ ]|\Z)|\\q?quad(?![a-z]))*
    (?:(?:\.|…|⋯|\\[lcv]?dots(?![a-z])|[\s~])+ | [\s?]+ | (?:\\?_|\s)+ | \\(?:square|Box)(?![a-z])
    | [<\[(]?\s*(?:(?:insert|put|write|enter|place|type)[\s_]+)?(?:(?:the|your|my)[\s_]+)?
      (?:(?:final|numerical|numeric|correct|exact)[\s_]+)?(?:answer|ans|答案|你的答案|最终答案)
      (?:[\s_]+(?:goes[\s_]+)?here|_?[0-9]{1,2})?\s*[>\])]?
    | [<\[(]?\s*(?:your|final|your[\s_]+final)[\s_]+(?:result|solution|value|number|expression)\s*[>\])]?
    )?\.?\s*""",
    re.VERBOSE | re.IGNORECASE,
)


def says_something(content: str) -> bool:
    r"""Whether the content of a box is an answer at all: not empty, and not a placeholder copied from the instruction.

    Placeholders are dots, blanks to fill in, question marks, and "answer" or "your final answer here" in any print.

    >>> [says_something(text) for text in ("", r"\dots", "…", r"\text{answer}", "[Your answer here]", "____", "?")]
    [False, False, False, False, False, False, False]
    >>> [says_something(text) for text in ("0", r"\{\}", "-", "<", "a", r"\text{no answer}", r"\text{no solution}")]
    [True, True, True, True, True, True, True]
    """
    return (
        content[:1].isdigit()
        or len(content) > 80
        or _NOTHING.fullmatch(" ".join(_FONT.sub("", content).split())) is None
    )
