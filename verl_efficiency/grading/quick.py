r"""Decide the easy comparisons in microseconds, without symbolic work. :func:`quick_equal` tries, in this order:

1. two integers;
2. the same text, up to layout, fonts, needless braces, and the capitals and article of words;
3. the same option of a multiple choice, see :func:`same_choice`;
4. two plain numbers, see :func:`read_number`;
5. two integers written with their base, such as ``52_8``;
6. two names of the same letters, such as ``ABC`` and ``ACB``.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from verl_efficiency.grading.words import is_noun

MAX_CHARS = 500  # limit for an answer or a reference; a longer text equals only the same text

# The next three are used inside other patterns. LaTeX that prints a blank: "\,", "~", "\quad".
SPACE = r"\s|~|\\[,;: ]|\\q?quad(?![a-zA-Z])"
# Dots: "\ldots", "...".
DOTS = r"(?:\\(?:[lcv]?dots|dots[bcimo])(?![a-zA-Z])|\.{3,}|[…⋯])"
# LaTeX that sets words or upright letters: the "\text" of "\text{east}".
PRINT = r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)|mbox)"

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_COMMAND = re.compile(r"\\[a-zA-Z]+(?:\{th\})?")  # "\displaystyle" has no content
_CONTENT = re.compile(r"[^\W_]")  # a letter or digit of any script
# A number with its base: 1f_{16}, (101)_2, 101_{\text{two}}.
_IN_BASE = re.compile(
    r"(?P<round>\(\s*)?(?P<digits>[0-9][0-9A-Za-z]*)\s*(?(round)\)\s*)_\s*"
    r"(?:(?P<short>[0-9]{1,2})|[{(]{1,2}\s*(?P<base>[0-9]{1,2}|[a-z]+)\s*[})]{1,2})"
)
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_BASES |= {"twelve": 12, "sixteen": 16}
_LAYOUT = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\!|(?<!\\)\$")  # the "\left" of "\left(3, 4\right)"
_SPACE = re.compile(rf"(?:{SPACE})+")
_TEXT = re.compile(rf"(?:{PRINT}|\\operatorname)\s*\{{([^{{}}]*)\}}")  # \text{east} → east
_NEEDLESS_BRACES = re.compile(r"([_^])\s*\{\s*([0-9A-Za-z])\s*\}")  # E_{1} → E_1
# Residues: \pmod{4}, (\mod 4), ( mod 4).
_MODULO = re.compile(r"(?:\(\s*)?(?<![A-Za-z])\\?[pb]?mod(?![a-z])\s*(?:\{\s*(\w+)\s*\}|(\w+))\s*\)?")
_ARTICLE = re.compile(r"^(?:an?|the) (?=[a-z]{4})", re.IGNORECASE)
_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})*")  # a text of words only: "not enough"
_LOOSE_SPACE = re.compile(r" (?![0-9A-Za-z])|(?<![0-9A-Za-z]) ")  # a blank that does not separate words: "x + 1"


def quick_equal(answer: str, gold: str) -> bool | None:
    r"""Whether two answers are equal, or ``None`` where only a slower comparison can tell.

    >>> quick_equal("1,000", "1000"), quick_equal("0.5", "1/2"), quick_equal("41", "42"), quick_equal("x + 1", "1 + x")
    (True, True, False, None)
    >>> quick_equal(r"\left( 3, \dfrac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"), quick_equal("52_8", "52_{9}")
    (True, False)
    """
    answer, gold = answer.strip(), gold.strip()
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return int(answer) == int(gold)
    if answer == gold or same_text(answer, gold):
        return True if _CONTENT.search(_COMMAND.sub("", gold)) else None
    if (same := same_choice(_plain(answer), _plain(gold))) is not None:
        return same
    left, right = read_number(answer), read_number(gold)
    if left and right:
        return same_number(left, right)
    if (same := _same_in_base(answer, gold)) is not None:
        return same
    return False if _in_another_order(answer, gold) else None


def every(verdicts: Collection[bool | None]) -> bool | None:
    """Three-valued *and*: ``False`` where one verdict is ``False``, else ``None`` where one is ``None``, else ``True``."""
    return False if False in verdicts else None if None in verdicts else True


def some(verdicts: Collection[bool | None]) -> bool | None:
    """Three-valued *or*: ``True`` where one verdict is ``True``, else ``None`` where one is ``None``, else ``False``."""
    return True if True in verdicts else None if None in verdicts else False


def same_elements(
    golds: Iterable[Any], answers: Iterable[Any], equal: Callable[[Any, Any], bool | None]
) -> bool | None:
    """Whether references and answers are equal in pairs, in any order; ``None`` where ``equal`` does not decide."""
    left = list(answers)
    for gold in golds:
        verdicts = [equal(gold, other) for other in left]
        if True not in verdicts:
            return some(verdicts)
        del left[verdicts.index(True)]
    return True


def same_text(answer: str, gold: str) -> bool:
    """Whether two texts are the same, up to layout and fonts. Texts of words may also differ in capitals and article."""
    left, right = (_ARTICLE.sub("", _LOOSE_SPACE.sub("", _plain(text))) for text in (answer, gold))
    if _WORDS.fullmatch(left) and _WORDS.fullmatch(right):
        printed = _TEXT.search(answer + gold) is not None
        return fold_words(left, printed=printed) == fold_words(right, printed=printed)
    return left == right


@lru_cache(maxsize=8)  # one comparison calls it several times
def _plain(text: str) -> str:
    """``text`` without layout and fonts, with single spaces."""
    text = re.sub(r"\\[dtc]frac", r"\\frac", _LAYOUT.sub("", text))
    text = _NEEDLESS_BRACES.sub(r"\1\2", _TEXT.sub(r" \1 ", text))
    if "mod" in text:
        text = _MODULO.sub(lambda found: rf" \pmod {found[1] or found[2]} ", text)
    return _SPACE.sub(" ", text).strip()


# Words with capitals: "Monday", "YES".
_WORD = re.compile(r"(?<![A-Za-z\\])(?:[A-Z]{3,}|([A-Z])(?!(?i:\1))[a-z]{2,}|NO|No)(?![A-Za-z])")
# The same outside of \text{}, where a short one may be a product of letters: "Rr", "abc", "XYZ".
_LONG_WORD = re.compile(
    r"(?<![A-Za-z\\])(?:[A-Z]{5,}|([A-Z])(?!(?i:\1))[a-z]{3,}"
    r"|YES|Yes|NO|No|TRUE|ODD|Odd|EVEN|NONE|BOTH|ZERO|EAST|WEST)(?![A-Za-z])"
)
_VOWEL = re.compile("[AEIOUYaeiouy]")


def fold_words(text: str, *, printed: bool = True) -> str:
    r"""``text`` with its words in lower case. Letters of a formula keep their case.

    Args:
        text: without commands around the words.
        printed: the text is in ``\text{…}``. If not, a short word may be a product of letters.

    >>> fold_words("YES"), fold_words("Tuesday"), fold_words("Mm"), fold_words("AB"), fold_words("mMa")
    ('yes', 'tuesday', 'Mm', 'AB', 'mMa')
    >>> fold_words("Tom"), fold_words("Tom", printed=False), fold_words("ABC", printed=False)
    ('tom', 'Tom', 'ABC')
    """
    words = _WORD if printed else _LONG_WORD
    return words.sub(lambda word: word[0].lower() if _VOWEL.search(word[0]) else word[0], text)


_MAX_NUMBER = 64  # characters; keeps exact arithmetic cheap
_FRACTION = re.compile(r"\\[dtc]frac")
_NUMBER = re.compile(
    r"""(?:\\?\$)?\s*(?P<sign>[-+]?)\s*(?:\\?\$)?\s*(?:
      (?P<thousands>[1-9][0-9]{0,2}(?:(?:,|\s|~|\\[,;\ ])[0-9]{3})+)(?P<thousandths>\.[0-9]+)?    # 1,024.50
    | (?P<fixed>[0-9]*\.[0-9]*)\\overline\s*\{\s*(?P<repeating>[0-9]+)\s*\}                       # 0.1\overline{6}
    | (?P<plain>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)                                                     # 3.5, 3e8, 3\times 10^{8}
      (?:(?:[eE]|\s*\\(?:times|cdot)\s*10\s*\^\s*(?P<brace>\{)?\s*)(?P<exponent>[-+]?[0-9]{1,3})\s*(?(brace)\}))?
    | (?P<whole>[0-9]+)?\s*\\frac\s*(?:                                                           # 1\frac{1}{2}, \frac12
        \{\s*(?P<top>-?[0-9]+)\s*\}\s*\{\s*(?P<bottom>[0-9]+)\s*\} | (?P<digit_top>[0-9])\s*(?P<digit_bottom>[0-9]))
    | (?:(?P<whole_slash>[0-9]+)\s+)?(?P<over>[0-9]+)\s*/\s*(?P<under>[0-9]+)                     # 1 1/2
    )\s*(?P<percent>\\?%)?\s*\.?\s*\$?""",
    re.VERBOSE,
)
_SEPARATORS = re.compile(r"[,\s~\\;]")  # the comma of 1,024


@dataclass(frozen=True)
class Number:
    """A plain number.

    Attributes:
        value: as written, without the percent sign.
        decimal: it has a decimal point or a power of ten.
        percent: a percent sign follows.
    """

    value: Fraction
    decimal: bool
    percent: bool

    @property
    def worth(self) -> Fraction:
        """The value with the percent sign: a half for 50%."""
        return self.value / 100 if self.percent else self.value


@lru_cache(maxsize=4096)
def read_number(text: str) -> Number | None:
    r"""The number that ``text`` is, or ``None``. The value is exact. Only ASCII digits count.

    >>> read_number(r"-1\frac{1}{2}").value, read_number("1,024.50").value, read_number("3x")
    (Fraction(-3, 2), Fraction(2049, 2), None)
    """
    if len(text) > _MAX_NUMBER:
        return None
    text = text.replace("\\!", "").replace("{,}", ",").replace("\N{MINUS SIGN}", "-")
    match = _NUMBER.fullmatch(_FRACTION.sub(r"\\frac", text.strip()))
    value = _value(match) if match else None
    if match is None or value is None:
        return None
    return Number(
        -value if match["sign"] == "-" else value,
        decimal="." in (match["plain"] or match["thousandths"] or "") or match["exponent"] is not None,
        percent=match["percent"] is not None,
    )


def _value(match: re.Match[str]) -> Fraction | None:
    """The value of a match of ``_NUMBER`` without its sign; ``None`` for ``1/0``."""
    if match["thousands"]:
        return Fraction(_SEPARATORS.sub("", match["thousands"]) + (match["thousandths"] or ""))
    if match["repeating"]:
        whole, _, places = match["fixed"].partition(".")
        period = match["repeating"]
        shifted = int(whole + places + period) - int(whole + places or 0)
        return Fraction(shifted, 10 ** len(places) * (10 ** len(period) - 1))
    if match["plain"]:
        return Fraction(match["plain"]) * Fraction(10) ** int(match["exponent"] or 0)
    top = int(match["top"] or match["digit_top"] or match["over"])
    bottom = int(match["bottom"] or match["digit_bottom"] or match["under"])
    whole = int(match["whole"] or match["whole_slash"] or 0)
    return None if bottom == 0 or (whole and top < 0) else whole + Fraction(top, bottom)


def same_number(answer: Number, gold: Number) -> bool | None:
    """Whether two numbers are equal; ``None`` where they differ by no more than rounding."""
    if answer.percent != gold.percent:
        return _same_percentage(answer, gold)
    difference, scale = abs(answer.value - gold.value), max(abs(answer.value), abs(gold.value))
    if difference == 0:
        return True
    # math-verify compares decimals to six places, which is too coarse for values below about 1e-6.
    if (answer.decimal or gold.decimal) and difference < max(Fraction(2, 10**6), scale / 10**12):
        return None if difference < scale / 1000 else False
    return False


def _same_percentage(answer: Number, gold: Number) -> bool:
    """50% equals 0.5, and also 50. Exception: the answer 50% does not equal a decimal reference such as 50.0."""
    part, plain = (answer, gold) if answer.percent else (gold, answer)
    if part.value == 100 * plain.value:
        return True
    return part.value == plain.value and (gold.percent or not plain.decimal)


def _same_in_base(answer: str, gold: str) -> bool | None:
    """``52_8`` equals ``52_8``, and also ``52``. ``59_8`` does not equal ``59``: base 8 has no digit 9."""
    left, right = _in_base(answer), _in_base(gold)
    if left and right:
        return left == right
    if left and _INTEGER.fullmatch(gold):
        digits, base = left
        return digits == gold and 2 <= base <= 36 and all(int(digit, 36) < base for digit in digits)
    if right and _INTEGER.fullmatch(answer):
        return right[0] == answer
    return None


def _in_base(text: str) -> tuple[str, int] | None:
    """The digits and the base of a number that is written with its base."""
    number = _IN_BASE.fullmatch(_plain(text))
    if not number:
        return None
    written = number["short"] or number["base"]
    base = int(written) if written.isdigit() else _BASES.get(written)
    return (number["digits"].lower(), base) if base is not None else None


# A name of letters: "ABC", "A B C", "\angle ABC", "listen".
_LETTERS = re.compile(
    r"(?:m?\s?\\(?:(?P<angle>angle)|(?P<triangle>triangle))(?![A-Za-z]))?\s?\{?\s?(?P<name>[A-Z](?: [A-Z])+|[A-Za-z]+)\s?\}?"
)
_ROMAN = frozenset(("IV", "VI", "IX", "XI", "XL", "LX", "XC", "CX"))  # short numerals that differ only in their order


def _in_another_order(answer: str, gold: str) -> bool:
    """Whether two names have the same letters in an order that makes them different: ``XIV`` is not ``XVI``.

    Order counts in three capitals or more, in Roman numerals, and in words of four letters or more. The angle ``ABC`` is
    ``CBA``, and the triangle ``ABC`` is ``BCA``. All other letters are products: ``mgh`` is ``hgm``, and the segment ``AB``
    is ``BA``.
    """
    left, right = _LETTERS.fullmatch(_plain(answer)), _LETTERS.fullmatch(_plain(gold))
    if not left or not right:
        return False
    name, other = left["name"].replace(" ", ""), right["name"].replace(" ", "")
    if name == other or sorted(name) != sorted(other):
        return False
    same_angle = name == other[::-1] and (left["angle"] or right["angle"])
    if same_angle or left["triangle"] or right["triangle"]:
        return False
    capitals = len(name) > 2 and (name + other).isupper()
    return capitals or {name, other} <= _ROMAN or (len(name) > 3 and is_noun(left["name"]) and is_noun(right["name"]))


# What may stand before the letter: "The correct answer is", "Option".
_NAMED = (
    r"(?P<named>(?:(?:the|my)\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice)(?:\s+is)?(?:\s*:\s*|\s+)"
    r"(?:(?:option|choice)\s+)?)?"
)
_CLOSED = r"\(\s*(?P<round>[A-Ja-hj])\s*\)|\[\s*(?P<square>[A-J])\s*\]"  # (C), [C]
# A letter and nothing else: "C", "(C)", "Option C is correct".
_ALONE = re.compile(
    rf"(?i:{_NAMED})(?:{_CLOSED}|(?P<bare>[A-Ja-hj]))\s*(?P<mark>[).:]?)"
    r"(?:\s+is\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice))?\.?)?"
)
# A letter and the text of its option: "(C) A right triangle", "C. 12".
_WITH_TEXT = re.compile(
    rf"(?i:{_NAMED})(?:(?:{_CLOSED})\s?[.:]?|(?P<bare>[A-J])\s?[).:]|(?P<small>[a-hj])\))\s+(?P<text>\S.*)", re.DOTALL
)
_FONTS = re.compile(
    r"\\(?:boldsymbol|bm|mathsf|textsf|mathtt|texttt|mathit|emph|underline)\s*\{([^{}]*)\}|\*\*|`"
)  # **C**

# Text after a letter that shows that the letter is not a label: "or (D)", "= 5".
_GOES_ON = re.compile(
    r"[=*/^·,;&]|[+|](?:\s|$)|\\(?:cdot|times|div|cup|cap|in)(?![a-zA-Z])|\(?\s*(?:and|or|nor|but)\b|not\W*$",
    re.IGNORECASE,
)
# A second label in the text: the "(D)" of "12 or (D) 13".
_LABEL = re.compile(r"(?<![A-Za-z0-9)\]}(])\(\s*[A-Ja-hj]\s*\)|(?<![A-Za-z(\\{])[A-J][).:](?=\s)")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-HJ](?![A-Za-z])")  # a capital alone, which may name a second option
# Single capitals that do not name an option: "A right triangle", "A = 5", "A and B only", "angle A".
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
_PHRASE = re.compile(r"(?:(?:an?|the)\s)?([A-Za-z]{2,}(?:[\s'-][A-Za-z]{2,})*)", re.IGNORECASE)  # "A right triangle"


@dataclass(frozen=True)
class Choice:
    """An option that a text names.

    Attributes:
        letter: the letter as written.
        text: the text after the letter, or empty.
        bare: the letter stands alone, without a bracket, mark or word that makes it an option.
    """

    letter: str
    text: str
    bare: bool


def read_choice(text: str) -> Choice | None:
    r"""The option that a text names, or ``None``.

    An option is a letter from A to J, alone or before its text. Before a text it must look like a label: in brackets, or
    followed by ``)``, ``.`` or ``:`` and a blank. A lower-case letter needs brackets, a ``)``, or "option" before it. The
    letter i is never an option. A text that names two options is not read as an option.

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
    """Whether what follows a label is the text of that option and names no other option."""
    text = text.rstrip(" .")
    alone = _ALONE.fullmatch(text)
    if not text or (alone and not text.islower()) or _GOES_ON.match(text) or _LABEL.search(text + " "):
        return False
    return _LETTER.search(_HARMLESS.sub(" ", text)) is None


def same_choice(answer: str, gold: str) -> bool | None:
    r"""Whether two texts name the same option; ``None`` where neither names one, or where their texts need a closer look.

    * A letter equals the same letter with a text: ``C`` and ``(C) 12``.
    * A letter with a text equals the text: ``(C) a circle`` and ``circle``.
    * Two letters with texts are equal if letters and texts are equal. Different letters are wrong, even with the same text.
    * The answer ``c`` equals the reference ``C``. But the reference ``c`` is a variable, and the answer ``C`` is wrong.

    >>> same_choice("(C) 12", "C"), same_choice("C", "(C) 12"), same_choice("(C) or (D)", "C"), same_choice("(B) 12", "(C) 12")
    (True, True, None, False)
    """
    left, right = read_choice(answer), read_choice(gold)
    if not left and not right:
        return None
    if not left or not right:
        return _phrase(left.text if left else answer) == _phrase(right.text if right else gold) != "" or None
    if left.letter.upper() != right.letter.upper():
        return False if left.text and right.text else None
    if right.bare and right.letter.islower():
        return left.letter == right.letter  # a variable
    if left.text and right.text:
        return _phrase(left.text) == _phrase(right.text) or None
    return True


def _phrase(text: str) -> str:
    """``text`` without blanks and punctuation around it. Plain words also lose article, punctuation and capitals."""
    words = _PHRASE.fullmatch(" ".join(re.sub(r"[.,;:!?]", "", text).split()))
    return words[1].casefold() if words else text.strip(" .,;:")
