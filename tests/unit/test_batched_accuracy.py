"""The rewards: which answers are found, what they are worth, and what is refused."""

import json
import subprocess
import sys
import time

import pytest

from verl_efficiency.rewards import AccuracySettings, accuracy, batched_accuracy
from verl_efficiency.settings import SettingsError

TRUTHS = '["4", "9", "\\\\frac{1}{2}"]'  # three answers
IN_FORMAT = r"Answer1::\boxed{4} so Answer2::\boxed{9} and Answer3::\boxed{\frac{1}{2}}"
KEYS = [
    *("score", "acc", "acc_first", "acc_last", "format", "finished", "strays", "problems", "tokens_per_problem"),
    *("correct_by_problem", "answers"),
]


def reward(text, truths=TRUTHS, extra_info=None, **settings):
    return batched_accuracy("sums", text, truths, extra_info, **settings)


@pytest.mark.parametrize(
    ("text", "correct", "in_format", "finished"),
    [
        (IN_FORMAT, "111", 1, 3),
        (r"Answer1::\boxed{4} Answer2::\boxed{8} Answer3::\boxed{0.5}", "101", 1, 3),
        (r"Answer1::\boxed{4} Answer2::\boxed{9} Answer3::\boxed{\frac{1", "110", 0, 2),  # cut off in the last answer
        (r"Answer1::\boxed{4} Answer2::\boxed{9", "100", 0, 1),
        (r"Answer1::\boxed{4", "000", 0, 0),
        ("", "000", 0, 0),
        (r"Answer2::\boxed{9} Answer1::\boxed{4} Answer3::\boxed{1/2}", "111", 0, 3),  # out of order
        (r"Answer1::\boxed{4} Answer3::\boxed{1/2}", "101", 0, 2),  # one left out
        (IN_FORMAT + r" Answer4::\boxed{1}", "111", 0, 3),  # a problem that does not exist
        (r"Answer0::\boxed{4} " + IN_FORMAT, "111", 0, 3),
        (IN_FORMAT + r" Answer1::\boxed{5}", "011", 0, 3),  # the last one counts
        (r"\boxed{4} \boxed{9} \boxed{1/2}", "000", 0, 0),  # no tags
        (r"Answer1: \boxed{4} Answer2:\boxed{9}", "000", 0, 0),
        (r"Answer1:: $\boxed{4}$ **Answer2::** $\boxed{9}$ Answer 3 ::\boxed{ 1/2 }", "111", 1, 3),  # dressed up
        ("**Answer1**:: \\boxed{4} **Answer 2** :: \\boxed{9} Answer**3**::\\boxed{1/2}", "111", 1, 3),
        (r"\text{Answer1::} \boxed{4} `Answer2::`\boxed{9} Answer3::\quad$\displaystyle \boxed{1/2}$", "111", 1, 3),
        (r"Answer1::\boxed{} Answer2::\boxed{ } Answer3::\boxed{1/2}", "001", 0, 1),  # empty boxes
        (r"Answer1:: which is long to explain, and ends in \boxed{4}", "000", 0, 0),  # the box does not follow its tag
        (r"Answer1::\boxed{4 Answer2::\boxed{9} Answer3::\boxed{1/2}", "011", 0, 2),  # the first never closes
        (r"Answer11::\boxed{4}", "000", 0, 0),
    ],
)
def test_answers_by_index(text, correct, in_format, finished):
    result = reward(text)
    assert list(result) == KEYS
    assert result["correct_by_problem"] == correct
    assert result["acc"] == pytest.approx(correct.count("1") / 3)
    assert (result["acc_first"], result["acc_last"]) == (int(correct[0]), int(correct[-1]))
    assert result["format"] == in_format
    assert result["finished"] == pytest.approx(finished / 3)
    assert result["score"] == pytest.approx(correct.count("1") / 3 + 0.1 * in_format)
    assert result["problems"] == 3
    assert sum(answer is not None for answer in json.loads(result["answers"])) == finished


def test_answers_are_reported_as_written():
    result = reward(r"Answer1::\boxed{\{4\}} Answer3::\boxed{数}")
    assert json.loads(result["answers"]) == [r"\{4\}", None, "数"]


@pytest.mark.parametrize(
    ("duplicates", "correct", "answers"),
    [("last", "010", ["3", "9", None]), ("first", "110", ["4", "9", None]), ("none", "010", [None, "9", None])],
)
def test_duplicates(duplicates, correct, answers):
    result = reward(r"Answer1::\boxed{4} Answer2::\boxed{9} Answer1::\boxed{3}", duplicates=duplicates)
    assert result["correct_by_problem"] == correct
    assert json.loads(result["answers"]) == answers
    assert result["format"] == 0


@pytest.mark.parametrize(
    ("text", "correct", "strays"),
    [
        (r"Answer4::\boxed{4} Answer0::\boxed{4} Answer9999::\boxed{4}", "000", 3),
        (IN_FORMAT + r" Answer4::\boxed{1}", "111", 1),
        (
            r"Answer12345::\boxed{4} Answer-1::\boxed{4} Answer1.0::\boxed{4} Answer" + "\u0661" + r"::\boxed{4}",
            "000",
            0,
        ),
    ],
)
def test_answers_to_problems_that_do_not_exist_are_counted_and_worth_nothing(text, correct, strays):
    result = reward(text)
    assert (result["correct_by_problem"], result["strays"], result["format"]) == (correct, strays, 0)


def test_under_a_header_the_tag_decides_and_boxes_without_a_tag_are_no_answers():
    text = r"""### Problem 1
    first \boxed{7}, then \boxed{8}. Answer1::\boxed{4} which is \boxed{5}
    ### Problem 2
    Answer1::\boxed{9}
    ### Problem 3
    \boxed{1/2}"""
    result = reward(text)
    assert json.loads(result["answers"]) == ["9", None, None]
    assert json.loads(reward(text, duplicates="first")["answers"]) == ["4", None, None]


def test_the_instruction_copied_is_no_answer():
    copied = r"I answer in the form Answer1::\boxed{…}, Answer2::\boxed{...}, Answer3::\boxed{\dots}. "
    assert reward(copied)["finished"] == 0
    assert reward(copied + IN_FORMAT)["score"] == pytest.approx(1.1)
    assert reward(IN_FORMAT + copied)["score"] == pytest.approx(1.1)


def test_a_box_in_the_box_is_opened():
    assert reward(r"Answer1::\boxed{\boxed{4}}")["acc_first"] == 1
    assert reward(r"\boxed{Answer1::\boxed{4}}")["acc_first"] == 0, "the answer is a box right after its tag"


@pytest.mark.parametrize(
    ("template", "text", "correct"),
    [
        (
            "<answer{index}>…</answer{index}>",
            "<answer1>4</answer1> <answer2> 9 </answer2> <answer3>1/2</answer3>",
            "111",
        ),
        ("<answer{index}>…</answer{index}>", "<answer1>4 <answer2>9</answer2> <answer3>1/2</answer2>", "010"),
        ("[[{index}: …]]", "[[1: 4]] [[2: 9 [[3: 1/2]]", "101"),
        ("Answer {index}: …", "Answer 1: 4\nAnswer 2:9 \nAnswer 3: 1/2", "111"),
        ("Answer {index}: …", "Answer 1: 4 and Answer 2: 9\n", "010"),
        ("Answer {index}: …", r"Answer 1: $\boxed{4}$", "100"),
        ("Answer {index}: …", "Answer 10: 4\nAnswer 1", "000"),
        ("Answer {index} …", "Answer 1 4\nAnswer 00029\n", "100"),  # not the number 9 for problem 2
        ("({index}) …", "(1) 4\n(2) 9\n (3)\n1/2", "110"),
        (r"Answer {index} = \boxed{{…}}", r"Answer 1 = \boxed{4} Answer 2= $\boxed{9}$ Answer3::\boxed{1/2}", "110"),
        (r"\[ a_{index} = \boxed{{…}} \]", r"\[ a_1 = \boxed{4} \] \[a_2=\boxed{9}\]", "110"),
        ("第{index}题…。", "第1题4。第2题 9。第3题1/2", "110"),
    ],
)
def test_a_users_own_template(template, text, correct):
    result = reward(text, answer_template=template)
    assert list(result) == KEYS
    assert result["correct_by_problem"] == correct
    assert result["format"] == (correct == "111")


def test_a_line_that_runs_to_the_end_of_a_truncated_response_is_not_finished():
    template, text = "Answer {index}: …", "Answer 1: 4\nAnswer 2: 9"
    assert reward(text, answer_template=template)["correct_by_problem"] == "110"
    assert reward(text, extra_info={"truncated": True}, answer_template=template)["correct_by_problem"] == "100"


@pytest.mark.parametrize(
    ("fallback", "text", "correct"),
    [
        ("none", r"\boxed{4} \boxed{9} \boxed{1/2}", "000"),
        ("order", r"\boxed{4} \boxed{9} \boxed{1/2}", "111"),
        ("order", r"\boxed{4} \boxed{9}", "110"),
        ("order", r"\boxed{9} \boxed{4}", "000"),
        (
            "order",
            r"\boxed{3} \boxed{4} \boxed{9} \boxed{1/2}",
            "000",
        ),  # four boxes for three problems: any could be meant
        ("order", r"Answer2::\boxed{9} \boxed{4}", "010"),  # one answer in the form, so the other box is none
        ("order", r"Answer2::\boxed{9}, \boxed{4}", "000"),  # two parts of one answer
        ("order", r"\boxed{4} \boxed{...} \boxed{\text{answer}}", "100"),
        ("order", r"\boxed{4} \boxed{ } \boxed{1/2}", "101"),
        (
            "section",
            "### Problem 1\n\\boxed{3} \\boxed{4}\n### Problem 2\n\\boxed{9}\n### Problem 3\n\\boxed{1/2}",
            "111",
        ),
        ("section", "### Problem 2\n\\boxed{9}\n### Problem 1\n\\boxed{4}", "110"),
        ("section", "### Problem 1\nAnswer1::\\boxed{5} \\boxed{4}\n### Problem 2\n\\boxed{9}", "010"),  # the tag first
        ("section", "### Problem 1\n\\boxed{4}\n### Problem 12\n\\boxed{9}\n### Problem 21\n\\boxed{9}", "100"),
        ("section", "see ### Problem 1\n\\boxed{4}", "000"),  # a header opens a line
        ("section", r"\boxed{4} \boxed{9} \boxed{1/2}", "000"),
        ("section", "## Problem 1\n\\boxed{4}\n#### Problem 2: odd\n\\boxed{9}", "110"),  # of any level
        ("section", "### Problem 1\n\\boxed{9}\n## Problem 2\n\\boxed{4}", "000"),  # each ends the section before it
        ("section", "**Problem 1**\n\\boxed{4}\n### **Problem 2:**\n\\boxed{9}", "110"),
        ("section", "Problem 1\n\\boxed{4}", "000"),
        ("order", "**Problem 2**\n\\boxed{9}\n**Problem 1**\n\\boxed{4}", "110"),  # by its headings, where it has some
        ("order", "### Problem 2\n\\boxed{4}\n### Problem 3\n\\boxed{9}", "000"),
    ],
)
def test_answers_out_of_form_count_only_when_asked_for(fallback, text, correct):
    result = reward(text, fallback=fallback)
    assert result["correct_by_problem"] == correct
    assert result["format"] == 0, "a fall-back is never in the form"
    assert list(result) == KEYS


def test_a_users_own_header():
    text = "Task 1) \\boxed{4}\nTask 2) \\boxed{9}"
    assert reward(text, fallback="section", problem_header="Task {index})")["correct_by_problem"] == "110"


def test_a_header_that_is_a_number():
    text = "# 1\n**9** so \\boxed{4}\n## 2\n\\boxed{9}"
    assert reward(text, fallback="section", problem_header="# {index}")["correct_by_problem"] == "110"


def test_weights():
    assert reward(IN_FORMAT, accuracy_weight=2, format_weight=0.5)["score"] == 2.5
    assert reward(r"Answer1::\boxed{4}", accuracy_weight=3, format_weight=1)["score"] == 1
    assert reward(IN_FORMAT, format_weight=0)["score"] == 1


def test_a_response_known_to_be_truncated_is_not_in_format_and_keeps_its_credit():
    result = reward(IN_FORMAT, extra_info={"truncated": True, "response_tokens": 60, "n": 3})
    assert (result["acc"], result["format"], result["score"], result["tokens_per_problem"]) == (1, 0, 1, 20)
    assert reward(IN_FORMAT, extra_info={"truncated": False})["format"] == 1


def test_token_count_is_unknown_without_our_reward_manager():
    assert reward(IN_FORMAT)["tokens_per_problem"] == -1
    assert reward(IN_FORMAT, extra_info={"response_tokens": 0})["tokens_per_problem"] == 0


def test_a_single_problem_is_answered_by_its_last_box():
    for truth in ("4", "[1, 2]", '{"a": 1}', "[]"):
        result = reward(rf"maybe \boxed{{7}}, no, \boxed{{{truth}}}", truth)
        assert list(result) == KEYS
        assert (result["acc"], result["problems"], result["correct_by_problem"]) == (1, 1, "1")
        assert result["score"] == pytest.approx(1.1)
    assert reward("the answer is 4", "4")["score"] == 0
    assert reward(r"Answer1::\boxed{4}", "4", {"n": 1})["acc"] == 1


def test_a_pack_of_one_is_answered_by_its_tag():
    assert reward(r"Answer1::\boxed{4}", '["4"]', {"n": 1})["score"] == pytest.approx(1.1)
    assert reward(r"\boxed{4}", '["4"]', {"n": 1})["score"] == 0


def test_answers_inside_thinking_count_unless_told_otherwise():
    text = r"<think>Answer1::\boxed{4} Answer2::\boxed{9} Answer3::\boxed{1/2}</think>Answer1::\boxed{4}"
    assert reward(text)["correct_by_problem"] == "111"
    assert reward(text, strip_thinking=True)["correct_by_problem"] == "100"
    assert accuracy("sums", r"<think>\boxed{4}</think>", "4")["score"] == 1
    assert accuracy("sums", r"<think>\boxed{4}</think>", "4", strip_thinking=True)["score"] == 0


@pytest.mark.parametrize(
    ("truth", "extra_info", "message"),
    [
        (["4", "9"], {"n": 3, "index": 5}, r"data source 'sums', index 5 must be a list of 3 answers"),
        (None, {}, r"index None is missing"),
        (True, {}, r"is True \(bool\)"),
        ("4", {"n": 3, "index": 7}, r"index 7 must be a list of 3 answers \(extra_info.n\), got '4'"),
        ('["4", "9"]', {"n": 3}, "must be a list of 3 answers"),
        ("[4, 9]", {"n": 3}, "must be a list of 3 answers"),
        ('["4", "9"]', {"n": 1}, "must be a list of 1 answers"),
        (" ", {"index": 2}, r"index 2 is an empty text"),
        ('["4", " "]', {"n": 2, "index": 2}, r"index 2 is a list of 2, .* one of them is an empty text"),
    ],
)
def test_a_bad_ground_truth_names_its_row(truth, extra_info, message):
    with pytest.raises(ValueError, match=message):
        reward("", truth, extra_info)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format_wieght": 0.2}, "did you mean 'format_weight'"),
        ({"duplicates": "lst"}, "did you mean 'last'"),
        ({"duplicates": ["last"]}, "unknown value ['last']"),
        ({"format_weight": -1}, "reward_kwargs.format_weight: must be a number of at least 0"),
        ({"accuracy_weight": 0}, "must be a number above 0"),
        ({"accuracy_weight": "1"}, "must be float, got '1' (str)"),
        ({"fallback": "sections"}, "did you mean 'section'"),
        ({"answer_template": "Answer: …"}, "reward_kwargs.answer_template: must be a text with {index} before one …"),
        ({"answer_template": "Answer{index}"}, "must be a text with {index} before one …"),
        ({"answer_template": "Answer{index}: … or …"}, "must be a text with {index} before one …"),
        ({"answer_template": "…{index}"}, "must be a text with {index} before one …"),
        ({"answer_template": "Answer{number}: …"}, "must be a text with {index} before one …"),
        ({"answer_template": r"Answer{index}::\boxed{…}"}, "must be a text with {index} before one …"),
        ({"answer_template": "Answer{index}::{"}, "a literal brace is written twice"),
        ({"answer_template": "{index} …"}, "the index needs a text beside it"),
        ({"problem_header": "### Problem"}, "reward_kwargs.problem_header: must be a text with one {index}"),
    ],
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(SettingsError) as caught:
        reward("", **settings)
    assert str(caught.value).startswith("reward.custom_reward_function.reward_kwargs")
    assert message in str(caught.value)


def test_settings_of_accuracy_are_refused_by_name():
    with pytest.raises(SettingsError, match="did you mean 'strip_thinking'"):
        accuracy("sums", "", "4", strip_thinkng=True)


def test_what_verl_adds_itself_is_accepted():
    added = {"reward_router_address": "host:1", "reward_model_tokenizer": object()}
    assert reward(IN_FORMAT, **added)["acc"] == 1
    assert accuracy("sums", r"\boxed{4}", "4", **added)["acc"] == 1


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        (r"Answer1::\boxed{" * 30_000, "000"),
        (r"Answer1::\boxed{" * 30_000 + IN_FORMAT, "111"),
        (r"Answer1::\boxed{4}" * 30_000, "100"),
        (r"\boxed{4}" * 30_000 + r"Answer2::\boxed{9}", "010"),
        ("Answer" + " " * 500_000 + r"1::\boxed{5}", "000"),
        (r"Answer1::\boxed{" * 30_000 + "}" * 30_000, "000"),
        ("<a1>" * 50_000 + "<a1>4</a1>", "100"),
        ("### Problem 1\n" * 40_000 + r"Answer1::\boxed{4}", "100"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"fallback": "section"}, {"fallback": "order"}])
def test_long_and_hostile_responses_take_linear_time(text, correct, settings):
    if "<a1>" in text:
        settings = settings | {"answer_template": "<a{index}>…</a{index}>"}
    started = time.process_time()
    assert reward(text, **settings)["correct_by_problem"] == correct
    assert time.process_time() - started < 5  # 0.5 s; minutes if every box looked at all the text before it


def test_accuracy():
    result = accuracy("sums", r"\boxed{3} \boxed{4}", "4", {"response_tokens": 12})
    assert result == {"score": 1, "acc": 1, "finished": 1, "tokens": 12, "status": "correct", "answer": "4"}
    assert accuracy("sums", r"\boxed{3}", "4")["status"] == "wrong"
    assert accuracy("sums", "4", "4") == {
        "score": 0, "acc": 0, "finished": 0, "tokens": -1, "status": "no_answer", "answer": "",
    }  # fmt: skip
    assert AccuracySettings().strip_thinking is False
    with pytest.raises(ValueError, match="data source 'sums', index 3 is nan"):
        accuracy("sums", "", float("nan"), {"index": 3})


def test_every_reward_module_has_verls_default_name():
    import importlib

    for name in ("accuracy", "batched_accuracy"):
        module = importlib.import_module(f"verl_efficiency.rewards.{name}")
        assert module.compute_score is getattr(module, name)


def test_importing_the_rewards_loads_neither_torch_nor_sympy():
    code = "import sys, verl_efficiency.rewards; print([name for name in ('torch', 'sympy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
