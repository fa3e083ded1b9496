r"""Multiple choice: ``C``, ``(C)``, ``Option C`` and ``(C) A right triangle`` are one answer, the option C.

An option is a letter from A to J, alone or before its text. Before a text, the letter must look like a label: it stands in
parentheses or brackets, or ``)``, ``.`` or ``:`` follows, and then a blank. So ``A = 5``, ``A + 1`` and ``A(2)`` do not name
the option A, and neither does ``A right triangle``.

* A letter answers a reference that is the same letter with a text, and the reverse.
* Of two letters with texts, the same letter with the same text is right, and another letter is wrong, even with the same text.
  Where only the texts differ, they are compared like any other answer.
* A letter with its text answers a reference that is the text alone, and the reverse.
* Two texts are the same up to stops at the end, and plain words also up to articles, punctuation and capitals.
* A text that names a second option names none: ``(C) or (D)``, ``C. 12, D. 13``, ``(C) not D``. Capital letters in the words of
  an option are not options: ``(C) A right triangle``, ``D. I and III only``, ``(B) angle A``, ``(D) Both A and B``.
* A small letter is an option in parentheses, before ``)``, or after "option", "choice" or "answer". A bare ``c`` also answers a
  reference that is a bare ``C``. The reverse is wrong, since a reference ``c`` is a variable. The small i is never an option.
"""

import re
from dataclasses import dataclass

MAX_CHARS = 500  # a longer text is not looked at

_NAMED = (
    r"(?P<named>(?:(?:the|my)\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice)(?:\s+is)?(?:\s*:\s*|\s+)"
    r"(?:(?:option|choice)\s+)?)?"
)
_CLOSED = r"\(\s*(?P<round>[A-Ja-hj])\s*\)|\[\s*(?P<square>[A-J])\s*\]"
_ALONE = re.compile(
    rf"(?i:{_NAMED})(?:{_CLOSED}|(?P<bare>[A-Ja-hj]))\s*(?P<mark>[).:]?)"
    r"(?:\s+is\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice))?\.?)?"
)
_WITH_TEXT = re.compile(
    rf"(?i:{_NAMED})(?:(?:{_CLOSED})\s?[.:]?|(?P<bare>[A-J])\s?[).:]|(?P<small>[a-hj])\))\s+(?P<text>\S.*)", re.DOTALL
)
_FONTS = re.compile(r"\\(?:boldsymbol|bm|mathsf|textsf|mathtt|texttt|mathit|emph|underline)\s*\{([^{}]*)\}|\*\*|`")

# A text that begins so goes on with the letter before it: "or (D)", "= 5".
_GOES_ON = re.compile(
    r"[=*/^·,;&]|[+|](?:\s|$)|\\(?:cdot|times|div|cup|cap|in)(?![a-zA-Z])|\(?\s*(?:and|or|nor|but)\b|not\W*$",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?<![A-Za-z0-9)\]}(])\(\s*[A-Ja-hj]\s*\)|(?<![A-Za-z(\\{])[A-J][).:](?=\s)")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-HJ](?![A-Za-z])")
_HARMLESS = re.compile(
    r"""\bA(?=\s+(?!(?:or|and|nor|but|not)\b)(?:[A-Za-z]{2,}|[0-9]+[-\s][A-Za-z]))   # the article
    | [=<>+\-^_(|]\s*[A-J](?![A-Za-z])                                               # a variable
    | (?<![A-Za-z\\])[A-J](?=[(']|\s*(?:[=<>+\-^_]|\\[a-z]))
    | ^[A-J](?:,\s[A-J])*(?:,?\s(?:and|or)\s[A-J])?(?=\sonly\b)                      # A and B only
    # angle A, both A and B
    | \b(?!(?i:and|or|nor|but|not|no|is|be|maybe|perhaps|possibly|also|then|else|wait|rather|option|choice|answer)\b)
      [A-Za-z]{2,}\s[A-J](?:(?:,\s|,?\s(?:and|or|nor|to)\s)[A-J])*(?![A-Za-z])""",
    re.VERBOSE,
)

_WORDS = re.compile(r"(?:(?:an?|the)\s)?([A-Za-z]{2,}(?:[\s'-][A-Za-z]{2,})*)", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """An option that a text names.

    Attributes:
        letter: as it is written.
        text: what follows it; empty where the letter stands alone.
        bare: whether nothing beside the letter says that it is an option.
    """

    letter: str
    text: str
    bare: bool


def read_choice(text: str) -> Choice | None:
    r"""The option that a text names, or ``None``. The text is without LaTeX that only prints.

    >>> read_choice("The answer is (C)"), read_choice("D. I and III only")
    (Choice(letter='C', text='', bare=False), Choice(letter='D', text='I and III only', bare=False))
    >>> [read_choice(text) for text in ("C or D", "A = 5", "(C) or (D)", "A right triangle", "C: D")]
    [None, None, None, None, None]
    """
    if len(text) > MAX_CHARS:
        return None
    if "\\" in text or "*" in text or "`" in text:
        text = " ".join(_FONTS.sub(r" \1 ", text).split())
    if alone := _ALONE.fullmatch(text):
        closed = alone["round"] or alone["square"]
        return Choice(closed or alone["bare"], "", not (closed or alone["named"] or alone["mark"]))
    if not (option := _WITH_TEXT.fullmatch(text)):
        return None
    letter = option["round"] or option["square"] or option["bare"] or option["small"]
    return Choice(letter, option["text"], False) if _is_its_text(option["text"]) else None


def _is_its_text(text: str) -> bool:
    """Whether what follows a label is the text of that option, and names no other one."""
    text = text.rstrip(" .")
    alone = _ALONE.fullmatch(text)
    if not text or (alone and not text.islower()) or _GOES_ON.match(text) or _LABEL.search(text + " "):
        return False
    return _LETTER.search(_HARMLESS.sub(" ", text)) is None


def same_choice(answer: str, gold: str) -> bool | None:
    r"""Whether two texts name the same option; ``None`` where this is not about options, or where math-verify has to decide.

    >>> same_choice("(C) 12", "C"), same_choice("C", "(C) 12"), same_choice("(C) or (D)", "C"), same_choice("(B) 12", "(C) 12")
    (True, True, None, False)
    """
    left, right = read_choice(answer), read_choice(gold)
    if not left and not right:
        return None
    if not left or not right:
        return _words(left.text if left else answer) == _words(right.text if right else gold) != "" or None
    if left.letter.upper() != right.letter.upper():
        return False if left.text and right.text else None
    if right.bare and right.letter.islower():
        return left.letter == right.letter  # a variable
    if left.text and right.text:
        return _words(left.text) == _words(right.text) or None
    return True


def _words(text: str) -> str:
    """``text`` without the blanks and stops around it; of plain words also without article, capitals and punctuation."""
    words = _WORDS.fullmatch(" ".join(re.sub(r"[.,;:!?]", "", text).split()))
    return words[1].casefold() if words else text.strip(" .,;:")
