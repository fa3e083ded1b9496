r"""Compare two sympy expressions by their values, which is far cheaper than to simplify their difference.

Numbers are equal where their values agree to 30 digits or more. Only a decimal may be rounded: it counts as in math-verify, to
six decimals, but below about 1e-6 three significant digits must agree as well.

Formulas are compared at several points of different size. One difference at a positive point makes them different. They are
equal where all positive points agree, and all negative points at which both are real: ``\ln(ab)`` equals ``\ln a + \ln b``, but
``\sqrt{x^2}`` does not equal ``x``. Letters that the reference puts into a factorial, a binomial or (-1)^n are whole numbers.

How a value is computed, see :mod:`verl_efficiency.grading.evaluate`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from verl_efficiency.grading.evaluate import Undefined, Unknown, agree, digits, infinite, reliable_value
from verl_efficiency.grading.quick import every, fold_words, same_elements

TOLERANCE = 2e-6  # of decimals, absolute below 1
COARSE = 1e-3  # of decimals, always relative
ROUNDED = 0.01  # 10π = 31.4 does not contradict itself
MAX_DIGITS = 5000  # of all constants together, in a comparison by value
MAX_ELEMENTS = 12  # of a set compared element by element
FEWEST_POINTS = 4  # at which both formulas must have a value
_SIZES = (0.37, 0.93, 1.7, 0.062, 3.9, 17.0, 541.0, 2.1e5, 0.0041)
_NEGATIVE_SIZES = (0.37, 17.0, 541.0)
_WHOLE = (2, 3, 5, 4, 8, 11, 7, 12, 6, 19, 30, 23)
# Options and unknowns. Alone, "c" equals "C". The letters r and R, m and M, n and N name different quantities.
_LONE_LETTERS = frozenset("ABCDEFGHJXYZabcdefghjxyz")
_WORD = re.compile(r"[A-Za-z]{2,}")


def same(gold: Any, answer: Any, alone: bool = True) -> bool | None:
    """Whether two sympy objects are equal, part by part; ``None`` where math-verify has to decide.

    With ``alone``, a letter is the answer or an element of a list, as options are; then ``c`` equals ``C``.
    """
    from sympy import FiniteSet, Interval, MatrixBase, Symbol, Tuple

    gold, answer = _right_sides(gold, answer)
    if isinstance(gold, MatrixBase) and isinstance(answer, MatrixBase):
        return _same_list(gold.flat(), answer.flat()) if gold.shape == answer.shape else None
    if isinstance(gold, FiniteSet) and isinstance(answer, FiniteSet):
        nested = [any(isinstance(element, FiniteSet) for element in elements.args) for elements in (gold, answer)]
        if nested[0] != nested[1]:
            return False  # {1}, {2} and {1, 2}
        if len(gold) != len(answer) or len(gold) > MAX_ELEMENTS:
            return None
        alone = not _two_cases(gold, answer)
        return same_elements(gold.args, answer.args, lambda element, other: same(element, other, alone))
    if isinstance(gold, Tuple | MatrixBase) or isinstance(answer, Tuple | MatrixBase):
        points = [_coordinates(expression) for expression in (gold, answer)]
        if all(points):
            return _same_list(*points)
    if isinstance(gold, Interval) and isinstance(answer, Interval):
        closed = [(part.left_open, part.right_open) for part in (gold, answer)]
        return _same_list(gold.args[:2], answer.args[:2]) if closed[0] == closed[1] else False
    if isinstance(gold, Symbol) or isinstance(answer, Symbol):
        named = _same_name(gold, answer, alone)
        if named is not None:
            return named
    return same_value(gold, answer)


def _right_sides(gold: Any, answer: Any) -> tuple[Any, Any]:
    """The sides to compare where the answer, or both, are equations; of ``x = 5`` and ``x = 6`` the last ones."""
    from math_verify.grader import is_assignment_relation, is_equation, take_first_relation, take_last_relation

    if is_equation(answer) and not is_equation(gold):
        return gold, take_last_relation(answer).rhs
    if is_assignment_relation(gold):
        if not is_equation(answer):
            return take_last_relation(gold).rhs, answer
        if is_assignment_relation(answer) and take_first_relation(gold).lhs == take_first_relation(answer).lhs:
            return take_last_relation(gold).rhs, take_last_relation(answer).rhs
    return gold, answer


def _coordinates(expression: Any) -> Sequence[Any]:
    """Those of a point, of an open interval, which is written like one, or of a vector; nothing for something else."""
    from sympy import Interval, MatrixBase, Tuple

    if isinstance(expression, MatrixBase):
        return expression.flat() if 1 in expression.shape else ()
    if isinstance(expression, Interval):
        return expression.args[:2] if expression.is_open else ()
    return expression.args if isinstance(expression, Tuple) else ()


def _same_list(gold: Any, answer: Any) -> bool | None:
    if len(gold) != len(answer):
        return None
    return every([same(left, right, alone=False) for left, right in zip(gold, answer, strict=True)])


def _two_cases(*expressions: Any) -> bool:
    """Whether one of them contains a letter in both cases."""
    names = [_names(expression) for expression in expressions]
    return any(len({name.lower() for name in some}) < len(some) for some in names)


def _same_name(gold: Any, answer: Any, alone: bool) -> bool | None:
    """``False`` where names differ only in case, which math-verify overlooks; ``None`` where one side is not a name."""
    left, right = _spelled(gold), _spelled(answer)
    if left is None or right is None:
        return None
    if left == right or (alone and {left, right} <= _LONE_LETTERS and left.lower() == right.lower()):
        return True
    return False if left.lower() == right.lower() else None


def _spelled(expression: Any) -> str | None:
    """A name, or the letters of a product, joined as math-verify joins them: ``$east$`` is a product of letters, and a word."""
    from sympy import E, Mul, Symbol

    if isinstance(expression, Mul):
        letters = [_spelled(part) if part == E or isinstance(part, Symbol) else None for part in expression.args]
        return fold_words("".join(map(str, letters))) if all(letters) else None
    return expression.name if isinstance(expression, Symbol) else "e" if expression == E else None


def same_value(gold: Any, answer: Any) -> bool | None:
    """Whether two sympy expressions have the same value; ``None`` where their values do not tell.

    Relations, sets, matrices and words are compared by other rules; sums, integrals, limits and derivatives are too costly to
    evaluate; percentages stand for two numbers. All of these give ``None``.
    """
    if not (_has_value(gold) and _has_value(answer)):
        return None
    try:
        return _same_formula(gold, answer) if _names(gold, answer) else _same_number(gold, answer)
    except (Unknown, Undefined):
        return None


def contradicts_itself(equations: Any) -> bool:
    """Whether one of some sympy equations holds nowhere: √3 = √2, or x + 1 = x + 2. Equations such as x = 3 may hold."""
    return any(
        left.free_symbols == right.free_symbols and _differ_at_a_point(left, right)
        for left, right in (equation.args for equation in equations)
    )


def _differ_at_a_point(left: Any, right: Any) -> bool:
    from sympy import Symbol

    if not (_has_value(left) and _has_value(right)) or isinstance(left, Symbol) or isinstance(right, Symbol):
        return False
    point = next(_positive_points(_names(left, right), set(), (left, right)))
    try:
        first, second = (reliable_value(side, point, 30, real=False) for side in (left, right))
        return _far_apart(first, second, ROUNDED, 1)
    except (Unknown, Undefined):
        return False


def _has_value(expression: Any) -> bool:
    from sympy import Expr, Symbol

    if not isinstance(expression, Expr) or expression.is_Matrix:
        return False
    return not (isinstance(expression, Symbol) and _WORD.match(expression.name.rpartition("{")[2]) is not None)


def _names(*expressions: Any) -> list[str]:
    return sorted({symbol.name for expression in expressions for symbol in expression.free_symbols})


def _same_number(gold: Any, answer: Any) -> bool | None:
    from sympy import Float

    enough, exact = _digits_needed(gold, answer)
    first, second = (reliable_value(side, {}, enough, real=False) for side in (gold, answer))
    if gold.has(Float) or answer.has(Float):
        if _far_apart(first, second, TOLERANCE, COARSE):
            return False
        return True if agree(first, second, enough) else None
    if infinite(first) or infinite(second):
        return False if infinite(first) != infinite(second) else None
    equal = agree(first, second, enough)
    return None if equal and not exact else equal


def _same_formula(gold: Any, answer: Any) -> bool | None:
    from sympy import Abs, Float, Max, Min, Symbol, sign

    if isinstance(gold, Symbol) and isinstance(answer, Symbol):
        return None  # names, not values
    named, whole = _names(gold, answer), _whole(gold)
    enough, exact = _digits_needed(gold, answer)
    decimals, agreed = gold.has(Float) or answer.has(Float), 0
    for point in _positive_points(named, whole, (gold, answer)):
        values = _both(gold, answer, point, enough)
        if values is None:
            continue
        if not agree(*values, enough):
            return None if decimals and not _far_apart(*values, TOLERANCE, COARSE) else False
        agreed += 1
    bent = any(part.free_symbols for part in gold.atoms(Abs, Max, Min, sign)) and not answer.has(Abs, Max, Min, sign)
    if agreed < FEWEST_POINTS or bent or not exact:
        return None
    for point in _negative_points(named, whole):
        values = _both(gold, answer, point, enough)
        if values is not None and not agree(*values, enough):
            return None
    return True


def _digits_needed(*expressions: Any) -> tuple[int, bool]:
    """The digits of an evaluation in which no constant is lost in a sum, and whether they are affordable."""
    size = sum(digits(expression) for expression in expressions)
    return int(30 + min(size, MAX_DIGITS)), size <= MAX_DIGITS


def _both(gold: Any, answer: Any, point: dict[str, Fraction], enough: int) -> tuple[Any, Any] | None:
    """The two values at a point; ``None`` where one side has no value, or none that is affordable."""
    from sympy import I

    real = not gold.has(I) and not answer.has(I)
    try:
        first = reliable_value(gold, point, enough, real)
        return None if infinite(first) else (first, reliable_value(answer, point, enough, real))
    except (Undefined, Unknown):
        return None


def _whole(gold: Any) -> set[str]:
    """Letters that stand for whole numbers, as the reference shows."""
    from sympy import Pow, binomial, ceiling, factorial, floor

    whole = {symbol.name for part in gold.atoms(factorial, binomial) for symbol in part.free_symbols}
    whole |= {symbol.name for part in gold.atoms(Pow) if part.base.is_negative for symbol in part.exp.free_symbols}
    floors = {symbol.name for part in gold.atoms(floor, ceiling) for symbol in part.free_symbols}
    return whole | (floors & {"n", "m", "k", "N"})


def _positive_points(names: list[str], whole: set[str], sides: tuple[Any, ...]) -> Iterator[dict[str, Fraction]]:
    """Points of different sizes. In every third one the letters differ in size, too. The last lies beyond all constants."""
    generator = random.Random(0)
    largest = 10 ** int(min(60, max(digits(side) for side in sides)))
    sizes = (*_SIZES, 1000 * largest + 7) * (2 if whole else 1)
    for index, size in enumerate(sizes):
        point = {}
        for place, name in enumerate(names):
            if name in whole:
                point[name] = Fraction(_WHOLE[(index + (5, 7)[index >= 10] * place) % len(_WHOLE)])
            else:
                spread = 10.0 ** ((3 * place + index) % 5 - 2) if index % 3 == 2 else 1.0
                point[name] = Fraction(size) * Fraction(round(generator.uniform(0.5, 1.5) * spread * 10**9), 10**9)
        yield point


def _negative_points(names: list[str], whole: set[str]) -> Iterator[dict[str, Fraction]]:
    """Points at which all letters are negative, then every second one, then the others, then the first one."""
    generator = random.Random(1)
    for signs in range(4 if len(names) > 1 else 1):
        for size in _NEGATIVE_SIZES:
            point = {}
            for place, name in enumerate(names):
                negative = signs == 0 or (signs == 3 and place == 0) or (signs in (1, 2) and (place + signs) % 2 == 0)
                value = Fraction(size) * Fraction(round(generator.uniform(0.5, 1.5) * 10**9), 10**9)
                point[name] = Fraction(_WHOLE[(signs + place) % 6]) if name in whole else -value if negative else value
            yield point


def _far_apart(first: Any, second: Any, tolerance: float, coarse: float) -> bool:
    if infinite(first) or infinite(second):
        return infinite(first) != infinite(second)
    difference, scale = abs(first - second), max(abs(first), abs(second))
    return bool(difference > tolerance * max(1, scale) or difference > coarse * scale)
