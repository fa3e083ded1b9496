"""Boxes in a row, placeholders, truncated boxes, boxes without braces. All rewards treat them alike."""

import json

import pytest

from verl_efficiency.grading import Box, extract_answer, extract_boxed, grade, shutdown
from verl_efficiency.rewards import accuracy, batched_accuracy


@pytest.fixture(autouse=True, scope="module")
def pool():
    yield
    shutdown()


def paid(response: str, gold: str) -> bool:
    """Whether a response is correct. Every reward and every form of the prompt must agree."""
    single = accuracy("sums", response, gold)["acc"]
    plain = batched_accuracy("sums", response, gold)["acc"]
    section = batched_accuracy("sums", f"### Problem 1\n{response}", json.dumps([gold]), fallback="section")["acc"]
    assert single == plain == section
    return single == 1


def paid_with_a_tag(boxes: str, gold: str) -> bool:
    return batched_accuracy("sums", f"So Answer1::{boxes}", json.dumps([gold, "7"]))["acc_first"] == 1


ROWS = [
    (r"\boxed{98, 2} \text{ and } \boxed{99, 503}", "98, 2, 99, 503"),
    (r"$\boxed{98, 2}$ and $\boxed{99, 503}$", "98, 2, 99, 503"),
    (r"\boxed{3}, \boxed{4}", "3, 4"),
    (r"\boxed{3}; \boxed{4}", "3, 4"),
    (r"\boxed{3} or \boxed{4}", "3, 4"),
    (r"\(\boxed{3}\), \(\boxed{4}\), and \(\boxed{5}\)", "3, 4, 5"),
    (r"**\boxed{3}** and **\boxed{4}**", "3, 4"),
    (r"\boxed{3} \quad \text{or} \quad \boxed{4}", "3, 4"),
    (r"\boxed{3} \mathrm{~and~} \boxed{4}", "3, 4"),
    (r"$\boxed 3$ and $\boxed 4$", "3, 4"),
    (r"\boxed{\boxed{3}} and \boxed{4}", "3, 4"),
    # the same answer more than once
    (r"\boxed{4}, \boxed{4}", "4"),
    (r"$\boxed{15\frac{39}{40}},$ or $\boxed{\frac{639}{40}}$ inches.", r"\frac{639}{40}"),
    (r"\boxed{1/2} or \boxed{0.5} or \boxed{50\%}", r"50\%"),
    (r"\boxed{C}, \boxed{\text{(C) A right triangle}}", r"\text{(C) A right triangle}"),
    (r"\boxed{3}, \boxed{4}, \boxed{3}", "3, 4"),
    # not in a row: nothing joins them, or something else stands between them
    (r"\boxed{3} \boxed{4}", "4"),
    (r"$$\boxed{3}$$" + "\n\n" + r"$$\boxed{4}$$", "4"),
    (r"\boxed{3} \\ \boxed{4}", "4"),
    (r"\boxed{3} \, \boxed{4}", "4"),
    (r"\boxed{3} then \boxed{4}", "4"),
    (r"\boxed{3}. \boxed{4}", "4"),
    (r"\boxed{3} = \boxed{4}", "4"),
    (r"\boxed{3} \approx \boxed{4}", "4"),
    (r"\boxed{3} and so \boxed{4}", "4"),
    (r"\boxed{3} and, for short, \boxed{4}", "4"),
    (r"\boxed{3} \text{ or better } \boxed{4}", "4"),
    (r"\boxed{3} + \boxed{4}", "4"),
    (r"\boxed{3}" + " " * 100 + r"\boxed{4}", "4"),
    (r"\boxed{3} and \boxed{4}. Shorter: \boxed{5}", "5"),
]


@pytest.mark.parametrize(("text", "answer"), ROWS)
def test_boxes_in_a_row_are_one_answer(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("boxes", "gold", "right"),
    [
        (r"\boxed{98, 2} \text{ and } \boxed{99, 503}", "98, 2, 99, 503", True),
        (r"\boxed{98, 2} \text{ and } \boxed{99, 503}", r"\boxed{98, 2} \text{ and } \boxed{99, 503}", True),
        (r"\boxed{(98, 2)} \text{ and } \boxed{(99, 503)}", "(98, 2), (99, 503)", True),
        (r"$\boxed{x = 1}$ or $\boxed{x = -2}$", "1, -2", True),
        (r"\boxed{4}, \boxed{3}", "3, 4", True),
        (r"\boxed{3}, \boxed{4}", r"3 \text{ and } 4", True),
        (r"\boxed{A}, \boxed{C}", "A, C", True),
        (r"\boxed{4}, \boxed{4}, \boxed{4}", "4", True),
        (r"\boxed{1/2}, that is, \boxed{0.5}", "0.5", True),
        # guesses
        (r"\boxed{3}, \boxed{4}", "3", False),
        (r"\boxed{3}, \boxed{4}", "4", False),
        (r"\boxed{3} or \boxed{4} or \boxed{5}", "5", False),
        (r"\boxed{3} or \boxed{4} or \boxed{5}", "3, 4", False),
        (r"\boxed{A} or \boxed{C}", "C", False),
        (r"\boxed{98, 2} \text{ and } \boxed{99, 503}", "99, 503", False),
        (r"\boxed{98, 2} \text{ and } \boxed{99, 503}", "98, 2", False),
        (r"\boxed{x = 1}, \boxed{x = 2}", "2", False),
        (r"\boxed{x + 1}, \boxed{x + 2}", "x + 2", False),
        (", ".join(rf"\boxed{{{guess}}}" for guess in range(50)), "49", False),
        ("; ".join(rf"\boxed{{{guess}}}" for guess in range(50)), "0", False),
    ],
)
def test_a_row_is_compared_whole(boxes, gold, right):
    assert paid(f"The answer is {boxes}", gold) is right
    if "that is" not in boxes:  # other words between the boxes: the second one has no tag
        assert paid_with_a_tag(boxes, gold) is right


NOTHING = [
    *(r"\boxed{}", r"\boxed{ }", r"\boxed{\ }", r"\boxed{\quad}", r"\boxed{...}", r"\boxed{…}", r"\boxed{\ldots}"),
    *(r"\boxed{\dots}", r"\boxed{\text{...}}", r"\boxed{answer}", r"\boxed{\text{answer}}", r"\boxed{\text{Answer}}"),
    *(r"\boxed{your answer}", r"\boxed{\text{your final answer}}", r"\boxed{the answer}", r"\boxed{final answer}"),
    *(r"\boxed{[answer]}", r"\boxed{<answer>}", r"\boxed{\text{Your answer here}}", r"\boxed{insert answer here}"),
    *(r"\boxed{(your answer)}", r"\boxed{answer1}", r"\boxed{FINAL_ANSWER}", r"\boxed{?}", r"\boxed{___}"),
    *(r"\boxed{\_\_\_}", r"\boxed{\square}", r"\boxed{答案}", r"\boxed{\text{}}", r"\boxed{\boxed{}}", r"\fbox{...}"),
    *(r"\boxed{**answer**}", r"\boxed{your result}", r"$\boxed\ldots$"),
]


@pytest.mark.parametrize("box", NOTHING)
def test_a_box_that_says_nothing_does_not_count(box):
    assert extract_answer(box) is None
    assert accuracy("sums", box, "4")["finished"] == 0
    for after in (f" As asked, it is in the form {box}.", f" {box}", f", {box}", f"\n{box} {box}"):
        assert paid(rf"It is \boxed{{4}}.{after}", "4")
        assert paid(rf"It is \boxed{{4}}{after}", "4")
        assert not paid(rf"It is \boxed{{5}}{after}", "4")
    assert paid(rf"I write {box}: \boxed{{4}}", "4")
    assert batched_accuracy("sums", rf"Answer1::\boxed{{4}} (Answer1::{box})", '["4"]')["acc"] == 1
    assert batched_accuracy("sums", rf"Answer1::{box}", '["4"]')["finished"] == 0


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *(
            (rf"\boxed{{{answer}}}", answer)
            for answer in ("0", "x", "a", "-", "<", ">", "=", r"\{\}", r"\{ \}", "()", r"\emptyset")
        ),
        *(
            (rf"\boxed{{{answer}}}", answer)
            for answer in (r"\text{no answer}", r"\text{no solution}", "4?", "...4", "!", "1...")
        ),
        *(
            (rf"\boxed{{{answer}}}", answer)
            for answer in (r"\text{solution}", r"\text{Answer 5}", "[4]", r"\text{answers}", "I")
        ),
    ],
)
def test_a_short_box_that_says_something_counts(box, answer):
    assert extract_answer(rf"\boxed{{4}} no, {box}") == answer


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        (r"\boxed{4}. That is \boxed{", "4", True),
        (r"\boxed{4}. That is \boxed{4", "4", True),
        (r"\boxed{4}. No, it is \boxed{5", "4", True),  # the second was never given
        (r"\boxed{4}. No, it is \boxed{5", "5", False),
        (r"\boxed{4", "4", False),
        (r"\boxed{4}. That is \boxed", "4", True),
        (r"\boxed{4}. That is \bo", "4", True),
        (r"\boxed{5 and then \boxed{4}", "4", True),
        (r"$\boxed{4}$" * 30 + r"$\boxed{", "4", True),
        (r"$\boxed{42}$ " * 30 + r"$\boxed{4", "42", True),  # the same answer until the limit
        (r"$\boxed{42}$ " * 30 + r"$\boxed{4", "4", False),
        # a truncated row has another part
        (r"\boxed{4} or \boxed{5", "4", False),
        (r"\boxed{4}, \boxed{5", "4", False),
        (r"\boxed{3}, \boxed{4}, \boxed{5", "3, 4", False),
        (r"\boxed{4} \text{ and } \boxed{\frac{1", "4", False),
        (r"\boxed{4} or \boxed{", "4", True),
        (r"\boxed{4} or \boxed{5 \boxed{4}", "4", True),  # its last box is whole
    ],
)
def test_a_response_that_is_cut_off(response, gold, right):
    assert paid(response, gold) is right


def test_what_is_cut_off_in_packed_problems():
    truths = '["4", "9"]'
    for text, correct in (
        (r"Answer1::\boxed{4} Answer2::\boxed{9", "10"),
        (r"Answer1::\boxed{4}, Answer2::\boxed{", "10"),
        (r"Answer1::\boxed{4} or \boxed{5", "00"),
        (r"Answer1::\boxed{4} Answer2::\boxed{9}, \boxed{9", "11"),
        (r"Answer1::\boxed{4} Answer2::\boxed{9} Answer1::\boxed{5", "11"),
    ):
        assert batched_accuracy("sums", text, truths)["correct_by_problem"] == correct, text


BARE = [
    (r"$\boxed 2$", "2"),
    (r"\boxed 2", "2"),
    (r"so it is \boxed 42.", "42"),
    (r"$\boxed2$", "2"),
    (r"\(\boxed -7\)", "-7"),
    (r"\[ x = \boxed 3.14 \]", "3.14"),
    (r"$\boxed 1,024$", "1,024"),
    (r"$\boxed\frac12$", r"\frac12"),
    (r"$\boxed{\frac12}$", r"\frac12"),
    (r"$\boxed \frac{\sqrt{3}}{2}$", r"\frac{\sqrt{3}}{2}"),
    (r"$\boxed -\dfrac 1 2$", r"-\dfrac 1 2"),
    (r"$\boxed\sqrt 3$", r"\sqrt 3"),
    (r"$\boxed\sqrt[3]{12}$.", r"\sqrt[3]{12}"),
    (r"$\boxed\pi$", r"\pi"),
    (r"$\boxed x$", "x"),
    (r"$\boxed\text{(C)}$", r"\text{(C)}"),
    (r"$\boxed \mathrm{C}$", r"\mathrm{C}"),
    (r"$\fbox 2$", "2"),
    ("$\\boxed 5$\nand that is all", "5"),
    (r"$\boxed{4}$, no, $\boxed 5$", "5"),
    (r"$\boxed 4$, no, $\boxed{5}$", "5"),
    # what follows may belong to it, so it is not read
    (r"$\boxed x^2$", None),
    (r"$\boxed 2 + 3$", None),
    (r"$\boxed 3, 4$", None),
    (r"$\boxed 4x$", None),
    (r"$\boxed\frac12 x$", None),
    (r"$\boxed\left(1, 2\right)$", None),
    (r"\boxed\{42\}", None),
    (r"\boxed 4}", None),
    # a text about the command
    ("in a \\boxed environment", None),
    ("put it in \\boxed.", None),
    ("put it in \\boxed", None),
    ("with \\boxed and a text", None),
    (r"\boxedx 4", None),
    (r"\boxed{4} with \boxed notation", "4"),
]


@pytest.mark.parametrize(("text", "answer"), BARE)
def test_a_box_without_braces(text, answer):
    assert extract_answer(text) == answer


def test_a_box_without_braces_is_paid_in_answers_and_in_references():
    for response, gold in ((r"$\boxed 2$", "2"), (r"\boxed{0.5}", r"\boxed\frac12"), (r"\boxed{2}", r"$\boxed 2$")):
        assert paid(response, gold)
    for response, gold in ((r"$\boxed 2$", "3"), (r"\boxed{1}", r"\boxed\frac12"), (r"\boxed{4}", r"$\boxed 42$")):
        assert not paid(response, gold)
    assert batched_accuracy("sums", r"Answer1::\(\boxed 4\) Answer2::$\boxed\frac12$", '["4", "0.5"]')["acc"] == 1


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        (r"\boxed{2}", "2", True),
        (r"$\boxed{2}$.", r"\boxed{2}", True),
        ("2", r"\boxed{\boxed{2}}", True),
        (r"\boxed{3}, \boxed{4}", "4, 3", True),
        (r"\boxed{3}, \boxed{4}", "4", False),
        (r"3 \boxed{4}", "4", False),
        (r"\boxed{3} \boxed{4", "3", False),
        (r"\boxed{...}", "4", False),
    ],
)
def test_an_answer_or_a_reference_in_a_box(answer, gold, correct):
    assert grade(answer, gold).correct is correct


def test_places_of_boxes_without_braces():
    assert extract_boxed(r"a $\boxed 2$ b \boxed{3}") == [Box(3, 11, "2"), Box(15, 24, "3")]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 42\nI write #### answer", "42"),
        ("#### 42\n#### ...", "42"),
        ("#### 42\n####", "42"),
        ("#### 41\n#### 42\n#### \\boxed{}", "42"),
        ("#### your answer", None),
        (r"#### \boxed{3} or \boxed{4}", "3, 4"),
        ("#### \\boxed\\frac12", r"\frac12"),
    ],
)
def test_what_says_nothing_after_a_marker(text, answer):
    assert extract_answer(text, marker="####") == answer


def test_what_says_nothing_between_two_texts():
    text = "<answer>42</answer>, in the form <answer>your answer</answer>, not <answer></answer>"
    assert extract_answer(text, marker="<answer>…</answer>") == "42"
    assert extract_answer("<answer>…</answer>", marker="<answer>…</answer>") is None


@pytest.mark.parametrize("said", ["...", "…", "answer", "[your answer]", "", "**answer**"])
def test_a_copied_template_that_is_no_box(said):
    template = "<answer{index}>…</answer{index}>"
    text = f"<answer1>4</answer1> as asked: <answer1>{said}</answer1>"
    pack = {"n": 1}
    assert batched_accuracy("sums", text, '["4"]', pack, answer_template=template)["acc"] == 1
    nothing = batched_accuracy("sums", f"<answer1>{said}</answer1>", '["4"]', pack, answer_template=template)
    assert nothing["finished"] == 0
