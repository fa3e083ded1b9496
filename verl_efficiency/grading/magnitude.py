"""Refuse numbers that are too large to evaluate, before sympy tries."""

import math
from typing import Any

MAX_DIGITS = 100_000


def too_large(expression: Any) -> bool:
    """Whether evaluating a sympy expression would meet a number of more than about ``MAX_DIGITS`` digits.

    Looks at the tree as parsed (``9^{9^{9}}`` is still a power there), so it costs nothing. ``(x + 1)^{1000000}``
    counts as a power of 1: it is as hopeless when expanded. Sums, products and integrals are left to the deadline.
    """
    from sympy import Basic, MatrixBase

    if isinstance(expression, MatrixBase):
        return any(too_large(entry) for entry in expression.flat())
    return isinstance(expression, Basic) and digits(expression) > MAX_DIGITS


def digits(expression: Any) -> float:
    """Upper estimate of the decimal digits of the largest number in the evaluation, infinite beyond ``MAX_DIGITS``."""
    from sympy import Pow, Rational, Symbol, factorial, factorial2

    inside = [digits(part) for part in expression.args]
    if max(inside, default=0) > MAX_DIGITS:
        return math.inf
    if isinstance(expression, Rational):
        return max(abs(expression.p), expression.q).bit_length() / math.log2(10)
    if isinstance(expression, Pow) and not expression.exp.free_symbols:
        return inside[0] * max(1, _size(expression.exp, inside[1]))
    if isinstance(expression, factorial | factorial2) and not expression.free_symbols:
        return inside[0] * _size(expression.args[0], inside[0])
    return sum(inside) if inside else float(not isinstance(expression, Symbol))


def _size(number: Any, digits: float) -> float:
    from sympy import Rational

    if isinstance(number, Rational):
        return abs(number.p) / number.q
    return 10**digits if digits < 9 else math.inf
