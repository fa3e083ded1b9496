r"""What a model, a data set or a bad tokenizer can put before the rewards: never pay for a wrong or absent answer, never crash.

The generated cases know what they put in: each response is built from fragments, and which answer counts is worked out from
the fragments, not from the text.
"""

import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rewards_of_ours import SINGLE, TOLD, score
from verl_efficiency.methods.catalog import REWARDS

TRUTHS = ["4", "9", r"\frac{1}{2}"]


def single(name, text, truth="4", **given):
    return score(name, text, truth, **given)


def batched(text, truths=TRUTHS, told=None, **given):
    return REWARDS["batched_accuracy"].function()(
        "hostile", text, json.dumps(truths), TOLD if told is None else told, format_weight=0, **given
    )


# Packed problems


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        # a problem quoted, with a box or with the whole answer form in it
        (r"### Problem 1: is \boxed{4} right? ### Problem 2: is \boxed{9}?", "000"),
        ("> ### Problem 1\n> Give your answer in the form Answer1::\\boxed{…}.\n", "000"),
        (r"The problem says: write 'Answer1::\boxed{answer}'. Answer1::\boxed{4}", "100"),
        (r"Answer1::\boxed{4} as asked: 'Answer1::\boxed{answer}'", "100"),  # the instruction, copied, says nothing
        (r"Answer1::\boxed{4} as asked: 'Answer1::\boxed{x}'", "000"),  # the last one counts, whatever it is for
        # all answers in one slot
        (r"Answer1::\boxed{4, 9, \frac{1}{2}}", "000"),
        (r"Answer1::\boxed{4 \text{ and } 9}", "000"),
        (r"Answer1::\boxed{4; 9; 0.5} Answer2::\boxed{4; 9; 0.5} Answer3::\boxed{4; 9; 0.5}", "000"),
        (r"Answer1::\boxed{\boxed{4} \boxed{9}}", "000"),
        (r"Answer1::\boxed{4} \boxed{9} \boxed{\frac{1}{2}}", "100"),
        (r"Answer1::\boxed{4} or \boxed{9}, Answer2::\boxed{4} or \boxed{9}", "000"),
        (r"Answers 1, 2, 3::\boxed{4} \boxed{9} \boxed{\frac{1}{2}}", "000"),
        # the right answer after a wrong one, and the reverse
        (r"Answer1::\boxed{5} Answer1::\boxed{4}", "100"),
        (r"Answer1::\boxed{4} Answer1::\boxed{5}", "000"),
        (r"Answer1::\boxed{4} Answer1::\boxed{5", "100"),  # the second was never given
        # one answer for another's problem
        (r"Answer1::\boxed{9} Answer2::\boxed{4}", "000"),
        (r"Answer2::\boxed{4} Answer3::\boxed{4}", "000"),
        # a section header imitated
        ("### Problem 1\n### Problem 2\n### Problem 3\n\\boxed{4}", "000"),
        ("### Problem 2\nAnswer1::\\boxed{9}", "000"),
        # the tag spelt otherwise
        (r"answer1::\boxed{4} ANSWER2::\boxed{9} Answer3:\boxed{0.5}", "000"),
        (r"Answer１::\boxed{4} Аnswer2::\boxed{9} Answer³::\boxed{0.5}", "000"),
        (r"Answer1::\boxed{4}Answer2::\boxed{9}Answer3::\boxed{0.5}", "111"),
        # the box in math mode, or with its backslash escaped, as models write it
        (r"Answer1::\(\boxed{4}\) Answer2:: \[ \boxed{9} \] Answer3::\\boxed{0.5}", "111"),
        ("Answer1::\n\\[\n\\boxed{4}\n\\]", "100"),
        (r"Answer1::\(4\) \boxed{4}", "000"),  # the box does not follow its tag
        (r"Answer1::\) \boxed{4}", "000"),
        # a tag in another's place
        (r"Answer1::Answer2::\boxed{4}", "000"),
        (r"Answer1::<think>\boxed{4}</think>", "000"),
        (r"Answer1::\boxed{Answer2::\boxed{9}}", "000"),
        (r"Answer1-3::\boxed{4}", "000"),
        (r"Answer1,2::\boxed{9}", "000"),
        # cut off
        (r"Answer1::\boxed{4} Answer2::\boxed{9} Answer3::\boxed{\frac{1}{2}", "110"),
        (r"Answer1::\boxed{4} Answer2::\boxed", "100"),
        # control characters and broken bytes
        ("Answer1::\\boxed{4\x00} Answer2::\\boxed{9}", "010"),
        ("Answer1::\x00\\boxed{4} Answer2::\\boxed{9}\x00", "010"),
        ("Answer1::\\boxed{\ufffd4} Answer2::\\boxed{9}\ufffd\ufffd", "010"),
        ("Answer1::\\boxed{4\u200b} \u202eAnswer2::\\boxed{9}", "?1?"),  # an invisible blank may count or not
    ],
)
def test_packed_problems(text, correct):
    result = batched(text)
    for got, wanted in zip(result["correct_by_problem"], correct, strict=True):
        assert wanted in (got, "?")
    assert result["score"] == pytest.approx(result["correct_by_problem"].count("1") / 3)


@pytest.mark.parametrize(
    "told", [None, {}, {"n": None}, {"n": 3.0}, {"n": np.int64(3), "response_tokens": np.float32(9)}]
)
def test_what_verl_may_hand_over_beside_the_text(told):
    text = "".join(rf"Answer{index}::\boxed{{{truth}}}" for index, truth in enumerate(TRUTHS, start=1))
    result = REWARDS["batched_accuracy"].function()(None, np.str_(text), np.str_(json.dumps(TRUTHS)), told)
    assert (result["acc"], result["correct_by_problem"]) == (1, "111")


@pytest.mark.parametrize("name", list(REWARDS))
@pytest.mark.parametrize("response", [None, b"\\boxed{4}", 4, ["\\boxed{4}"]])
def test_a_response_that_is_no_text_is_refused_in_one_line(name, response):
    with pytest.raises(ValueError, match=r"solution_str of data source 'sums', index 0: must be a text, got"):
        single(name, response)


@pytest.mark.parametrize("fallback", ["section", "order"])
@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{9} \boxed{\frac{1}{2}} \boxed{4}",
        r"\boxed{4 9} \boxed{4 9} \boxed{4 9}",
        r"\boxed{4} " * 4,  # more boxes than problems
        "### Problem 2\n\\boxed{4}\n### Problem 1\n\\boxed{9}",
        "### Problem 4\n\\boxed{4}\n### Problem 0\n\\boxed{9}",
        "### Problem 1 ### Problem 2 \\boxed{9}\n",  # under the first header stands one box, and it is the second's
        "### Problem 1\n\\boxed{4} \\boxed{5}",
        "### Problem 3\n\\boxed{4}",
        "\\boxed{4} \\boxed{9} before\n### Problem 1\n",  # answers before the problem
        "### Problem 2\n### Problem 3\n\\boxed{4}\\boxed{9}",
        "### Problem 1: 4\n### Problem 2: 9\n",
    ],
)
def test_fall_backs_do_not_pay_for_the_wrong_problem(fallback, text):
    assert batched(text, fallback=fallback)["score"] == 0


def test_a_header_in_the_thinking_opens_no_section_of_the_answer():
    text = "<think>\n### Problem 1\n</think>\n\\boxed{9} \\boxed{4}"
    assert batched(text, fallback="section", strip_thinking=True)["score"] == 0


def test_the_format_never_pays_more_than_its_weight():
    form = "".join(rf"Answer{index}::\boxed{{77}}" for index in (1, 2, 3))
    assert REWARDS["batched_accuracy"].function()("hostile", form, json.dumps(TRUTHS), TOLD)["score"] == 0.1


# Single problems


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "the answer is 4",
        r"\boxed{}",
        r"\boxed{5}",
        r"\boxed{4} no, \boxed{5}",
        r"\boxed{4",
        r"\boxed 4}",
        r"boxed{4}",
        r"\boxed{4}} \boxed{",  # see below: the one exception
        r"\boxed{4, 5}",
        r"\boxed{4 \text{ or } 5}",
        r"\boxed{4 or 5}",
        r"\boxed{1, 2, 3, 4, 5}",
        r"\boxed{\{4, 5\}}",
        r"\boxed{x = 4, y = 5}",
        r"\boxed{\text{not } 4}",
        r"\boxed{\neq 4}",
        r"\boxed{> 4}",
        r"\boxed{\approx 4.2}",
        r"\boxed{4?}",
        "\\boxed{4\x005}",
        "\\boxed{\ud800}",
        "\\boxed{4\ufffd}",
        "\x00",
        "\ud83d",
        r"\boxed{" * 50_000,
        r"\boxed{4" * 20_000,
        r"\boxed{5}" * 20_000,
        r"\boxed{" + "4" * 100_000 + "}",
        r"\boxed{" + "4+" * 50_000 + "}",
        r"\boxed{x = 5" + " " * 50_000 + "y}",
        r"\boxed{5" + " " * 50_000 + "mod y}",
        r"\boxed{" + "{" * 50_000 + "4" + "}" * 50_000 + "5}",
        "}" * 100_000,
        "\\" * 100_000,
        "$" * 100_000,
        "四" * 50_000,
        "<think>" * 20_000,
        "</think>" * 20_000,
    ],
    ids=lambda text: ascii(text[:24]) + (f"… {len(text)}" if len(text) > 24 else ""),
)
def test_a_wrong_or_absent_answer_is_never_rewarded(name, text):
    started = time.process_time()
    result = single(name, text)
    if text == r"\boxed{4}} \boxed{":
        assert result["acc"] == 1, "a brace too many does not undo an answer"
    else:
        assert (result["acc"], result["score"] <= 0) == (0, True)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("size", [20_000, 100_000])
@pytest.mark.parametrize(
    "piece", ["so ", "a", "\\boxed{4} ", "Answer1::\\boxed{4}", "### Problem 1\n", "{", "}", "\x00", "\ufffd"]
)
def test_time_is_linear_in_the_text(piece, size):
    """About 0.15 s for 100,000 characters of the worst; anything quadratic takes minutes."""
    text = piece * (size // len(piece))
    started = time.process_time()
    for name in ("accuracy", "repetition"):
        single(name, text)
    for fallback in ("none", "section", "order"):
        batched(text, fallback=fallback)
    batched(text, answer_template="Answer{index}: …")
    batched(text, answer_template="<a{index}>…</a{index}>")
    assert time.process_time() - started < 5


# Generated cases

FUZZ = settings(max_examples=2500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
GOLD = [
    str(number) for number in (10_007, 20_011, 30_011)
]  # primes: nothing that is generated evaluates to them by chance

answers = st.sampled_from([*GOLD, "7", "10008", "10007, 20011", "", " ", "10007.5", "-10007"])
indices = st.sampled_from([0, 1, 2, 3, 4, 12, 123, 9999])
noise = st.text(alphabet=st.characters(exclude_characters="{}\\0123456789", codec="utf-8"), max_size=12).map(
    lambda text: text.replace("Answer", "")
)
fragments = st.lists(
    st.one_of(
        st.tuples(st.just("tagged"), indices, answers),
        st.tuples(st.just("box"), st.just(0), answers),
        st.tuples(st.just("header"), indices, st.just("")),
        st.tuples(st.just("noise"), st.just(0), noise),
    ),
    max_size=12,
)


def written(pieces):
    forms = {
        "tagged": "Answer{0}::\\boxed{{{1}}}",
        "box": ". \\boxed{{{1}}}",  # the stop keeps it away from a tag that noise may have made, and from another box
        "header": "\n### Problem {0}\n",
        "noise": "{1}",
    }
    return "".join(forms[kind].format(index, content) + " " for kind, index, content in pieces)


@FUZZ
@given(fragments, st.sampled_from(["last", "first", "none"]))
def test_which_answer_counts(pieces, duplicates):
    given_to = {index: [] for index in (1, 2, 3)}
    for kind, index, content in pieces:
        if kind == "tagged" and index in given_to and content.strip():
            given_to[index].append(content)
    pick = {
        "last": lambda all_: all_[-1:],
        "first": lambda all_: all_[:1],
        "none": lambda all_: all_ * (len(all_) == 1),
    }
    expected = "".join("1" if pick[duplicates](given_to[k]) == [GOLD[k - 1]] else "0" for k in (1, 2, 3))
    result = batched(written(pieces), GOLD, duplicates=duplicates)
    assert result["correct_by_problem"] == expected
    assert result["score"] == pytest.approx(expected.count("1") / 3)
    assert result["finished"] == pytest.approx(sum(bool(pick[duplicates](given_to[k])) for k in (1, 2, 3)) / 3)
    assert result["strays"] == sum(
        kind == "tagged" and index not in given_to and bool(content.strip()) for kind, index, content in pieces
    )


@FUZZ
@given(fragments, st.sampled_from(SINGLE))
def test_the_last_box_counts(pieces, name):
    boxes = [content for kind, _, content in pieces if kind in ("tagged", "box") and content.strip()]
    right = boxes[-1:] == [GOLD[0]]
    result = single(name, written(pieces), GOLD[0])
    assert result["acc"] == right
    assert (result["score"] > 0) == right


joints = st.sampled_from([", ", "; ", ",\n", "$ and $", " or ", ", or ", r" \text{ and } ", r"\text{ or }", r",\quad "])


@FUZZ
@given(st.lists(st.tuples(joints, answers), min_size=1, max_size=8), st.sampled_from(SINGLE))
def test_a_list_of_guesses_is_never_paid_for_the_right_one(guesses, name):
    text = "So " + "".join(f"{joint}\\boxed{{{content}}}" for joint, content in guesses)
    said = {content for _, content in guesses if content.strip()}
    assert single(name, text, GOLD[0])["acc"] == (said == {GOLD[0]})
    assert batched(text.replace("\\boxed", "Answer1::\\boxed", 1), GOLD)["acc_first"] == (said == {GOLD[0]})


LATEX = [
    "\\boxed{",
    "}",
    "{",
    "\\frac",
    "\\text{",
    "Answer1::",
    "Answer2::",
    "### Problem 1\n",
    "<think>",
    "</think>",
    "$",
    "^",
]
junk = st.lists(
    st.one_of(
        st.sampled_from([*LATEX, "1", "7", "9", "=", "\x00", "\ufffd", "\ud800", "\u0663", "\uff11", "\n"]),
        st.characters(),
    ),
    max_size=25,
).map("".join)


@FUZZ
@given(junk, st.sampled_from(["none", "section", "order"]))
def test_junk_earns_nothing_and_crashes_nothing(text, fallback):
    truths = ["8675309", "5551212", "2718281828"]
    result = batched(text, truths, fallback=fallback)
    assert result["score"] == 0
    assert list(result) == list(batched("", truths))
    assert -1 < REWARDS["repetition"].function()("hostile", text, "", None, n=2)["score"] <= 0


@FUZZ
@given(junk, st.sampled_from(["Answer{index}: …", "<a{index}>…</a{index}>", "[{index}] \\boxed{{…}}", "({index})…;"]))
def test_no_template_crashes_or_pays_for_junk(text, template):
    for response in (text, template.format(index=1).replace("…", text)):
        assert batched(response, ["8675309", "5551212"], {"truncated": True}, answer_template=template)["score"] == 0
