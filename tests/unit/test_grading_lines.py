r"""Equations in lines, functions in pieces, lists with names, several options.

Each row is (answer, reference, right), the right value found by hand.
"""

import time

import pytest

from verl_efficiency.grading import grade

SYSTEMS = [
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "(1,2)", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "x=1, y=2", True),
    (r"\begin{cases} x=1, \\ y=2. \end{cases}", "x=1, y=2", True),
    (r"\begin{cases} x &= 1 \\ y &= 2 \end{cases}", "x=1, y=2", True),
    (r"\begin{cases} x = & 1, \\[4pt] y = & 2, \end{cases}", "x=1, y=2", True),
    (r"\begin{cases} y=2 \\ x=1 \end{cases}", "x=1, y=2", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "y=2, x=1", True),
    ("x=1, y=2", r"\begin{cases} x=1 \\ y=2 \end{cases}", True),
    ("(1,2)", r"\begin{cases} x=1 \\ y=2 \end{cases}", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", r"\begin{cases} y=2, \\ x=1 \end{cases}", True),
    (r"\begin{aligned} x&=1 \\ y&=2 \end{aligned}", "x=1, y=2", True),
    (r"\begin{aligned} & x=1, \\ & y=2, \end{aligned}", "x=1, y=2", True),
    (r"\begin{gathered} x=1 \\ y=2 \end{gathered}", "x=1, y=2", True),
    (r"\left\{\begin{array}{l} x=1 \\ y=2 \end{array}\right.", "x=1,y=2", True),
    (r"\left\{ \begin{array}{lcl} x &=& 1 \\ y &=& 2 \end{array} \right.", "x=1,y=2", True),
    (r"\left\{\begin{matrix} x=1 \\ y=2 \end{matrix}\right.", "x=1,y=2", True),
    (r"\begin{cases} x=1 \text{ and } \\ y=2 \end{cases}", "x=1, y=2", True),
    (r"\begin{cases} x=\frac{1}{2} \\ y=\sqrt{2} \\ z=-3 \end{cases}", r"(\frac12,\sqrt2,-3)", True),
    (r"\begin{cases} x+y=3 \\ x-y=1 \end{cases}", "x+y=3, x-y=1", True),
    (r"\begin{cases} x>1 \\ x<3 \end{cases}", "1<x<3", True),
    (r"\begin{cases} x>1 \\ x<3 \end{cases}", "(1,3)", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases} \text{ or } \begin{cases} x=2 \\ y=1 \end{cases}", "(1,2),(2,1)", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}, \begin{cases} x=2 \\ y=1 \end{cases}", "(2,1),(1,2)", True),
    (r"\begin{cases} x=1 \\ y=2 \end{cases} \text{ or } \begin{cases} x=2 \\ y=1 \end{cases}", "(1,2)", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases} \text{ or } \begin{cases} x=2 \\ y=1 \end{cases}", "(1,2),(2,2)", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases} \text{ or } \begin{cases} y=2 \\ x=1 \end{cases}", "(1,2),(2,1)", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "x=2, y=1", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "(2,1)", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "x=1", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "1", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases}", "2", False),
    (r"\begin{cases} x=4 \\ x=5 \end{cases}", "5", False),
    (r"\begin{aligned} x &= 4 \\ x&=5 \end{aligned}", "5", False),
    (r"\begin{cases} x=1 \\ y=2 \\ z=3 \end{cases}", "x=1, y=2", False),
    (r"\begin{cases} 41 \\ 42 \end{cases}", "42", False),
    (r"\begin{aligned} x &= 1+1 \\ &= 2 \end{aligned}", "2", False),
    (r"\begin{cases} x>1 \\ x<3 \end{cases}", "x>1", False),
    (r"3 \text{ or } 4 \begin{cases} \end{cases}", "3", False),
    (r"\begin{cases} x=1 \\ y=2 \end{cases} \text{ or } 3", "x=1,y=2", False),
    (r"\begin{cases} x=1 \text{ or } 3 \\ y=2 \end{cases}", "x=1,y=2", False),
]
POINTS = [  # letters that follow each other come in the order of the alphabet; others as they are written
    ("y=2, x=1", "(1,2)", True),
    ("y=2, x=1", "(2,1)", False),
    ("x=1, y=2", "(2,1)", False),
    ("(2,1)", "x=1, y=2", False),
    ("(2,1)", "y=2, x=1", False),
    ("(1,2)", r"y=2 \text{ and } x=1", True),
    ("z=3, y=2 and x=1", r"\left(1, 2, 3\right)", True),
    (r"y=\frac{1}{2}, x=\sqrt{2}", r"(\sqrt2, 0.5)", True),
    ("x_2=2, x_1=1", "(1,2)", True),
    ("n=5, m=3", "(3,5)", True),
    ("n=5, k=3", "(5,3)", True),
    ("n=5, k=3", "(3,5)", False),
    ("B=(3,4), A=(1,2)", "((1,2),(3,4))", True),
    ("x=1, x=2", "(2,1)", False),
    ("x=1", "(1,2)", False),
    ("a=1, b=2, c=3", "(1,2)", False),
    ("y=2, x=1", "1, 2", True),  # without brackets it is a list, in any order
]
FUNCTIONS_IN_PIECES = [
    *(
        (rf"\begin{{{kind}}} 2n & n \text{{ even}} \\ {value} & n \text{{ odd}} \end{{{kind}}}", gold, right)
        for gold in (r"\begin{cases} 3n+1 & n \text{ odd} \\ 2n & n \text{ even} \end{cases}",)
        for kind in ("cases", "dcases", "rcases", "aligned", "array", "matrix")
        for value, right in (("3n+1", True), ("3n+2", False))
    ),
    (r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", True),
    (
        r"\begin{cases} x, & x>0 \\ -x, & x\le 0\end{cases}",
        r"\begin{cases} x & \text{if } x>0 \\ -x & \text{if } x\leq 0\end{cases}",
        True,
    ),
    (r"\begin{cases} -x & x\le 0 \\ x & x>0\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", True),
    (r"\begin{cases} x & 0<x \\ -x & x\le 0\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", True),
    (r"f(x)=\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", True),
    (
        r"\begin{cases} x^2+2x & \text{for } x>0 \\ 0 & \text{otherwise} \end{cases}",
        r"f(x)=\begin{cases} x(x+2), & x>0, \\ 0, & \text{otherwise.} \end{cases}",
        True,
    ),
    (
        r"\begin{cases} x \text{ if } x>0 \\ -x \text{ if } x\le 0\end{cases}",
        r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}",
        True,
    ),
    (
        r"\begin{cases} 1, & n \text{ even} \\ 0, & n \text{ odd}\end{cases}",
        r"\begin{cases} 0 & \text{if } n \text{ odd} \\ 1 & \text{if } n \text{ even}\end{cases}",
        True,
    ),
    (
        r"\begin{cases} 1, & n \text{ is even} \\ 0, & n \text{ is odd}\end{cases}",
        r"\begin{cases} 1 & \text{if } n \text{ is even} \\ 0 & \text{if } n \text{ is odd}\end{cases}",
        True,
    ),
    (r"\begin{cases} -x & x>0 \\ x & x\le 0\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", False),
    (r"\begin{cases} x & x>0 \\ -x & x< 0\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", False),
    (r"\begin{cases} x & x>1 \\ -x & x\le 1\end{cases}", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", False),
    (
        r"\begin{cases} 0, & n \text{ even} \\ 1, & n \text{ odd}\end{cases}",
        r"\begin{cases} 1 & \text{if } n \text{ even} \\ 0 & \text{if } n \text{ odd}\end{cases}",
        False,
    ),
    (r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", "x", False),
    ("x", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", False),
    ("x, -x", r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", False),
    (r"\begin{cases} x & x>0 \\ -x & x\le 0\end{cases}", r"x>0, x\le0", False),
    (r"\begin{cases} 1 & x=0 \\ 2 & x=1 \end{cases}", "x=0,x=1", False),
    (r"\begin{cases} 1 & x=0 \\ 2 & x=1 \end{cases}", r"\begin{cases} 2 & x=1 \\ 1 & x=0 \end{cases}", True),
    (r"\begin{cases} 1 & x=0 \\ 2 & x=1 \end{cases}", r"\begin{cases} 2 & x=0 \\ 1 & x=1 \end{cases}", False),
    (r"3 \text{ or } 4 \begin{cases} 5 & 3 \\ 6 & 4 \end{cases}", "3", False),
    (
        r"\begin{cases} 3 \text{ or } 4 & x>0 \\ 0 & x<0 \end{cases}",
        r"\begin{cases} 3 & x>0 \\ 0 & x<0 \end{cases}",
        False,
    ),
    (
        r"\begin{cases} 3 & x>0 \text{ or } x<0 \\ 0 & x<0 \end{cases}",
        r"\begin{cases} 3 & x>0 \\ 0 & x<0 \end{cases}",
        False,
    ),
    (r"\begin{cases} 3 & x>0 \\ 4 & x>0 \end{cases}", r"\begin{cases} 3 & x>0 \\ 0 & x<0 \end{cases}", False),
    (
        r"\begin{cases} 3 & x>0 \\ 0 & x<0 \\ 5 & x>0 \end{cases}",
        r"\begin{cases} 3 & x>0 \\ 0 & x<0 \end{cases}",
        False,
    ),
    (
        r"\begin{cases} 3 & x>0 \\ 0 & x<0 \end{cases} \text{ or } 5",
        r"\begin{cases} 3 & x>0 \\ 0 & x<0 \end{cases}",
        False,
    ),
    (r"\begin{cases} 3, & x>0 \\ 0, & x<0 \end{cases} \text{ or } 3", "3", False),
]
MATRICES = [
    (r"\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", True),
    (
        r"\left(\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right)",
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        True,
    ),
    (r"\left(\begin{array}{c} x \\ y \end{array}\right)", r"\begin{pmatrix} x \\ y \end{pmatrix}", True),
    (
        r"\left(\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right)",
        r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}",
        False,
    ),
    (r"\begin{array}{cc} 1 & x \\ 3 & 4 \end{array}", r"\begin{pmatrix} 1 & x \\ 3 & 4 \end{pmatrix}", True),
    (r"A = \begin{matrix} 1 & x \\ 3 & 4 \end{matrix}", r"\begin{pmatrix} 1 & x \\ 3 & 4 \end{pmatrix}", True),
]
NAMES = [
    (r"\text{Alice}=5, \text{Bob}=3", "5, 3", True),
    (r"\text{Alice}=5, \text{Bob}=3", r"\text{Bob}=3, \text{Alice}=5", True),
    (r"\mathrm{Alice}=5, \mathrm{Bob}=3", r"\text{Bob}=3, \text{Alice}=5", True),
    ("Alice=5, Bob=3", r"\text{Bob}=3, \text{Alice}=5", True),
    ("Alice = 5 and Bob = 3", r"\text{Bob}=3, \text{Alice}=5", True),
    (r"\text{Alice} = 5 \text{ and } \text{Bob} = 3", r"\text{Bob}=3, \text{Alice}=5", True),
    (r"\text{Alice: } 5, \text{Bob: } 3", "5, 3", True),
    (r"\text{Alice: 5, Bob: 3}", r"\text{Alice}=5, \text{Bob}=3", True),
    (r"\text{alice}=5, \text{bob}=3", r"\text{Alice}=5, \text{Bob}=3", True),
    ("5,3", r"\text{Alice}=5, \text{Bob}=3", True),
    (r"\text{Alice's age} = 5, \text{Bob's age} = 3", "5, 3", True),
    (r"\text{area} = 5\pi, \text{perimeter} = \frac{1}{2}", r"5\pi,\frac12", True),
    (r"\text{Alice}=\frac{10}{2}, \text{Bob}=3", r"\text{Alice}=5, \text{Bob}=3", True),
    (r"\text{Alice}=5, \text{Bob}=3", r"\text{Alice}=3, \text{Bob}=5", False),
    (r"\text{Alice}=5, \text{Bob}=3", r"\text{Alice}=5, \text{Carol}=3", False),
    (r"\text{Alice}=5, \text{Bob}=3", "5", False),
    (r"\text{Alice}=5, \text{Bob}=3", "5, 4", False),
    (r"\text{Alice}=5, \text{Bob}=3", r"\text{Alice}=5", False),
    (r"\text{Alice}=5", r"\text{Alice}=5, \text{Bob}=3", False),
    (r"\text{Alice}=5, \text{Bob}=3, \text{Carl}=4", r"\text{Alice}=5, \text{Bob}=3", False),
    (r"\text{Alice}=5, \text{or Alice}=3", "5, 3", False),
    (r"\text{Alice}=5, \text{Alice}=3", "5, 3", False),
    (r"\begin{cases} \text{Alice}=5 \\ \text{Bob}=3 \end{cases}", "5, 3", True),
    ("A=5, B=3", "B=3, A=5", True),
    ("AB=5, CD=3", "AB=3, CD=5", False),
    ("AB=5, CD=3", "CD=3, AB=5", True),
]
OPTIONS = [
    ("A, B, C", "ABC", True),
    ("A,C", "AC", True),
    ("A and C", "A, C", True),
    ("A and C", "AC", True),
    ("C, A", "A, C", True),
    (r"\text{A and C}", "AC", True),
    ("(A)(C)", "AC", True),
    ("(A), (C)", "AC", True),
    ("(A) and (C)", "A, C", True),
    ("(A) and (C)", "(A), (C)", True),
    (r"A \& C", "AC", True),
    (r"\text{A, B, and D}", "ABD", True),
    ("ABD", r"\text{A, B, D}", True),
    (r"\textbf{(A)}, \textbf{(C)}", "AC", True),
    (r"\text{Both A and C}", "AC", True),
    (r"\text{Options A and C}", "A, C", True),
    ("BAC", "ABC", False),
    ("A, C, B", "ABC", False),
    ("A, B", "ABC", False),
    ("A, B, D", "ABC", False),
    ("A", "AC", False),
    ("A or C", "AC", False),
    (r"\text{A or C}", "AC", False),
    ("A, C", "AD", False),
    ("A, B, C, D", "ABC", False),
    ("(A)(C)", "AB", False),
    ("A and not C", "AC", False),
    ("A,C", "A", False),
    ("A,C", "C", False),
    ("A, C", "(A, C)", True),
]


@pytest.mark.parametrize(
    ("answer", "reference", "right"), SYSTEMS + POINTS + FUNCTIONS_IN_PIECES + MATRICES + NAMES + OPTIONS
)
def test_lines_names_and_options(answer: str, reference: str, right: bool) -> None:
    assert grade(answer, reference).correct is right


@pytest.mark.parametrize(
    "text",
    [
        r"\begin{cases}" * 35,
        r"\begin{cases} x=1 \\" + r" y=2 \\" * 55,
        r"\begin{cases} " + "& " * 200 + r"\end{cases}",
        r"\begin{cases} x=1" + "~" * 200 + r"1 \\ y=2 \end{cases}",
        r"\text{Alice}=5," * 30,
        r"\text{" * 90,
        "A and " * 80,
        "A," * 240,
        "(A)" * 160,
    ],
)
def test_long_texts_in_lines_are_graded_at_once(text: str) -> None:
    started = time.perf_counter()
    grade(text, "5, 3")
    assert time.perf_counter() - started < 2
