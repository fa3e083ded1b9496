"""The value of an expression where its letters stand for given numbers, with as many digits as a comparison needs."""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

DIGITS = 25  # that a value has for certain
MAX_BITS = 10_000  # of the argument of a function that grows


class Unknown(Exception):
    """The value cannot be computed here: a sum, an integral, a function without a name, or a number too large."""


class Undefined(Exception):
    """There is no value at this point, or no real one."""


def agree(first: Any, second: Any, shared: int) -> bool:
    """Whether two values have ``shared`` significant digits in common. Zero agrees with zero only."""
    from mpmath import mp, mpf

    if mp.isinf(first) or mp.isinf(second):
        return bool(first == second)
    return bool(abs(first - second) <= mpf(10) ** -shared * max(abs(first), abs(second)))


def reliable_value(expression: Any, point: dict[str, Fraction], enough: int, real: bool) -> Any:
    """The value at ``point``, evaluated in twice as many digits as agree with an evaluation in ``enough`` digits.

    A sum that cancels is evaluated with more digits. A value that shrinks with every digit of precision is zero.
    With ``real``, a value that is not real anywhere on the way is ``Undefined``.
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
    """The value in the current precision of mpmath; on the principal branches, or real all the way."""
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
    except ZeroDivisionError as error:
        raise Undefined from error
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise Undefined from error
    if real and isinstance(result, mp.mpc):
        if result.imag != 0:
            raise Undefined
        return result.real
    return result


@lru_cache(maxsize=1)
def _functions() -> dict[type, Callable[..., Any]]:
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

    def product(*factors: Any) -> Any:
        result = mp.mpf(1)
        for factor in factors:
            result = result * factor
        return result

    def total(*terms: Any) -> Any:
        result = mp.mpf(0)
        for term in terms:
            result = result + term
        return result

    def of_real(function: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*values: Any) -> Any:
            if any(mp.im(value) != 0 for value in values):
                raise Undefined
            return function(*[bounded(mp.re(value)) for value in values])

        return apply

    functions: dict[type, Callable[..., Any]] = {
        sympy.Add: total,
        sympy.Mul: product,
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
