"""What the fast path decides, what it leaves to math-verify, and what it keeps from it."""

import random
from fractions import Fraction

import pytest

from verl_efficiency.grading import quick_equal
from verl_efficiency.grading.clean import misread, spell_out
from verl_efficiency.grading.quick import read_number

EQUAL = [
    ("42", "42"),
    ("-5", "- 5"),
    ("+5", "5"),
    ("007", "7"),
    ("-0", "0"),
    ("42.", "42"),
    ("18.0", "18"),
    (".5", "1/2"),
    ("0.50", r"\frac{1}{2}"),
    ("1,000", "1000"),
    ("2,000,000.50", "2000000.5"),
    (r"1{,}000", "1000"),
    (r"10,\!000", "10000"),
    (r"1\,000\,000", "1000000"),
    ("1 000", "1000"),
    (r"\$18", "18"),
    ("$18$", "18"),
    (r"-\$18", "-18"),
    ("7/14", "1/2"),
    (r"\dfrac{1}{5}", r"\tfrac{2}{10}"),
    (r"\frac15", "0.2"),
    (r"\frac {1} {5}", "1/5"),
    (r"-\frac{1}{5}", r"\frac{-1}{5}"),
    (r"1\frac{1}{2}", "3/2"),
    ("1 1/2", "1.5"),
    ("-1 1/2", "-1.5"),
    (r"50\%", "50%"),
    (r"50\%", "0.5"),
    ("1/2", r"50 \%"),
    (r"50\%", "50"),
    ("62.5", "62.5%"),
    ("3e8", r"3 \times 10^8"),
    ("2.5E-3", "0.0025"),
    (r"3.0\cdot 10^{8}", "300000000"),
    ("\N{MINUS SIGN}5", "-5"),
    ("x", "x"),
    (r"\text{Evelyn}", r"\text{Evelyn}"),
    (r"\left( 3, \dfrac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    ("x + 1", "x+1"),
    ("$x$", "x"),
    ("52_8", "52_{8}"),
    ("52", "52_8"),
    ("52_8", "52"),
    ("1f_{16}", "1F_16"),
    ("9^{9^{9^9}}", "9^{9^{9^9}}"),
    (r"0.\overline{3}", "1/3"),
    (r"-1.2\overline{45}", r"-\frac{137}{110}"),
    (r"\text{10:30 AM}", r"10:30 \text{ AM}"),
    ("YES", r"\text{yes}"),
    (r"\textbf{(C)}\ 12", "C"),
    ("C", r"\textbf{(C) } 12"),
    ("(C)", r"\text{C: } 12"),
]
UNEQUAL = [
    ("41", "42"),
    ("5", "-5"),
    ("1,000", "1,001"),
    ("100,000", "1000"),
    ("0.3", "1/3"),
    ("0.333", "1/3"),
    ("1/2", "1/3"),
    ("18.01", "18"),
    ("3 000", "3"),  # math-verify reads 3 + 0
    ("-2 1/2", "-3/2"),  # math-verify reads -2 + 1/2
    ("0.5%", "0.5"),
    (r"50\%", "51"),
    (r"50\%", r"5\%"),
    ("0.0000001", "0.0000002"),  # equal to six decimals
    ("1e-9", "0"),
    ("3e8", "3e9"),
    ("52_8", "52_9"),
    ("53_8", "52_8"),
    ("5_0", "5"),  # no base
    ("59_8", "59"),  # no such digit
]
LEFT_TO_MATH_VERIFY = [
    ("x + 1", "1 + x"),
    ("xy", "x y"),
    ("3 4", "34"),
    ("0.333333", "1/3"),
    ("0.33333333333333333333", "1/3"),
    ("1/0", "2"),
    ("12,34", "1234"),
    ("1,0000", "10000"),
    ("5.0.0", "5"),
    ("2^3", "8"),
    ("x = 5", "5"),
    ("x_1", "X_1"),
    ("5_000", "5"),
    ("18 dollars", "18"),
    (r"18 \text{ cm}", "18"),
    ("\N{ARABIC-INDIC DIGIT THREE}", "3"),
    ("\N{FULLWIDTH DIGIT THREE}", "3"),
    ("4\N{FULLWIDTH DIGIT TWO}", "42"),
    ("1\N{ZERO WIDTH SPACE}2", "12"),
    ("l0", "10"),
    ("1O", "10"),
    ("4\x002", "42"),
    (r"\displaystyle", r"\displaystyle"),  # the same text, and nothing in it
    ("$", "$"),
    ("7" * 80, "7" * 79),
    ("infinity", "nan"),
]


@pytest.mark.parametrize(("answer", "gold"), EQUAL)
def test_equal(answer, gold):
    assert quick_equal(answer, gold) is True


@pytest.mark.parametrize(("answer", "gold"), UNEQUAL)
def test_unequal(answer, gold):
    assert quick_equal(answer, gold) is False


@pytest.mark.parametrize(("answer", "gold"), LEFT_TO_MATH_VERIFY)
def test_left_to_math_verify(answer, gold):
    assert quick_equal(answer, gold) is None


def written(value: Fraction, generator: random.Random) -> str:
    """One of the ways to write ``value`` exactly."""
    sign, size = "-" * (value < 0), abs(value)
    ways = [f"{size.numerator}/{size.denominator}", rf"\frac{{{2 * size.numerator}}}{{{2 * size.denominator}}}"]
    if size.denominator == 1:
        ways += [f"{size.numerator}", f"{size.numerator:,}", f"{size.numerator}.0", rf"\${size.numerator:,}.00"]
    if 10**6 % size.denominator == 0:
        ways += [f"{float(size):.6f}", rf"{float(100 * size):.4f}\%"]
    if size > 1 and size.denominator > 1:
        ways += [rf"{int(size)}\frac{{{(size % 1).numerator}}}{{{size.denominator}}}"]
    return sign + generator.choice(ways)


def test_a_number_is_its_value_however_it_is_written():
    """10,000 pairs of numbers with known values in random notation, half of them equal."""
    generator = random.Random(0)
    decided = 0
    for _ in range(10_000):
        left = Fraction(generator.randint(-5000, 5000), generator.choice([1, 1, 1, 2, 3, 4, 5, 7, 8, 10, 100, 625]))
        right = left if generator.random() < 0.5 else left + Fraction(generator.choice([-3, -1, 1, 2]), 7)
        answer, gold = written(left, generator), written(right, generator)
        verdict = quick_equal(answer, gold)
        # The percent sign also stands for the number before it: 50% is 0.5 and 50.
        assert verdict is (left == right) or "%" in answer + gold, (answer, gold)
        if left == right:
            assert verdict is True, (answer, gold)
        decided += verdict is not None
    assert decided == 10_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,024.50", Fraction(2049, 2)),
        (r"-2\frac{1}{4}", Fraction(-9, 4)),
        ("2e-3", Fraction(1, 500)),
        (r"\frac{-7}{2}", Fraction(-7, 2)),
        (r".\overline{142857}", Fraction(1, 7)),
        (r"3.1\overline{6}\%", Fraction(19, 6)),
    ],
)
def test_value_of_a_number(text, value):
    number = read_number(text)
    assert number is not None
    assert number.value == value


@pytest.mark.parametrize(
    "text", ["", " ", "-", "x", "1/0", r"2\frac{-1}{3}", "1,2", "1.2.3", "--1", "1e9999", r"10^{3}", "٣", "½", "²"]
)
def test_no_plain_number(text):
    assert read_number(text) is None


def test_spelled_out_for_math_verify():
    assert spell_out("3e8 + 2.5E-3") == r"3\times 10^{8} + 2.5\times 10^{-3}"
    assert spell_out("x_{2e3}e^{2}") == "x_{2e3}e^{2}"
    assert spell_out("2e") == "2e"
    assert spell_out("5·√(x+1) ≥ −3½") == r"5\cdot \sqrt{x+1} \ge  -3\frac{1}{2}"
    assert spell_out("10⁻³ m²") == "10^{-3} m^{2}"
    assert spell_out("４２ ٣ х") == "４２ ٣ х"  # digits and letters of other scripts stay


MISREAD = [
    "3 4",
    "3\n4",
    r"3\,4",
    r"3 \quad 4",
    "{3}{4}",
    "3{4}",
    "(3)(4)",
    "2(3)",
    "3_{4}",
    "5_000",
    "5.0.0",
    "3 s 4",
    "3c 4c 5",
    r"3 \text{4}",
    r"3 \text{; 4}",
    r"\frac{1}{2} = \frac{1}{3}",
    r"3 \text{ or four}",
    r"3 \text{ is wrong, it is 4}",
    r"3 \mathbf{4}",
    r"3\text{ cm}, 4\text{ cm}",
    r"3 \text{ if } x = 4 \text{ or so}",
    "3 = 4",
    "{3} = {4}",
    "x = 3 = 4",
    "x = 3 := 4",
    r"3 \to 4",
    r"3 \equiv 4",
    r"3 \approx 4",
    r"3 \boxed{4}",
    r"\fbox{3} 4",
    "3} + {4",
    "{3",
    "3}",
]
READ_AS_WRITTEN = [
    "3",
    "x = 3",
    "x = y = 3",
    "1 + 2 = 3",
    "3 = 3.0",
    r"\frac{22}{7} \approx 3.14",
    r"3 \frac{1}{2}",
    r"\frac 1 2",
    r"\frac{1}{2}",
    r"\binom{5}{2}",
    r"\log_2 8",
    r"\log_{2}(8)",
    r"\sqrt[3]{8}",
    r"\sqrt 2",
    "x_1",
    "x_{12} + 3",
    "x^2 3",
    "2^{10}",
    "2(3)^{n-1}",
    "f(2)",
    r"3 \text{ cm}",
    "P(X=2) = 0.5",
    r"P(3 \le X = 4) = \frac{1}{3}",
    r"\sum_{n=1}^{3} n = 6",
    r"\lim_{x \to 2} = 4",
    r"\frac{2}{3} = 0.667",
    r"3 \text{ cm}^2",
    r"3 \mathrm{~m/s}^{2}",
    r"3 \text{ or } 4",
    r"\text{(C)}",
    r"\text{Answer: 3}",
    r"\{1, 2\}",
    "(1, 2)",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    r"x \le 3",
    "x >= 3",
    r"\frac{270}7\text{ degrees}",
    "(2n+1)(2n-1)",
    "2x^2y^3",
]


@pytest.mark.parametrize("text", MISREAD)
def test_misread(text):
    assert misread(text)


@pytest.mark.parametrize("text", READ_AS_WRITTEN)
def test_read_as_written(text):
    assert not misread(text)
