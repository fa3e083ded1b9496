"""What mathematics decides: letters by case, small numbers, complex numbers, degrees, formulas by value, sets of numbers.

Each row is (answer, reference, right), the right value found by hand.
"""

import pytest

from verl_efficiency.grading import Status, grade
from verl_efficiency.grading.parse import has_imaginary_unit, read
from verl_efficiency.grading.quick import fold_words
from verl_efficiency.grading.sets import same_region

CAPITALS = [
    (r"\frac{r}{R}", r"\frac{R}{r}", False),
    (r"\frac{r}{R}", "r/R", True),
    ("Gm^2/r^2", "GMm/r^2", False),
    (r"\frac{GMm}{r^2}", "GMm/r^2", True),
    ("0", r"\pi(R^2-r^2)", False),
    (r"\pi(R-r)(R+r)", r"\pi(R^2-r^2)", True),
    ("RR", "Rr", False),
    ("2R", "2r", False),
    ("2X+1", "2x+1", False),
    (r"\sqrt{R^2-r^2}", r"\sqrt{r^2-R^2}", False),
    (r"\sin a", r"\sin A", False),
    (r"mg\sin\Theta", r"mg\sin\theta", False),
    (r"\Omega t", r"\omega t", False),
    (r"\Phi", r"\phi", False),
    (r"\Pi", r"\pi", False),
    (r"\Delta x", r"\delta x", False),
    ("v_M", "v_m", False),
    ("T_1", "t_1", False),
    ("x=R", "x=r", False),
    ("(a, A)", "(A, a)", False),
    (r"\{R,r\}", r"\{r,R\}", True),
    (r"\begin{pmatrix} R & r \end{pmatrix}", r"\begin{pmatrix} r & R \end{pmatrix}", False),
    ("I^2R", "IR", False),  # latex2sympy reads the letter I as the imaginary unit, without its exponent
    ("I^2R", "-R", False),
    ("RI^2", "I^2R", True),
    (r"\frac{a}{b}c", r"\frac{a}{b}", False),  # math-verify strips the c as a unit
    (r"\frac{a}{b}c", r"\frac{ac}{b}", True),
    (r"\frac{3}{2}m", r"\frac{3}{2}", True),
    # Alone, an option or an unknown ignores case. The letters r and R are two quantities.
    ("c", "C", True),
    ("(b)", r"\text{(B)}", True),
    ("X", "x", True),
    ("e", "E", True),
    ("A, B", "a, b", True),
    ("R", "r", False),
    ("m", "M", False),
    # Words ignore case. A short one outside of \\text{} may be a product.
    ("yes", "Yes", True),
    ("EAST", r"\text{east}", True),
    (r"\text{Tom}", "tom", True),
    ("Tuesday", "tuesday", True),
    ("x_{Max}+1", "1+x_{max}", True),
    ("AB", "ab", False),
    (r"\text{AB}", r"\text{ab}", False),
    ("triangle ABC", "triangle abc", False),
]
SMALL = [
    (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}", False),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", False),
    ("2^{-99}", r"\frac{1}{2^{99}}", True),
    (r"1.6\times 10^{-19}\text{ C}", r"3.2\times 10^{-19}\text{ C}", False),
    (r"1.6\times 10^{-19}\text{ C}", r"1.6\times 10^{-19}", True),
    (r"0.0000002\text{ m}", r"0.0000004\text{ m}", False),
    (r"0.0000002\text{ m}", "2e-7", True),
    (r"6.63\times10^{-34}\text{ J s}", r"6.64\times10^{-34}\text{ J s}", False),
    ("10^{-400}", r"2\cdot 10^{-400}", False),
    (r"\frac{2}{2 \cdot 10^{400}}", "10^{-400}", True),
    ("10^{-400}", "0", False),
    ("0", "10^{-30}", False),
    ("0", "e^{-100}", False),
    ("e^{-50}", "e^{-51}", False),
    (r"e^{-50}\cdot e", "e^{-49}", True),
    (r"\frac{1}{20!}", r"\frac{1}{21!}", False),
    (r"\frac{21}{21!}", r"\frac{1}{20!}", True),
    ("1 - 10^{-20}", "1", False),
    ("10^{40}+1", "10^{40}", False),
    ("x+10^{-20}", "x", False),
    ("10^{-30}x", "10^{-31}x", False),
    (r"\sqrt{2}+\sqrt{3}-\sqrt{5+2\sqrt{6}}", "0", True),
    (r"\sin\pi + 10^{-40}", "0", False),
    (r"\pi\cdot 10^{-20}", r"3\cdot 10^{-20}", False),
    ("x = 10^{-20}", r"x = 2\cdot10^{-20}", False),
    ("(10^{-20},1)", r"(2\cdot10^{-20},1)", False),
    (r"\{10^{-20},1\}", r"\{2\cdot10^{-20},1\}", False),
    ("[0,10^{-20}]", "[0,10^{-21}]", False),
    ("x > 10^{-20}", "x > 10^{-21}", False),
    (r"\begin{pmatrix} 10^{-20} & 1\end{pmatrix}", r"\begin{pmatrix} 2\cdot 10^{-20} & 1\end{pmatrix}", False),
    ("0.333333", "1/3", True),
    ("3.1415927", r"\pi", True),
    ("3.14159", r"\pi", False),
    ("0.1+0.2-0.3", "0", True),
]
COMPLEX = [
    ("(1+i)^2", "2i", True),
    ("2i", "(1+i)^2", True),
    ("(1-i)^2", "2i", False),
    (r"\frac{2}{1-i}", "1+i", True),
    (r"\frac{2}{1+i}", "1+i", False),
    ("|3+4i|", "5", True),
    ("5", "|3+4i|", True),
    (r"e^{i\pi}", "-1", True),
    (r"e^{i\pi/2}", "-i", False),
    ("i^{10}", "-1", True),
    (r"\frac{1}{i}", "-i", True),
    (r"\sqrt{-4}", "2i", True),
    ("(2+3i)(2-3i)", "13", True),
    (r"-\frac{1}{2}+\frac{\sqrt3}{2}i", r"e^{2\pi i/3}", True),
    (r"\cos\theta+i\sin\theta", r"e^{i\theta}", True),
    (r"\cos\theta-i\sin\theta", r"e^{i\theta}", False),
    ("(a+bi)(a-bi)", "a^2+b^2", True),
    ("a+bi", "a-bi", False),
    ("z=3+4i", "4i+3", True),
    (r"1-2\mathrm{i}", "1-2i", True),
    (r"\pm i", r"\{-i, i\}", True),
    (r"\{1,-1,i,-i\}", r"\{i,-i,1,-1\}", True),
    (r"\{i,-i\}", r"\{1,-1\}", False),
    ("2+3I", "2+3I", True),
    ("a_i^2", "-1", False),
    ("i^2+j^2", "-2", False),
    ("3i+4j", "4j+3i", True),
    (r"\sum_{i=1}^{3} i", "6", True),
    ("13i", "13", False),
]
DEGREES = [
    (r"10\sin 30^\circ", "5", True),
    ("5", r"10\sin 30^\circ", True),
    (r"\sin 30^\circ", r"\sin 30", False),
    (r"\sin 30", r"\frac12", False),
    (r"\cos 60^{\circ}", r"\frac12", True),
    (r"\cos 30^\circ", r"\frac{1}{2}", False),
    (r"\tan(45^\circ)", "1", True),
    (r"\sin^2 30^\circ", r"\frac14", True),
    (r"\sec 60°", "2", True),
    (r"\sin(90^\circ - x)", r"\cos x", True),
    (r"2\cos 20^\circ", r"2\sin 70^\circ", True),
    (r"\sin 31^\circ", r"\sin 30^\circ", False),
    (r"\sin 18^\circ", r"\frac{\sqrt5-1}{4}", True),
    (r"\frac{10}{\sin 30^\circ}", "20", True),
    (r"\sin(30\text{ degrees})", "0.5", True),
    (r"\arctan 1", r"\frac{\pi}{4}", True),
    ("30^\\circ", "30", True),
    ("30", "30^\\circ", True),
    # An angle in degrees equals one in radians, where one has the degree sign and the other has π.
    (r"\frac{\pi}{6}", r"30^\circ", True),
    (r"30^\circ", r"\frac{\pi}{6}", True),
    ("30", r"\frac{\pi}{6}", False),
    (r"\frac{\pi}{3}", r"30^\circ", False),
]
FORMULAS = [
    (r"\frac{1}{\sqrt n}", r"\sqrt{\frac1n}", True),
    (r"\sqrt{\frac1n}", r"\frac{1}{\sqrt n}", True),
    (r"\frac{1}{\sqrt n}", r"\sqrt{n}", False),
    (r"\ln(ab)", r"\ln a+\ln b", True),
    (r"\ln a+\ln b", r"\ln(ab)", True),
    (r"\ln(a+b)", r"\ln a+\ln b", False),
    (r"\ln\frac{a}{b}", r"\ln a-\ln b", True),
    (r"\ln\frac{a}{b}", r"\ln b-\ln a", False),
    (r"2\ln x", r"\ln x^2", True),
    (r"\log_2 x", r"\frac{\ln x}{\ln 2}", True),
    (r"\log_3 5", r"\frac{\log 5}{\log 3}", True),
    (r"e^{2\ln x}", "x^2", True),
    (r"\sqrt{ab}", r"\sqrt a\sqrt b", True),
    ("(ab)^{1/3}", "a^{1/3}b^{1/3}", True),
    (r"\sqrt{1-x^2}", r"\sqrt{1-x}\sqrt{1+x}", True),
    (r"\arcsin x", r"\frac{\pi}{2}-\arccos x", True),
    (r"\frac{n!}{(n-1)!}", "n", True),
    ("n", r"\frac{n!}{(n-1)!}", True),
    ("n+1", r"\frac{n!}{(n-1)!}", False),
    (r"\frac{(n+1)!}{n!}", "n+1", True),
    (r"\frac{n!}{r!(n-r)!}", r"\binom{n}{r}", True),
    (r"\frac{n!}{k!(n-k)!}", r"\binom{n}{k}", True),
    (r"\binom{n}{n-k}", r"\binom{n}{k}", True),
    (r"\binom{n}{k-1}", r"\binom{n}{k}", False),
    (r"\frac{n(n-1)(n-2)}{6}", r"\binom{n}{3}", True),
    (r"\Gamma(n+1)", "n!", True),
    (r"\cos(n\pi)", "(-1)^n", True),
    ("(-1)^n", r"\cos(n\pi)", False),  # the reference does not say that n is a whole number
    (r"\frac{2n-1+(-1)^n}{4}", r"\lfloor \frac{n}{2} \rfloor", True),
    (r"\frac{n}{2}", r"\lfloor \frac{n}{2} \rfloor", False),
    ("x", r"\lfloor x \rfloor", False),
    # Equal for positive letters only, and real for negative ones.
    (r"\sqrt{x^2}", "x", False),
    ("x", r"\sqrt{x^2}", False),
    ("|x|", "x", False),
    ("x", "|x|", False),
    (r"\ln x", r"\ln|x|", False),
    ("x^2", "|x|^2", True),
    ("1", r"\frac{x}{|x|}", False),
    (r"x\sqrt{y}", r"\sqrt{x^2 y}", False),
    (r"\arcsin(\sin x)", "x", False),
    (r"\arctan x + \arctan\frac1x", r"\frac{\pi}{2}", False),
    # Equal at many points, and different beyond.
    ("|x-100|", "100-x", False),
    (r"\sqrt{(x-10^9)^2}", "10^9-x", False),
    (r"\max(x,1)", "x", False),
    ("x+10^{-60}", "x", False),
    ("0.5x", r"\frac{x}{2}", True),
    (r"\infty", "n", False),
    (r"\infty x", r"\ln x", False),
    ("5", r"\infty", False),
]
SETS = [
    (r"x<-1\text{ or }x>1", r"(-\infty,-1)\cup(1,\infty)", True),
    (r"(-\infty,-1)\cup(1,\infty)", r"x<-1\text{ or }x>1", True),
    (r"x<-1\text{ or }x>1", r"(-\infty,-1]\cup(1,\infty)", False),
    (r"x<-1", r"(-\infty,-1)\cup(1,\infty)", False),
    (r"\{x : x>3\}", "x>3", True),
    (r"\{x : x>3\}", r"(3,\infty)", True),
    (r"(3,\infty)", r"\{x : x>3\}", True),
    ("x>3", r"(3,\infty)", True),
    (r"(3,\infty)", "x>3", True),
    ("x>3", r"\{x:x>3\}", True),
    (r"\{t:t>3\}", r"\{x:x>3\}", True),
    (r"\{x \mid x>3\}", "x>3", True),
    (r"\{x\in\mathbb{R}\mid x>3\}", r"(3,\infty)", True),
    (r"\{n\in\mathbb{Z}:n>3\}", r"(3,\infty)", False),
    (r"\{x: x>3\}", "x<3", False),
    ("y>3", "x>3", False),
    ("[0;1]", "[0,1]", True),
    ("[0,1]", "[0;1]", True),
    ("[0;1]", "[0,1)", False),
    ("]0,1[", "(0,1)", True),
    ("]0,1]", "(0,1]", True),
    ("]0,1[", "[0,1]", False),
    (r"3<x\le5", "(3,5]", True),
    ("(3,5]", r"3<x\le5", True),
    (r"5\ge x>3", "(3,5]", True),
    (r"3<x\le5", "(3,5)", False),
    ("3<x<5", "(3,5)", True),
    ("(3,5)", "3<x<5", True),
    (r"x \in (3,\infty)", r"(3,\infty)", True),
    (r"(3,\infty)", r"x \in (3,\infty)", True),
    (r"x \in [3,\infty)", r"(3,\infty)", False),
    (r"x\ge3", r"3\le x", True),
    (r"x\ge3", r"[3,\infty)", True),
    (r"x\ge3", r"(3,\infty)", False),
    (r"\mathbb{R}\setminus\{1\}", r"x \neq 1", True),
    (r"x \neq 1", r"\mathbb{R}\setminus\{1\}", True),
    (r"x\ne 1", r"(-\infty,1)\cup(1,\infty)", True),
    (r"x\ne 1", r"(-\infty,1)\cup(2,\infty)", False),
    (r"x \in \mathbb{R}, x\ne 0", r"\mathbb{R}\setminus\{0\}", True),
    (r"x \ne 0, 1", r"\mathbb{R}\setminus\{0,1\}", True),
    (r"x \ne 0, 1", r"\mathbb{R}\setminus\{0\}", False),
    (r"\mathbb{R}", r"x \in \mathbb{R}", True),
    ("1<x<1", r"\emptyset", True),
    ("5<x<3", "(3,5)", False),
    (r"x>1\text{ and }x<3", "1<x<3", True),
    (r"x>1\text{ and }x<3", r"x>1\text{ or }x<3", False),
    (r"x \in [-1,2)\cup(2,3]", r"-1\le x<2 \text{ or } 2<x\le 3", True),
    (r"x<-\sqrt2\text{ or }x>\sqrt{2}", r"(-\infty,-\sqrt{2})\cup(\sqrt{2},\infty)", True),
    (r"(-\infty,-1) \text{ and } (1,\infty)", r"(-\infty,-1)\cup(1,\infty)", True),
    (r"x=1 \text{ or } x>3", r"\{1\}\cup(3,\infty)", True),
    (r"x=1\text{ or }x=2", r"\{1,2\}", True),
    ("x>a", r"(a,\infty)", True),
    ("x>a", r"(b,\infty)", False),
    ("x>0.5", r"(1/2,\infty)", True),
    ("|x|<2", "(-2,2)", True),
    (r"x \le -2 \text{ or } x \geq 2", r"|x|\ge 2", True),
    ("x>1, x<3", "(1,3)", False),  # the comma may mean "and" or "or"
]
ROOTS = r"\frac{-1\pm\sqrt5}{2}"
BOTH_SIGNS = [
    (r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}", ROOTS, True),
    (ROOTS, r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}", True),
    (r"x=\frac{-1 \pm \sqrt{5}}{2}", ROOTS, True),
    (r"x=\frac{-1 \pm \sqrt{5}}{2}", r"x=\frac{-1+\sqrt5}{2}, x=\frac{-1-\sqrt5}{2}", True),
    (r"\frac{-2\pm\sqrt{20}}{4}", ROOTS, True),
    ("(-1±√5)/2", ROOTS, True),
    (r"\frac{1\pm\sqrt5}{2}", ROOTS, False),
    (r"\frac{-1\pm\sqrt3}{2}", ROOTS, False),
    (r"\frac{-1+\sqrt5}{2}", ROOTS, False),
    (r"\frac{-1+\sqrt5}{2}, \frac{1-\sqrt5}{2}", ROOTS, False),
    (r"x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}", r"\frac{-b \pm \sqrt{b^2-4ac}}{2a}", True),
    (r"x = \frac{-b \pm \sqrt{b^2+4ac}}{2a}", r"\frac{-b \pm \sqrt{b^2-4ac}}{2a}", False),
    (r"\frac{1\pm i\sqrt3}{2}", r"\frac12 \pm \frac{\sqrt3}{2}i", True),
    (r"\sqrt{3\pm\sqrt5}", r"\sqrt{3+\sqrt5}, \sqrt{3-\sqrt5}", True),
    (r"2(1\pm\sqrt3)", r"2\pm2\sqrt3", True),
    (r"e^{\pm x}", "e^x, e^{-x}", True),
    (r"\frac{1\pm\sqrt5}{2}\text{ cm}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}", True),
    (r"0, \frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}, 0", True),
    (r"\{2(1\pm\sqrt3)\}", r"2\pm2\sqrt3", True),
    (r"\frac{4\pm2}{2}", "3, 1", True),
    (r"\frac{4\pm2}{2}", "3", False),
    ("3", r"\frac{4\pm2}{2}", False),
    (r"(\pm1,2)", "(1,2),(-1,2)", True),
    (r"(\pm1,2)", "(1,2)", False),
    (r"(\pm 1, \mp 1)", "(1,-1),(-1,1)", True),
    (r"(\pm 1, \mp 1)", "(1,1),(-1,-1)", False),
    (r"(\pm1,\pm2)", "(1,2),(-1,-2)", False),  # two signs: two points, or four
    # what math-verify reads itself
    (r"x\in\{\pm3\}", r"\pm3", True),
    (r"(\pm3)", "3, -3", True),
    (r"\pm\left(\frac{1}{2}\right)", r"\pm0.5", True),
    (r"1\,\pm\,\sqrt{2}", r"1+\sqrt2, 1-\sqrt2", True),
]


KINDS = {
    "both signs": BOTH_SIGNS,
    "capitals": CAPITALS,
    "small": SMALL,
    "complex": COMPLEX,
    "degrees": DEGREES,
    "formulas": FORMULAS,
    "sets": SETS,
}


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [pytest.param(*row, id=f"{kind}: {row[0]} for {row[1]}") for kind, rows in KINDS.items() for row in rows],
)
def test_the_verdict_is_the_right_one(answer, gold, right):
    assert grade(answer, gold).correct is right


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("(3, 5)", "(3, 5]"), ("x > 3", "y > 3"), (r"\{1, 2\}", "x = 1"), ("a < b", "b > a"), ("x^2 < 4", "(-2, 2)")],
)
def test_what_is_left_to_math_verify(answer, gold):
    assert same_region(gold, answer) is None


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("1+i", True),
        (r"e^{ikx}", True),
        (r"\frac{\sqrt{3}}{2}i", True),
        ("2+3I", True),
        ("x+1", False),
        (r"\sin\pi", False),
        ("a_{2i+1}", False),
        (r"\binom{n}{i}", False),
        ("ai+bj+ck", False),
        (r"1 \le i \le n", False),
        (r"3\text{ miles}", False),
        ("LI^2", False),
    ],
)
def test_where_i_is_the_imaginary_unit(text, unit):
    assert has_imaginary_unit(text) is unit


def test_what_is_read():
    """A list keeps its order, a blank text gives nothing, and a text that cannot be parsed comes back normalised."""
    assert [str(part) for part in read(r"2+3i, 1, -i", imaginary=True)[0]._unsorted_args] == ["2 + 3*I", "1", "-I"]
    assert read(" ") == []
    assert read(r"\sqrt{") == [r"\sqrt{}"] or isinstance(read(r"\sqrt{")[0], str)
    assert fold_words("Rr mM Oo YES Monday") == "Rr mM Oo yes monday"


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("x^{x^{x^x}}", "x^{x^{x^{x}}}+1"),
        (r"\binom{n^{9}}{k^{9}}", "n!!!"),
        (r"e^{e^{e^{e^x}}}", r"\ln x"),
        ("n!!!!!", "n"),
    ],
)
def test_values_too_large_to_compute_decide_nothing(answer, gold):
    assert grade(answer, gold).status in (Status.wrong, Status.unparsable, Status.timed_out)
