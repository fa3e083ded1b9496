"""Find the final answer in a response: pure string work, one pass, time linear in the length of the text."""

import re
from dataclasses import dataclass

MAX_TEXT_CHARS = 200_000

# One token per place where the depth of braces changes. A doubled backslash is a line break, except that a model which escapes
# twice writes \\boxed{…}: that still opens a box. Escaped braces are print, not structure.
_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\\\(?!(?:boxed|fbox)\s*\{)|\\[{}]|(?P<open>\{)|(?P<close>\})")
_WHOLE_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")


@dataclass(frozen=True)
class Box:
    """A balanced ``\\boxed{content}``; ``text[start:end]`` is the whole of it, braces and command included."""

    start: int
    end: int
    content: str


def extract_boxed(text: str) -> list[Box]:
    r"""Every outermost balanced ``\boxed{…}`` or ``\fbox{…}`` in order of appearance.

    A box that never closes is no box, but boxes inside it are found. Boxes inside a box belong to its content.

    >>> [box.content for box in extract_boxed(r"\boxed{1} or \boxed{\frac{1}{2}} or \boxed{3")]
    ['1', '\\frac{1}{2}']
    """
    found: list[tuple[int, int, int]] = []
    open_braces: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        if token["box"] or token["open"]:
            open_braces.append(token)
        elif token["close"] and open_braces:
            opening = open_braces.pop()
            if opening["box"]:
                while found and found[-1][0] > opening.start():
                    found.pop()
                found.append((opening.start(), token.end(), opening.end()))
    return [Box(start, end, text[inner : end - 1]) for start, end, inner in found]


def drop_thinking(text: str) -> str:
    """The text outside the thinking: what follows the last ``</think>``, up to a ``<think>`` that reopens.

    A response cut off inside its thinking therefore yields what stood before ``<think>``. Where the chat template has
    opened the block in the prompt and the response never closes it, no tag is left to see: the text comes back whole.

    >>> drop_thinking("<think>maybe 3</think>It is 4.")
    'It is 4.'
    """
    return text[text.rfind("</think>") + len("</think>") if "</think>" in text else 0 :].split("<think>", 1)[0]


def extract_answer(text: str, *, strip_thinking: bool = False, max_chars: int = MAX_TEXT_CHARS) -> str | None:
    r"""Content of the last balanced ``\boxed{}`` (a box that holds nothing but a box is opened), or ``None``.

    Args:
        text: the response.
        strip_thinking: leave ``<think>`` blocks out, see :func:`drop_thinking`.
        max_chars: only so many characters at the end of ``text`` are read.

    >>> extract_answer(r"first \boxed{3}, then \boxed{\boxed{ 4 }}")
    '4'
    >>> extract_answer("the answer is 4") is None
    True
    """
    text = text[-max_chars:]
    if strip_thinking:
        text = drop_thinking(text)
    boxes = extract_boxed(text)
    if not boxes:
        return None
    content = boxes[-1].content.strip()
    while _WHOLE_BOX.match(content):
        inner = extract_boxed(content)
        if len(inner) != 1 or inner[0].end - inner[0].start != len(content):
            break
        content = inner[0].content.strip()
    return content or None
