r"""Take off what stands around an answer and says nothing about it, on which math-verify's parser of a box fails."""

import re

from verl_efficiency.grading.boxes import open_boxes

_MATH_MODE = re.compile(r"\\\(((?:(?!\\[()]).)*)\\\)|\\\[((?:(?!\\[\[\]]).)*)\\\]", re.DOTALL)
_BEFORE = re.compile(
    r"(?:\\(?:approx|therefore|displaystyle|textstyle|bf|rm|it|tiny|small|large|Large|LARGE|huge|Huge)(?![a-zA-Z])|[=≈]|\s)+"
)
_AFTER = re.compile(r"(?:[\\,;:! ]\\|[,;\s]|\\(?=\s))+")  # of the text turned round, which keeps the time linear
# A text is taken off only where a number begins: its words are for math-verify, which knows \text{east}.
_PRINT = re.compile(
    r"\\(?:boldsymbol|bm|underline|(?:text)?color\s*\{[A-Za-z]+\}|text(?:bf|it|rm)?(?=\s*\{\s*[-+]?\\?\$?\s*\.?[0-9]))"
    r"\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
)
# The letter of an option before its text, as contests print it; where the letter is asked for, see choices.py.
_LABEL = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)|mbox)\s*\{\s*\([A-J]\)\s*\}"
    r"(?:\s|~|\\[,;: ]|\\q?quad(?![a-zA-Z])){0,8}(?=\S)(?!.*(?<![A-Za-z\\])[A-J](?![A-Za-z]))",
    re.DOTALL,
)


def undress(text: str) -> str:
    r"""``text`` without box, math mode or print around it, punctuation behind it, and a sign of equality or a style before it.

    >>> undress(r"\[ 42 \]"), undress("= 42."), undress(r"\approx \large 42"), undress(r"\(3\) or \(4\)"), undress("42...")
    ('42', '42', '42', '\\(3\\) or \\(4\\)', '42...')
    >>> undress(r"\textbf{(C)}\ 42"), undress(r"\textbf{(C)}")
    ('42', '\\textbf{(C)}')
    >>> undress(r"\boldsymbol{\frac{1}{2}}"), undress(r"\text{12 cm}"), undress(r"\text{east}"), undress(r"42, \\ ")
    ('\\frac{1}{2}', '12 cm', '\\text{east}', '42')
    """
    text = open_boxes(text.strip())
    if after := _AFTER.match(text[::-1]):
        text = text[: -after.end()]
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    if math_mode := _MATH_MODE.fullmatch(text):
        text = (math_mode[1] or math_mode[2] or "").strip()
    text = text[before.end() :] if (before := _BEFORE.match(text)) else text
    text = text[label.end() :] if (label := _LABEL.match(text)) else text
    return printed[1].strip() if (printed := _PRINT.fullmatch(text)) else text
