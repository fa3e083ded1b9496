"""Answers that two steps of the grader could read differently: as units or letters, as quantities or sets, as words or values.

The right verdict of each pair is found by hand.
"""

import pytest

from verl_efficiency.grading import grade, shutdown


@pytest.fixture(autouse=True, scope="module")
def pool():
    yield
    shutdown()


WRONG = [
    # a noun after the last value of a list belongs to all values
    ("3, 100 cats", "3,3"),
    ("3, 5 units", "3,3"),
    ("2,5 cats,7 dogs", "2,2,2"),
    (r"0,7\text{ a.m.}", "0, 0"),
    (r"(2\text{ m}, 9\text{ m high})", r"(2\text{ m}, 2\text{ m})"),
    # letters of a formula are not units
    (r"\frac12", r"\frac12 g t^2"),
    (r"\frac1{12}", r"\frac{1}{12} m L^2"),
    ("6", "6s^2"),
    ("4", "4h^2"),
    ("2", "2d^3"),
    (r"\pi r^2", r"\pi r^2 h"),
    ("v_0", "v_0 t"),
    ("k", "k t"),
    ("x^2", "x^2 t"),
    (r"2\pi r", r"2\pi r h"),
    ("3", "3ab"),
    # an angle in radians against one in degrees: words and units still count
    (r"360^\circ", r"2\pi\text{ cm}"),
    (r"60^\circ\text{ not }120^\circ", r"\frac{\pi}{3}"),
    (r"60^\circ\text{ kg}", r"\frac{\pi}{3}"),
    (r"60^\circ\text{ maybe}", r"\frac{\pi}{3}"),
    (r"\frac\pi4\text{ m}", r"45^\circ"),
    (r"2\text{ kg}, 30^\circ", r"2\text{ m}, \frac\pi6"),
    # units of a set count for each of its elements
    (r"\{3\text{ m},5\text{ cm}\}", r"\{3,5\}\text{ m}"),
    (r"3\text{ m},5\text{ kg}", r"\{3,5\}\text{ m}"),
    (r"(3\text{ m},5\text{ cm})", r"(3,5)\text{ m}"),
    (r"[3,5]\text{ cm}", r"[3\text{ m},5\text{ m}]"),
    (r"3\text{ m},-3\text{ kg}", r"\pm3\text{ m}"),
    # words that change the value
    ("5 twice", "5"),
    ("5 doubled", "5"),
    ("5 pairs", "5"),
    ("5 reciprocal", "5"),
    # more than a float holds
    ("1e309", "x+1"),
    (r"5\times 10^{400}", r"\sqrt2"),
    ("x = 1e400", "C"),
]
RIGHT = [
    ("1,3 units", "1,3"),
    ("3, 1 apples", "1,3"),
    ("1 and 3 apples", "1,3"),
    (r"(2,32), (8,18) \text{ units}", "(2,32), (8,18)"),
    ("5,3", "3,5 apples"),
    (r"\frac{gt^2}{2}", r"\frac12 g t^2"),
    (r"\frac12gt^2", r"\frac12 g t^2"),
    (r"\frac{mL^2}{12}", r"\frac1{12} m L^2"),
    (r"\frac1{12}mL^2", r"\frac1{12} m L^2"),
    (r"\frac12 s^2", r"\frac{s^2}{2}"),
    (r"\frac23 L", r"\frac{2L}{3}"),
    (r"\frac32 g/L", r"\frac{3g}{2L}"),
    (r"6\cdot s^2", "6s^2"),
    ("(2h)^2", "4h^2"),
    (r"\frac12 mg", "mg/2"),
    (r"\frac{\pi}{3}", r"60^\circ"),
    (r"4 \text{ if } n=2, 3 \text{ if } n=1", r"3 \text{ if } n=1, 4 \text{ if } n=2"),
    ("total = 7", "7"),
    (r"\text{Total }= 7", "7"),
    (r"30^\circ \text{ degrees}", r"30^\circ"),
    (r"I = \frac{\pi}{4}", r"\frac{\pi}{4}"),
    ("I=7", "7"),
    ("I=3+4i", "3+4i"),
    (r"{90^\circ,60^\circ}", r"90^\circ, 60^\circ"),
    (r"3\text{ m},-3\text{ m}", r"\pm3\text{ m}"),
    (r"3\text{ m}, 5\text{ m}", r"\{3,5\}\text{ m}"),
    ("6 m", "6"),
    ("18 s", "18"),
    ("5 m^2", "5"),
]


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_another_answer_is_not_paid(answer, gold):
    assert not grade(answer, gold).correct


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_the_same_answer_is_paid(answer, gold):
    assert grade(answer, gold).correct
