"""What saves work in the child process: huge numbers are refused, and expressions are compared by value."""

import pytest
import sympy
from math_verify import verify

from verl_efficiency.grading.evaluate import too_large
from verl_efficiency.grading.parse import read
from verl_efficiency.grading.values import contradicts_itself, same_value


def expression(text: str):
    return next(item for item in read(text) if not isinstance(item, str))


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9}}",
        "2^{-10^{10}}",
        "1.5^{10^{9}}",
        "(10^8)!",
        "((9!)!)!",
        "(x+1)^{1000000}",
        r"\{1, 9^{9^9}\}",
        "x = 9^{9^9}",
        r"\begin{pmatrix} 1 & 9^{9^9} \end{pmatrix}",
        r"9^{9^9} \mod 7",
        r"\sqrt{9^{9^9}}",
    ],
)
def test_too_large(text):
    assert too_large(expression(text))


@pytest.mark.parametrize(
    "text",
    [
        "2^{1009}",
        "100!",
        "10^{-30}",
        "x^{1000000}",
        "2^{x^9}",
        r"\sqrt[1000000000]{2}",
        "7^{99999}",
        r"e^{-x^2}",
        "(1,2)",
        "x",
        r"\frac{100!}{2^{50}}",
        r"\begin{pmatrix} 1 & 2 \end{pmatrix}",
        "n!",
        r"\lfloor \pi^{2000} \rfloor",
    ],
)
def test_not_too_large(text):
    assert not too_large(expression(text))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x + 1", "x + 2"),
        (r"\sqrt{2}", r"\sqrt{3}"),
        ("x y", "x + y"),
        (r"\sin x", r"\cos x"),
        ("3 + i", "3 - i"),
        (r"\frac{n(n+1)}{2}", "5"),
        ("10^{40}", "10^{41}"),
        (r"\infty^3", "1.5"),
        (r"-\infty", "0"),
        ("10^{400}", "10^{401}"),
        ("10^{40}", "10^{40} + 1"),
    ],
)
def test_different_values(left, right):
    assert same_value(expression(left), expression(right)) is False
    assert not verify(expression(left), expression(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (r"\sqrt{x^2}", "x"),  # equal for positive x only: left to math-verify
        ("1.000001", "1.0000005"),
        ("x", "y"),  # names, not values
        ("x = 5", "5"),
        (r"\{1\}", "1"),
        ("(1, 2)", "(1, 3)"),
        ("f(2)", "f(3)"),
        (r"\frac{1}{0}", "1"),
        (r"\infty^3", r"\infty"),
        (r"\int_0^1 x dx", "1"),
        (r"\sum_{n=1}^{3} n", "1"),
    ],
)
def test_nothing_is_said(left, right):
    assert same_value(expression(left), expression(right)) is None


@pytest.mark.parametrize("text", [r"\sqrt{3} = \sqrt{2}", r"\pi = 3", "x + 1 = x + 2", "2x = 3x", r"e^2 = 7"])
def test_contradictions(text):
    assert contradicts_itself([expression(text)])


@pytest.mark.parametrize(
    "text",
    ["6 = 2 + 4", r"10\pi = 31.4", "ab = 12", "y = 2x", "x = x^2", "f(2) = 5", "s_{10} = 4", "(x+1)^2 = x^2 + 2x + 1"],
)
def test_no_contradictions(text):
    assert not contradicts_itself([expression(text)])


@pytest.mark.parametrize("rewrite", [sympy.expand, sympy.factor, sympy.together, sympy.simplify])
@pytest.mark.parametrize(
    "text",
    [
        r"\frac{x^2 - 1}{x + 1}",
        r"(x + 1)^3 - x",
        r"\sqrt{x^2 + 2x + 1}",
        r"\frac{1}{x} + \frac{1}{x + 2}",
        r"\frac{\sqrt{5} - 1}{\sqrt{5} + 1}",
        r"\sin(2x) + e^{x} \cdot e^{2}",
        r"\log(8 x)",
    ],
)
def test_equal_expressions_are_never_told_apart(text, rewrite):
    original = expression(text)
    assert same_value(original, rewrite(original.doit())) is not False


def test_a_point_beyond_all_constants_tells_formulas_apart():
    """√((x - 10⁹)²) equals 10⁹ - x only up to x = 10⁹."""
    assert same_value(expression("10^9 - x"), expression(r"\sqrt{(x - 10^9)^2}")) is False


@pytest.mark.parametrize("text", ["10^{-5}", r"\sqrt{2}", "e^{-90}", r"\pi^{-40}"])
def test_a_sum_that_cancels_is_zero_and_what_is_left_is_not(text):
    zero = rf"{text} + \sqrt{{2}} + \sqrt{{3}} - \sqrt{{5 + 2\sqrt{{6}}}} - {text}"
    assert same_value(expression("0"), expression(zero)) is True
    assert same_value(expression("0"), expression(f"{zero} + 10^{{-60}}")) is False
    assert same_value(expression("10^{-60}"), expression(f"{zero} + 10^{{-60}}")) is True
