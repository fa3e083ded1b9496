r"""Take off what stands around an answer and says nothing about it, on which math-verify's parser of a box fails."""

import re

_MATH_MODE = re.compile(r"\\\(((?:(?!\\[()]).)*)\\\)|\\\[((?:(?!\\[\[\]]).)*)\\\]", re.DOTALL)
_BEFORE = re.compile(
    r"(?:\\(?:approx|therefore|displaystyle|textstyle|bf|rm|it|tiny|small|large|Large|LARGE|huge|Huge)(?![a-zA-Z])|=|\s)+"
)


def undress(text: str) -> str:
    r"""``text`` without math mode around it, a full stop behind it, and a sign of equality or a style before it.

    >>> undress(r"\[ 42 \]"), undress("= 42."), undress(r"\approx \large 42"), undress(r"\(3\) or \(4\)"), undress("42...")
    ('42', '42', '42', '\\(3\\) or \\(4\\)', '42...')
    """
    text = text.strip()
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    if math_mode := _MATH_MODE.fullmatch(text):
        text = (math_mode[1] or math_mode[2] or "").strip()
    return text[before.end() :] if (before := _BEFORE.match(text)) else text
