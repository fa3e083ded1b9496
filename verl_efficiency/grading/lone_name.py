r"""Leave out the name before a value: the ``P(X \geq 3)`` of ``P(X \geq 3) = \frac{3}{4}``.

The name tells nothing that the problem did not say, and math-verify cannot read many of them. It is left out where the other
side has none, or the same one. ``x = 5`` and ``y = 5`` keep their names, and so do equations: ``x + y = 5``, ``2x = 6``.
"""

import re
from functools import lru_cache

from verl_efficiency.grading.quick import MAX_CHARS, PRINT, same_text
from verl_efficiency.grading.words import CHANGERS

_EQUAL = re.compile(r"(?<![\\<>!:=~≠])=(?![=<>])|\\equiv(?![a-zA-Z])")
# A relation in the value or in the other text. After ≈, the value is written once more.
_RELATION = re.compile(r"[=<>≤≥≠∈]|\\(?:equiv|[gl]eq?(?:slant)?|[gl]t|neq?|in|sim|cong|not|to|mid)(?![a-zA-Z])")
_INDEX = re.compile(rf"_\s*(?:\{{(?:[^{{}}]|{PRINT}\s*\{{[^{{}}]*\}})*\}}|[A-Za-z0-9]|\\[a-zA-Z]+)")  # v_{\text{max}}
_ARGUMENT = re.compile(r"(?<=[A-Za-z}\])'])\s*(?:\\left\s*)?(?:\([^()]*\)|\[[^\[\]]*\])")  # the (2) of f(2)
# What a name is made of: letters, primes, bars, \max, \iint, \overline{AB}, \operatorname{Var}, \frac{dy}{dx}, \#S.
_LETTER = (
    "alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|kappa|lambda|mu|nu|xi|rho|(?:var)?sigma|tau|(?:var)?phi|chi"
    "|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell|hbar"
)
_FUNCTION = (
    "max|min|sup|inf|lim|det|dim|deg|ker|arg|Pr|gcd|lcm|Re|Im|i{1,3}nt|oint|sum|prod|limits|partial|nabla|circ|angle|measuredangle"
    "|triangle|operatorname|math(?:rm|bb|bf|it|cal|sf)|boldsymbol|bm|overline|underline|overrightarrow|overset|wide(?:hat|tilde)"
    "|hat|bar|vec|dot|ddot|tilde|[dt]?frac|left|right|[lr]?[vV]ert"
)
_NAME = re.compile(rf"(?:[A-Za-z\s~'|{{}}]|\\(?:{_LETTER}|{_FUNCTION})(?![a-zA-Z])|\\[,;: !#|])+")
_PRODUCT = re.compile(r"[A-Z](?:\s*[A-Z])+")  # the ABC of S = ABC; alone, it would be the name of a triangle
_PLAIN_WORDS = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")


def without_lone_name(answer: str, gold: str) -> tuple[str, str]:
    r"""Both texts without the name before their value.

    >>> without_lone_name(r"P(X \geq 3) = \frac{3}{4}", r"\frac{3}{4}"), without_lone_name("20", "x = 20")
    (('\\frac{3}{4}', '\\frac{3}{4}'), ('20', '20'))
    >>> without_lone_name("y(x) = 2x", "y=x"), without_lone_name("x = 5", "y = 5"), without_lone_name("2x = 6", "6")
    (('2x', 'x'), ('x = 5', 'y = 5'), ('2x = 6', '6'))
    """
    if not _EQUAL.search(f"{answer} {gold}") or max(len(answer), len(gold)) > MAX_CHARS:
        return answer, gold
    (name, value), (other, reference) = _named(answer), _named(gold)
    if name and other:
        return (value, reference) if _same_name(name, other) else (answer, gold)
    if name and not _RELATION.search(gold):
        return value, gold
    if other and not _RELATION.search(answer):
        return answer, reference
    return answer, gold


@lru_cache(maxsize=256)  # one reference, many answers
def _named(text: str) -> tuple[str, str]:
    """The name and the value of ``name = value``; an empty name where the text is something else."""
    name, value = (_EQUAL.sub("\0", text).rpartition("\0")[place].strip() for place in (0, 2))
    if not value or _RELATION.search(value) or _PRODUCT.fullmatch(value):
        return "", text
    bare = _INDEX.sub("", name)
    while bare != (shorter := _ARGUMENT.sub("", bare)):
        bare = shorter
    words = {word.lower() for word in _PLAIN_WORDS.findall(bare)}
    fine = _NAME.fullmatch(bare) and re.search("[A-Za-z]", bare) and words.isdisjoint(CHANGERS | {"and"})
    return (name, value) if fine else ("", text)


def _same_name(name: str, other: str) -> bool:
    """Whether two names are the same. The function y(x) may be called y."""
    return same_text(re.sub(r"\([a-z]\)$", "", name), re.sub(r"\([a-z]\)$", "", other))
