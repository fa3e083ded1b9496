r"""Write an answer as math-verify's parser knows it: signs of Unicode as LaTeX, ``3e8`` as a power of ten, ``12th`` as 12.

Only signs of mathematics. Digits and letters of other scripts stay what they are, and are no answer.
"""

import re

_E_NOTATION = re.compile(r"(?<![0-9A-Za-z.\\_^{])([0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]{1,3})(?![0-9A-Za-z])")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|([0-9]+|[a-zA-Z]))")
_RAISED = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_SIGNS = str.maketrans(
    {"−": "-", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "±": r"\pm ", "°": r"^\circ ", "∞": r"\infty ", "~": " "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset "}
    | {"½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "×": r"\times ", "≈": r"\approx "}
    | {"℃": r"^\circ C"}
    | {"‐": "-", "‑": "-", "‒": "-", "﹣": "-", "－": "-"}
)
_DASH = re.compile("(?<![0-9])[–—]|[–—](?![0-9])")  # between two digits it is a range
_TIMES = re.compile(r"(?<=[0-9])\s?[xX]\s?(?=10\s?\^)")
_ORDINAL = re.compile(
    r"(?<![\w.,/^_{\\])([0-9]{1,15})\s?(?:\^\s?)?(?P<brace>\{\s?)?(?P<text>\\(?:text|mathrm|textsuperscript|mbox)\s?\{\s?)?"
    r"(st|nd|rd|th)(?(text)\s?\})(?(brace)\s?\})(?![\w^])"
)
_NAMES = re.compile(r"\\(?:(degree)|(varnothing)|mathbb\s*([NZQRC]))(?![a-zA-Z])|\\mathrm\s?\{\s?([ie])\s?\}")
# Words in capitals. Without print that says so, short ones may be a product: Rr, abc, XYZ.
_WORD = re.compile(r"(?<![A-Za-z\\])(?:[A-Z]{3,}|([A-Z])(?!(?i:\1))[a-z]{2,}|NO|No)(?![A-Za-z])")
_LONG_WORD = re.compile(
    r"(?<![A-Za-z\\])(?:[A-Z]{5,}|([A-Z])(?!(?i:\1))[a-z]{3,}"
    r"|YES|Yes|NO|No|TRUE|ODD|Odd|EVEN|NONE|BOTH|ZERO|EAST|WEST)(?![A-Za-z])"
)
_VOWEL = re.compile("[AEIOUYaeiouy]")


def spell_out(text: str) -> str:
    r"""``text`` in signs that math-verify reads.

    >>> spell_out("3e8"), spell_out("−2√3"), spell_out("x² ≤ 90°"), spell_out(r"\varnothing"), spell_out(r"\mathbb R")
    ('3\\times 10^{8}', '-2\\sqrt{3}', 'x^{2} \\le  90^\\circ ', '\\emptyset ', '\\mathbb{R}')
    """
    if not text.isascii():
        text = _ROOT.sub(lambda root: f"\\sqrt{{{root[1] or root[2]}}}", text)
        text = _RAISED.sub(lambda raised: f"^{{{raised[0].translate(_LOWERED)}}}", text)
        text = _DASH.sub("-", text)
    if "\\" in text:
        text = _NAMES.sub(_known, text)
    text = _ORDINAL.sub(_cardinal, _TIMES.sub(r"\\times ", text))
    return _E_NOTATION.sub(r"\1\\times 10^{\2}", text.translate(_SIGNS))


def _known(name: re.Match[str]) -> str:
    if name[4]:
        return f" {name[4]} "  # math-verify takes it for a unit
    return r"^\circ " if name[1] else r"\emptyset " if name[2] else f"\\mathbb{{{name[3]}}}"


def _cardinal(ordinal: re.Match[str]) -> str:
    digits, suffix = ordinal[1], ordinal[4]
    right = "th" if digits[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")
    return digits if suffix == right else ordinal[0]


def fold_words(text: str, *, printed: bool = True) -> str:
    r"""``text`` with its words in small letters. Letters of a formula stay as they are.

    Args:
        text: without commands around the words.
        printed: the text stands in ``\text{…}``. If not, a short word may be a product of letters.

    >>> fold_words("YES"), fold_words("Tuesday"), fold_words("Mm"), fold_words("AB"), fold_words("mMa")
    ('yes', 'tuesday', 'Mm', 'AB', 'mMa')
    >>> fold_words("Tom"), fold_words("Tom", printed=False), fold_words("ABC", printed=False)
    ('tom', 'Tom', 'ABC')
    """
    words = _WORD if printed else _LONG_WORD
    return words.sub(lambda word: word[0].lower() if _VOWEL.search(word[0]) else word[0], text)
