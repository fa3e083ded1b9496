"""Which ground truths a reward takes, as which answers, and which it refuses with the fix."""

from decimal import Decimal

import numpy as np
import pytest

from verl_efficiency.rewards import accuracy, batched_accuracy
from verl_efficiency.rewards.ground_truth import read_answers, sentences

GSM8K = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72"
MATH = r"We have that $r = \sqrt{0^2 + 3^2} = 3.$ Therefore, the polar coordinates are $\boxed{3}.$"


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        ("5", ["5"]),
        (5, ["5"]),
        (5.0, ["5"]),
        (-0.5, ["-0.5"]),
        (1e-07, ["1e-07"]),
        (10**30, ["1" + "0" * 30]),
        (Decimal("2.50"), ["2.50"]),
        (np.int64(5), ["5"]),
        (np.float32(0.1), ["0.1"]),
        (np.array(7), ["7"]),
        (["5"], ["5"]),
        ([5], ["5"]),
        (("5",), ["5"]),
        (np.array(["5"]), ["5"]),
        (np.array([5.0]), ["5"]),
        (np.array([r"\frac12"], dtype=object), [r"\frac12"]),
        ('["5"]', ["5"]),  # Skywork-OR1
        ('["\\\\frac{1}{2}"]', [r"\frac{1}{2}"]),
        ("['5']", ["5"]),
        (["4", 9], ["4", "9"]),
        ('["4", "9"]', ["4", "9"]),
        ('["4", 9]', ["4", "9"]),
        ("[4, 9]", ["[4, 9]"]),  # an interval or a pair
        ("[5]", ["[5]"]),
        ("[]", ["[]"]),
        (r"\[5\]", [r"\[5\]"]),
        ('{"a": 1}', ['{"a": 1}']),
        (r"\boxed{5}", [r"\boxed{5}"]),  # the grader opens it
        (r"$\boxed{98, 2} \text{ and } \boxed{99, 503}$", [r"$\boxed{98, 2} \text{ and } \boxed{99, 503}$"]),
        (r"\text{None}", [r"\text{None}"]),
        ("no", ["no"]),
        (r"\begin{pmatrix}" + "\n1 & 2 \\\\\n3 & 4\n" + r"\end{pmatrix}", None),
        (
            "\\begin{cases}\n1 & \\text{if the number } n \\text{ is odd and not prime} \\\\\n"
            "0 & \\text{otherwise, that is if it is even}"
            "\n\\end{cases}",
            None,
        ),
        ("the set of all primes that leave the remainder 1", None),
    ],
)
def test_what_has_one_clear_meaning_is_taken(given, answers):
    assert read_answers(given) == (answers or [given])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ["is missing (null)"]),
        ("", ["is an empty text"]),
        (" \n", ["is an empty text"]),
        (float("nan"), ["is nan"]),
        (np.float64("nan"), ["is nan"]),
        (float("inf"), ["is inf"]),
        ("nan", ["print of a missing value"]),
        ("None", ["print of a missing value", r"\text{None}"]),
        ("<NA>", ["print of a missing value"]),
        (True, ["True (bool)"]),
        (np.bool_(True), ["(bool"]),
        (b"5", ["b'5' (bytes)"]),
        ({"value": 5}, ["(dict)", "write the answer as a text"]),
        ([], ["is an empty list"]),
        ([[5]], ["[5] (list)"]),
        (np.array([[1, 2]]), ["(ndarray)"]),
        ([None], ["is missing"]),
        (["4", None], ["is a list of 2", "missing"]),
        ('["4", null]', ["is a list of 2", "missing"]),
        ('[["5"]]', ["(list)"]),
        (GSM8K, ["is a worked solution", "--answer-after '####'"]),
        ("a\n#### 5", ["is a worked solution", "--answer-after '####'"]),
        (MATH, ["is a worked solution", "--answer-in-box"]),
        (GSM8K.replace("####", "A:"), ["is a worked solution", "--answer-after 'A:'"]),
        (GSM8K.replace("#### ", ""), ["is a worked solution", "name the column"]),
        ([GSM8K], ["is a worked solution"]),
    ],
)
def test_the_rest_is_refused_with_the_fix(given, words):
    with pytest.raises(ValueError, match="is ") as caught:
        read_answers(given)
    for word in words:
        assert word in str(caught.value)
    for reward in (accuracy, batched_accuracy):
        with pytest.raises(ValueError, match=r"reward_model.ground_truth of data source 'sums', index 7 is "):
            reward("sums", "", given, {"index": 7})


@pytest.mark.parametrize("given", [72, 72.0, "72", ["72"], '["72"]', np.array(["72"]), np.int32(72)])
def test_rewards_grade_every_form_of_one_answer(given):
    for reward in (accuracy, batched_accuracy):
        assert reward("sums", r"\boxed{72}", given)["acc"] == 1
        assert reward("sums", r"\boxed{73}", given)["acc"] == 0


@pytest.mark.parametrize("given", ['["4", "9"]', ["4", "9"], [4, 9], np.array([4, 9]), "[4, 9]"])
def test_a_packed_row_takes_every_form_of_its_answers(given):
    text = r"Answer1::\boxed{4} Answer2::\boxed{8}"
    assert batched_accuracy("sums", text, given, {"n": 2})["correct_by_problem"] == "10"
    with pytest.raises(
        ValueError, match=r"is a list of answers.*write one text, '0, 1'.*keep one.*use batched_accuracy"
    ):
        accuracy("sums", text, given, {"n": 2})


def test_a_sentence_is_known_by_its_words():
    answers = [
        "Since the sum of the angles is two right angles, the third of them must be a right angle as well",
        r"f(x) = \begin{cases} 1 & \text{if } x \text{ is rational} \\ 0 \end{cases}",
        "1 + " * 200,
        "the set of all primes that leave the remainder 1",
    ]
    assert sentences(answers) == [0, 2]
