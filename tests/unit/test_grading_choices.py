"""Multiple choice: which texts name an option, and which name two or none."""

import pytest

from verl_efficiency.grading import grade, shutdown
from verl_efficiency.rewards import accuracy


@pytest.fixture(autouse=True, scope="module")
def pool():
    yield
    shutdown()


THE_LETTER = [
    *("C", "C.", "C)", "C:", "(C)", "(C).", "[C]", "( C )", "**C**", "**(C)**", "`C`", "$C$", "$(C)$"),
    *(r"\text{C}", r"\text{(C)}", r"\textbf{C}", r"\textbf{(C)}", r"\mathrm{C}", r"\mathbf{(C)}", r"\boldsymbol{C}"),
    *(r"\texttt{C}", r"\mathsf{C}", r"\boxed{C}", r"\boxed{\text{(C)}}", "Option C", "option (C)", "Choice C"),
    *("choice: C", "Answer: C", "answer: C", "answer C", "The answer is C", "the correct answer is (C)."),
    *("My answer is: C", "The final answer is **C**", "The correct option is C", "The answer is option C"),
    *("C is correct", "(C) is the correct answer", "Option C is right"),
    *("(c)", "c)", "option c", "The answer is c", "c"),
]
WITH_ITS_TEXT = [
    *("(C) A right triangle", "(C). A right triangle", "(C): A right triangle", "C: A right triangle"),
    *("C) A right triangle", "C. A right triangle", "[C] A right triangle", "`C`: A right triangle"),
    *("**C.** A right triangle", "**(C)** A right triangle", r"\textbf{(C)}\ 12", r"\textbf{(C) } \frac{1}{2}"),
    *(r"\text{C: }12", r"\mathrm{(C)} ~ 12", "Option C: A right triangle", "The answer is (C) A right triangle"),
    *("Answer: C. A right triangle", "Option C) 12"),
    *("(c) a right triangle", "c) a right triangle", r"\boxed{(C) 12}"),
    # capital letters that belong to the text of the option
    *("C. I and III only", "(C) I, II and III", "C. I only", "(C) AB is parallel to CD", "(C) angle A"),
    *("(C) Point D lies on AB", "(C) Both A and B", "(C) Neither A nor B", "(C) A and B only", "(C) A only"),
    *("(C) vitamin D", "(C) the points A, B, and D", "(C) A 30-degree angle", "(C) A = 5", "(C) A + B"),
    *(r"(C) P(A) = P(B)", "(C) f(D) > 3", r"(C) A \cap B", "(C) x^A", "(C) The sum of A and B", "(C) A Right Triangle"),
    # words that join or deny, within the text of the option
    *("(C) Not enough information", "C: not a function", "(C) It cannot be determined", "(C) none or all of them"),
    *("(C) False", "(C) -3", "(C) > 5", "(C) |x|", "(C) +5", "C. No", "(C) 1, 2 and 3", "(C) is always positive"),
]
NOT_C = [
    *("C or D", "(C) or (D)", "not C", "A and C", "(C) and (D)", "C, D", "C/D", "C & D", "(C), (D)", "(C)/(D)", "CD"),
    "C D",
    *("C and D", "(C) not (D)", "(C) not D", "(C) or maybe D", "(C) but not (D)", "C. 12, D. 13", "C) 12 or D) 13"),
    *("(C) 12 or D", "(C) A right triangle or D", "(C) A right triangle, or (D) a square"),
    *("(C) A right triangle; D. a square", "C: A", "C. A", "(C) D", "(C) (D)", "(C) or the other one", "(C) And (D)"),
    *("C) D", "Option C or D", "Options C and D", "The answer is C or D", "The answer is not C", "(C) = 5", "C = 5"),
    *("C + 1", "C^2", "C(2)", "(C)^2", "(C) * 2", "2C", "D", "(D)", "(D) 12", "D: C", "Option D", "The answer is D"),
    *("d", "(d)", "K", "Carbon", "Cat", "A right triangle", "C? D?", "neither C nor D", "all but C", "(C) (or D)"),
    *(r"\text{C or D}", r"\textbf{(C)} \textbf{(D)}", "C maybe"),
]


@pytest.mark.parametrize("gold", ["C", "(C)", r"\textbf{(C)}", "C.", "Option C"])
def test_the_letter(gold):
    assert [answer for answer in THE_LETTER if not grade(answer, gold).correct] == []


@pytest.mark.parametrize("answer", WITH_ITS_TEXT)
def test_the_letter_with_its_text(answer):
    assert grade(answer, "C").correct
    assert grade("C", answer).correct
    assert grade("(C)", answer).correct
    for other in ("D", "(B)", "The answer is A"):
        assert not grade(answer, other).correct
        assert not grade(other, answer).correct


@pytest.mark.parametrize("answer", NOT_C)
def test_another_option_or_two_or_none(answer):
    assert not grade(answer, "C").correct
    assert not grade(answer, "(C) An obtuse angle").correct


@pytest.mark.parametrize("letter", "ABCDEFGHIJ")
def test_letters_up_to_j(letter):
    for answer in (letter, f"({letter})", f"{letter}) 77", f"The answer is {letter}", f"({letter}) A right triangle"):
        assert grade(answer, letter).correct
    following = chr(ord(letter) + 1)
    for answer in (following, f"({following})", f"{following}) 77", f"({letter}) or ({following})"):
        assert not grade(answer, letter).correct


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        ("(C) A right triangle", "C. a right triangle", True),
        ("(C) right triangle.", r"\textbf{(C)}\ \text{A right triangle}", True),
        ("C) 12", r"\textbf{(C)}\ 12", True),
        ("(C) 12.0", "(C) 12", True),
        ("(c) 12", "(C) 12", True),
        ("(C) 12", "(C) 13", False),  # the letter of one, the text of another
        ("(C) A right triangle", "(C) A square", False),
        ("(D) 12", "(C) 12", False),
        (r"\textbf{(D)}\ 12", r"\textbf{(C)}\ 12", False),
        ("D. A right triangle", "(C) A right triangle", False),
        ("(C) 5!", "(C) 5", False),
    ],
)
def test_two_options_with_their_texts(answer, gold, correct):
    assert grade(answer, gold).correct is correct


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        ("(C) A right triangle", "A right triangle", True),
        ("A right triangle", "(C) A right triangle", True),
        ("C. 42", "42", True),
        ("42", r"\textbf{(C)}\ 42", True),
        ("(C) 43", "42", False),
        ("(C) 42!", "42", False),
        ("(C) 42 or 43", "42", False),
        ("A square", "(C) A right triangle", False),
        ("right", "(C) A right triangle", False),
    ],
)
def test_the_text_alone(answer, gold, correct):
    assert grade(answer, gold).correct is correct


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        ("A", "A = 5", False),
        ("A = 5", "A", False),
        ("A = 5 cm", "A", False),
        ("A = 5, B = 6", "A", False),
        ("A + 1", "A", False),
        ("(A) + 1", "A", False),
        ("A(2)", "A", False),
        ("A right triangle", "A", False),  # an article
        ("The answer is A right triangle", "A", False),
        ("C", "c", False),  # the reference is a variable
        ("(C)", "c", False),
        ("c", "c", True),
        ("i", "I", False),
        ("(i)", "I", False),
    ],
)
def test_a_variable_is_no_option(answer, gold, correct):
    assert grade(answer, gold).correct is correct


def test_an_option_in_a_response():
    for response in (
        r"So \boxed{\text{(C) A right triangle}}",
        r"**\boxed{C}**",
        r"$\boxed{\textbf{(C)}\ 12}$",
        r"$\boxed C$",
    ):
        assert accuracy("quiz", response, "C")["acc"] == 1
    for response in (r"\boxed{C} or \boxed{D}", r"\boxed{C}, \boxed{(D)}", r"\boxed{(C) or (D)}", r"\boxed{D}"):
        assert accuracy("quiz", response, "C")["acc"] == 0
    assert accuracy("quiz", "The rest is clear.\nAnswer: **C) 12**", "C", marker="Answer:")["acc"] == 1
