"""The data sets of recipes/cluster: every column mapping, on small files in the form in which the sets are published."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("datasets")

from recipes.cluster.data import ENDING, SOURCES, prepare, products, sampled
from recipes.cluster.table import RECIPES
from verl_efficiency.settings import SettingsError

# Set, a row as published, and what must come out: question, answer, difficulty.
PUBLISHED = {
    "deepmath": (
        {
            "question": "Find $x$.",
            "final_answer": "\\dfrac{1}{2}",
            "difficulty": 5.5,
            "topic": "Algebra",
            "r1_solution_1": "…",
        },
        ("Find $x$.", "\\dfrac{1}{2}", 0.5),
    ),
    "deepmath_9k": (
        {"question": "Find $y$.", "final_answer": "3", "difficulty": -1.0, "topic": "Algebra"},
        ("Find $y$.", "3", 0.0),
    ),
    "dapo": (
        {
            "prompt": "In {1,2} choose.",
            "solution": "34",
            "data_source": "math_dapo",
            "reward_model": {"ground_truth": "34"},
        },
        ("In {1,2} choose.", "34", None),
    ),
    "gsm8k": ({"question": "How many?", "answer": "48/2 = <<48/2=24>>24\n#### 1,072"}, ("How many?", "1,072", None)),
    "gsm8k_test": ({"question": "How many?", "answer": "So 7.\n#### 7"}, ("How many?", "7", None)),
    "math": (
        {"problem": "Compute.", "level": "Level 4", "type": "Algebra", "solution": "It is \\boxed{\\frac{3}{4}}."},
        ("Compute.", "\\frac{3}{4}", 0.75),
    ),
    "math500": (
        {"problem": "Compute.", "solution": "…", "answer": "12", "subject": "Algebra", "level": 1, "unique_id": "a"},
        ("Compute.", "12", 0.0),
    ),
    "svamp": (
        {
            "ID": "chal-1",
            "Body": "There are 87 oranges",
            "Question": "How many are left?",
            "Answer": "145.0",
            "Type": "x",
        },
        ("There are 87 oranges. How many are left?", "145.0", None),
    ),
    "svamp_test": (
        {"ID": "chal-2", "Body": "He has 3.", "Question": "How many?", "Answer": 19.0, "Equation": "(3)"},
        ("He has 3. How many?", "19", None),
    ),
    "aime24": (
        {"id": 60, "problem": "Every morning …", "solution": "…", "answer": "204"},
        ("Every morning …", "204", None),
    ),
    "aime25": ({"problem": "Find the sum.", "answer": "70", "id": "0"}, ("Find the sum.", "70", None)),
}


def written(tmp_path, row, ending=".jsonl"):
    file = tmp_path / f"copy{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), file)
    else:
        file.write_text(json.dumps(row) + "\n")
    return file


def test_every_set_of_the_hub_has_an_example():
    assert set(PUBLISHED) == {name for name, source in SOURCES.items() if source.hub}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_becomes_a_row_of_verl(tmp_path, name):
    row, (question, answer, difficulty) = PUBLISHED[name]
    file = written(tmp_path, row, ".parquet" if name in ("dapo", "deepmath") else ".jsonl")
    (made,) = pq.read_table(prepare(name, tmp_path / "out", file)).to_pylist()
    asked = question if name == "deepmath_9k" else f"{question} {ENDING}"
    assert " ".join(made["prompt"][-1]["content"].split()) == asked
    assert made["reward_model"]["ground_truth"] == answer
    assert made["extra_info"].get("difficulty") == difficulty
    assert made["extra_info"]["split"] == ("train" if SOURCES[name].train else "test")
    assert made["data_source"] == name


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"aime25, row 1: unknown column 'answer'.*'answers'"):
        prepare("aime25", tmp_path, written(tmp_path, {"problem": "?", "answers": "3"}))


def test_a_row_without_an_answer_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="####"):
        prepare("gsm8k", tmp_path, written(tmp_path, {"question": "?", "answer": "so it is 3"}))


def test_products_are_right_and_in_one_split_only():
    train, test = list(products("train")), list(products("test"))
    assert (len(train), len(test)) == (4096, 512)
    assert not {row["question"] for row in train} & {row["question"] for row in test}
    for row in [*train[:50], *test[:50]]:
        left, right = row["question"].removeprefix("What is ").removesuffix("?").split(" * ")
        assert int(left) * int(right) == int(row["answer"])
        assert all(100 <= int(factor) <= 999 for factor in (left, right))


def test_a_sample_is_even_and_keeps_the_order():
    drawn = [sampled(iter(range(10)), 3, seed) for seed in range(2000)]
    assert all(kept == sorted(set(kept)) and len(kept) == 3 for kept in drawn)
    counts = [sum(number in kept for kept in drawn) for number in range(10)]
    assert all(500 < count < 700 for count in counts)  # 600 expected, standard deviation 20; the seeds are fixed
    assert sampled(iter(range(4)), None, 0) == [0, 1, 2, 3]


def test_every_recipe_trains_and_validates_on_a_set_that_is_there():
    for recipe in RECIPES.values():
        assert SOURCES[recipe.train].train
        assert not SOURCES[recipe.val].train
