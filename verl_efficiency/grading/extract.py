"""Find the final answer in a response: pure string work, one pass, time linear in the length of the text."""

import re

from verl_efficiency.grading.boxes import find_rows, says_something
from verl_efficiency.settings import require

MAX_TEXT_CHARS = 200_000

_SPECIAL = (  # see without_end_tokens
    r"<\|\w{3,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|<(?:eos|bos|pad|unk|eot|eod|(?:end|start)_of_turn)>"
    r"|\[(?:PAD|EOS|BOS|SEP|CLS)\]"
)
_LAST = re.compile(rf"(?:{_SPECIAL})\Z", re.IGNORECASE)
_FIRST = re.compile(rf"(?:\s*(?:{_SPECIAL}))+", re.IGNORECASE)
_MAX_SPECIAL = 64  # characters of a special token


def without_end_tokens(text: str) -> str:
    r"""``text`` without the special tokens at its end. Decoded texts hold them unless the tokenizer is told to skip them.

    For places without a tokenizer: a special token is known by its form, which is one of ``<|name|>`` (three characters or
    more), ``<｜name｜>``, ``<s>``, ``</s>``, ``<eos>``, ``<bos>``, ``<pad>``, ``<unk>``, ``<eot>``, ``<eod>``,
    ``<end_of_turn>``, ``<start_of_turn>``, ``[PAD]``, ``[EOS]``, ``[BOS]``, ``[SEP]``, ``[CLS]``. Blanks before and between
    them are removed too. Special tokens elsewhere stay, so a text that mentions ``</s>`` is not cut.

    >>> [without_end_tokens(text) for text in ("42<|im_end|>\n<|endoftext|>", "42</s>[PAD]", "</s> 42\n")]
    ['42', '42', '</s> 42\n']
    """
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        found = _LAST.search(text, max(0, last - _MAX_SPECIAL), last)
        if not found:
            return text if end == len(text) else text[:last]
        end = found.start()


def without_start_tokens(text: str) -> str:
    """``text`` without the special tokens at its start, see :func:`without_end_tokens`.

    >>> without_start_tokens("[PAD][PAD]<s>What is 2+2?")
    'What is 2+2?'
    """
    return text[found.end() :] if (found := _FIRST.match(text)) else text


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
    r"""The answer in a place that holds nothing else: that of its boxes, else all of it, without bold print's ``**``.

    >>> written_plainly(" **4** "), written_plainly(r"$\boxed{4}$"), written_plainly("42</s>")
    ('4', '4', '42')
    """
    text = without_end_tokens(text.strip()).removeprefix("**").removesuffix("**").strip()
    return extract_answer(text) or text


def extract_answer(
    text: str, *, strip_thinking: bool = False, marker: str | None = None, max_chars: int = MAX_TEXT_CHARS
) -> str | None:
    r"""The answer that a response gives, or ``None``: what its last ``\boxed{}`` holds.

    * **Box in a box.** A box that holds nothing but a box is opened.
    * **Boxes in a row** are one answer in parts: ``\boxed{3} \text{ and } \boxed{4}`` is "3, 4". A comma, a semicolon, "and" or
      "or" joins them, with nothing else but blanks and print between them. A row is compared whole. It is right where the
      reference has the same parts, and a list of guesses is wrong even if one of them is right. Equal parts count once, as
      in ``\boxed{1/2} or \boxed{0.5}``. Where other words, or blanks alone, stand between two boxes, the last box counts.
    * **A box that says nothing** is skipped: an empty one, dots, a copied ``\boxed{\text{your answer}}``, see
      :func:`verl_efficiency.grading.boxes.says_something`. The last box that says something counts.
    * **A box that never closes**, because the response is cut off, is skipped too, and the last whole box counts. If it
      continues a row (``\boxed{3} or \boxed{4``), the row is incomplete, and the response has no answer. If it only repeats
      what stands in the row, as in a loop that runs into the token limit, the row counts.
    * **A box without braces** is read, as in ``$\boxed 2$``, see :mod:`verl_efficiency.grading.boxes`.

    Args:
        text: the response.
        strip_thinking: leave ``<think>`` blocks out, see :func:`drop_thinking`.
        marker: read what follows the last ``marker`` on its line instead, as in GSM8K's ``#### 42``; with a ``…`` in it, what
            stands between the last two such texts, as in ``<answer>…</answer>``. A marker that nothing follows, or a
            placeholder, is skipped. Special tokens behind the answer do not belong to it.
        max_chars: only so many characters at the end of ``text`` are read.

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
    """
    text = text[-max_chars:]
    if strip_thinking:
        text = drop_thinking(text)
    if marker is not None:
        require_marker(marker)
        return _marked(text, *marker.partition("…")[::2])
    for row in reversed(find_rows(text)):
        answer = row.answer
        if answer or not row.says_nothing:  # a row that is cut off says something and has no answer
            return answer
    return None


def require_marker(marker: str | None, setting: str = "marker") -> None:
    """Refuse a marker that is blank, or blank before its ``…``: it would be found everywhere.

    Raises:
        SettingsError: ``setting`` is what names the marker.
    """
    named = marker is None or bool(marker.partition("…")[0].strip())
    require(named, setting, marker, "a text, or null for \\boxed{…}; a … in it stands behind a text")


def _marked(text: str, opening: str, closing: str) -> str | None:
    """The last answer that says something after ``opening``, to the end of the line, or up to ``closing``."""
    stop = len(text)
    while True:
        if closing:
            stop = text.rfind(closing, 0, stop)  # one that never closes is none
        start = text.rfind(opening, 0, stop) if stop >= 0 else -1
        if start < 0:
            return None
        answer = text[start + len(opening) : stop]
        answer = written_plainly(answer if closing else answer.split("\n", 1)[0])
        if says_something(answer):
            return answer
        stop = start
