r"""Where the N answers of a response stand, found by a template with an index.

A template has ``{index}``, and ``…`` in the place of the answer; doubled braces are literal, as in ``str.format``::

    Answer{index}::\boxed{{…}}             a box, with balanced braces, right after its tag
    <answer{index}>…</answer{index}>       between two texts
    Answer {index}: …                      to the end of the line

Blanks may differ from the template's, and ``**`` may set off a part of the tag. Between a tag and its box may stand what opens
mathematics or closes markup: ``$``, ``\(``, ``\[``, ``\displaystyle``, ``**``, a backtick, the brace of ``\text{Answer1::}``.
Time is linear in the text.
"""

import re
from dataclasses import dataclass
from string import Formatter

from verl_efficiency.grading import extract_answer, extract_boxed
from verl_efficiency.grading.extract import find_rows, says_something, written_plainly
from verl_efficiency.settings import SettingsError

PAPER_FORM = r"Answer{index}::\boxed{{…}}"
PAPER_HEADER = "### Problem {index}"
_BOX = "\\boxed{"
_INDEX = r"(?<![0-9])([0-9]{1,4})(?![0-9])"
_BLANKS = r"[\s*]{0,8}"
_MAX_CHARS = 2_000  # of an answer that is not a box; bounds the search for its end


@dataclass(frozen=True)
class AnswerForm:
    """A template, parsed by :func:`read_form`.

    Attributes:
        tag: matches what stands before the answer (before the box, in a boxed form); its group 1 is the index.
        boxed: whether the answer is a box.
        end: what stands after the answer, with ``{index}``; empty for the end of the line.
        look_back: characters before a box in which its tag must stand.
    """

    tag: re.Pattern[str]
    boxed: bool
    end: str
    look_back: int


def read_form(template: str) -> AnswerForm:
    r"""Parse a template.

    Raises:
        SettingsError: it does not have one ``{index}`` before one ``…``, or has no text beside the index.
    """
    wrong = f"answer_template: must be a text with {{index}} before one …, as in {PAPER_FORM!r}, got {template!r}"
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise SettingsError(f"{wrong} ({error}; a literal brace is written twice)") from None
    if any(field not in (None, "index") for _, field, _, _ in parts):
        raise SettingsError(wrong)
    plain = "".join(literal + ("\0" if field == "index" else "") for literal, field, _, _ in parts)
    before, *after = plain.split("…")
    if len(after) != 1 or before.count("\0") != 1:
        raise SettingsError(wrong)
    end = after[0].strip()
    boxed = before.rstrip().endswith(_BOX) and end.startswith("}")
    before = before.rstrip().removesuffix(_BOX) if boxed else before
    if not before.replace("\0", "").strip():
        raise SettingsError(f"{wrong}; the index needs a text beside it, or every number would be a tag")
    dressing = r"(?:[\s$*`}~]|\\[(\[,;: ]|\\(?:q?quad|displaystyle)(?![a-zA-Z])){0,20}\\?$" if boxed else ""
    return AnswerForm(re.compile(_pattern(before) + dressing), boxed, end, len(before) + 60)


def _pattern(template: str) -> str:
    """A regular expression for a text with the index at ``\\0``. Any blanks match around the index and where it has some."""
    left, right = (_BLANKS.join(map(re.escape, side.split())) for side in template.split("\0"))
    return f"{left}{_BLANKS}{_INDEX}{_BLANKS}{right}"


def find_answers(text: str, form: AnswerForm, *, truncated: bool = False) -> list[tuple[int, str]]:
    r"""Every answer in this form that says something, as (index, content) in order of appearance.

    Empty boxes and placeholders (``Answer1::\boxed{…}``, ``Answer1::\boxed{answer}``) are not answers, nor is what runs to the
    end of a ``truncated`` response. Boxes in a row after a tag are one answer in parts, see
    :func:`verl_efficiency.grading.extract_answer`.

    >>> text = r"Answer1::\boxed{\frac{1}{2}} Answer2::$\boxed{3}$, not \boxed{9} Answer3::\boxed{4"
    >>> find_answers(text, read_form(PAPER_FORM))
    [(1, '\\frac{1}{2}'), (2, '3')]
    >>> find_answers("<answer1>4</answer1> <answer2>5", read_form("<answer{index}>…</answer{index}>"))
    [(1, '4')]
    """
    found = _boxed(text, form) if form.boxed else _delimited(text, form, truncated)
    return [(index, answer) for index, answer in found if says_something(answer)]


def _boxed(text: str, form: AnswerForm) -> list[tuple[int, str]]:
    found = []
    for row in find_rows(text):
        tag = form.tag.search(text[max(0, row.start - form.look_back) : row.start])
        if tag:
            found.append((int(tag[1]), row.answer or ""))
    return found


def _delimited(text: str, form: AnswerForm, truncated: bool) -> list[tuple[int, str]]:
    found = []
    tags = list(form.tag.finditer(text))
    next_starts = [tag.start() for tag in tags[1:]] + [len(text)]
    for tag, next_start in zip(tags, next_starts, strict=False):
        start, end = tag.end(), form.end.replace("\0", tag[1])
        stop = text.find(end or "\n", start, start + _MAX_CHARS + len(end or "\n"))
        if stop < 0 and not end and not truncated and len(text) - start <= _MAX_CHARS:
            stop = len(text)
        if 0 <= stop <= next_start:  # else it never closes, or swallows the next answer
            found.append((int(tag[1]), written_plainly(text[start:stop])))
    return found


def find_headers(text: str, header: str) -> list[re.Match[str]]:
    """Every line that opens the section of a problem; group 1 is the index. Headings may have any level or be in bold."""
    if header.count("{index}") != 1 or not header.replace("{index}", "").strip():
        raise SettingsError(
            f"problem_header: must be a text with one {{index}}, as in {PAPER_HEADER!r}, got {header!r}"
        )
    plain = header.replace("{index}", "\0")
    words = plain.lstrip("#")
    bold = r"|\*\*" * bool(words.replace("\0", "").strip())  # a number alone in bold is not a heading
    heading = f"(?:#{{1,6}}{bold})[\\s*]{{0,8}}" * (words != plain)
    return list(re.finditer("(?m)^" + heading + _pattern(words), text))


def find_in_sections(text: str, headers: list[re.Match[str]]) -> list[tuple[int, str]]:
    r"""The answer in the boxes under each of :func:`find_headers`, as (index, content).

    >>> text = "### Problem 1\n\\boxed{3} no, \\boxed{4}\n### Problem 2\nhard"
    >>> find_in_sections(text, find_headers(text, PAPER_HEADER))
    [(1, '4')]
    """
    stops = [start.start() for start in headers[1:]] + [len(text)]
    answers = [
        (int(start[1]), extract_answer(text[start.end() : stop])) for start, stop in zip(headers, stops, strict=False)
    ]
    return [(index, answer) for index, answer in answers if answer]


def find_in_order(text: str, count: int) -> list[tuple[int, str]]:
    r"""Box k as the answer to problem k; nothing if there are more boxes than problems, since any could be the answer.

    >>> find_in_order(r"\boxed{3} \boxed{4}", 3), find_in_order(r"\boxed{3} \boxed{4}", 1)
    ([(1, '3'), (2, '4')], [])
    """
    answers = [box.content.strip() for box in extract_boxed(text)]
    numbered = [(index, answer) for index, answer in enumerate(answers, start=1) if says_something(answer)]
    return numbered if len(answers) <= count else []
