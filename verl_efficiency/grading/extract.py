r"""Find the final answer in a response: in its boxes, or after a marker. Pure string work, in time linear in the text.

A box is ``\boxed{…}`` or ``\fbox{…}``. Models also write boxes without braces, as in ``$\boxed 2$`` and ``$\boxed\frac12$``.
Such a box holds the number, letter, fraction, root, text or command that follows. TeX would box only the 4 of ``\boxed 42``,
but the model means 42, and so do we. A box without braces counts only where the math, the line or the sentence ends after
it. Otherwise the rest could belong to the answer, as in ``$\boxed x^2$``.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_uppercase
from typing import NamedTuple

from verl_efficiency.grading.quick import quick_equal
from verl_efficiency.grading.turn import drop_thinking, without_end_tokens
from verl_efficiency.settings import require

MAX_TEXT_CHARS = 200_000
_MAX_BETWEEN = 80  # characters between two boxes of a row
_MAX_CUT_OFF = 200  # characters kept of a box that never closes
_MAX_COMPARED = 16  # parts of a row compared by value; further parts are compared as text
_MAX_PART = 100  # characters of a part compared by value; longer parts are compared as text

# Braces with at most one level of braces inside: "{\sqrt{3}}".
_GROUP = r"\{(?:[^{}]|\{[^{}]{0,100}\}){0,100}\}"
_ARGUMENT = rf"[ ]?(?:{_GROUP}|[0-9A-Za-z])"  # the 1 and the 2 of "\frac12"
# A box without braces: "\boxed 2", "\boxed\frac12", "\boxed\text{(C)}".
_BARE = rf"""(?P<bare>\\(?:boxed|fbox)(?![a-zA-Z])[ \t]{{0,4}}(?P<content>
      -?[0-9]{{1,3}}(?:,[0-9]{{3}})+(?:\.[0-9]+)? | -?[0-9]{{1,40}}(?:\.[0-9]{{1,40}})? | [A-Za-z]
    | -?\\[dtc]?frac(?![a-zA-Z]){_ARGUMENT}{_ARGUMENT} | -?\\sqrt(?:\[[0-9]\])?{_ARGUMENT}
    | \\(?:text(?:bf|it|rm)?|math(?:rm|bf|bb)|mbox)[ ]?{_GROUP} | -?\\[a-zA-Z]{{1,20}})
    (?=[ \t]{{0,4}}(?:\$|\\[)\]]|\n|\Z)|\.(?:[\s$]|\Z)))"""
# One token per place where the depth of braces changes. A doubled backslash is a line break, except in "\\boxed{4}", which a
# model writes that escapes twice. The braces of "\{" and "\}" are printed and change no depth.
_TOKEN = re.compile(
    rf"""(?P<box>\\(?:boxed|fbox)\s*\{{) | {_BARE} | \\\\(?!(?:boxed|fbox)\s*\{{) | \\[{{}}]
    | (?P<open>\{{) | (?P<close>\}})""",
    re.VERBOSE,
)
# What surrounds a box and says nothing: blanks, "$", "**", "\quad".
_AROUND_BOX = r"\s|\$|~|`|\*\*|&|\\[,;:!>()\[\]\\ ]|\\(?:q?quad|displaystyle|textstyle)(?![a-zA-Z])"
_AROUND = re.compile(rf"(?:{_AROUND_BOX}|[.,;])*")
# What may stand between two boxes of a row: "$, and $", "\text{ or }".
_BETWEEN = re.compile(
    rf"(?:{_AROUND_BOX}|[,;]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])"
    r"|\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s?\{[\s,;~]*(?:and|or)?[\s,;~]*\})*"
)
_JOINER = re.compile(r"(?<!\\)[,;]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])")  # what must stand there

# What a marked answer begins with and does not mean: the colon of "The answer is: 42", the "**" of "**Answer:** 42".
_OPENING = re.compile(r"(?:[\s:：`]|\*\*|__|\*(?=\s)|</?(?:b|strong|i|em|code)>)+")
# What it ends with and does not mean: a full stop, "**", and the last sentence of Minerva's prompt.
_CLOSING = re.compile(r"(?:[\s`]|\*\*|__|(?<!\.)\.|</(?:b|strong|i|em|code)>|I hope (?:it|this) is correct)+\Z")
_MAX_CLOSING = 80  # characters of such an end
_EMPHASIS = re.compile(r"([*_])((?:(?!\1).)+)\1", re.DOTALL)  # *42*, _42_
_BLANK = re.compile(r"(?:[\s:]|\*\*|(?:\$\$|\\\[)(?=[^\S\n]*\n))*")  # between a marker and the answer on a later line
_TO_LOWER = {ord(letter): letter.lower() for letter in ascii_uppercase}  # keeps the length, unlike str.lower

# Commands and signs that only change the font: "\text{answer}", "**answer**".
_FONT = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf|tt)|mbox|emph)\s*(?=\{)|\*\*|(?<!\\)[{}]|[$`\"']"
)
# A placeholder, copied from the instruction or left open: "...", "____", "?", "[your final answer here]", "answer_1".
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


def extract_answer(
    text: str, *, strip_thinking: bool = False, marker: str | None = None, max_chars: int = MAX_TEXT_CHARS
) -> str | None:
    r"""The answer that a response gives, or ``None``: the content of its last ``\boxed{}``.

    * **Nested boxes.** A box that holds only a box is opened.
    * **Boxes in a row** are one answer in parts: ``\boxed{3} \text{ and } \boxed{4}`` is "3, 4". A comma, a semicolon, "and" or
      "or" joins them; only blanks and markup may stand beside it. A row is compared as a whole: it is right where the
      reference has the same parts, so a list of guesses is wrong even if one guess is right. Equal parts count once, as in
      ``\boxed{1/2} or \boxed{0.5}``. Where other words, or only blanks, stand between two boxes, the last box counts.
    * **A box that says nothing** is skipped, see :func:`says_something`: an empty one, dots, a copied
      ``\boxed{\text{your answer}}``. The last box that says something counts.
    * **A box that never closes**, because the response is truncated, is skipped too, and the last complete box counts. If it
      continues a row (``\boxed{3} or \boxed{4``), the row is incomplete and the response has no answer. If it only repeats
      a part of the row, as in a loop that runs into the token limit, the row counts.
    * **A box without braces**, as in ``$\boxed 2$``, is read, see :mod:`verl_efficiency.grading.extract`.

    Args:
        text: the response.
        strip_thinking: ignore ``<think>`` blocks, see :func:`drop_thinking`.
        marker: instead of a box, read the text after the last ``marker`` up to the end of its line, as in GSM8K's
            ``#### 42``. A marker that contains ``…`` names two texts, and the answer stands between them, as in
            ``<answer>…</answer>``. A marker followed by nothing or by a placeholder is skipped. If all are, the answer is
            the line after the last marker. If the marker is nowhere, one with other capitals counts. Markup around the
            answer, a full stop and special tokens after it are removed.
        max_chars: read only this many characters at the end of ``text``.

    Raises:
        SettingsError: see :func:`require_marker`.

    >>> extract_answer(r"first \boxed{3}, then \boxed{\boxed{ 4 }}")
    '4'
    >>> [extract_answer(text) for text in (r"\boxed{3}, \boxed{4}", r"\boxed{3}, as in \boxed{...}", r"$\boxed 3$")]
    ['3, 4', '3', '3']
    >>> extract_answer("the answer is 4") is None
    True
    >>> extract_answer("6 * 7 = 42\n#### 42", marker="####"), extract_answer("<a> 42\n</a>", marker="<a>…</a>")
    ('42', '42')
    >>> [extract_answer(text, marker="Answer:") for text in ("**Answer:** *42*.", "Answer:\n42", "**answer**: 42")]
    ['42', '42', '42']
    """
    text = text[-max_chars:]
    if strip_thinking:
        text = drop_thinking(text)
    if marker is not None:
        require_marker(marker)
        return _marked(text, *marker.partition("…")[::2])
    for row in reversed(find_rows(text)):
        answer = row.answer
        if answer or not row.says_nothing:  # a truncated row says something and has no answer
            return answer
    return None


def require_marker(marker: str | None, setting: str = "marker") -> None:
    """Refuse a marker that is blank, or blank before its ``…``: it would match everywhere.

    Args:
        marker: the marker, or ``None`` for a box.
        setting: the name of the setting, for the message.

    Raises:
        SettingsError: the marker is blank.
    """
    named = marker is None or bool(marker.partition("…")[0].strip())
    require(named, setting, marker, "a text, or null for \\boxed{…}; a … needs a text before it")


def _marked(text: str, opening: str, closing: str) -> str | None:
    """The last answer that says something between ``opening`` and ``closing``; an empty ``closing`` is the end of the line.

    Where no line says anything after its marker, the next line counts.
    If that finds no answer either, the marker may have other capitals.
    """
    if opening.rstrip().endswith(":"):
        text = text.replace("**:", ":**").replace("__:", ":__")  # "**Answer**: 42" holds the marker "Answer:"
    readers = (str,) if closing else (_line, _next_line)
    lower = [part.translate(_TO_LOWER) for part in (text, opening, closing)]
    for searched in ((text, opening, closing), lower):
        for reader in readers:
            for start, stop in _places(*searched):
                answer = written_plainly(reader(text[start:stop]))
                if says_something(answer) and not (
                    searched is lower and _cuts_a_word(text, start - len(opening), start)
                ):
                    return answer
    return None


def _cuts_a_word(text: str, start: int, stop: int) -> bool:
    """Whether ``text[start:stop]`` begins or ends within a word, as "a:" does in "an idea: 42"."""
    return any(text[place - 1 : place].isalpha() and text[place : place + 1].isalpha() for place in (start, stop))


def _places(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Where the texts between ``opening`` and ``closing`` begin and end, the last one first."""
    stop = len(text)
    while True:
        if closing:
            stop = text.rfind(closing, 0, stop)  # an opening without a closing does not count
        start = text.rfind(opening, 0, stop) if stop >= 0 else -1
        if start < 0:
            return
        yield start + len(opening), stop
        stop = start


def _line(text: str) -> str:
    return text.split("\n", 1)[0]


def _next_line(text: str) -> str:
    """The next line of a text whose own line is blank."""
    blank = _BLANK.match(text)
    return _line(text[blank.end() :]) if blank and "\n" in blank[0] else ""


def written_plainly(text: str) -> str:
    r"""The answer in a text that holds nothing else: that of its boxes, else the whole text without markup and full stop.

    >>> written_plainly(" **4**. "), written_plainly(r"$\boxed{4}$"), written_plainly("42</s>"), written_plainly(": `x*`")
    ('4', '4', '42', 'x*')
    """
    text = without_end_tokens(text.strip())
    if closing := _CLOSING.search(text, max(0, len(text) - _MAX_CLOSING)):
        text = text[: closing.start()]
    if opening := _OPENING.match(text):
        text = text[opening.end() :]
    if emphasis := _EMPHASIS.fullmatch(text):
        text = emphasis[2].strip()
    return extract_answer(text) or text


@dataclass(frozen=True)
class Box:
    r"""A ``\boxed{content}``. ``text[start:end]`` is all of it, with command and braces."""

    start: int
    end: int
    content: str


class Row(NamedTuple):
    r"""Boxes joined by a comma, a semicolon, "and" or "or". Most rows hold a single box.

    Attributes:
        start: where its first box begins.
        end: where its last box ends.
        parts: the content of each box; a box that holds only a box is opened.
        cut_off: the beginning of a box that continues the row but never closes; ``None`` if there is no such box.
    """

    start: int
    end: int
    parts: tuple[str, ...]
    cut_off: str | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether no part says anything, see :func:`says_something`."""
        return not any(says_something(part) for part in self.parts)

    @property
    def answer(self) -> str | None:
        r"""The answer of the row: its parts that say something, joined by commas, equal parts once.

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


class _Span(NamedTuple):  # cheaper to make than a dataclass: a hostile text has many
    """A box by its places: all of it, its content, and the content of its innermost box if it holds nothing else."""

    start: int
    left: int
    right: int
    end: int
    core: tuple[int, int]


def extract_boxed(text: str) -> list[Box]:
    r"""Every outermost ``\boxed{…}`` or ``\fbox{…}``, in order of appearance.

    A box that never closes does not count, but boxes inside it do. Boxes inside a box belong to its content.

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
    r"""The content of a text that is a box, or a row of boxes, and nothing else; any other text as it is.

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
    """Whether the boxes that end at ``end`` and begin at ``start`` stand in a row."""
    if start - end > _MAX_BETWEEN or _BETWEEN.fullmatch(text, end, start) is None:
        return False
    return _JOINER.search(text, end, start) is not None


def _outermost(text: str) -> tuple[list[_Span], list[tuple[int, int]]]:
    """Every outermost box, and (start, start of the content) of every box that never closes."""
    first = min((place for command in ("\\boxed", "\\fbox") if (place := text.find(command)) >= 0), default=len(text))
    outermost: list[_Span] = []
    waiting: list[tuple[int, int] | None] = []  # open braces; None for one that opens no box
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


def says_something(content: str) -> bool:
    r"""Whether the content of a box is an answer at all: not empty, and not a placeholder copied from the instruction.

    Placeholders are dots, blanks to fill in, question marks, and "answer" or "your final answer here" in any font.

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
