r"""Prepare an answer for math-verify, and refuse what it would misread.

:func:`undress` removes what stands around an answer. :func:`spell_out` writes Unicode signs, ``3e8`` and ``12th`` as LaTeX.
:func:`misread` finds answers of which math-verify reads only a part, or something else than is written: it strips a trailing
``\text{…}`` as a unit whatever it says, reads ``3 4`` as the mixed number 7, drops the subscript of a number, and takes one
side of ``3 = 4``. Without this check, an answer that names two candidates can earn a reward.
"""

import re
from fractions import Fraction
from unicodedata import normalize

from verl_efficiency.grading.extract import open_boxes
from verl_efficiency.grading.quick import DOTS, MAX_CHARS, PRINT, SPACE, read_number
from verl_efficiency.grading.words import DENIALS

_MATH_MODE = re.compile(r"\\\(((?:(?!\\[()]).)*)\\\)|\\\[((?:(?!\\[\[\]]).)*)\\\]", re.DOTALL)  # \( 42 \), \[ 42 \]
_BEFORE = re.compile(  # "= 42", "\approx 42", "\large 42"
    r"(?:\\(?:approx|therefore|displaystyle|textstyle|bf|rm|it|tiny|small|large|Large|LARGE|huge|Huge)(?![a-zA-Z])|[=≈]|\s)+"
)
_AFTER = re.compile(
    r"(?:[\\,;:! ]\\|[,;\s]|\\(?=\s))+"
)  # "42, \\"; matched on the reversed text, which keeps time linear
# "\boldsymbol{x}", "\textcolor{red}{x}"; a \text{} only before a number, because math-verify knows words such as \text{east}.
_AROUND = re.compile(
    r"\\(?:boldsymbol|bm|underline|(?:text)?color\s*\{[A-Za-z]+\}|text(?:bf|it|rm)?(?=\s*\{\s*[-+]?\\?\$?\s*\.?[0-9]))"
    r"\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
)
_COLOUR = re.compile(r"\{?\s*\\color\s*\{[A-Za-z]+\}\s*")  # "\color{red}42", "{\color{red}{42}}"
_MARKDOWN = re.compile(r"(\*{1,3}|_{1,3}|`+)(?=[^*_`])(.*[^*_`])\1", re.DOTALL)  # **42**
# At the end of a proof.
_MARKS = ("\\checkmark", "\\blacksquare", "\\square", "\\Box", "\\qed", "✓", "✔", "■", "□", "∎")
# The letter of an option before its text, as contests print it: "\textbf{(C)}\ 42".
_LABEL = re.compile(
    rf"{PRINT}\s*\{{\s*\([A-J]\)\s*\}}(?:{SPACE}){{0,8}}(?=\S)(?!.*(?<![A-Za-z\\])[A-J](?![A-Za-z]))", re.DOTALL
)
# What leads to an answer and is not part of it: "The answer is", "\text{Answer: }", "There are", "\text{Therefore, }".
_ANSWER = r"(?:(?:so|thus|hence|therefore)[\s,:]+)?(?:(?:the|my)\s+)?(?:(?:final|correct)\s+)?(?:answer|ans)\b"
_LEADING = rf"(?:{_ANSWER}(?:\s+is\b|\s*[:=])[\s:]*|(?:there\s+(?:is|are)|thus|hence|therefore)\b[\s,:]*)"
_LEAD_IN = re.compile(
    rf"(?:{PRINT}\s*\{{\s*(?:{_LEADING}|{_ANSWER})\s*\}}(?:{SPACE}|[:=])*|(?P<print>{PRINT}\s*\{{)?\s*{_LEADING})(?=[^\s}}])",
    re.IGNORECASE,
)


def undress(text: str) -> str:
    r"""``text`` without box, math mode or font around it, the punctuation after it, and ``=``, "Answer:" or a style before it.

    >>> undress(r"\[ 42 \]"), undress("= 42."), undress(r"\approx \large 42"), undress(r"\(3\) or \(4\)"), undress("42...")
    ('42', '42', '42', '\\(3\\) or \\(4\\)', '42...')
    >>> undress(r"\textbf{(C)}\ 42"), undress(r"\textbf{(C)}")
    ('42', '\\textbf{(C)}')
    >>> undress(r"\boldsymbol{\frac{1}{2}}"), undress(r"\text{12 cm}"), undress(r"\text{east.}"), undress(r"42, \\ ")
    ('\\frac{1}{2}', '12 cm', '\\text{east}', '42')
    >>> undress("The answer is 42"), undress(r"\text{Answer: } 42"), undress(r"\text{There are 42}"), undress("the answer")
    ('42', '42', '42', 'the answer')
    >>> undress("**42**"), undress(r"{\color{red}{42}}"), undress(r"42 \checkmark"), undress(r"\underline{\underline{42}}")
    ('42', '42', '42', '42')
    """
    text = open_boxes(text.translate(_PUNCTUATION_MARKS).strip())
    if marked := _MARKDOWN.fullmatch(text):
        text = marked[2].strip()
    if text.endswith(_MARKS) and text not in _MARKS:
        text = text.removesuffix(next(filter(text.endswith, _MARKS))).rstrip()
    if coloured := _COLOUR.match(text):
        opened, text = coloured[0].startswith("{"), text[coloured.end() :].strip()
        text = text.removesuffix("}").strip() if opened else text
        text = text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text
    if lead_in := _LEAD_IN.match(text):
        text = (lead_in["print"] or "") + text[lead_in.end() :]
    if after := _AFTER.match(text[::-1]):
        text = text[: -after.end()]
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    if text.endswith(".}") and not text.endswith("..}"):
        text = text[:-2] + "}"
    if math_mode := _MATH_MODE.fullmatch(text):
        text = (math_mode[1] or math_mode[2] or "").strip()
    for before in (_BEFORE, _LABEL):
        text = text[found.end() :] if (found := before.match(text)) else text
    while around := _AROUND.fullmatch(text):
        text = around[1].strip()
    return text


_E_NOTATION = re.compile(r"(?<![0-9A-Za-z.\\_^{])([0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]{1,3})(?![0-9A-Za-z])")  # 2.5e-3
_INSIDE = r"(?:[^()]|\((?:[^()]|\([^()]*\))*\))*"  # of parentheses, with at most two levels of parentheses
_ROOT = re.compile(  # √3, √(x+1), sqrt(3), sqrt 3, \sqrt(3)
    rf"(?:(?P<sign>[√∛∜])|(?<![A-Za-z\\])sqrt)\s*(?:\(({_INSIDE})\)|([0-9]+|[a-zA-Z]|\\pi(?![a-zA-Z]))|(?=\{{))|\\sqrt\s*\(({_INSIDE})\)"
)
# Names that plain text and programs write without a backslash: sin(x), 2*pi. As "sec" is a unit, it needs an argument.
_FUNCTION = r"(?:arc)?(?:sin|cos|tan|cot|csc)h?|ln|log|exp"
_PLAIN_NAME = re.compile(
    rf"(?P<print>{PRINT}\s*\{{(?!\s*(?:{_FUNCTION})\s*\}})[^{{}}]*\}})|\\(?:operatorname|mathrm)\s*\{{\s*(?P<upright>{_FUNCTION})\s*\}}"
    rf"|(?<![A-Za-z\\])(?P<plain>{_FUNCTION}|sec(?=\()|pi|alpha|beta|gamma|delta|theta|lambda|sigma|omega|phi)(?![A-Za-z])"
)
_POWER = re.compile(  # x**2; but not the bold print of **4**
    rf"(?<=[0-9A-Za-z)\]}}])(?:\*\*|\s\*\*\s)(\({_INSIDE}\)|-?(?:[0-9]+(?:\.[0-9]+)?|[A-Za-z]))"
)
_RAISED = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")  # the exponent of 10⁻³
_SUNK = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")  # the index of x₁
_LEVEL = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "-01234567890123456789")
_SIGN_IN_TEXT = re.compile(rf"{PRINT}\s*\{{\s*\\?([$%€£¥₹₩])\s*\}}")  # \text{€}12
# Punctuation of Chinese and Japanese texts. Digits of other scripts stay as they are.
_PUNCTUATION_MARKS = str.maketrans("（）［］，、；：＝＋＜＞％。．", "()[],,;:=+<>%..")
_SIGNS = str.maketrans(  # signs of mathematics only; digits of other scripts stay as they are
    {"−": "-", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "±": r"\pm ", "°": r"^\circ ", "∞": r"\infty ", "~": " "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset "}
    | {"×": r"\times ", "≈": r"\approx ", "℃": r"^\circ C", "⁄": "/", "\N{OHM SIGN}": "Ω"}
    | {sign: rf"\frac{{{normalize('NFKC', sign).replace('⁄', '}{')}}}" for sign in "½¼¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
    | dict.fromkeys("‐‑‒﹣－", "-")
)
_DASH = re.compile("(?<![0-9])[–—]|[–—](?![0-9])")  # the minus of "–5"; between two digits, a dash is a range
_TIMES = re.compile(r"(?<=[0-9])\s?[xX]\s?(?=10\s?\^)")  # the x of "3 x 10^8"
_ORDINAL = re.compile(  # 12th, 12^{\text{th}}
    r"(?<![\w.,/^_{\\])([0-9]{1,15})\s?(?:\^\s?)?(?P<brace>\{\s?)?(?P<text>\\(?:text|mathrm|textsuperscript|mbox)\s?\{\s?)?"
    r"(st|nd|rd|th)(?(text)\s?\})(?(brace)\s?\})(?![\w^])"
)
_NAMES = re.compile(
    r"\\(?:(degree)|(varnothing)|mathbb\s*([NZQRC]))(?![a-zA-Z])|\\mathrm\s?\{\s?([ie])\s?\}"
)  # \mathbb R
# A decimal with a period: 0.1\overline{6}, 0.\dot{3}, 0.(3), 0.\dot{1}4285\dot{7}, 0.333\ldots. Dots mean a period where they
# follow one digit three times, or digits that repeat from the point on; not in 2.718281828\ldots.
_PERIOD = re.compile(
    rf"""(?<![0-9.])(?P<fixed>[0-9]{{1,40}}\.[0-9]{{0,40}}?)(?:
      (?P<marked>\\dot\s*\{{?[0-9]\}}?[0-9]{{0,40}}\\dot\s*\{{?[0-9]\}}?
      | \\(?:overline|bar|dot)\s*(?:\{{\s*[0-9]{{1,40}}\s*\}}|[0-9])
      | \([0-9]{{1,40}}\))
    | (?:(?P<digit>[0-9])(?P=digit){{2,40}}|(?<=\.)(?P<digits>[0-9]{{2,20}}?)(?P=digits){{1,20}}){DOTS}
    )(?![0-9]|\s*\^)""",
    re.VERBOSE,
)
_VARIANT = re.compile(r"\\var(?=(?:epsilon|theta|kappa|rho|sigma|phi)(?![a-zA-Z]))")  # \varphi: another print of \phi
_LOG = re.compile(r"\\log(?![a-zA-Z])")
_WITH_BASE = re.compile(r"\\log\s*_")
_BASE_10 = re.compile(r"\\lg(?![a-zA-Z])")
_VECTOR = re.compile(r"\\langle(?![a-zA-Z])([^|]*?,[^|]*?)\\rangle(?![a-zA-Z])")  # \langle 1, 2\rangle
# Between two values of letters: x = 3 \lor x = 5, "x=3 \\ y=5", one in each line.
_VALUE_OF = r"(?:[A-Za-z]|\\(?:alpha|beta|gamma|theta|lambda|mu|phi|omega)(?![a-zA-Z]))(?:_\{?[0-9A-Za-z]\}?)?\s*=(?!=)"
_ASSIGNMENT = re.compile(rf"\$?\s*(?P<letter>{_VALUE_OF})")
_BETWEEN = re.compile(
    rf"(?:{SPACE}|\$)*(?:\\(?:lor|vee|land|wedge|q?quad)(?![a-zA-Z])|\\\\|[\n∨∧])(?:{SPACE}|\$)*(?={_VALUE_OF})"
)
_OTHER_RELATION = re.compile(r"[<=,;:|&]|\\(?:leq?(?:slant)?|lt|text|mid)(?![a-zA-Z])")
_LARGER = re.compile(r"(>|\\(?:geq?(?:slant)?|gt)(?![a-zA-Z])\s*)")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])\s*")
_BRACES = re.compile(r"((?:\\left\s*)?\\\{)((?:(?!\\\{).)*?)((?:\\right\s*)?\\\})", re.DOTALL)  # \{1, 2\}
_PUNCTUATION = re.compile(
    r"\\(?:[a-zA-Z]+|.)|[()\[\]{}]|[,;](?![0-9]{3}(?![0-9]))", re.DOTALL
)  # not the comma of 1,000


def spell_out(text: str) -> str:
    r"""``text`` in signs that math-verify reads.

    >>> spell_out(r"0.1\overline{6}x"), spell_out("0.(3)"), spell_out(r"0.333\ldots"), spell_out("0.33")
    ('\\frac{1}{6}x', '\\frac{1}{3}', '\\frac{1}{3}', '0.33')
    >>> spell_out("3e8"), spell_out("−2√3"), spell_out("x² ≤ 90°"), spell_out(r"\varnothing"), spell_out(r"\mathbb R")
    ('3\\times 10^{8}', '-2\\sqrt{3}', 'x^{2} \\le  90^\\circ ', '\\emptyset ', '\\mathbb{R}')
    >>> spell_out(r"\frac{1±\sqrt5}{2}"), spell_out("2*pi + sqrt(3)"), spell_out("sin(x)**2")
    ('\\frac{1+\\sqrt5}{2},\\frac{1-\\sqrt5}{2}', '2*\\pi + \\sqrt{3}', '\\sin(x)^{2}')
    """
    text = _with_commas(text)
    text = _ROOT.sub(_root, _POWER.sub(r"^{\1}", _PLAIN_NAME.sub(_command, text)))
    if not text.isascii():
        text = _RAISED.sub(lambda raised: f"^{{{raised[0].translate(_LEVEL)}}}", text)
        text = _SUNK.sub(lambda sunk: f"_{{{sunk[0].translate(_LEVEL)}}}", text)
        text = _DASH.sub("-", text)
    if "\\" in text:
        text = _VARIANT.sub(r"\\", _NAMES.sub(_known, text))
        text = _VECTOR.sub(r"(\1)", _BASE_10.sub(r"\\log_{10} ", text))
        text = _SIGN_IN_TEXT.sub(lambda sign: f"\\{sign[1]}" if sign[1].isascii() else sign[1], text)
    if "." in text:
        text = _PERIOD.sub(_as_fraction, text)
    text = _ORDINAL.sub(_cardinal, _TIMES.sub(r"\\times ", text))
    text = _E_NOTATION.sub(r"\1\\times 10^{\2}", text.translate(_SIGNS))
    return _both_signs(text) if _PLUS_MINUS.search(text) else _ascending(text)


def _with_commas(text: str) -> str:
    r"""``text`` with commas between the values of letters.

    >>> _with_commas(r"x=3 \lor x=5"), _with_commas("$x=3$\n$y=5$"), _with_commas(r"P(A \lor x=5)")
    ('x=3, x=5', 'x=3, y=5', 'P(A \\lor x=5)')
    """
    if len(text) > MAX_CHARS or not _ASSIGNMENT.match(text) or "\\begin" in text or not _BETWEEN.search(text):
        return text
    return _BETWEEN.sub(", ", text).strip("$")


def natural_logarithms(answer: str, gold: str) -> tuple[str, str]:
    r"""Both texts with ``\ln`` for ``\log``, where one has only ``\log`` without a base, and the other only ``\ln``.

    Many references write ``\log`` for the natural logarithm. Elsewhere its base is 10.

    >>> natural_logarithms(r"2\ln 3", r"2\log 3"), natural_logarithms(r"\ln 8", r"\log_2 8")
    (('2\\ln 3', '2\\ln 3'), ('\\ln 8', '\\log_2 8'))
    """
    natural, bare = ([name in text for text in (answer, gold)] for name in ("\\ln", "\\log"))
    if natural not in ([True, False], [False, True]) or bare != natural[::-1] or _WITH_BASE.search(answer + gold):
        return answer, gold
    return _LOG.sub(r"\\ln", answer), _LOG.sub(r"\\ln", gold)


def _ascending(text: str) -> str:
    r"""A chain of ``>`` from its smallest term: ``c > b > a`` is ``a < b < c``. math-verify does not turn chains of letters.

    >>> _ascending(r"c>b\ge a"), _ascending("b>a"), _ascending(r"\{x \mid 3>x>1\}")
    ('a\\le b<c', 'b>a', '\\{x \\mid 3>x>1\\}')
    """
    parts = _LARGER.split(text)
    terms, signs = parts[::2], parts[1::2]
    if len(terms) < 3 or not all(map(_is_term, terms)):
        return text
    turned = ["<" if sign in (">", "\\gt") else r"\le " for sign in map(str.strip, signs)]
    return "".join(term.strip() + sign for term, sign in zip(terms[::-1], [*turned[::-1], ""], strict=True))


def _is_term(text: str) -> bool:
    """Whether a part of a chain stands for itself: no bracket goes on in the next one, and it holds no other relation."""
    closed = all(text.count(left) == text.count(right) for left, right in (("(", ")"), ("[", "]"), ("{", "}")))
    return closed and not _OTHER_RELATION.search(text)


def _both_signs(text: str) -> str:
    r"""``text`` with an item of a list that has one ± within brackets written as two. math-verify reads a ± only outside.

    >>> _both_signs(r"x=\frac{1\pm\sqrt5}{2}, 0"), _both_signs(r"(\pm 1, \mp 1)"), _both_signs(r"1\pm\sqrt5")
    ('x=\\frac{1+\\sqrt5}{2},x=\\frac{1-\\sqrt5}{2}, 0', '(+1, -1),(-1, +1)', '1\\pm\\sqrt5')
    """
    if braces := _BRACES.fullmatch(text):
        return braces[1] + _both_signs(braces[2]) + braces[3]
    items: list[str] = []
    start, depth, in_sets, nested = 0, 0, 0, False
    for token in _PUNCTUATION.finditer(text + ","):
        sign = token[0]
        depth += (sign in ("(", "[", "{", "\\{")) - (sign in (")", "]", "}", "\\}"))
        in_sets += (sign == "\\{") - (sign == "\\}")  # math-verify reads the ± of "x \in \{±3\}"
        nested |= sign in ("\\pm", "\\mp") and depth > 0 and not in_sets
        if sign in (",", ";") and depth == 0:
            item = text[start : token.start()]
            items += _two_readings(item) if nested and item.count("\\pm") <= 1 else [item]
            start, nested = token.end(), False
    return ",".join(items) if start > len(text) else text


def _two_readings(text: str) -> list[str]:
    """``text`` with the upper signs of ± and ∓, and with the lower ones."""
    upper = _PLUS_MINUS.sub(lambda sign: "+" if sign[1] == "pm" else "-", text)
    return [upper, _PLUS_MINUS.sub(lambda sign: "-" if sign[1] == "pm" else "+", text)]


def _command(name: re.Match[str]) -> str:
    """The command of a name in plain text."""
    return name[0] if name["print"] else "\\" + (name["plain"] or name["upright"] + " ")


def _root(root: re.Match[str]) -> str:
    """A root in braces; roots inside it, too."""
    inside, degree = root[2] or root[3] or root[4], {"∛": "[3]", "∜": "[4]"}.get(root["sign"] or "", "")
    return f"\\sqrt{degree}{{{_ROOT.sub(_root, inside)}}}" if inside else f"\\sqrt{degree}"


def _as_fraction(decimal: re.Match[str]) -> str:
    """1/3 for a decimal with a period."""
    digits = decimal["digit"] or decimal["digits"] or re.sub("[^0-9]", "", decimal["marked"])
    number = read_number(f"{decimal['fixed']}\\overline{{{digits}}}")
    return f"\\frac{{{number.value.numerator}}}{{{number.value.denominator}}}" if number else decimal[0]


def _known(name: re.Match[str]) -> str:
    """A name as math-verify knows it. It takes ``\\mathrm{i}`` for a unit."""
    if name[4]:
        return f" {name[4]} "
    return r"^\circ " if name[1] else r"\emptyset " if name[2] else f"\\mathbb{{{name[3]}}}"


def _cardinal(ordinal: re.Match[str]) -> str:
    """12 for 12th. 12st is not an ordinal and stays."""
    digits, suffix = ordinal[1], ordinal[4]
    right = "th" if digits[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")
    return digits if suffix == right else ordinal[0]


_LAYOUT = re.compile(r"\\(?:[,;:!> ]|(?:q?quad|left|right|[lc]?dots|displaystyle)(?![a-zA-Z]))|\\?\$|[~\"']|\s+")
_AND_OR = re.compile(r",?\s*\\text\s*\{\s*(?:and|or)\s*\}")  # math-verify reads this one as a comma
# Numbers side by side: "3 4", "(3)(4)", "5.0.0", "3c 4". The first two alternatives skip the digits of a command ("\frac 1"),
# an exponent or a subscript.
_ADJACENT = re.compile(
    r"""\\[a-zA-Z]+\s*[0-9]* | [\^_]\s*-?[0-9]+
    | (?P<bad>[0-9]\s+[0-9]
    | [0-9]\s*\)?\s*\(\s*[0-9]+\s*\)(?!\s*[\^!])
    | [0-9]\s*\{\s*[0-9]
    | (?:^|[=+\-*/,;(])\s*\{\s*[0-9]+\s*\}\s*[{(]?\s*[0-9]
    | [0-9]\s*(?!or|and)[A-Za-z]{1,8}\s*[0-9]
    | [0-9]\.[0-9]*\.[0-9])""",
    re.VERBOSE,
)
_SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9_}])[0-9]+\s*\)?\s*_")  # 5_000, (5)_{2}
_UNIT = re.compile(
    r"(?<!_)(?<!_\{)\\(?:text(?:normal|bf|it|rm)?|math(?:rm|it|bf)|mbox)\{"
)  # the "\text{" of "5 \text{ cm}"
_END_OF_LINES = re.compile(r"\\end\s*\{[a-z]+\*?\}$")  # \end{cases}
_CANDIDATE = re.compile(  # a second answer, or none: "or 4", "is false"
    rf"(?<!\^)(?<!\^\{{)(?<!\^-)(?<!\^\{{-)\d|\b(?:and|or|nor|not|but|otherwise|else|unless|{'|'.join(sorted(DENIALS))})\b"
)
_JOINED = re.compile(  # what may stand before the next value of a letter: "x = 3 or"
    rf"(?:[,;(]|(?<![A-Za-z\\])(?:and|or)|{PRINT}\s*\{{\s*,?\s*(?:and|or)\s*\}})(?:{SPACE}|\$)*$"
)
_SIDES = re.compile(r"(?<![\\<>!]):?=+|\\(?:equiv|approx|to|(?:long)?[rR]ightarrow|Longrightarrow|implies)(?![a-zA-Z])")
_ARGUMENT = re.compile(  # the "(X=2)" of "P(X=2) = 1/2", and a subscript in braces
    r"(?:(?<![\\A-Za-z])[A-Za-z]|\\Pr|\})\s*\([^()]*\)|_\s*\{[^{}]*\}"
)
_INVISIBLE = re.compile(r"\\[hv]?phantom(?![a-zA-Z])")  # \phantom{3}
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # braces, and escaped signs to skip


def misread(text: str) -> bool:
    r"""Whether math-verify would take ``text`` for something that it does not say.

    >>> [misread(text) for text in (r"3 \text{ or four}", "3 4", "5_000", "3 = 4", r"3 \boxed{4}", "3} + {4")]
    [True, True, True, True, True, True]
    >>> [misread(text) for text in (r"3 \text{ cm}^2", r"3 \frac{1}{2}", r"\frac 1 2", "x = 3", "P(X=2) = 3", "x_1")]
    [False, False, False, False, False, False]
    """
    plain = _LAYOUT.sub(" ", text)
    return (
        not _balanced(text)
        or "\\boxed" in text
        or "\\fbox" in text
        or _INVISIBLE.search(text) is not None
        or _SUBSCRIPT.search(plain) is not None
        or any(match["bad"] for match in _ADJACENT.finditer(plain))
        or _hides_a_candidate(plain)
        or _sides_differ(plain)
        or _repeats_its_letter(text)
    )


def _balanced(text: str) -> bool:
    """Whether the braces of a text match. In ``3} + {4``, the first would close the box that we put around it."""
    depth = 0
    for token in _BRACE.findall(text):
        depth += (token == "{") - (token == "}")
        if depth < 0:
            return False
    return depth == 0


def _hides_a_candidate(text: str) -> bool:
    """Whether a trailing unit, which math-verify strips unread, holds a number or a word that joins two answers."""
    text = _AND_OR.sub(",", text).strip()
    unit = _UNIT.search(text)
    ends_in_unit = (text.endswith("}") or text[:-2].endswith("}")) and not _END_OF_LINES.search(text)
    return bool(unit and unit.start() > 0 and ends_in_unit and _CANDIDATE.search(text, unit.end()))


def _repeats_its_letter(text: str) -> bool:
    r"""Whether a letter gets a second value, and no comma separates the two: math-verify reads x = 3·x = 5.

    >>> [_repeats_its_letter(text) for text in (r"x=3 \to x=5", "x = 3, x = 5", r"x=3 \text{ or } x=5", "x = 2y = 6")]
    [True, False, False, False]
    """
    if not (first := _ASSIGNMENT.match(text)):
        return False
    again = re.compile(rf"(?<![A-Za-z\\]){re.escape(first['letter'].rstrip(' ='))}\s*=(?!=)")
    return any(not _JOINED.search(text[: found.start()]) for found in again.finditer(text, first.end()))


def _sides_differ(text: str) -> bool:
    """Whether two numbers are set equal and are not. Rounding may move a decimal by 1%, and any number by 5% after ≈."""
    sides = _SIDES.split(_ARGUMENT.sub(" ", text))
    numbers = [
        number for side in sides if (number := read_number(side.strip(" ()")) or read_number(side.strip(" (){}")))
    ]
    tolerance = Fraction(5 if "\\approx" in text else any(number.decimal for number in numbers), 100)
    return any(
        abs(first.worth - second.worth) > tolerance * abs(first.worth) for first in numbers for second in numbers
    )
