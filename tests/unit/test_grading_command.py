"""``verl-efficiency grade``: a verdict for every row of a file."""

import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.data import write_rows
from verl_efficiency.grading import extract_answer, shutdown
from verl_efficiency.settings import SettingsError

ROWS = [
    {"response": r"so \boxed{4}", "answer": "4"},
    {"response": r"<think>\boxed{5}</think> none", "answer": "5"},
    {"response": r"\boxed{1 + x}", "answer": "x + 1"},
    {"response": r"\boxed{7}", "answer": "8"},
    {"response": "no box", "answer": "9"},
    {"response": r"\boxed{9 \text{ or } 10 11}", "answer": "9"},
]
STATUSES = ["correct", "correct", "correct", "wrong", "no_answer", "unparsable"]


@pytest.fixture(autouse=True, scope="module")
def pool():
    yield
    shutdown()


def run(*arguments):
    return CliRunner().invoke(app, ["grade", *map(str, arguments)], env={"COLUMNS": "100"})


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def totals(output):
    return {name: int(count) for name, count in re.findall(r"^ (\w+) +(\d+) ", output, re.MULTILINE)}


@pytest.mark.parametrize(
    ("responses", "options"),
    [
        (["#### 4<|im_end|>", "#### 5</s>[PAD][PAD]", "#### 6"], ("--marker", "####")),
        (["4<|endoftext|>", "5\n<|eot_id|>", "6"], ("--extracted",)),
        ([r"\boxed{4}<eos>", r"so $\boxed 5$<｜end▁of▁sentence｜>", r"\boxed{6} and </s>"], ()),
    ],
)
def test_special_tokens_at_the_end_of_a_response(tmp_path, responses, options):
    rows = [{"response": text, "answer": answer} for text, answer in zip(responses, ("4", "5", "6"), strict=True)]
    result = run(jsonl(tmp_path / "rows.jsonl", rows), *options)
    assert result.exit_code == 0, result.output
    assert totals(result.output)["correct"] == 3


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_every_row_and_the_totals(tmp_path, form):
    source, out = tmp_path / f"rows.{form}", tmp_path / "new" / "verdicts.jsonl"
    jsonl(source, ROWS) if form == "jsonl" else write_rows(source, ROWS)
    result = run(source, "--out", out)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["status"] for line in lines] == STATUSES
    assert [line["correct"] for line in lines] == [status == "correct" for status in STATUSES]
    assert [line["row"] for line in lines] == list(range(6))
    assert [line["answer"] for line in lines][:2] == ["4", "5"]
    assert lines[4]["answer"] is None
    expected = {"correct": 3, "wrong": 1, "no_answer": 1, "unparsable": 1, "timed_out": 0, "all": 6}
    assert totals(result.output) == expected


def test_columns_markers_and_thinking(tmp_path):
    source = jsonl(
        tmp_path / "a.jsonl", [{"model": {"text": "<think>#### 1</think>\n#### 42"}, "gold": "so 6*7\n#### 42"}]
    )
    options = ["--response", "model.text", "--answer", "gold", "--answer-after", "####", "--marker", "####"]
    assert totals(run(source, *options, "--strip-thinking").output)["correct"] == 1
    inside = jsonl(tmp_path / "b.jsonl", [{"response": r"<think>\boxed{42}</think>", "answer": 42}])
    assert totals(run(inside).output)["correct"] == 1
    assert totals(run(inside, "--strip-thinking").output)["no_answer"] == 1


def test_bare_answers(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", [{"response": "1/2", "answer": 0.5}, {"response": "", "answer": "3"}])
    counted = totals(run(source, "--extracted").output)
    assert (counted["correct"], counted["no_answer"]) == (1, 1)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"respons": "x", "answer": "4"}, [], "--response: unknown column 'response'; did you mean 'respons'"),
        ({"response": "x", "answer": " "}, [], "a.jsonl line 1 is an empty text"),
        ({"response": 4, "answer": "4"}, [], "response of {file} line 1 must be a text, got 4"),
        ({"response": "x", "answer": ["4", "5"]}, [], "line 1 is a list of answers, ['4', '5']"),
        ({"response": "x", "answer": "4"}, ["--workers", "0"], "workers: must be at least 1"),
        ({"response": "x", "answer": "4"}, ["--deadline", "0"], "--deadline: must be above 0 seconds"),
        (
            {"response": "x", "answer": "4"},
            ["--answer-after", "####"],
            "line 1 has no '####' (--answer-after) in it: '4'",
        ),
        ({"response": "x", "answer": "4"}, ["--marker", ""], "--marker: must be a text"),
        ({"response": "x", "answer": "4"}, ["--marker", " …</a>"], "--marker: must be a text"),
    ],
)
def test_what_cannot_be_graded_is_refused_in_one_line(tmp_path, row, options, message):
    file = jsonl(tmp_path / "a.jsonl", [row])
    result = run(file, *options)
    assert isinstance(result.exception, SettingsError)
    assert message.replace("{file}", str(file)) in str(result.exception)


@pytest.mark.parametrize("marker", ["", "…", " ", "…</a>"])
def test_an_answer_after_a_blank_marker_is_refused(marker):
    with pytest.raises(SettingsError, match="marker: must be a text"):
        extract_answer("x", marker=marker)


def test_no_file_and_no_rows(tmp_path):
    assert "there is no file" in str(run(tmp_path / "absent.jsonl").exception)
    assert "empty.jsonl is empty" in str(run(jsonl(tmp_path / "empty.jsonl", [])).exception)


def test_the_progress_bar_keeps_out_of_the_table(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", ROWS[:1])
    command = [sys.executable, "-m", "verl_efficiency.cli", "grade", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "grading" in done.stderr
    assert "grading" not in done.stdout
    assert totals(done.stdout)["correct"] == 1
