"""Where an answer is looked for: the same settings for every reward, and the form that packing asked for."""

import json
import re
import subprocess

import pytest

from tests.rewards_of_ours import ANSWERING, SINGLE, TOLD, score
from verl_efficiency.data import PackingSettings, pack_rows, read_rows, write_rows
from verl_efficiency.methods.page import meanings
from verl_efficiency.rewards import accuracy, batched_accuracy
from verl_efficiency.rewards.base import AnswerSettings
from verl_efficiency.settings import SettingsError

TEXT = "<think>\n#### 5\n</think>It is \\boxed{3}, or\n#### 4\nfor short."


@pytest.mark.parametrize("name", ANSWERING)
@pytest.mark.parametrize(
    ("truth", "settings", "acc"),
    [
        ("4", {"marker": "####"}, 1),
        ("3", {"marker": "####"}, 0),
        ("3", {}, 1),
        ("4", {}, 0),
        ("3", {"marker": "Answer:"}, 0),
    ],
)
def test_every_reward_reads_a_marked_answer(name, truth, settings, acc):
    assert score(name, TEXT, truth, **settings)["acc"] == acc


@pytest.mark.parametrize("name", ANSWERING)
def test_a_marked_answer_inside_the_thinking(name):
    text = "<think>\n#### 4\n</think>I am done."
    for strip_thinking, acc in ((False, 1), (True, 0)):
        assert score(name, text, marker="####", strip_thinking=strip_thinking)["acc"] == acc


@pytest.mark.parametrize("name", SINGLE)
def test_a_reward_of_one_problem_refuses_a_packed_row(name):
    rows = [{"prompt": [{"role": "user", "content": "?"}], "reward_model": {"ground_truth": "4"}}] * 2
    (row,) = pack_rows(rows, PackingSettings(problems=2, grouping="random"), seed=0)
    truth, told = row["reward_model"]["ground_truth"], TOLD | row["extra_info"]
    with pytest.raises(ValueError, match=r"is a list of answers.*use batched_accuracy"):
        score(name, TEXT, truth, told)


def test_a_term_of_a_composition_has_its_own_marker():
    terms = [{"name": "accuracy", "weight": 1.0, "marker": "####"}]
    assert score("composition", TEXT, terms=terms)["score"] == 1


@pytest.mark.parametrize("name", ANSWERING)
def test_a_blank_marker_is_refused(name):
    with pytest.raises(SettingsError, match="marker: must be a text, or null"):
        score(name, TEXT, marker=" ")


def problems(count):
    return [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{k}+{k}?"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(2 * k)},
            "extra_info": {"index": k, "split": "train"},
        }
        for k in range(count)
    ]


TEMPLATES = [
    r"Answer{index}::\boxed{{…}}",
    r"\[ a_{index} = \boxed{{…}} \]",
    "<answer{index}>…</answer{index}>",
    "Answer {index}: …",
    "第{index}题…。",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_goes_from_packing_through_the_prompt_to_the_reward(template, tmp_path):
    """One setting, of the packing: what the prompt asks for is what the reward, without settings, pays for."""
    file = tmp_path / "packed.parquet"
    settings = PackingSettings(problems=2, grouping="random", answer_template=template)
    write_rows(file, pack_rows(problems(4), settings, seed=0))
    for row in read_rows(file):
        truths = json.loads(row["reward_model"]["ground_truth"])
        prompt = row["prompt"][0]["content"]
        forms = [template.format(index=index) for index in (1, 2)]
        assert all(form in prompt for form in forms)
        # A model that writes each form of the prompt with its own answer in the place of the dots.
        response = "\n".join(form.replace("…", truth) for form, truth in zip(forms, truths, strict=True))
        result = batched_accuracy("sums", response, row["reward_model"]["ground_truth"], row["extra_info"])
        assert (result["acc"], result["format"], result["score"]) == (1, 1, pytest.approx(1.1))
        assert batched_accuracy("sums", prompt, row["reward_model"]["ground_truth"], row["extra_info"])["acc"] == 0
        swapped = "\n".join(form.replace("…", truth) for form, truth in zip(forms, truths[::-1], strict=True))
        assert batched_accuracy("sums", swapped, row["reward_model"]["ground_truth"], row["extra_info"])["acc"] == 0


def test_two_templates_that_differ_are_refused_and_not_scored_0():
    settings = PackingSettings(problems=2, grouping="random", answer_template="Answer {index}: …")
    row = pack_rows(problems(2), settings, seed=0)[0]
    given = ("sums", "Answer 1: 0", row["reward_model"]["ground_truth"], row["extra_info"])
    assert batched_accuracy(*given, answer_template="Answer {index}: …")["finished"] == 0.5
    with pytest.raises(ValueError, match=re.escape("asks for 'Answer {index}: …'; leave the setting out")):
        batched_accuracy(*given, answer_template="<a{index}>…</a{index}>")


def test_the_papers_template_adds_no_column():
    assert (
        "answer_template"
        not in pack_rows(problems(2), PackingSettings(problems=2, grouping="random"), 0)[0]["extra_info"]
    )


@pytest.mark.parametrize(
    "text", ["Answer 1: **4**", "**Answer 1:** 4", "Answer 1: $4$", "Answer 1: \\(4\\).", "Answer 1:  4."]
)
def test_an_answer_on_a_line_may_be_dressed(text):
    assert batched_accuracy("sums", text, '["4"]', {"n": 1}, answer_template="Answer {index}: …")["acc"] == 1


def test_accuracy_says_which_answer_it_read():
    assert accuracy("sums", "6 * 7 = 42\n#### 42 ", "42", marker="####")["answer"] == "42"


def test_the_marker_of_the_docs_works_in_a_shell_as_it_is_printed():
    """Printed in the docstring, taken by bash, read by verl's command line."""
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser").OverridesParser.create()
    meaning = meanings(AnswerSettings)["marker"]
    (printed,) = re.findall(r'`("\+reward[^`]*")`', meaning)
    done = subprocess.run(["bash", "-c", f"printf %s {printed}"], capture_output=True, text=True, check=True)
    (override,) = parser.parse_overrides([done.stdout])
    assert override.key_or_group == "reward.custom_reward_function.reward_kwargs.marker"
    assert override.is_add()
    assert override.value() == "####"
