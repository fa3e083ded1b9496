"""The testbed's first task and what both share: tokenizer, data, and whether a warm start is as good as its record says."""

import dataclasses
import json
import math
import random
import shutil
import statistics
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed import train_warm_start
from verl_efficiency.testbed.checks.task import (
    CHARACTERS,
    Problem,
    sample_pack,
    sample_problem,
    shortest_tokens,
    shortest_trace,
    trace,
)
from verl_efficiency.testbed.evaluate import evaluate
from verl_efficiency.testbed.packs import count_correct, prompt
from verl_efficiency.testbed.prepare import prepare, problems
from verl_efficiency.testbed.tasks import task_named
from verl_efficiency.testbed.tokenizer import build_tokenizer

ROOT = Path(__file__).parents[2]
CHECKS = task_named("checks")
WARM_START = CHECKS.warm_start
STATED = json.loads((WARM_START / "warm_start.json").read_text())["held_out_at_temperature_1_by_pack_size"]
REACHED = {1: 0.97, 2: 0.95, 3: 0.92}  # accuracy of every warm start at temperature 1, by problems in a prompt
PAIR = [Problem(segment=0, operands=(4, 2, 8, 1)), Problem(segment=7, operands=(9,))]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(WARM_START)


def packs(count):
    rng = random.Random(0)
    return [sample_pack(rng, rng.randint(1, 4), "train") for _ in range(count)]


def test_texts_by_hand():
    assert prompt(PAIR[:1]) == "0c4d2e8f1."
    assert prompt(PAIR) == "### Problem 1:0c4d2e8f1.\n### Problem 2:0V9."
    assert shortest_trace(PAIR[:1]) == r"0c4+0=4d2+4=6e8+6=4f1+4=5\boxed{5}"
    assert shortest_trace(PAIR) == ("1:0c4+0=4d2+4=6e8+6=4f1+4=5Answer1::\\boxed{5}\n2:0V9+0=9Answer2::\\boxed{9}")
    assert [problem.answer for problem in PAIR] == [(4 + 2 + 8 + 1) % 10, 9]


def test_checks_are_copies_in_the_stated_shares():
    rng = random.Random(0)
    problem = sample_problem(rng, depth=6)
    counts = [0, 0, 0, 0]
    for _ in range(2000):
        text = trace([problem], rng)
        for label, operand, before, after in problem.steps:
            step = f"{label}{operand}+{before}={after}"
            counts[text.count(step) - 1] += 1
            text = text.replace(f"?{step}", "")
        assert text == shortest_trace([problem])
    for count, share in zip(counts, (0.25, 0.30, 0.25, 0.20), strict=True):
        assert count / 12_000 == pytest.approx(share, abs=4 * math.sqrt(share / 12_000))


def test_shortest_tokens_is_what_the_tokenizer_counts(tokenizer):
    for depth in range(1, 7):
        assert shortest_tokens([Problem(0, (1,) * depth)]) == 5 + 6 * depth
    for pack in packs(50):
        assert shortest_tokens(pack) == len(tokenizer.encode(shortest_trace(pack))) + 1  # and the end of the sequence


def test_tokenizer_round_trips(tmp_path, tokenizer):
    build_tokenizer(CHARACTERS).save_pretrained(tmp_path)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded.get_vocab() == build_tokenizer(CHARACTERS).get_vocab()
        assert len(loaded.encode("\n")) == 1
        for pack in packs(50):
            text = trace(pack, random.Random(1))
            assert loaded.decode(loaded.encode(text), skip_special_tokens=True) == text
            chat = [{"role": "user", "content": prompt(pack)}]
            ids = loaded.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
            assert loaded.decode(ids) == f"<|im_start|>{prompt(pack)}<|im_end|>\n<|im_start|>"


def test_packs_share_no_segment_and_stay_in_their_split():
    rng = random.Random(0)
    for split in ("train", "test"):
        pack = sample_pack(rng, 8, split)
        assert {problem.segment for problem in pack} == set(range(8))
        assert {problem.split for problem in pack} == {split}
    with pytest.raises(SettingsError, match="split"):
        sample_pack(rng, 8, "validation")
    with pytest.raises(SettingsError, match="size: must be"):
        sample_pack(rng, 9, "train")


def test_a_problem_outside_the_task_is_refused():
    for segment, operands in ((8, (1,)), (0, ()), (0, (1,) * 7), (0, (10,))):
        with pytest.raises(SettingsError):
            Problem(segment, operands)


def test_grading_wants_the_right_number_in_the_right_place():
    assert count_correct(PAIR, shortest_trace(PAIR)) == 2
    assert count_correct(PAIR, r"1:0Answer1::\boxed{9}Answer2::\boxed{9}") == 1
    assert count_correct(PAIR, r"\boxed{5}\boxed{9}") == 0
    assert count_correct(PAIR[:1], r"0\boxed{5}") == 1
    assert count_correct(PAIR[:1], r"0\boxed{4}") == 0


def test_data_is_disjoint_balanced_and_reproducible(tmp_path):
    prepare(CHECKS, tmp_path / "a", seed=0, counts={"train": 600, "test": 300})
    prepare(CHECKS, tmp_path / "b", seed=0, counts={"train": 600, "test": 300})
    prepare(CHECKS, tmp_path / "c", seed=1, counts={"train": 600, "test": 300})
    rows = {}
    for split, count in (("train", 600), ("test", 300)):
        a, b, c = (pq.read_table(tmp_path / run / f"{split}.parquet").to_pylist() for run in "abc")
        assert a == b != c
        rows[split] = a
        infos = [row["extra_info"] for row in a]
        assert [info["index"] for info in infos] == list(range(count))
        assert {info["split"] for info in infos} == {split}
        for depth in range(1, 7):
            assert sum(info["depth"] == depth for info in infos) == count / 6
            of_depth = {info["question"] for info in infos if info["depth"] == depth}
            assert depth == 1 or len(of_depth) == count / 6  # only depth 1 has too few texts
    texts = {split: {row["prompt"][0]["content"] for row in rows[split]} for split in rows}
    assert not texts["train"] & texts["test"]
    assert (tmp_path / "a" / "model" / "model.safetensors").exists()


def test_data_row_by_hand(tmp_path):
    prepare(CHECKS, tmp_path, seed=0, counts={"train": 60, "test": 6})
    for row in pq.read_table(tmp_path / "train.parquet").to_pylist():
        text, info = row["prompt"][0]["content"], row["extra_info"]
        digits = [int(character) for character in text if character.isdigit()]
        assert row["data_source"] == "testbed"
        assert row["prompt"] == [{"role": "user", "content": info["question"]}]
        assert row["ability"] == "arithmetic"
        assert row["reward_model"] == {"style": "rule", "ground_truth": str(sum(digits) % 10)}
        assert info["depth"] == len(digits) - 1
        assert info["difficulty"] == (info["depth"] - 1) / 5
        assert info["shortest_tokens"] == 5 + 6 * info["depth"]
        assert info["segment"] == "flrxDJPV".index(text[-3])


def test_two_seeds_reach_the_stated_accuracy():
    results = json.loads((ROOT / "benchmarks" / "results" / "warm_start.json").read_text())["results"]
    assert len({result["seed"] for result in results}) >= 2
    for result in results:
        for size, target in REACHED.items():
            score = result["held_out_at_temperature_1_by_pack_size"][str(size)]
            assert score["samples"] >= 300
            assert score["accuracy"] >= target
    assert json.loads((WARM_START / "warm_start.json").read_text()) in results


@pytest.mark.parametrize(("size", "samples"), [(1, 240), (3, 60)])
def test_warm_start_is_as_good_as_stated(tokenizer, size, samples):
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(WARM_START)
    assert model.dtype == torch.float32
    stated, score = STATED[str(size)], evaluate(model, tokenizer, CHECKS, size, samples, seed=3)
    # Both figures are samples. Errors within a pack may come together, so only packs count as independent.
    error = math.sqrt(stated["accuracy"] * (1 - stated["accuracy"]) * (1 / samples + 1 / stated["samples"]))
    assert abs(score["accuracy"] - stated["accuracy"]) < 3 * error
    # The spread of the ratio total tokens / total shortest tokens, from traces of the task itself.
    rng = random.Random(0)
    drawn = [sample_pack(rng, size, "test") for _ in range(500)]
    lengths = [len(tokenizer.encode(trace(pack, rng))) + 1 for pack in drawn]
    shortest = [shortest_tokens(pack) for pack in drawn]
    ratio = sum(lengths) / sum(shortest)
    residuals = [length - ratio * short for length, short in zip(lengths, shortest, strict=True)]
    error = statistics.stdev(residuals) / statistics.mean(shortest) * math.sqrt(1 / samples + 1 / stated["samples"])
    assert abs(score["times_shortest"] - stated["times_shortest"]) < 3 * error


def test_a_task_or_a_split_that_does_not_exist_is_named():
    with pytest.raises(SettingsError, match=r"--task.*'check'.*'checks'"):
        task_named("check")
    with pytest.raises(SettingsError, match="validation"):
        problems(CHECKS, "validation", 6, seed=0)
    with pytest.raises(SettingsError, match="--train"):
        prepare(CHECKS, Path("never-written"), seed=0, counts={"train": 0, "test": 6})
    assert not Path("never-written").exists()


def test_a_training_that_was_cut_off_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    stage = train_warm_start.STAGES["checks"][0]
    short = dataclasses.replace(stage, steps=1, drills_only=0)
    stages = (
        short,
        dataclasses.replace(short, repeats=3, enough=lambda model, tokenizer: len(seen.append(1) or seen) == 2),
    )
    seen: list[int] = []
    monkeypatch.setattr(train_warm_start, "TOKENS", 60)
    tokenizer = build_tokenizer(CHARACTERS)

    def trained(out):
        model = train_warm_start.build_model(tokenizer, seed=0)
        record = train_warm_start.train_all(model, tokenizer, CHECKS, stages, 0, out)
        return record["steps"], model.state_dict()

    steps, whole = trained(tmp_path / "whole")
    assert steps == 3  # the second stage was repeated once, then it was enough
    seen.clear()
    shutil.copytree(tmp_path / "whole" / "stages" / "0.0", tmp_path / "cut" / "stages" / "0.0")
    steps, resumed = trained(tmp_path / "cut")
    assert steps == 3
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert not torch.equal(whole["lm_head.weight"], train_warm_start.build_model(tokenizer, seed=0).lm_head.weight)
