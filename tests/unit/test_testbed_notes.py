"""The testbed's second task: levels, splits, notes, forced styles, the frontier, and the committed warm start."""

import collections
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
from verl_efficiency.testbed.notes import task
from verl_efficiency.testbed.notes.frontier import STORED, load, mean_frontier, tokens_at
from verl_efficiency.testbed.notes.styles import ForcedNotes, answer_in_style
from verl_efficiency.testbed.notes.task import Problem, sample_pack, sample_problem, styled, trace, write
from verl_efficiency.testbed.packs import count_correct, prompt
from verl_efficiency.testbed.prepare import prepare, problems
from verl_efficiency.testbed.tasks import task_named
from verl_efficiency.testbed.tokenizer import build_tokenizer

NOTES = task_named("notes")
HARD = Problem((3, 9, 2, 4, 3, 8))  # level 5: 3, 12, 14, 18, 21, 29
EASY = Problem((0, 7, 0, 0, 0, 0))  # level 0


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(task.CHARACTERS)


def test_levels_labels_and_texts_by_hand():
    assert (EASY.level, EASY.text, EASY.answer) == (0, "a0b7c0d0e0f0.", 7)
    assert (HARD.level, HARD.text, HARD.answer) == (5, "E3F9G2H4I3J8.", 9)
    assert Problem((1, 0, 0, 2, 0, 3)).text == "m1n0o0p2q0r3."  # level 2
    assert prompt([HARD, EASY]) == "### Problem 1:E3F9G2H4I3J8.\n### Problem 2:a0b7c0d0e0f0."


def test_responses_by_hand():
    none, every = [False] * 6, [True] * 6
    assert write([HARD], [none]) == r"E3F9G2H4I3J8\boxed{9}"
    assert write([HARD], [every]) == r"E3;3+0=3)F9;9+3=2)G2;2+2=4)H4;4+4=8)I3;3+8=1)J8;8+1=9)\boxed{9}"
    assert write([HARD], [[False, True, False, False, True, False]]) == r"E3F9;2+0=2)G2H4I3;9+2=1)J8\boxed{9}"
    assert write([EASY, HARD], [none, [True] + [False] * 5]) == (
        "1:a0b7c0d0e0f0Answer1::\\boxed{7}\n2:E3;3+0=3)F9G2H4I3J8Answer2::\\boxed{9}"
    )


@pytest.mark.parametrize(
    ("size", "notes", "expected"),
    [(1, 0, 16), (1, 1, 23), (1, 6, 58), (2, 0, 42), (2, 12, 126), (3, 0, 63), (3, 5, 98)],
)
def test_tokens_by_hand_are_what_the_tokenizer_counts(tokenizer, size, notes, expected):
    assert task.tokens(size, notes) == expected
    plans = [[i < notes - 6 * place for i in range(6)] for place in range(size)]
    pack = [HARD, EASY, Problem((1, 0, 0, 2, 0, 3))][:size]
    assert len(tokenizer.encode(write(pack, plans))) + 1 == expected  # and the end of the sequence


def test_styles_by_hand():
    some = Problem((5, 0, 1, 2, 0, 9))  # the last digit that is not 0 is never followed by a note of a style
    assert styled(some, "0") == styled(some, "000") == [False] * 6
    assert styled(some, "all") == [True] * 6
    assert styled(some, "111") == [True, False, True, True, False, False]
    assert styled(some, "010") == [False, False, True, False, False, False]
    assert styled(EASY, "") == [False] * 6
    assert task.styles(0) == ["", "all"]
    assert task.styles(1) == ["0", "1", "all"]
    assert len(set(task.styles(5))) == 33


def test_traces_are_right_and_note_at_the_stated_rates():
    rng = random.Random(0)
    noted = []
    for _ in range(3000):
        (problem,) = sample_pack(rng, 1, "warm_start")
        text = trace([problem], rng, task.VERBOSE)
        assert count_correct([problem], text) == 1
        noted.append(text.count(")"))
    rate = 0.3 * 0.12 + 0.6 * 0.2 + 0.85 * 0.3 + 0.3
    assert sum(noted) / 3000 == pytest.approx(6 * rate, abs=0.15)  # the standard error is 0.04
    for rates in (task.VERBOSE, task.PRACTICE):
        assert sum(rates.values()) == pytest.approx(1)


def test_a_problem_outside_the_task_is_refused():
    for digits in ((1,) * 5, (1,) * 7, (0,) * 6, (1, 2, 3, 4, 5, 10)):
        with pytest.raises(SettingsError, match="digits"):
            Problem(digits)
    with pytest.raises(SettingsError, match="level"):
        sample_problem(random.Random(0), "test", 6)
    with pytest.raises(SettingsError, match=r"split.*warm_start"):
        sample_problem(random.Random(0), "warm", 0)
    with pytest.raises(SettingsError, match="size"):
        sample_pack(random.Random(0), 7, "test")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_numbers_name_every_problem_of_a_level_once(level):
    listed = (
        [digits for digits in itertools.product(range(10), repeat=6) if sum(map(bool, digits)) == level + 1]
        if level < 2
        else None
    )
    numbered = [task.numbered(number, level) for number in range(task.count(level))]
    assert {problem.level for problem in numbered} == {level}
    assert len({problem.digits for problem in numbered}) == len(numbered) == [54, 1215, 14580][level]
    assert listed is None or sorted(problem.digits for problem in numbered) == listed


def test_splits_have_their_shares_and_all_levels():
    splits = [[task.numbered(number, level).split for number in range(task.count(level))] for level in range(3)]
    for level, names in enumerate(splits):
        counts = collections.Counter(names)
        assert set(counts) == {"warm_start", "train", "validation", "test"}
        for split, share in (
            ("warm_start", 160 / 256),
            ("train", 48 / 256),
            ("validation", 24 / 256),
            ("test", 24 / 256),
        ):
            error = math.sqrt(share * (1 - share) / task.count(level))
            assert counts[split] / task.count(level) == pytest.approx(share, abs=4 * error)


def test_packs_share_no_label_and_stay_in_their_split():
    rng = random.Random(0)
    for split in task.SPLITS:
        pack = sample_pack(rng, 6, split)
        assert sorted(problem.level for problem in pack) == list(range(6))
        assert {problem.split for problem in pack} == {split}
        labels = [operand[0] for problem in pack for operand in problem.operands_by_label]
        assert len(set(labels)) == 36


def test_data_is_balanced_reproducible_and_keeps_the_splits_apart(tmp_path):
    counts = {"train": 120, "validation": 60, "test": 60}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(NOTES, tmp_path / name, seed=seed, counts=counts)
    texts = {}
    for split, count in counts.items():
        a, b, c = (pq.read_table(tmp_path / run / f"{split}.parquet").to_pylist() for run in "abc")
        assert a == b != c
        for row in a:
            text, info = row["prompt"][0]["content"], row["extra_info"]
            digits = [int(character) for character in text if character.isdigit()]
            assert row["reward_model"]["ground_truth"] == str(sum(digits) % 10)
            assert info["level"] == sum(map(bool, digits)) - 1
            assert info["difficulty"] == info["level"] / 5
            assert "shortest_tokens" not in info  # the shortest answer is often wrong
        assert collections.Counter(row["extra_info"]["level"] for row in a) == dict.fromkeys(range(6), count // 6)
        texts[split] = {row["prompt"][0]["content"] for row in a}
    texts["warm_start"] = {sample_problem(random.Random(i), "warm_start", 0).text for i in range(200)}
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other
    assert (tmp_path / "a" / "model" / "model.safetensors").exists()
    assert len(problems(NOTES, "test", 7, seed=0)) == 7


def test_notes_are_forced_where_the_plan_wants_them_and_nowhere_else(tokenizer):
    of = tokenizer.convert_tokens_to_ids
    plans = torch.tensor([[True] + [False] * 5, [False] * 6, [True] * 6, [True] * 6])
    rows = [
        of(list("E3")),
        of(list("E3")),
        of(list("=3")),
        of(list("3F")),
    ]  # a digit in a note, and a label: no decision
    masked = ForcedNotes(tokenizer, plans)(torch.tensor(rows), torch.zeros(4, len(tokenizer)))
    allowed = [{tokenizer.convert_ids_to_tokens(i) for i in row.isfinite().nonzero()[:, 0].tolist()} for row in masked]
    everything = set(tokenizer.get_vocab())
    assert allowed[0] == {";"}
    assert allowed[1] == everything - set("([<|/;")
    assert allowed[2] == allowed[3] == everything


def test_the_frontier_of_hand_made_levels():
    """Two levels: at one a note helps, at the other two cheap points lie below the line to a dear one."""
    easy = [(16.0, 0.9), (23.0, 1.0), (58.0, 1.0)]
    hard = [(16.0, 0.1), (30.0, 0.2), (44.0, 0.8), (23.0, 0.05)]
    frontier = mean_frontier([easy, hard])
    assert frontier == [(16.0, 0.5), (30.0, 0.85), (33.5, 0.9)]  # .7 for 28 tokens before .1 for 7
    assert tokens_at(frontier, 0.675) == pytest.approx(23.0)
    assert tokens_at(frontier, 0.2) == 16.0
    assert tokens_at(frontier, 0.99) == 33.5
    with pytest.raises(SettingsError, match="no file"):
        load(NOTES.warm_start / "nothing.json")


def test_the_stored_frontier_is_that_of_its_stored_styles():
    stored = json.loads(STORED.read_text())
    levels = [list(level.values()) for level in stored["styles_by_level"]]
    computed = mean_frontier([[(tokens, accuracy) for tokens, accuracy in level] for level in levels])
    assert len(levels) == 6
    assert [list(point) for point in computed] == stored["frontier"]
    tokens, accuracy = zip(*load(), strict=True)
    assert sorted(tokens) == list(tokens)
    assert sorted(accuracy) == list(accuracy)
    assert tokens[0] == pytest.approx(16, abs=0.5)
    assert accuracy[0] < 0.7  # in the head, hard sums go wrong
    assert accuracy[-1] > 0.97  # with notes, they do not


def test_warm_start_is_as_good_as_stated():
    torch.set_num_threads(1)
    folder = NOTES.warm_start
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.get_vocab() == build_tokenizer(task.CHARACTERS).get_vocab()
    assert model.dtype == torch.float32
    assert (folder / "model.safetensors").stat().st_size < 850_000
    stated = json.loads((folder / "warm_start.json").read_text())["held_out_at_temperature_1_by_pack_size"]
    for size, samples in ((1, 240), (3, 60)):
        score, said = evaluate(model, tokenizer, NOTES, size, samples, seed=3), stated[str(size)]
        spread = math.sqrt(1 / samples + 1 / said["samples"])  # errors of a pack may come together: packs count as one
        assert (
            abs(score["accuracy"] - said["accuracy"])
            < 3.5 * math.sqrt(said["accuracy"] * (1 - said["accuracy"])) * spread
        )
        assert abs(score["tokens"] - said["tokens"]) < 3.5 * 14 * spread  # a response's tokens have a deviation of 14
    hard = [sample_problem(random.Random(i), "validation", 5) for i in range(60)]
    in_head, shortest = answer_in_style(model, tokenizer, hard, style="0")
    written, longest = answer_in_style(model, tokenizer, hard, style="all")
    assert sum(in_head) <= 20  # of 60; a guess gets 6
    assert sum(written) >= 54
    assert sum(shortest) == pytest.approx(60 * 16, abs=60)
    assert sum(longest) == pytest.approx(60 * 58, abs=60)
