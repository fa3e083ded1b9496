"""The value of a sympy expression whose letters stand for given numbers, with as many digits as a comparison needs.

Values are exact: every point and every decimal is a fraction, and a sum that cancels is evaluated again with more digits. A
number too large to evaluate is found before sympy tries (:func:`too_large`).
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

MAX_EVALUATED = 100_000  # digits of a number that sympy may evaluate
MAX_BITS = 10_000  # of the argument of a function that grows, such as a factorial
DIGITS = 25  # that a value has for certain


class Unknown(Exception):
    """The value cannot be computed here: a sum, an integral, an unknown function, or a number that is too large."""


class Undefined(Exception):
    """The expression has no value at this point, or no real value."""


def infinite(value: Any) -> bool:
    from mpmath import mp

    return bool(mp.isinf(value))


def agree(first: Any, second: Any, shared: int) -> bool:
    """Whether two values have ``shared`` significant digits in common. Zero agrees only with zero."""
    from mpmath import mpf

    if infinite(first) or infinite(second):
        return bool(first == second)
    return bool(abs(first - second) <= mpf(10) ** -shared * max(abs(first), abs(second)))


def too_large(expression: Any) -> bool:
    """Whether evaluating a sympy expression would meet a number of more than about ``MAX_EVALUATED`` digits.

    The test reads the parsed tree, in which ``9^{9^{9}}`` is still a power, so it costs nothing. ``(x + 1)^{1000000}`` counts
    as a power of 1: it is as hopeless when expanded. Sums, products and integrals are left to the deadline.
    """
    from sympy import Basic, MatrixBase

    if isinstance(expression, MatrixBase):
        return any(too_large(entry) for entry in expression.flat())
    return isinstance(expression, Basic) and digits(expression) > MAX_EVALUATED


def digits(expression: Any) -> float:
    """Upper estimate of the decimal digits of the largest number in the evaluation; infinite above ``MAX_EVALUATED``."""
    from sympy import Pow, Rational, Symbol, factorial, factorial2

    inside = [digits(part) for part in expression.args]
    if max(inside, default=0) > MAX_EVALUATED:
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


def reliable_value(expression: Any, point: dict[str, Fraction], enough: int, real: bool) -> Any:
    """The value at ``point``, checked by an evaluation with twice as many digits, of which ``DIGITS`` and more agree.

    A sum that cancels is evaluated with still more digits. A value that shrinks with every digit of precision is zero.

    Args:
        expression: a sympy expression.
        point: the value of each letter.
        enough: digits of the first evaluation.
        real: an intermediate value that is not real is ``Undefined``.
    """
    from mpmath import mp

    values: list[Any] = []
    for precision in (enough, 2 * enough, 4 * enough):
        with mp.workdps(precision):
            value = _evaluate(expression, point, real)
            if mp.isnan(value):
                raise Unknown
            if values and (mp.isinf(value) or agree(value, values[-1], DIGITS + 1)):
                return value
            values.append(value)
    if abs(values[2]) <= mp.mpf(10) ** -enough * max(abs(values[0]), abs(values[1])):
        return mp.mpf(0)
    raise Unknown


def _evaluate(expression: Any, point: dict[str, Fraction], real: bool) -> Any:
    """The value in the current precision of mpmath, on the principal branches."""
    from mpmath import mp
    from sympy import Float, Rational, Symbol

    if isinstance(expression, Rational):
        return mp.mpf(expression.p) / expression.q if expression.q != 1 else mp.mpf(expression.p)
    if isinstance(expression, Symbol):
        value = point[expression.name]
        return mp.mpf(value.numerator) / value.denominator
    if isinstance(expression, Float):
        if not expression.is_finite:
            raise Unknown
        decimal = Fraction(str(expression))  # as it is written
        return mp.mpf(decimal.numerator) / decimal.denominator
    compute = _functions().get(type(expression))
    if compute is None:
        raise Unknown
    try:
        result = compute(*[_evaluate(part, point, real) for part in expression.args])
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, NotImplementedError) as error:
        raise Undefined from error
    if real and isinstance(result, mp.mpc):
        if result.imag != 0:
            raise Undefined
        return result.real
    return result


@lru_cache(maxsize=1)
def _functions() -> dict[type, Callable[..., Any]]:
    """What computes each type of sympy node from the values of its parts."""
    import sympy
    from mpmath import mp

    def bounded(value: Any) -> Any:
        if mp.isinf(value) or (value != 0 and mp.mag(value) > MAX_BITS):
            raise Unknown
        return value

    def power(base: Any, exponent: Any) -> Any:
        if mp.isinf(base) or mp.isinf(exponent):
            if (base == mp.inf and exponent > 0) or (exponent == mp.inf and mp.im(base) == 0 and mp.re(base) > 1):
                return mp.inf
            raise Unknown
        if base == 0 and exponent == 0:
            raise Undefined
        if base != 0 and abs(mp.mag(base)) * abs(exponent) > 10**300:
            raise Unknown
        if mp.im(exponent) == 0 and mp.isint(exponent):
            return base ** int(mp.re(exponent))
        return mp.power(base, exponent)

    def logarithm(value: Any, base: Any = None) -> Any:
        if value == 0:
            raise Undefined
        return mp.log(value) if base is None else mp.log(value) / mp.log(base)

    def of_real(function: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*values: Any) -> Any:
            if any(mp.im(value) != 0 for value in values):
                raise Undefined
            return function(*[bounded(mp.re(value)) for value in values])

        return apply

    functions: dict[type, Callable[..., Any]] = {
        sympy.Add: lambda *terms: sum(terms, mp.mpf(0)),
        sympy.Mul: lambda *factors: math.prod(factors, start=mp.mpf(1)),
        sympy.Pow: power,
        sympy.log: logarithm,
        sympy.Abs: abs,
        sympy.floor: of_real(mp.floor),
        sympy.ceiling: of_real(mp.ceil),
        sympy.sign: of_real(mp.sign),
        sympy.Max: of_real(max),
        sympy.Min: of_real(min),
        sympy.Mod: of_real(lambda value, modulus: value - modulus * mp.floor(value / modulus)),
        sympy.factorial: lambda value: mp.factorial(bounded(value)),
        sympy.gamma: lambda value: mp.gamma(bounded(value)),
        sympy.binomial: lambda top, bottom: mp.binomial(bounded(top), bounded(bottom)),
        sympy.re: mp.re,
        sympy.im: mp.im,
        sympy.conjugate: mp.conj,
    }
    trigonometric = ("sin", "cos", "tan", "cot", "sec", "csc")
    names = [before + name + after for name in trigonometric for before in ("", "a") for after in ("", "h")]
    for name in (*names, "exp"):
        function = getattr(mp, name)
        functions[getattr(sympy, name)] = lambda value, function=function: function(bounded(value))
    constants = {
        sympy.S.Pi: lambda: +mp.pi,
        sympy.S.Exp1: lambda: +mp.e,
        sympy.S.EulerGamma: lambda: +mp.euler,
        sympy.S.GoldenRatio: lambda: +mp.phi,
        sympy.S.ImaginaryUnit: lambda: mp.mpc(0, 1),
        sympy.S.Infinity: lambda: mp.inf,
        sympy.S.NegativeInfinity: lambda: mp.ninf,
    }
    return functions | {type(constant): value for constant, value in constants.items()}
