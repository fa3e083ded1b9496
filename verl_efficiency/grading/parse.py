r"""Parse an answer into a sympy expression in which every letter is what it stands for.

The grammar is latex2sympy's, as in math-verify. These things are read differently:

* ``r`` and ``R`` are two letters. Only words ignore case (``v_{Max}`` is ``v_{max}``). ``I`` is a letter, too: latex2sympy
  reads it as the imaginary unit and drops its exponent.
* ``i`` is the imaginary unit unless the texts use it as an index (:func:`has_imaginary_unit`).
* ``\sin 30^\circ`` is 1/2. Outside of functions, the degree sign is dropped like a unit.
* Primes, dots between terms, transposes and bold letters count. latex2sympy drops them.
* A unit at the end is dropped. Letters that may be factors are not: the ``a b`` of ``2 a b``.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from verl_efficiency.grading.quick import DOTS, SPACE, fold_words

# What carries no letter of a formula: commands, and texts other than the letter i alone.
_TEXT = r"\\(?:text(?:normal|bf|it|rm)?|mbox|operatorname)\s*\{(?!\s*[iI]\s*\})[^{}]*\}"
_NO_LETTERS = re.compile(_TEXT + r"|\\(?!imath)[a-zA-Z]+")
_UNIT_I = re.compile(r"i|\\imath")
# Where i is an index or part of a word: a_i, a_{2i+1}, \sum_{i=1}, beside j, "miles".
_INDEX = re.compile(r"_\s*(?:i|\{[^{}]*i[^{}]*\})|j|[A-Za-z]{4,}")
# Where i is a whole number: i!, i = 5, 1 \le i, \binom{n}{i}.
_COUNTED = re.compile(
    r"(?<![A-Za-z])i\s*(?:!|=|<|>|\\(?:leq?|geq?|in|neq?)(?![a-zA-Z]))"
    r"|(?:<|>|\\(?:leq?|geq?))\s*i(?![A-Za-z])"
    r"|\\(?:[dt]?binom|choose)(?![a-zA-Z])"
)
# The letter I. The other alternatives are skipped: texts, commands, and the braces of an accent, whose letters form a name.
_CAPITAL_I = re.compile(
    _TEXT + r"|\\(?:math[a-z]+|overline|overrightarrow|bar|vec|hat|dot|tilde)\s*\{[^{}]*\}|\\[a-zA-Z]+|I"
)
_UPRIGHT_I = re.compile(
    r"\\(?:text(?:normal|it|rm)?|math(?:rm|it))\s*\{\s*i\s*\}"
)  # \mathrm{i}; math-verify reads a unit
# A value and one letter after it that may be a unit: the m of "\frac{3}{2}m" and "2\pi m".
_LETTER_UNIT = re.compile(
    rf"(?P<value>.*(?:[0-9}}]|\\pi(?![a-z])|[)\]](?={SPACE})))(?:{SPACE})*(?:[dghlms]|ms)", re.DOTALL
)
_SHORT_UNITS = frozenset(("cc", "cm", "dm", "ft", "gm", "hr", "kg", "km", "lb", "mm", "yr"))  # other pairs are products
_GREEK_LETTER = re.compile(
    r"\\(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|nu|rho|sigma|tau|phi|omega|Omega)(?![a-zA-Z])"
)
_BOLD_LETTER = re.compile(r"\\math(?:bf|it)\s*\{\s*([A-Za-z])\s*\}")  # the vector \mathbf{v}; math-verify reads a unit
# Primes after a letter and its index, or after a bracket: f'', x_1', y^{\prime}, (fg)'. Texts, quoted words and the apostrophes
# in words are skipped. After a digit, they mean feet and minutes.
_INDEX_OF = r"(?:\s*_\s*(?:\{[^{}]*\}|[0-9A-Za-z]))?"
_PRIMES = re.compile(
    _TEXT
    + r"|(?<![A-Za-z0-9)\]}|'`])['`]+[^'`]*'+|[A-Za-z]{2,}'(?:s|t|d|m|ll|re|ve)(?![A-Za-z'])|[A-Za-z]'[A-Za-z]{4,}"
    + rf"|(?:(?P<letter>\\[a-zA-Z]+|[A-Za-z])(?P<before>{_INDEX_OF})|(?P<bracket>[)\]}}|]))"
    + rf"(?P<primes>(?:\s*(?:'|\^\s*\\prime(?![a-zA-Z])|\^\s*\{{\s*(?:\\prime\s*|')+\}}))+)(?P<after>{_INDEX_OF})"
)
_PRIME = re.compile(r"'|\\prime")
# A transpose. latex2sympy drops it, and the exponent of (1+r)^T, except from a matrix. Read as a power, they count.
_TRANSPOSE = re.compile(
    r"(?<=[A-Za-z0-9)}])\s*\^\s*(?P<brace>\{\s*)?"
    r"(?:T|\\(?:top|intercal)(?![a-zA-Z])|\\(?:mathsf|mathrm|mathbf|text|rm|sf)\s*\{?\s*T\s*\}?)(?(brace)\s*\})"
)
# Dots that stand for terms, and dots after the digits of a rounded number.
_MORE_TERMS = re.compile(rf"{_TEXT}|(?P<dots>{DOTS})")
_MORE_DIGITS = re.compile(rf"([0-9]*\.[0-9]+|^-?[0-9]+){DOTS}(?!\s*[0-9.])")
_DEGREES = re.compile(
    r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|\\text\s*\{\s*(?:degrees?|deg)\.?\s*\}"
)  # 30^\circ
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
# How degrees and the letter I are marked for the parser, and the names of the symbols that it makes of the marks.
_DEGREE, _LETTER_I = r"\mathcal{deg}", r"\mathcal{I}"
_TERMS, _DERIVED = r"\mathcal{dots}", r"\mathcal{prime}"  # these two stay symbols
_NAME_OF_DEGREE, _NAME_OF_I = "math{deg}", "math{I}"
_GREEK = re.compile(r"(?:Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega)(?![a-z])")  # keeps its capital


def has_imaginary_unit(*texts: str) -> bool:
    r"""Whether ``i`` in an answer and its reference is the imaginary unit: it occurs, and nothing shows that it is an index.

    >>> has_imaginary_unit("(1+i)^2", "2"), has_imaginary_unit(r"e^{i\theta}", "x")
    (True, True)
    >>> [has_imaginary_unit(text, "x") for text in ("a_i", r"\sum_{i=1}^n i", "3i + 4j", "i = 5", "18 miles", r"\sin x")]
    [False, False, False, False, False, False]
    """
    joined = " ; ".join(texts)
    if "i" not in joined and "I" not in joined:
        return False
    if any(text.strip(" ()") == "I" for text in texts):  # the name of a current or a set
        return False
    letters = _NO_LETTERS.sub(" ", joined)
    if _COUNTED.search(joined) or _INDEX.search(letters):
        return False
    if "i" not in letters and "I" in letters:  # 2 + 3I; but I^2R is a power, and II a numeral
        return not re.search(r"[A-HJ-Za-df-z]|I\s*I", letters)
    vectors = "k" in letters and not re.search(r"e\s*\^|\\exp", joined)
    return bool(_UNIT_I.search(letters)) and not vectors


def has_degrees(text: str) -> bool:
    """Whether ``text`` contains a degree sign."""
    return _DEGREES.search(text) is not None


def read(text: str, imaginary: bool = False, radians: bool = False) -> list[Any]:
    """The sympy expression, where the text can be parsed, and the text as math-verify normalises it.

    Args:
        text: the answer, in signs that the parser reads.
        imaginary: ``i`` is the imaginary unit.
        radians: a degree sign outside of functions means π/180 instead of nothing.
    """
    from latex2sympy2_extended.math_normalization import normalize_latex
    from math_verify.parser import LatexExtractionConfig, get_last_eq

    if not text.strip():
        return []
    text = _marked(text)
    if has_degrees(text) and (radians or _TRIGONOMETRIC.search(text)):
        text = _DEGREES.sub(lambda _: _DEGREE, text)
    if imaginary:
        text = _UPRIGHT_I.sub("{i}", text)
    usual = replace(LatexExtractionConfig().normalization_config, units=False)
    latex = normalize_latex(f"\\boxed{{{text}}}", replace(usual, boxed="last", malformed_operators=False, nits=False))
    latex = normalize_latex(_without_unit(latex), replace(usual, boxed="none", basic_latex=False))
    for candidate in dict.fromkeys((latex, get_last_eq(latex))):
        try:
            return [_named(_parse(candidate, imaginary), imaginary, radians), latex]
        except Exception:  # noqa: BLE001 - the parser raises errors of many kinds
            continue
    return [latex] if latex else []


def _marked(text: str) -> str:
    r"""``text`` with the signs that latex2sympy would drop or misread as letters.

    >>> _marked("f'(x)"), _marked("A^TB"), _marked("1, ..., n"), _marked(r"2\mathbf{v}"), _marked("LI")
    ('f_{prime}(x)', 'A^{(T)}B', '1, \\mathcal{dots}, n', '2 v ', 'L\\mathcal{I}')
    """
    if "I" in text:
        text = _CAPITAL_I.sub(lambda found: _LETTER_I if found[0] == "I" else found[0], text)
    text = _PRIMES.sub(_with_primes, _BOLD_LETTER.sub(r" \1 ", text))
    text = _TRANSPOSE.sub("^T" if "matrix" in text or "array" in text else "^{(T)}", text)
    return _MORE_TERMS.sub(lambda found: _TERMS if found["dots"] else found[0], _MORE_DIGITS.sub(r"\1", text))


def _with_primes(found: re.Match[str]) -> str:
    """A letter with primes as a letter with an index of its own; a bracket with primes as a product."""
    if not found["primes"]:
        return found[0]
    count = len(_PRIME.findall(found["primes"]))
    if found["bracket"]:
        return found["bracket"] + count * _DERIVED
    index = re.sub(r"[_{}\s]", "", found["before"] + found["after"])
    return f"{found['letter']}_{{{index}{count * 'prime'}}}"


def _without_unit(latex: str) -> str:
    r"""``latex`` without the unit at its end. Letters that may be factors stay, unlike in math-verify.

    >>> [_without_unit(text) for text in (r"\sqrt{2}\text{ cm}^2", r"\sqrt{2} sq cm", "2m", "2 a b", "am", r"\frac{a}{b}m")]
    ['\\sqrt{2}', '\\sqrt{2}', '2', '2 a b', 'am', '\\frac{a}{b}m']
    """
    from latex2sympy2_extended.math_normalization import unit_superscript_regex

    latex = unit_superscript_regex.sub("", latex).strip() or latex
    latex = _unit_words().sub("", latex).strip() or latex
    if unit := _LETTER_UNIT.fullmatch(latex):
        value = unit["value"].rpartition("=")[2]
        if not (re.search("[A-Za-z]", _NO_LETTERS.sub(" ", value)) or _GREEK_LETTER.search(value)):
            return unit["value"]
    return latex


@lru_cache(maxsize=1)
def _unit_words() -> re.Pattern[str]:
    """One or two of math-verify's units at the end: the ``sq cm`` of ``2 sq cm``. Those with a dot would match any letter."""
    from latex2sympy2_extended.math_normalization import units

    words = [unit for unit in units if unit.isascii() and "." not in unit and (len(unit) > 2 or unit in _SHORT_UNITS)]
    return re.compile(rf"(?:(?<=[}}\s0-9])(?:sq\s)?(?:{'|'.join(words)})(?:e?s)?\s*){{1,2}}$")


def _parse(latex: str, imaginary: bool) -> Any:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from math_verify.grader import should_treat_as_complex

    is_real = imaginary or not should_treat_as_complex(latex)
    config = ConversionConfig(lowercase_symbols=False)
    try:
        return _quick_parser()(is_real=is_real, config=config).parse(latex)
    except Exception:  # noqa: BLE001 - a syntax error, or none
        from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

        return _Latex2Sympy(is_real=is_real, config=config).parse(latex)


@lru_cache(maxsize=1)
def _quick_parser() -> Any:
    """latex2sympy's parser in ANTLR's SLL mode: the same tree as in the default mode in a third of the time, or an error."""
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    class Quick(_Latex2Sympy):
        def create_parser(self, latex_str: str) -> Any:
            parser = super().create_parser(latex_str)
            parser._interp.predictionMode = PredictionMode.SLL
            return parser

    return Quick


def _named(expression: Any, imaginary: bool, radians: bool) -> Any:
    """``expression`` with the letters marked by :func:`read` replaced by what they stand for, and words in lower case."""
    from sympy import Basic, I, MatrixBase, Symbol, pi
    from sympy.functions.elementary.trigonometric import TrigonometricFunction

    if not isinstance(expression, Basic | MatrixBase):
        return expression
    meaning: dict[Any, Any] = {}
    for symbol in expression.atoms(Symbol):
        if symbol.name == _NAME_OF_DEGREE:
            for function in expression.atoms(TrigonometricFunction):
                meaning[function] = function.xreplace({symbol: pi / 180})
            meaning[symbol] = pi / 180 if radians else 1
        elif symbol.name == _NAME_OF_I:
            meaning[symbol] = I if imaginary and _only_i(expression) else Symbol("I", real=symbol.is_real)
        elif imaginary and symbol.name in ("i", "imath"):
            meaning[symbol] = I
        elif (name := _name(symbol.name)) != symbol.name:
            meaning[symbol] = Symbol(name, real=symbol.is_real)
    return replaced(expression, meaning) if meaning else expression


def _name(name: str) -> str:
    return name if _GREEK.search(name) else fold_words(name)


def _only_i(expression: Any) -> bool:
    return all(symbol.name in (_NAME_OF_I, "i") for symbol in expression.free_symbols)


def replaced(expression: Any, meaning: dict[Any, Any]) -> Any:
    """``expression`` with its parts replaced. Lists keep the order in which they were written."""
    from sympy.core.relational import Relational

    if isinstance(expression, Relational):  # sympy would evaluate z = 3 + 4i to false for a real z
        return type(expression)(*(replaced(side, meaning) for side in expression.args), evaluate=False)
    written = getattr(expression, "_unsorted_args", None)
    if written is None:
        return expression.xreplace(meaning)
    return type(expression)(*(replaced(part, meaning) for part in written))
