r"""What notation says: the order of letters, factors beside units.

Each row is (answer, reference, right), the right value found by hand.
"""

import pytest

from verl_efficiency.grading import grade

ORDER_OF_LETTERS = [
    # Names of points, sequences of outcomes and bases, numerals, words: the order is what they say.
    ("ACB", "ABC", False),
    ("A C B", "ABC", False),
    ("A B C", "ABC", True),
    (r"\mathrm{ACB}", "ABC", False),
    ("BDAC", "ABCD", False),
    (r"\triangle ACB", r"\triangle ABC", False),
    ("HHT", "HTH", False),
    ("ATGC", "ATCG", False),
    ("XIV", "XVI", False),
    ("VI", "IV", False),
    ("XI", "IX", False),
    ("XVI", "XVI", True),
    ("listen", "silent", False),
    ("seat", "east", False),
    # An angle has two names; both have the vertex in the middle.
    (r"\angle ACB", r"\angle ABC", False),
    (r"\angle CBA", r"\angle ABC", True),
    (r"\angle{ACB}", r"\angle ABC", False),
    (r"m\angle ACB", r"m\angle ABC", False),
    (r"m\angle CBA", r"m\angle ABC", True),
    # Products, and the two ends of a segment.
    ("BA", "AB", True),
    ("DC", "CD", True),
    ("hgm", "mgh", True),
    ("zyx", "xyz", True),
    ("cab", "abc", True),
    ("nTR", "nRT", True),
    ("2ACB", "2ABC", True),
    ("S = ACB", "S = ABC", True),
]
FACTORS_AND_UNITS = [
    # Letters side by side are factors.
    ("2", "2 a b", False),
    ("2 a b", "2ab", True),
    ("2 a x", "2 b y", False),
    (r"\frac12", r"\frac{1}{2} a b", False),
    (r"\frac{ab}{2}", r"\frac{1}{2} a b", True),
    ("a^2 + b^2 + 2", "a^2 + b^2 + 2 a b", False),
    ("2 p + m", "2", False),
    ("2 p + m", "m+2p", True),
    (r"\pi", r"\pi a b", False),
    (r"\pi", r"\pi rs", False),
    (r"\pi rs", r"\pi sr", True),
    ("2", "2ds", False),
    ("2", "2rs", False),
    ("2rs", "2sr", True),
    ("2", "2by", False),
    ("2", "2t", False),
    ("2", "2 c", False),
    ("a b + b c + c a", "ab+bc+ca", True),
    ("ab+bc", "a b + b c + c a", False),
    ("a x + b y", "ax+by", True),
    ("y = c x", "y=cx", True),
    ("S = a b", "ab", True),
    (r"\frac{1}{2 a }", r"\frac{1}{2a}", True),
    (r"2\pi", r"2\pi rh", False),
    # A letter that could be a unit, but stands after no value.
    ("1 - h", "-h+1", True),
    ("2 + s", "s+2", True),
    ("a, c", "c, a", True),
    (r"\sin h", r"\sin(h)", True),
    # Units after a value.
    (r"\frac{3}{2}m", r"\frac32", True),
    (r"2\sqrt{3} m", r"2\sqrt3", True),
    ("(3) m", "3", True),
    (r"\sqrt{2}cm", r"\sqrt2", True),
    (r"\sqrt{2}ms", r"\sqrt2", True),
    (r"\sqrt{2} children tickets", r"\sqrt2", True),
    (r"2\sqrt{3} sq cm", r"2\sqrt3", True),
    (r"2\pi cubic feet", r"2\pi", True),
    (r"\frac{1}{2}hrs", r"\frac12", True),
    (r"\frac{2}{3}\text{ cm}^2", r"\frac23", True),
    ("x+1 cm", "x+1", True),
    (r"\{1, 2\} cm", r"\{1,2\}", True),
    ("500 rs", "500", True),
    ("500 rs", "500 rupees", True),
]
KINDS = {
    "order of letters": ORDER_OF_LETTERS,
    "factors and units": FACTORS_AND_UNITS,
}


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [pytest.param(*row, id=f"{kind}: {row[0]} for {row[1]}") for kind, rows in KINDS.items() for row in rows],
)
def test_the_verdict_is_the_right_one(answer, gold, right):
    assert grade(answer, gold).correct is right
