"""Find the final answer in a response: pure string work, one pass, time linear in the length of the text."""

import re
from dataclasses import dataclass

MAX_TEXT_CHARS = 200_000

# One token per place where the depth of braces changes. A doubled backslash is a line break, except that a model which escapes
# twice writes \\boxed{…}: that still opens a box. Escaped braces are print, not structure.
_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\\\(?!(?:boxed|fbox)\s*\{)|\\[{}]|(?P<open>\{)|(?P<close>\})")


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
    outermost: list[tuple[int, int, int]] = []
    for span in _spans(text):
        while outermost and outermost[-1][0] > span[0]:
            outermost.pop()
        outermost.append(span)
    return [Box(start, end, text[inner : end - 1]) for start, inner, end in outermost]


def _spans(text: str) -> list[tuple[int, int, int]]:
    """(start, start of the content, end) of every balanced box, nested ones too, in the order in which they close."""
    first = min((place for command in ("\\boxed", "\\fbox") if (place := text.find(command)) >= 0), default=len(text))
    closed: list[tuple[int, int, int]] = []
    waiting: list[tuple[int, int] | None] = []  # None for a plain brace
    for token in _TOKEN.finditer(text, first):  # a brace before the first box changes nothing
        if token.lastgroup == "close":
            if waiting and (opening := waiting.pop()):
                closed.append((*opening, token.end()))
        elif token.lastgroup:
            waiting.append(token.span() if token.lastgroup == "box" else None)
    return closed


def drop_thinking(text: str) -> str:
    """The text outside the thinking: what follows the last ``</think>``, up to a ``<think>`` that reopens.

    A response cut off inside its thinking therefore yields what stood before ``<think>``. Where the chat template has
    opened the block in the prompt and the response never closes it, no tag is left to see: the text comes back whole.

    >>> drop_thinking("<think>maybe 3</think>It is 4.")
    'It is 4.'
    """
    return text[text.rfind("</think>") + len("</think>") if "</think>" in text else 0 :].split("<think>", 1)[0]


def opens_thinking(prompt: str) -> bool:
    r"""Whether the response to a prompt begins inside the thinking, because a chat template has opened it.

    Only a ``<think>`` at the very end counts: one in a question or an instruction opens nothing.

    >>> opens_thinking("<|im_start|>assistant\n<think>\n"), opens_thinking("Think inside <think> tags. <|im_start|>assistant")
    (True, False)
    """
    return prompt.rstrip().endswith("<think>")


def written_plainly(text: str) -> str:
    r"""The answer in a place that holds nothing else: what its last box holds, else all of it, without bold print's ``**``.

    >>> written_plainly(" **4** "), written_plainly(r"$\boxed{4}$")
    ('4', '4')
    """
    text = text.strip().removeprefix("**").removesuffix("**").strip()
    return extract_answer(text) or text


def extract_answer(
    text: str, *, strip_thinking: bool = False, marker: str | None = None, max_chars: int = MAX_TEXT_CHARS
) -> str | None:
    r"""The answer that a response gives, or ``None``: what its last balanced ``\boxed{}`` holds.

    A box that holds nothing but a box is opened. A box that never closes (a response cut off) is no answer.

    Args:
        text: the response.
        strip_thinking: leave ``<think>`` blocks out, see :func:`drop_thinking`.
        marker: read what follows the last ``marker`` on its line instead, as in GSM8K's ``#### 42``; with a ``…`` in it, what
            stands between the last two such texts, as in ``<answer>…</answer>``.
        max_chars: only so many characters at the end of ``text`` are read.

    >>> extract_answer(r"first \boxed{3}, then \boxed{\boxed{ 4 }}")
    '4'
    >>> extract_answer("the answer is 4") is None
    True
    >>> extract_answer("6 * 7 = 42\n#### 42", marker="####"), extract_answer("<a> 42\n</a>", marker="<a>…</a>")
    ('42', '42')
    """
    text = text[-max_chars:]
    if strip_thinking:
        text = drop_thinking(text)
    if marker is not None:
        opening, _, closing = marker.partition("…")
        before = text.rpartition(closing)[0] if closing else text  # one that never closes is none
        _, found, after = before.rpartition(opening)
        return (written_plainly(after if closing else after.split("\n", 1)[0]) if found else "") or None
    spans = _spans(text)
    if not spans:
        return None
    _, left, right = spans.pop()
    while spans and not text[left : spans[-1][0]].strip() and not text[spans[-1][2] : right - 1].strip():
        _, left, right = spans.pop()
    return text[left : right - 1].strip() or None
