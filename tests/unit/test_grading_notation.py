r"""What notation says: the order of letters, factors and units, primes, dots, bases, points and sets.

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
    (r"\triangle ACB", r"\triangle ABC", True),
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
    (r"2\sqrt{3}\, m", r"2\sqrt3", True),
    (r"2\pi\;m", r"2\pi", True),
    ("(3) m", "3", True),
    (r"5\,\mathbf{m}", "5", True),
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
PRIMES = [
    ("y = 2y", "y' = 2y", False),
    ("2y", "y' = 2y", True),
    ("f(x)=2x", "f'(x)=2x", False),
    ("f'(x)=2x", "2x", True),
    ("y+y=0", "y''+y=0", False),
    ("y+y''=0", "y''+y=0", True),
    ("y''", "y'", False),
    ("f''(2)", "f'(2)", False),
    ("AB", "A'B'", False),
    ("B'A'", "A'B'", True),
    ("A", "A'", False),
    (r"f^{\prime}(x)", "f'(x)", True),
    (r"f^\prime(x)", "f'(x)", True),
    (r"f^{\prime\prime}(x)", "f''(x)", True),
    ("f'g'", "g'f'", True),
    ("fg'+f'g", "f'g+fg'", True),
    ("fg'+gf", "f'g+fg'", False),
    ("f(g(x))", "f'(g(x))", False),
    ("(fg)'", "fg", False),
    ("x_1", "x_1'", False),
    ("x'_1", "x_1'", True),
    ("x_{n+1}'", "x'_{n+1}", True),
    (r"\theta'", r"\theta", False),
    ("e^{y'}", "e^{y}", False),
    (r"\mathbf{x}'", r"\mathbf{x}", False),
    # Quotes, apostrophes, feet and minutes are no primes.
    ("'yes'", "yes", True),
    ("''east''", "east", True),
    (r"\text{Euler's formula}", "Euler's formula", True),
    ("5 o'clock", "5", True),
    ("5'", "5", True),
    (r"30^\circ 15'", r"30.25^\circ", True),
]
DOTS = [
    # Dots stand for terms.
    (r"1,2,\ldots,5", "1,2,5", False),
    ("1,2,5", r"1,2,\ldots,5", False),
    (r"1,2,3,\ldots", "1,2,3", False),
    (r"(1,2,\ldots)", "(1,2)", False),
    (r"1+2+\ldots+5", "8", False),
    (r"1\cdot2\cdot\ldots\cdot5", "10", False),
    (r"1+2+\ldots+5 = 15", "15", True),
    ("x_1+x_n", r"x_1 + \dots + x_n", False),
    ("1,2,3...", "1,2,3", False),
    # All dots are alike.
    ("1, 2, ..., n", r"1,2,\ldots,n", True),
    (r"1, 2, \dots, n", r"1,2,\ldots,n", True),
    (r"\{1,2,\ldots,5\}", r"1,2,\dots,5", True),
    (r"x_1+\cdots+x_n", r"x_1 + \dots + x_n", True),
    # After a decimal, they are a period or digits that are left out.
    (r"0.333\ldots", "1/3", True),
    ("0.333...", "1/3", True),
    (r"0.333\ldots", "0.333", False),
    ("0.333", r"0.333\ldots", False),
    (r"0.1666\ldots", "1/6", True),
    (r"0.1212\ldots", r"\frac{4}{33}", True),
    (r"0.999\ldots", "1", True),
    (r"2.718281828\ldots", "e", True),
    (r"3.14159265\ldots", r"\pi", True),
    (r"3.14\ldots", r"\pi", False),
    ("3.14...", "3.14", True),
    (r"0.333\ldots = \frac13", "1/3", True),
    ("0.33...", "1/3", False),  # two digits may be rounded
    (r"42\ldots", "42", True),
    (r"4\ldots 2", "42", False),
    (r"3.1\ldots 4", "3.14", False),
]
PERIODS = [
    (r"0.\bar{3}", "1/3", True),
    (r"0.\bar 3", "1/3", True),
    (r"0.\dot{3}", "1/3", True),
    ("0.(3)", "1/3", True),
    ("0.1(6)", "1/6", True),
    ("0.(6)", "1/3", False),
    ("0.(3)", "0", False),
    (r"0.\bar{3}", "0.33", False),
    (r"3.\bar{6}", r"\frac{11}{3}", True),
    (r"0.\dot{1}4285\dot{7}", "1/7", True),
    (r"-0.\overline{3}", "-1/3", True),
    (r"16.\overline{6}\%", "1/6", True),
    (r"x=0.\overline{3}", "1/3", True),
    (r"0.\overline{3}x", "x/3", True),
    (r"\bar{3}", "3", False),
]
TRANSPOSES = [
    ("AB", "A^TB", False),
    ("A^TB", "AB", False),
    ("A A^T", "A^2", False),
    ("A", r"A^{T}", False),
    (r"\mathbf{A}^T", r"\mathbf{A}", False),
    ("(AB)^T", "AB", False),
    ("(AB)^T", "B^TA^T", True),
    ("A^{-1}", "A^T", False),
    (r"A^\top", "A^T", True),
    (r"A^{\top}B", "A^{T}B", True),
    (r"A^{\mathsf{T}}B", "A^TB", True),
    (r"A^{\mathrm{T}}B", "A^TB", True),
    (r"\mathbf{A}^T\mathbf{A}", r"\mathbf{A}^{\top}\mathbf{A}", True),
    (r"(A^T)^{-1}", "(A^{-1})^T", True),
    # A matrix in numbers is transposed.
    (r"\begin{pmatrix}1&2\end{pmatrix}^T", r"\begin{pmatrix}1\\2\end{pmatrix}", True),
    (r"\begin{pmatrix}1&2\end{pmatrix}^{\top}", r"\begin{pmatrix}1&2\end{pmatrix}", False),
    # A power.
    (r"\frac{T^2}{2}", r"\int_0^T x dx", True),
    ("(1+r)^T", "1+r", False),
    ("(r+1)^{T}", "(1+r)^T", True),
    ("2^T", "2", False),
]
BASES = [
    ("(101)_{2}", "101_2", True),
    ("(101)_2", "101_{2}", True),
    (r"\left(101\right)_2", "101_2", True),
    (r"101_{\text{two}}", "101_2", True),
    ("101_{two}", "(101)_{2}", True),
    (r"1F_{16}", r"(1f)_{\text{sixteen}}", True),
    ("101", "(101)_{2}", True),
    ("(102)_{2}", "102", False),  # no such digit
    ("(101)_{2}", "101_3", False),
    ("101_3", r"101_{\text{two}}", False),
    ("10100", "(101)_{2}", False),  # 101 · 100, a falling factorial
    ("(5)_{2}", "20", False),
    ("(5)_{2}", "20.0", False),
    ("(n)_{k}", r"\frac{n!}{(n-k)!}", True),
]
POINTS_AND_SETS = [
    (r"\{0,1\}", "(0,1)", False),  # two numbers, and all numbers between them
    (r"\left\{0,1\right\}", "(0,1)", False),
    ("(0,1)", r"\{0,1\}", False),
    ("(2,1)", r"\{1,2\}", False),
    (r"\{2,1\}", "(2,1)", False),
    # A list without brackets may be a point, in its order.
    ("0,1", "(0,1)", True),
    ("(1,2)", "1,2", True),
    ("2,1", "(1,2)", False),
    ("(2,1)", "1,2", False),
    ("[2,1]", "1,2", False),
    ("2,1", "(2,1)", True),
    ("(3,2,1)", "1,2,3", False),
    ("1,2,3", "(1,2,3)", True),
    ("(1,1)", "1,1", True),
    ("(x, 2)", "2, x", False),
    ("(x, 2)", "x, 2", True),
    ("x=1,y=2", "(1,2)", True),
    ("(1,2)", "x=1,y=2", True),
    # Two lists.
    ("2,1", "1,2", True),
    (r"\{2,1\}", "1,2", True),
    ("(3,4),(1,2)", "(1,2),(3,4)", True),
    (r"\{-1,1\}", r"\pm 1", True),
]
BOLD_LETTERS = [  # vectors, not units
    ("3", r"3\mathbf{i}+4\mathbf{j}", False),
    (r"3\mathbf{i}+4\mathbf{j}", r"4\mathbf{j}+3\mathbf{i}", True),
    ("2", r"2\mathbf{v}", False),
    ("2v", r"2\mathbf{v}", True),
]
CHAINS = [
    ("c>b>a", "a<b<c", True),
    ("a<b<c", "c>b>a", True),
    ("a>b>c", "a<b<c", False),
    ("b>c>a", "a<b<c", False),
    (r"x_{3} > x_{2} \geq x_{1}", r"x_1 \le x_2 < x_3", True),
    (r"x_3 > x_2 > x_1", r"x_1 \le x_2 < x_3", False),
    ("3>x>1", "1<x<3", True),
    ("3≥x>1", "(1,3]", True),
    (r"\{x\mid 3>x>1\}", r"\{x\mid 1<x<3\}", True),
    ("x>3", "3<x", True),
]
GREEK = [
    (r"\phi", r"\varphi", True),
    (r"2\varepsilon+1", r"1 + 2\epsilon", True),
    (r"\sin\vartheta", r"\sin\theta", True),
    (r"\varphi", r"\psi", False),
    (r"\varnothing", r"\emptyset", True),
]
KINDS = {
    "order of letters": ORDER_OF_LETTERS,
    "factors and units": FACTORS_AND_UNITS,
    "primes": PRIMES,
    "dots": DOTS,
    "periods": PERIODS,
    "transposes": TRANSPOSES,
    "bases": BASES,
    "points and sets": POINTS_AND_SETS,
    "bold letters": BOLD_LETTERS,
    "chains": CHAINS,
    "Greek letters": GREEK,
}


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [pytest.param(*row, id=f"{kind}: {row[0]} for {row[1]}") for kind, rows in KINDS.items() for row in rows],
)
def test_the_verdict_is_the_right_one(answer, gold, right):
    assert grade(answer, gold).correct is right
