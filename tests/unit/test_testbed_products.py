"""The testbed's third task: steps with carries, slips, splits, levels in data and texts, and the committed warm start."""

import collections
import doctest
import itertools
import json
import math
import random

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.evaluate import evaluate
from verl_efficiency.testbed.packs import count_correct, prompt
from verl_efficiency.testbed.prepare import prepare
from verl_efficiency.testbed.products import task
from verl_efficiency.testbed.products.task import Problem, sample_pack, trace, write
from verl_efficiency.testbed.tasks import TASKS, task_named
from verl_efficiency.testbed.tokenizer import build_tokenizer

PRODUCTS = task_named("products")


@pytest.mark.parametrize(
    ("number", "multiplier", "text", "response"),
    [
        (12, 4, "b1a2*x4.", r"a2x4+0=08b1x4+0=04\boxed{48}"),  # no carry: the last step has a 0 that the answer drops
        (347, 6, "c3b4a7*x6.", r"a7x6+0=42b4x6+4=28c3x6+2=20\boxed{2082}"),
        (9005, 9, "d9c0b0a5*x9.", r"a5x9+0=45b0x9+4=04c0x9+0=00d9x9+0=81\boxed{81045}"),
    ],
)
def test_problems_by_hand(number, multiplier, text, response):
    problem = Problem(number, multiplier)
    assert (prompt([problem]), write(problem)) == (text, response)
    assert count_correct([problem], response) == 1
    assert count_correct([problem], response.replace(r"\boxed{", r"\boxed{1")) == 0
    tokenizer = build_tokenizer(task.CHARACTERS)
    assert tokenizer.decode(tokenizer.encode(response)) == response
    assert len(tokenizer.encode(response)) + 1 <= PRODUCTS.max_new_tokens  # with the end of the sequence


def test_a_slip_changes_a_digit_of_its_step_and_of_the_answer():
    problem = Problem(347, 6)
    assert write(problem, [9, 0, 0]) == r"a7x6+0=41b4x6+4=28c3x6+2=20\boxed{2081}"
    assert write(problem, [0, 0, 1]) == r"a7x6+0=42b4x6+4=28c3x6+2=21\boxed{2182}"
    for slips in itertools.product(range(10), repeat=3):
        assert count_correct([problem], write(problem, slips)) == (not any(slips))


def test_traces_slip_at_the_stated_rate():
    rng = random.Random(0)
    right: dict[int, list[int]] = {level: [] for level in task.LEVELS}
    for _ in range(3000):
        (problem,) = sample_pack(rng, 1, "warm_start")
        right[problem.level].append(count_correct([problem], trace([problem], rng)))
    for level, found in right.items():
        expected = (1 - task.SLIPS) ** level
        error = math.sqrt(expected * (1 - expected) / len(found))
        assert sum(found) / len(found) == pytest.approx(expected, abs=4 * error)


def test_examples_of_the_docstrings():
    result = doctest.testmod(task)
    assert result.attempted > 0
    assert result.failed == 0


def test_a_problem_outside_the_task_is_refused():
    for number, multiplier, named in (
        (9, 4, "number"),
        (12345, 4, "number"),
        (12, 1, "multiplier"),
        (12, 10, "multi"),
    ):
        with pytest.raises(SettingsError, match=named):
            Problem(number, multiplier)
    with pytest.raises(SettingsError, match=r"split.*warm_start"):
        sample_pack(random.Random(0), 1, "warm")
    with pytest.raises(SettingsError, match="size"):
        sample_pack(random.Random(0), 2, "test")


def test_numbers_name_every_problem_of_a_level_once_and_splits_have_their_shares():
    problems = [task.numbered(number, 3) for number in range(task.count(3))]
    assert {(one.number, one.multiplier) for one in problems} == set(itertools.product(range(100, 1000), range(2, 10)))
    assert len(problems) == 7200
    counts = collections.Counter(problem.split for problem in problems)
    for split, share in (("warm_start", 160), ("train", 48), ("validation", 24), ("test", 24)):
        share /= 256
        assert counts[split] / 7200 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 7200))
    rng = random.Random(0)
    drawn = [sample_pack(rng, 1, "test")[0] for _ in range(100)]
    assert {problem.split for problem in drawn} == {"test"}
    assert {problem.level for problem in drawn} == {2, 3, 4}


def test_data_is_balanced_and_every_row_knows_its_level(tmp_path):
    prepare(PRODUCTS, tmp_path, seed=0, counts={"train": 30, "validation": 15, "test": 15})
    texts = {}
    for split, count in (("train", 30), ("validation", 15), ("test", 15)):
        rows = pq.read_table(tmp_path / f"{split}.parquet").to_pylist()
        levels = [row["extra_info"]["level"] for row in rows]
        assert collections.Counter(levels) == dict.fromkeys((2, 3, 4), count // 3)
        for row, level in zip(rows, levels, strict=True):
            text = row["prompt"][0]["content"]
            number, multiplier = ("".join(filter(str.isdigit, part)) for part in text.split("*"))
            assert row["reward_model"]["ground_truth"] == str(int(number) * int(multiplier))
            assert len(number) == level == PRODUCTS.level_of_text(text)
            assert row["extra_info"]["difficulty"] == (level - 2) / 2
        texts[split] = {row["prompt"][0]["content"] for row in rows}
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other


@pytest.mark.parametrize("one", TASKS, ids=lambda one: one.name)
def test_a_level_is_known_from_the_text_and_from_the_difficulty(one):
    for level in one.levels:
        problem = one.numbered(one.count(level) // 3, level)
        assert one.level(problem) == one.level_of_text(problem.text) == one.level_at(one.difficulty(problem)) == level


def test_warm_start_is_as_good_as_stated():
    torch.set_num_threads(1)
    folder = PRODUCTS.warm_start
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.get_vocab() == build_tokenizer(task.CHARACTERS).get_vocab()
    assert model.dtype == torch.float32
    assert (folder / "model.safetensors").stat().st_size < 850_000
    said = json.loads((folder / "warm_start.json").read_text())["held_out_at_temperature_1_by_pack_size"]["1"]
    assert 0.4 <= said["accuracy"] <= 0.7  # room to learn
    score = evaluate(model, tokenizer, PRODUCTS, 1, 240, seed=3)
    spread = math.sqrt(1 / 240 + 1 / said["samples"])
    assert abs(score["accuracy"] - said["accuracy"]) < 3.5 * 0.5 * spread
    assert abs(score["tokens"] - said["tokens"]) < 3.5 * 9 * spread  # from 23 tokens to 45
