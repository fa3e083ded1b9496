"""The data sets of recipes/cluster: every column mapping, on small files in the form in which the sets are published."""

import itertools
import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.cluster import data
from recipes.cluster.data import ENDING, SOURCES, prepare, products, sampled
from recipes.cluster.table import RECIPES
from verl_efficiency.settings import SettingsError

SHARED = Path(os.environ.get("VERL_EFFICIENCY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
# Set, its real copy in SHARED, and how many rows that has by its README.
REAL = [
    ("gsm8k", "gsm8k_train", 7473),
    ("gsm8k_test", "gsm8k_test", 1319),
    ("svamp_test", "svamp_test", 1000),
    ("math500", "math500_test", 500),
    ("aime24", "aime24_test", 30),
]

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


@pytest.mark.parametrize(("name", "copy", "count"), REAL)
def test_a_real_set_becomes_a_file_of_verl(tmp_path, name, copy, count):
    file = SHARED / f"{copy}.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    made = pq.read_table(prepare(name, tmp_path, file)).to_pylist()
    assert len(made) == count
    published = [json.loads(line) for line in file.read_text().splitlines()]
    for row, original in zip(made, published, strict=True):
        text, truth = row["prompt"][-1]["content"], row["reward_model"]["ground_truth"]
        assert (original.get("question") or original.get("problem") or original["Question"]).strip() in text
        assert text.endswith(ENDING)
        answer = str(original.get("answer", original.get("Answer")))
        assert truth.replace(",", "") in answer.replace(",", "")
    if name == "math500":
        assert {row["extra_info"]["difficulty"] for row in made} == {0.0, 0.25, 0.5, 0.75, 1.0}  # levels 1 to 5


def test_a_limit_of_a_real_form_draws_from_all_of_it(tmp_path):
    file = tmp_path / "copy.jsonl"
    file.write_text("".join(json.dumps({"problem": f"p{n}?", "answer": str(n)}) + "\n" for n in range(3000)))
    made = pq.read_table(prepare("aime25", tmp_path, file, limit=300)).to_pylist()
    drawn = [int(row["reward_model"]["ground_truth"]) for row in made]
    assert len(drawn) == 300
    assert drawn == sorted(set(drawn))
    assert all(sum(low <= n < low + 1000 for n in drawn) > 60 for low in (0, 1000, 2000))  # 100 expected


def test_a_parquet_copy_is_read_in_pieces_and_a_json_copy_line_by_line(tmp_path):
    rows = [{"problem": f"p{n}?", "answer": str(n)} for n in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "copy.parquet")
    assert list(data.stream(SOURCES["aime25"], tmp_path / "copy.parquet")) == rows
    (tmp_path / "copy.json").write_text(json.dumps(rows))
    assert list(data.stream(SOURCES["aime25"], tmp_path / "copy.json")) == rows
    (tmp_path / "copy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:9]) + "broken")
    first = itertools.islice(data.stream(SOURCES["aime25"], tmp_path / "copy.jsonl"), 9)
    assert list(first) == rows[:9]  # the broken line has not been read


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("aime25", "nowhere.jsonl", r"--file: there is no file .*nowhere\.jsonl"),
        ("aime25", "copy.csv", r"--file: .*copy\.csv is not a \.parquet, \.jsonl or \.json file"),
        ("multiplication", "copy.csv", "--file: this set is generated here"),
    ],
)
def test_a_copy_that_cannot_be_read_is_named(tmp_path, name, file, words):
    (tmp_path / "copy.csv").touch()
    with pytest.raises(SettingsError, match=words):
        prepare(name, tmp_path, tmp_path / file)


def test_the_hub_without_datasets_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SettingsError, match="pip install datasets, or name a copy of the set with --file"):
        prepare("aime25", tmp_path)
