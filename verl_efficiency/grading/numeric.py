"""Tell two expressions apart by their values, which is far cheaper than to simplify their difference."""

import math
from typing import Any

# Positive, so that roots and logarithms take the branch on which simplification relies.
_FIRST_VALUE, _NEXT_VALUE = 0.3719, 0.6173
TOLERANCE = 2e-6
ROUNDED = 0.01  # 10π = 31.4 is no contradiction


def surely_differ(left: Any, right: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two sympy expressions have different values where every symbol stands for some positive number.

    ``False`` says nothing: the values agree, or are not numbers, or the objects are compared by other rules than value
    (single symbols, relations, sets, matrices) or are too costly to evaluate (sums, integrals, limits, derivatives).
    """
    from sympy import Derivative, Expr, Integral, Limit, Product, Sum, Symbol, UnevaluatedExpr

    symbols: set[Any] = set()
    for expression in (left, right):
        if not isinstance(expression, Expr) or isinstance(expression, Symbol) or expression.is_Matrix:
            return False
        if expression.has(Derivative, Integral, Limit, Product, Sum, UnevaluatedExpr):
            return False
        symbols |= expression.free_symbols
    ordered = sorted(symbols, key=str)
    point = {symbol: _FIRST_VALUE + _NEXT_VALUE * index for index, symbol in enumerate(ordered)}
    try:
        first, second = (complex(expression.evalf(subs=point)) for expression in (left, right))
        if math.isinf(abs(first)) != math.isinf(abs(second)):
            return True  # sympy's simplify finds ∞³ = 1.5 in one run of fifty
        return abs(first - second) > tolerance * max(1.0, abs(first), abs(second))
    except (TypeError, ValueError, ArithmeticError, AttributeError):  # no number, or none that a float can hold
        return False


def contradicts_itself(equations: Any) -> bool:
    """Whether one of some sympy equations is no identity: √3 = √2, or x + 1 = x + 2; x = 3 and ab = 12 say something new."""
    return any(
        left.free_symbols == right.free_symbols and surely_differ(left, right, ROUNDED)
        for left, right in (equation.args for equation in equations)
    )
