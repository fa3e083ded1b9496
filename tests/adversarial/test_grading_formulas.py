"""Generated formulas and small numbers with known truth: letters that differ in case, values far below 1."""

import random
from fractions import Fraction

import pytest

from verl_efficiency.grading import PoolSettings, configure, grade_batch, shutdown

PAIRS = ["rR", "mM", "vV", "tT", "pP", "nN", "aA", "xX"]


@pytest.fixture(autouse=True, scope="module")
def pool():
    configure(PoolSettings(workers=2))
    yield
    shutdown()


Monomial = dict[str, int]  # letter: exponent


def random_monomial(generator: random.Random, letters: str) -> Monomial:
    return {letter: generator.choice([-2, -1, 1, 2, 3]) for letter in letters}


def power(letter: str, exponent: int) -> str:
    return letter if exponent == 1 else f"{letter}^{{{exponent}}}"


def written(monomial: Monomial, coefficient: Fraction, generator: random.Random) -> str:
    """One of the ways to write a product of powers."""
    factors = [(letter, exponent) for letter, exponent in monomial.items() if exponent]
    generator.shuffle(factors)
    above = "".join(power(*factor) for factor in factors if factor[1] > 0)
    below = "".join(power(letter, -exponent) for letter, exponent in factors if exponent < 0)
    top = f"{coefficient.numerator}{above}" if coefficient.numerator != 1 or not above else above
    bottom = f"{coefficient.denominator}{below}" if coefficient.denominator != 1 or not below else below
    if generator.random() < 0.3:
        body = "".join(power(*factor) for factor in factors)
        return rf"\frac{{{coefficient.numerator}}}{{{coefficient.denominator}}}{body}"
    return rf"\frac{{{top}}}{{{bottom}}}" if bottom != "1" else top


def swapped(monomial: Monomial, letters: str, generator: random.Random) -> Monomial:
    """The exponents of the two letters exchanged, or one letter in the other's case."""
    small, capital = letters[:2]
    if generator.random() < 0.5:
        return monomial | {small: monomial[capital], capital: monomial[small]}
    return monomial | {small: monomial[small] - 1, capital: monomial[capital] + 1}


def check(cases: list[tuple[str, str, bool]]) -> None:
    verdicts = grade_batch([answer for answer, _, _ in cases], [gold for _, gold, _ in cases], deadline=10)
    unlike = [case for case, verdict in zip(cases, verdicts, strict=True) if verdict.correct is not case[2]]
    assert unlike == []


def test_products_of_letters_that_differ_in_case():
    generator, cases = random.Random(0), []
    for _ in range(200):
        letters = generator.choice(PAIRS) + generator.choice(["", "g", "k", "w"])
        monomial, coefficient = (
            random_monomial(generator, letters),
            Fraction(generator.randint(1, 9), generator.randint(1, 9)),
        )
        other = monomial if generator.random() < 0.4 else swapped(monomial, letters, generator)
        answer, gold = (written(which, coefficient, generator) for which in (other, monomial))
        cases.append((answer, gold, other == monomial))
    assert 60 < sum(right for _, _, right in cases) < 140
    check(cases)


@pytest.mark.parametrize(
    "frame", [r"\frac{{{0}-{1}}}{{{0}+{1}}}", r"\sqrt{{{0}^2-{1}^2}}", r"{0}e^{{-{1}}}", r"({0}, {1}^2)"]
)
def test_formulas_in_which_the_two_are_exchanged(frame):
    cases = []
    for pair in PAIRS:
        gold, other, folded = frame.format(*pair), frame.format(*reversed(pair)), frame.format(*pair.lower())
        cases += [(other, gold, False), (folded, gold, False), (gold, gold, True)]
    check(cases)


def tiny(value: Fraction, generator: random.Random) -> str:
    """One of the ways to write a rational number, exactly."""
    top, bottom = value.numerator, value.denominator
    factor = generator.randint(2, 99)
    ways = [
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"\frac{{{top * factor}}}{{{bottom * factor}}}",
        rf"{top} \cdot {bottom}^{{-1}}",
    ]
    for base in (2, 3, 10):
        exponent = 0
        while bottom % base ** (exponent + 1) == 0:
            exponent += 1
        if exponent > 3 and bottom == base**exponent:
            ways += [rf"\frac{{{top}}}{{{base}^{{{exponent}}}}}", rf"{top} \cdot {base}^{{-{exponent}}}"]
            ways += [rf"{top} \times {base}^{{-{exponent}}} \text{{ m}}"]
    return generator.choice(ways)


def test_small_numbers():
    """From 10⁻⁶ down to 10⁻¹²⁰; a wrong one differs by a factor between 1.01 and 100, or is 0."""
    generator, cases = random.Random(1), []
    for _ in range(200):
        base = generator.choice([2, 3, 10])
        value = Fraction(
            generator.randint(1, 99), base ** generator.randint(*{2: (30, 400), 3: (20, 250), 10: (8, 120)}[base])
        )
        factor = (
            Fraction(1)
            if generator.random() < 0.4
            else generator.choice([Fraction(101, 100), 2, 3, Fraction(1, 100), 0])
        )
        answer = tiny(value * factor, generator) if factor else "0"
        cases.append((answer, tiny(value, generator), factor == 1))
    check(cases)


def test_small_decimals_with_a_unit():
    """Three significant digits decide below a millionth."""
    generator, cases = random.Random(2), []
    for _ in range(100):
        digits, exponent = generator.randint(100, 999), generator.randint(9, 60)
        other = digits if generator.random() < 0.4 else generator.choice([digits + 9, 1099 - digits, 2 * digits])
        answer = rf"{other / 100:.2f} \times 10^{{-{exponent}}} \text{{ C}}"
        gold = rf"{digits / 100:.2f} \times 10^{{-{exponent}}} \text{{ C}}"
        cases.append((answer, gold, other == digits))
    check(cases)


def test_a_small_term_in_a_sum_is_no_rounding():
    generator, cases = random.Random(3), []
    for _ in range(60):
        whole, exponent = (
            generator.choice(["1", r"\sqrt{2}", r"\pi", "x", r"\sin x", r"\frac{x}{y}"]),
            generator.randint(12, 90),
        )
        gold = f"{whole} + 10^{{-{exponent}}}"
        answer, right = generator.choice(
            [(whole, False), (f"{whole} + 2 \\cdot 10^{{-{exponent}}}", False), (f"10^{{-{exponent}}} + {whole}", True)]
        )
        cases.append((answer, gold, right))
    check(cases)
