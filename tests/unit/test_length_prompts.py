"""Prompts that say how long the reasoning may be, and the rewards that read the same number."""

import json
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.data import read_rows
from verl_efficiency.data.length_prompts import LEVEL_TEXTS, add_levels, add_targets
from verl_efficiency.rewards import lcpo_exact, lcpo_max, length_levels
from verl_efficiency.settings import SettingsError


def rows(count):
    return [
        {
            "data_source": "sums",
            "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": f"{k}+{k}?\n"}],
            "reward_model": {"style": "rule", "ground_truth": str(2 * k)},
            "extra_info": {"index": k},
        }
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("form", "words"), [("exact", "Think for {} tokens."), ("max", "Think for maximum {} tokens.")]
)
def test_the_prompt_and_the_column_say_the_same(form, words):
    source = rows(2000)
    asked = add_targets(source, form, 100, 4000, seed=3)
    targets = [row["extra_info"]["target_tokens"] for row in asked]
    for number, (row, target) in enumerate(zip(asked, targets, strict=True)):
        assert row["prompt"][-1]["content"] == f"{number}+{number}? {words.format(target)}"
        assert row["extra_info"]["index"] == number
    assert (min(targets) >= 100, max(targets) <= 4000) == (True, True)
    assert np.mean(targets) == pytest.approx(2050, rel=0.05)  # uniform
    assert asked == add_targets(source, form, 100, 4000, seed=3)
    assert asked != add_targets(source, form, 100, 4000, seed=4)
    assert source == rows(2000), "the rows given are not changed"


def test_both_ends_of_the_range_are_drawn():
    assert {row["extra_info"]["target_tokens"] for row in add_targets(rows(50), "max", 7, 8, seed=0)} == {7, 8}


def test_a_third_of_the_rows_for_each_level():
    asked = add_levels(rows(300), seed=0)
    assert Counter(row["extra_info"]["length_level"] for row in asked) == {"short": 100, "medium": 100, "long": 100}
    for row in asked:
        assert row["prompt"][-1]["content"].endswith("? " + LEVEL_TEXTS[row["extra_info"]["length_level"]])
    assert asked != add_levels(rows(300), seed=1)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(SettingsError, match="lcpo: must be exact or max, got 'exactly'"):
        add_targets(rows(1), "exactly", 1, 2, seed=0)
    for low, high in ((0, 10), (20, 10)):
        with pytest.raises(SettingsError, match="tokens: must be LOW:HIGH"):
            add_targets(rows(1), "exact", low, high, seed=0)
    with pytest.raises(SettingsError, match=r"row 0 already has extra_info.target_tokens"):
        add_targets(add_targets(rows(1), "exact", 1, 2, seed=0), "max", 1, 2, seed=0)
    answered = [row | {"prompt": [*row["prompt"], {"role": "assistant", "content": "2"}]} for row in rows(1)]
    with pytest.raises(SettingsError, match="the prompt of row 0 does not end in a user message"):
        add_levels(answered, seed=0)


def pack(tmp_path, *options, name="train.parquet"):
    source, target = tmp_path / "sums.jsonl", tmp_path / name
    source.write_text("".join(json.dumps({"question": f"{k}+{k}?", "answer": 2 * k}) + "\n" for k in range(1, 31)))
    result = CliRunner().invoke(app, ["pack", str(source), str(target), *options], catch_exceptions=True)
    return result, target


@pytest.mark.parametrize(("form", "reward"), [("exact", lcpo_exact), ("max", lcpo_max)])
def test_from_the_command_to_the_reward(tmp_path, form, reward):
    options = ["--problems", "1", "--ending", r"Answer in \boxed{}.", "--lcpo", form, "--tokens", "50:60"]
    result, target = pack(tmp_path, *options)
    assert result.exit_code == 0, result.output
    for row in read_rows(target):
        prompt, truth, info = row["prompt"][0]["content"], row["reward_model"]["ground_truth"], row["extra_info"]
        tokens = info["target_tokens"]
        words = "for maximum" if form == "max" else "for"
        assert prompt.endswith(rf"? Answer in \boxed{{}}. Think {words} {tokens} tokens.")
        scored = reward("sums", rf"\boxed{{{truth}}}", truth, info | {"response_tokens": tokens})
        assert (scored["target_tokens"], scored["score"]) == (tokens, 1 if form == "exact" else 0.5)


def test_levels_from_the_command_to_the_reward(tmp_path):
    result, target = pack(tmp_path, "--problems", "1", "--levels", "--seed", "5")
    assert result.exit_code == 0, result.output
    told = {"response_tokens": 100, "response_limit": 100}
    scores = {
        row["extra_info"]["length_level"]: length_levels(
            "sums",
            rf"\boxed{{{row['reward_model']['ground_truth']}}}",
            row["reward_model"]["ground_truth"],
            row["extra_info"] | told,
        )["score"]
        for row in read_rows(target)
    }
    # shares 0.25, 0.5 and 1: overruns of 3 (counted as 2), 1 and 0, each 100 % costs 0.3
    assert scores == {"short": pytest.approx(0.4), "medium": pytest.approx(0.7), "long": 1}


def test_for_openrlhf_the_target_is_in_the_label(tmp_path):
    options = ["--problems", "1", "--lcpo", "max", "--tokens", "9:9", "--format", "openrlhf"]
    result, target = pack(tmp_path, *options, name="train.jsonl")
    assert result.exit_code == 0, result.output
    row = json.loads(target.read_text().splitlines()[0])
    assert row["input"] == "1+1? Think for maximum 9 tokens."
    assert json.loads(row["label"])["extra_info"]["target_tokens"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lcpo", "exact"], "grade single problems; add --problems 1"),
        (["--levels"], "grade single problems; add --problems 1"),
        (["--problems", "1", "--lcpo", "exact", "--levels"], "not together with --lcpo"),
        (["--problems", "1", "--lcpo", "exact", "--tokens", "100"], "--tokens 100: must be LOW:HIGH"),
        (["--problems", "1", "--lcpo", "exact", "--tokens", "-1:5"], "must be LOW:HIGH"),
        (["--problems", "1", "--lcpo", "least"], "must be exact or max"),
        (["--problems", "1", "--tokens", "1:2"], "used together with --lcpo"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(tmp_path, options, message):
    result, target = pack(tmp_path, *options)
    assert isinstance(result.exception, SettingsError)
    assert message in str(result.exception)
    assert not target.exists()
