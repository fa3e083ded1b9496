r"""What stands around a value: a name, a second value, a condition, the rounded value, colours. And spellings of one text.

Each row is (answer, reference, right), the right value found by hand.
"""

import pytest

from verl_efficiency.grading import grade, shutdown


@pytest.fixture(autouse=True, scope="module")
def pool():
    yield
    shutdown()


NAMES = [
    (r"y_{\max} = 5", "5", True),
    (r"y_{\text{max}}=5", "5", True),
    (r"\min f(x) = 5", "5", True),
    (r"\max = 5", "5", True),
    ("5", r"m_{\max}=5", True),
    (r"P(A|B) = \frac{3}{4}", r"\frac34", True),
    (r"P(X \geq 3) = \frac{3}{4}", r"\frac34", True),
    (r"\Pr(A) = \frac{3}{4}", r"\frac34", True),
    (r"\mathbb{P}(A) = \frac{3}{4}", r"\frac34", True),
    (r"S_{\text{shaded}}=\frac{3}{4}", r"\frac34", True),
    (r"\det A = 42", "42", True),
    (r"\dim V = 42", "42", True),
    (r"\operatorname{Var}(X) = 42", "42", True),
    (r"\#S = 42", "42", True),
    (r"\iint_D f\,dA = 42", "42", True),
    (r"\frac{dy}{dx} = 42", "42", True),
    (r"\sum_{n=1}^{10} n = 55", "55", True),
    (r"P(X=2) = \frac14", r"\frac14", True),
    (r"e=\frac34", r"\frac34", True),  # an eccentricity
    (r"x = 20\%", r"20\%", True),
    (r"P=20\%", "0.2", True),
    (r"r = 8\text{ percent}", r"8\%", True),
    ("r=0.08", r"8\%", True),
    (r"20\%", r"x=20\%", True),
    ("y(x)=e^x", "y=e^x", True),
    ("y=(x-1)e^x", "y(x)=(x-1)e^x", True),
    (r"n \equiv 1 \pmod 4", r"1 \pmod{4}", True),
    (r"P=30\%", r"20\%", False),
    (r"y_{\max} = 3", "5", False),
    ("x=5", "y=5", False),
    (r"\det A = 5", r"\dim V = 5", False),
    ("2x = 6", "x = 6", False),
    (r"f(5) = 3", "5", False),
    (r"x \text{ or } y = 5", "3, 5", False),
    ("P(3,-1)", "(3,-1)", True),
    ("A(1,2), B(3,4)", "(1,2),(3,4)", True),
    (r"\text{Vertex: }(0,2)", "(0,2)", True),
    ("P(3,-1)", "(-1,3)", False),
    (r"\text{not: }(0,2)", "(2,0)", False),
]
SECOND_VALUES = [
    # Only a comma, "and" or "or" may join two values of letters.
    (r"x=3 \lor x=5", "5", False),
    (r"x=3 \\ x=5", "5", False),
    ("$x=3$\n$x=5$", "5", False),
    (r"x = 3 \text{ (rejected) } x = 5", "5", False),
    (r"x=3 \quad x=5", "x=5", False),
    (r"x=3 \to x=5", "5", False),
    (r"x=3 \cup x=5", "5", False),
    (r"x=3 \\ y=7", "7", False),
    (r"x=-\sqrt{5} \lor x=\sqrt{5}", r"\sqrt{5}", False),
    (r"y=2x \mid y=3x", "y=3x", False),
    (r"y=2x \text{ not } y=3x", "y=3x", False),
    (r"x=3 \lor x=7", "3, 7", True),
    (r"x = 3 \vee x = 7", "3,7", True),
    ("$x=3$\n$x=7$", "3, 7", True),
    (r"x=3 \\ y=5", "(3,5)", True),
    (r"x=3 \quad y=5", "x=3, y=5", True),
    (r"x=3 \text{ or } x=7", "3, 7", True),
    # A condition does not hold a value of its own.
    (r"3 \text{ if } n=1 \text{ else } 4", "3", False),
    (r"5 \text{ unless } 6", "5", False),
    (r"5\text{ otherwise }6", "5", False),
    (r"5\text{ if not }6", "5", False),
    (r"20\%\text{ otherwise }30\%", r"20\%", False),
    (r"y=2x\text{ otherwise }y=3x", "y=2x", False),
    (r"3 \text{ if } n \text{ is odd}", "3", True),
    (r"3 \text{ for } n \ge 2", "3", True),
    (r"5 \text{ unless } n = 0", "5", True),
    (
        r"1 \text{ if } n \text{ is odd}, 4 \text{ otherwise}",
        r"4 \text{ otherwise}, 1 \text{ if } n \text{ is odd}",
        True,
    ),
    # Words that deny a value, or bring in a second one.
    (r"\pi\text{ is false}", r"\pi", False),
    (r"5\text{ is false}", "5", False),
    (r"(1,2)\text{ is excluded}", "(1,2)", False),
    (r"x+y\text{ versus }x-y\text{ ?}", "x+y", False),
    (r"\sqrt2 \text{ perhaps } \sqrt{x} \text{.}", r"\sqrt{2}", False),
    # A bare list may hold a value twice.
    ("16, 3, 1", "16,3,1,1", False),
    ("16, 16, 3, 1", "16,3,1,1", False),
    ("1, 16, 1, 3", "16,3,1,1", True),
    (r"\{1,2\}", r"\{1\},\{2\}", False),
]
ROUNDED = [
    # After ≈ stands the value before it, rounded.
    (r"\sqrt{6} \approx 2.45", "2.45", True),
    (r"\sqrt{6} \approx 2.45", r"\sqrt6", True),
    (r"x = \sqrt{6} \approx 2.45", "2.45", True),
    ("√6 ≈ 2.449", "2.449", True),
    (r"4\pi \approx 12.57", "12.57", True),
    (r"\frac{1}{6} \approx 0.17", "0.17", True),
    (r"\frac{1}{6} \approx 0.17", r"\frac16", True),
    (r"\frac{1}{6} \approx 16.7\%", r"16.7\%", True),
    (r"\sqrt{6} \approx 2.44", "2.44", False),  # 2.449…
    (r"\sqrt{6} \approx 2.5", "2.5", False),
    (r"42 \approx 43", "43", False),
    (r"\sqrt{2} \approx 99", r"\sqrt{2}", False),
    (r"\sqrt{2} \approx 99", "99", False),
    (r"\sqrt{2} \approx \sqrt{5}", r"\sqrt{2}", False),
]
SPELLINGS = [
    ("E_{1}", "E_1", True),
    (r"\mathbb{Z}_{6}", r"\mathbb{Z}_6", True),
    (r"\mathbb{R}^{2}", r"\mathbb{R}^2", True),
    ("J_{0}(1)", "J_0(1)", True),
    ("x^{2}3", "x^{23}", False),
    (r"n \equiv 1 \pmod 4", r"n \equiv 1 \pmod{4}", True),
    (r"n \equiv 1 (\text{mod } 4)", r"n \equiv 1 \pmod{4}", True),
    (r"n \equiv 1 (\mod 4)", r"n \equiv 1 \pmod{4}", True),
    (r"n \equiv 3 \pmod 4", r"n \equiv 1 \pmod{4}", False),
    (r"n \equiv 1 \pmod 8", r"n \equiv 1 \pmod{4}", False),
    (r"\text{erf}(1)", r"\operatorname{erf}(1)", True),
    (r"\text{an ellipse}", r"\text{ellipse}", True),
    (r"\text{The first player}", r"\text{first player}", True),
    (r"\text{The second player}", r"\text{first player}", False),
    ("第三象限", r"\text{第三象限}", True),
    ("第二象限", r"\text{第三象限}", False),
    (r"\text{②③}", "②③", True),
    # A reference with \log alone means the natural logarithm of an answer with \ln alone.
    (r"\frac{\pi}{4}\ln 2", r"\frac{\pi}{4}\log 2", True),
    (r"x\ln x-x", r"x\log x - x", True),
    (r"\ln 8", r"\log_2 8", False),
    (r"\ln 6", r"\log 2+\ln 3", False),
    (r"\ln 5", r"\lg 5", False),
    (r"\log_{10} 5", r"\lg 5", True),
    (r"\lg 20", r"1+\lg 2", True),
    # Vectors.
    (r"\langle 1,2,3\rangle", "(1,2,3)", True),
    (r"\langle 1,2,3\rangle", r"\begin{pmatrix}1\\2\\3\end{pmatrix}", True),
    ("(1,3,2)", r"\langle 1,2,3\rangle", False),
    (r"\langle 1,3,2\rangle", r"\begin{pmatrix}1\\2\\3\end{pmatrix}", False),
]
DRESSES = [
    ("four", "3", False),
    (r"\text{five or six}", "5", False),
    ("**42**", "42", True),
    ("`42`", "42", True),
    ("2**42", "42", False),
    (r"42 \checkmark", "42", True),
    (r"42 \quad \blacksquare", "42", True),
    ("42 ✓", "42", True),
    (r"\color{blue}42", "42", True),
    (r"{\color{red}{42}}", "42", True),
    (r"\color{red}{4}\color{blue}{2}", "42", False),
    (r"\underline{\underline{42}}", "42", True),
]
KINDS = {"names": NAMES, "second values": SECOND_VALUES, "rounded": ROUNDED, "spellings": SPELLINGS, "dresses": DRESSES}


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [pytest.param(*row, id=f"{kind}: {row[0]} for {row[1]}") for kind, rows in KINDS.items() for row in rows],
)
def test_the_verdict_is_the_right_one(answer, gold, right):
    assert grade(answer, gold).correct is right
