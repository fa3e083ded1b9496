"""Files as users have them: what is read, what is refused in one line with file, line and fix, and nothing written half."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.data import files, parquet
from verl_efficiency.data.columns import column
from verl_efficiency.data.files import read_rows, read_sample, replacing, write_lines
from verl_efficiency.grading import shutdown
from verl_efficiency.settings import SettingsError

ROWS = [
    {"question": f"{k}+{k}?", "answer": str(2 * k), "response": rf"\boxed{{{2 * k}}}", "difficulty": k}
    for k in (1, 2, 3)
]
SOLVED = "She sold 24 clips in May.\nShe sold 48 + 24 = 72 clips altogether.\n#### 72"
BOXED = r"The two legs are 3 and 4, so that the answer is $\boxed{5}$."
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture(autouse=True, scope="module")
def pool():
    yield
    shutdown()


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})


def refusal(*arguments):
    """The one line that the command ends with."""
    result = run(*arguments)
    assert isinstance(result.exception, SettingsError), (result.exception, result.output)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_target_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Errors of pyarrow have no file name, those of Python name the temporary file."""
    said = "No space left on device"
    for error in (OSError(28, said, str(tmp_path / ".o.part")), OSError(said)):

        def write_table(table, path, error=error):
            raise error

        monkeypatch.setattr(parquet.pq, "write_table", write_table)
        with pytest.raises(SettingsError, match=r"o\.parquet cannot be written: No space left on device$"):
            parquet.write_rows(tmp_path / "o.parquet", [{"a": 1}])
    assert not list(tmp_path.iterdir())


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- what is read


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        "\ufeff" + LINES,
        LINES.replace("\n", "\r\n"),
        "\n" + LINES.replace("\n", "\n\n"),
        LINES.rstrip("\n"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\ufeff" + json.dumps(ROWS, indent=2),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(json.dumps(row) for row in ROWS),
    ],
    ids=[
        "lines",
        "BOM",
        "CRLF",
        "blank",
        "no newline",
        "array",
        "pretty array",
        "BOM array",
        "pretty objects",
        "run together",
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_one_meaning_is_read(tmp_path, content, ending):
    file = written(tmp_path / f"a.{ending}", content)
    assert read_rows(file) == ROWS
    assert read_sample(file, limit=2).rows == [ROWS[0], ROWS[2]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINES.encode("utf-16"), ["is UTF-16", "iconv -f UTF-16 -t UTF-8"]),
        (LINES.encode("utf-16-le"), ["is UTF-16"]),
        (LINES.replace("1+1", "1 é 1").encode("latin-1"), None),  # json.dumps wrote ASCII: see below
        (b'{"question": "caf\xe9", "answer": "1"}\n', ["line 1 is not UTF-8", "0xe9", "iconv -f LATIN1 -t UTF-8"]),
        ((LINES + "\n").encode() + b'{"question": "\xe9"}\n', ["line 5 is not UTF-8"]),
        (b'[\n{"question": "caf\xe9"}]', ["line 2 is not UTF-8"]),
        (LINES[:-10], ["line 3 is not JSON", "cut off"]),
        (LINES + '{"question": ', ["line 4 is not JSON", "cut off"]),
        (json.dumps(ROWS, indent=1)[:-5], ["line 18 is not JSON", "cut off"]),
        ("question,answer\n1+1?,2\n", ["line 1 is not JSON"]),
        ("{'question': '1+1?'}\n", ["line 1 is not JSON"]),
        (LINES + "[1]\n", ["line 4 must be an object with columns, got list: [1]"]),
        ("1\n2\n", ["row 0 must be an object with columns, got int: 1"]),
        ('["a", "b"]', ["row 0 must be an object with columns, got str: a"]),
        ("[" * 100_000, ["nested too deep"]),
        ("", ["is empty"]),
        ("\n \n", ["has no rows"]),
        ("[]", ["has no rows"]),
    ],
)
def test_the_rest_is_refused_with_the_line(tmp_path, content, words):
    file = written(tmp_path / "a.jsonl", content)
    if words is None:
        content = LINES.encode().replace(b"1+1", b"1\xe91")
        file, words = written(tmp_path / "a.jsonl", content), ["line 1 is not UTF-8", "0xe9"]
    for text in (
        refusal("pack", file, tmp_path / "out.parquet"),
        refusal("grade", file, "--out", tmp_path / "out.jsonl"),
    ):
        assert text.startswith(f"source: {file}")
        for word in words:
            assert word in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.parquet", b"", ["is empty"]),
        ("a.parquet", b"PAR1" + b"x" * 50, ["cannot be read as parquet"]),
        ("a.parquet", LINES, ["cannot be read as parquet"]),
        ("a.jsonl", b"PAR1\x15\x04\xe9", ["line 1"]),
        ("a.csv", "question,answer\n", ["a.csv is not a .parquet, .jsonl or .json file"]),
        ("a", LINES, ["is not a .parquet, .jsonl or .json file"]),
        ("a.jsonl.gz", b"\x1f\x8b", ["is not a .parquet, .jsonl or .json file"]),
    ],
)
def test_files_of_another_kind(tmp_path, name, content, words):
    text = refusal("pack", written(tmp_path / name, content), tmp_path / "out.parquet")
    for word in words:
        assert word in text


def test_a_parquet_file_that_is_cut_or_damaged(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS * 1000), tmp_path / "whole.parquet", compression="zstd")
    content = (tmp_path / "whole.parquet").read_bytes()
    assert "cannot be read as parquet" in refusal(
        "pack", written(tmp_path / "a.parquet", content[:-20]), tmp_path / "o.parquet"
    )
    damaged = written(tmp_path / "b.parquet", content[:40] + b"\0" * 60 + content[100:])
    assert f"{damaged} is broken" in refusal("pack", damaged, tmp_path / "o.parquet")


def test_a_missing_file_and_a_folder(tmp_path):
    (tmp_path / "train.parquet").mkdir()
    written(tmp_path / "problems.jsonl", LINES)
    for command in (("pack", "{}", tmp_path / "o.parquet"), ("grade", "{}"), ("evaluate", "no/model", "{}")):
        one = [str(part).replace("{}", str(tmp_path / "problem.jsonl")) for part in command]
        assert "there is no file" in refusal(*one)
        assert "did you mean 'problems.jsonl'?" in refusal(*one)
        assert "is a folder; name a file in it" in refusal(
            *[str(part).replace("{}", str(tmp_path / "train.parquet")) for part in command]
        )
        assert "for example" in refusal(*[str(part).replace("{}", str(tmp_path)) for part in command])


# --- answers that are none


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (SOLVED, ["is a worked solution", "--answer-after '####'"]),
        (BOXED, ["is a worked solution", "--answer-in-box"]),
        (float("nan"), ["is nan"]),
        ("nan", ["print of a missing value"]),
        (None, ["is empty (null)"]),
        ("", ["is an empty text"]),
        ([], ["is an empty list"]),
        (["1", "2"], ["is a list of answers"]),
        ({"value": 2}, ["(dict)"]),
        (True, ["True (bool)"]),
    ],
)
def test_pack_and_grade_refuse_an_answer_that_is_none(tmp_path, answer, words):
    file = written(tmp_path / "a.jsonl", "\n" + LINES + json.dumps(ROWS[0] | {"answer": answer}) + "\n")
    verl = tmp_path / "verl.jsonl"
    write_lines(verl, [{"prompt": "1+1?", "reward_model": {"ground_truth": row["answer"]}} for row in read_rows(file)])
    for command in (
        ("pack", file, tmp_path / "out.parquet", "--problems", 1),
        ("grade", file, "--out", tmp_path / "out.jsonl"),
        ("pack", verl, tmp_path / "out.parquet", "--problems", 1),
    ):
        text = refusal(*command)
        assert f"{command[1]} line {4 if command[1] == verl else 5}" in text
        for word in words:
            assert word in text
        assert "verl-efficiency pack" not in text, "each of them has the option itself"
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "verl.jsonl"}


def truths(path):
    return [row["reward_model"]["ground_truth"] for row in read_rows(path)]


@pytest.mark.parametrize(
    ("answer", "option", "truth"),
    [
        (SOLVED, ("--answer-after", "####"), "72"),
        (BOXED, ("--answer-in-box",), "5"),
        (r"Either \boxed{3} or, with care, \boxed{\frac{1}{2}}.", ("--answer-in-box",), r"\frac{1}{2}"),
        ("She has 3 left.\nShe sold the others to her friend.\nA: 3", ("--answer-after", "A:"), "3"),
        (["5"], (), "5"),
        ('["5"]', (), "5"),
        (7.0, (), "7"),
    ],
)
def test_the_fix_that_is_named_works(tmp_path, answer, option, truth):
    raw, verl, again = tmp_path / "a.jsonl", tmp_path / "verl.parquet", tmp_path / "again.parquet"
    write_lines(raw, [ROWS[0] | {"answer": answer}] * 2)
    result = run("pack", raw, verl, "--problems", 1, *option)
    assert result.exit_code == 0, result.exception
    assert truths(verl) == [truth] * 2
    rows = [{"prompt": "1+1?", "reward_model": {"ground_truth": answer}, "data_source": "x"}] * 2
    pq.write_table(pa.Table.from_pylist(rows), verl)
    assert run("pack", verl, again, "--problems", 1, *option).exit_code == 0
    assert truths(again) == [truth] * 2
    assert run("grade", raw, "--answer", "answer", *option).exit_code == 0


@pytest.mark.parametrize(
    ("answer", "option", "words"),
    [
        ("4", ("--answer-after", "####"), ["line 1 has no '####' (--answer-after)"]),
        ("#### ", ("--answer-after", "####"), ["line 1 is an empty text"]),
        ("so 4", ("--answer-in-box",), ["line 1 has no whole", "--answer-in-box"]),
        (r"so \boxed{4", ("--answer-in-box",), ["line 1 has no whole"]),
        (4, ("--answer-in-box",), ["line 1 has no whole"]),
        ("4", ("--answer-in-box", "--answer-after", "="), ["--answer-in-box: must be left out"]),
    ],
)
def test_a_fix_that_does_not_fit_is_said(tmp_path, answer, option, words):
    write_lines(tmp_path / "a.jsonl", [ROWS[0] | {"answer": answer}])
    text = refusal("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1, *option)
    for word in words:
        assert word in text


def test_sentences_as_answers_are_refused_where_they_are_most(tmp_path):
    sentence = "Since he had seven of them and gave two of them to each of his three friends he has one of them left"
    write_lines(tmp_path / "a.jsonl", [ROWS[0] | {"answer": answer} for answer in (sentence, sentence, "3")])
    text = refusal("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1)
    assert "2 of 3 answers" in text
    assert "--answer-in-box" in text
    write_lines(tmp_path / "a.jsonl", [ROWS[0] | {"answer": answer} for answer in (sentence, "2", "3")])
    assert run("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1).exit_code == 0


def test_grade_says_when_most_references_cannot_be_read(tmp_path):
    sentence = "Since he had seven of them and gave two of them to each of his three friends he has one of them left"
    for golds, said in (
        ([sentence, sentence, "3"], "2 of 3 answers are sentences"),
        (["???", "\u2014", "5"], None),
        (["3"], ""),
    ):
        file = tmp_path / "a.jsonl"
        write_lines(file, [{"response": r"\boxed{3}", "answer": gold} for gold in golds])
        command = [sys.executable, "-m", "verl_efficiency.cli", "grade", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "300"})
        if said is None:
            assert "warning: " in done.stderr
            assert "cannot be read as mathematics" in done.stderr
        else:
            assert said in done.stderr
            assert ("warning" in done.stderr) == bool(said)


# --- prompts


@pytest.mark.parametrize(
    "prompt",
    [
        "1+1?",
        [{"role": "user", "content": "1+1?"}],
        [{"from": "human", "value": "1+1?"}],
        '[{"role": "user", "content": "1+1?"}]',
        [{"from": "user", "value": "1+1?"}],
    ],
)
def test_pack_writes_prompts_as_messages(tmp_path, prompt):
    rows = [{"prompt": prompt, "reward_model": {"ground_truth": "2"}, "data_source": "x"}]
    write_lines(tmp_path / "a.jsonl", rows)
    result = run("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1, "--ending", "Be brief.")
    assert result.exit_code == 0, result.exception
    assert read_rows(tmp_path / "o.parquet")[0]["prompt"] == [{"role": "user", "content": "1+1? Be brief."}]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (7, ["is not a list of messages"]),
        ([], ["is not a list of messages"]),
        (["1+1?"], ["is not a list of messages"]),
        ([{"from": "narrator", "value": "1+1?"}], ["from and value"]),
        ([{"role": "user"}], ["without a role and a content"]),
        ([{"text": "1+1?"}], ["without a role and a content"]),
        (None, ["is missing (null)"]),
    ],
)
def test_other_prompts_are_refused_with_their_line(tmp_path, prompt, words):
    good = {"prompt": "1+1?", "reward_model": {"ground_truth": "2"}}
    write_lines(tmp_path / "a.jsonl", [good, good | {"prompt": prompt}])
    for command in (("pack", "{}", tmp_path / "o.parquet", "--problems", 1), ("evaluate", "no/model", "{}")):
        text = refusal(*[str(part).replace("{}", str(tmp_path / "a.jsonl")) for part in command])
        assert f"{tmp_path / 'a.jsonl'} line {2 if command[0] == 'pack' else 1}" in text
        for word in words if command[0] == "pack" else ["is a text, not a list of messages", "verl-efficiency pack"]:
            assert word in text


# --- columns


def test_a_cell_that_is_null_is_not_an_unknown_column():
    rows = [{"a": {"b": 1}}, {"a": {"b": None}}, {"a": None}, {}]
    with pytest.raises(SettingsError, match=r"^x: 'a.b' is empty \(null\) in row 1 and 2 more rows; fill it"):
        column(rows, "a.b", "x")
    with pytest.raises(SettingsError, match=r"^x: 'a.b' is empty \(null\) in every row"):
        column([{"a": {"b": None}}] * 2, "a.b", "x")
    for missing in ([{"a": {"b": 1}}], [{"a": {"b": None}}], [{"a": {"b": 1}}, {"a": None}]):
        with pytest.raises(SettingsError, match=r"^x: unknown column 'a.c'\. Known: a.b \(row 0\)"):
            column(missing, "a.c", "x")


def test_a_null_in_each_command(tmp_path):
    file = tmp_path / "a.jsonl"
    write_lines(file, [*ROWS, ROWS[0] | {"response": None, "difficulty": None, "question": None}])
    assert f"--response: 'response' is empty (null) in {file} line 4" in refusal("grade", file)
    assert f"question: 'question' is empty (null) in {file} line 4" in refusal("pack", file, tmp_path / "o.parquet")
    command = ("pack", file, tmp_path / "o.parquet", "--question", "answer", "--keep", "difficulty")
    assert f"keep: 'difficulty' is empty (null) in {file} line 4" in refusal(*command)


# --- what is written


@pytest.mark.parametrize("name", ["out.txt", "out", "out.jsonl", "out.csv", "out.parquet.gz"])
def test_an_unknown_ending_is_refused_before_anything_is_read(tmp_path, name):
    absent = tmp_path / "absent.jsonl"
    assert f"target: must end in .parquet, got {tmp_path / name}" in refusal("pack", absent, tmp_path / name)


def test_endings_of_the_other_outputs(tmp_path):
    absent, form = tmp_path / "absent.jsonl", ("--format", "openrlhf")
    assert "target: must end in .jsonl" in refusal("pack", absent, tmp_path / "o.parquet", *form)
    assert "--out: must end in .jsonl" in refusal("grade", absent, "--out", tmp_path / "o.csv")
    assert "--out: must end in .json," in refusal("evaluate", "no/model", absent, "--out", tmp_path / "o.txt")
    assert "--rows: must end in .jsonl" in refusal("evaluate", "no/model", absent, "--rows", tmp_path / "o.parquet")
    assert "--out: must end in .html, .png, .pdf or .svg" in refusal("report", absent, "--out", tmp_path / "o.txt")
    assert "--out: must end in .png, .pdf or .svg" in refusal("calibrate", absent, "--out", tmp_path / "o.jpg")
    (tmp_path / "file").touch()
    assert "is a file" in refusal("pack", absent, tmp_path / "file" / "o.parquet")
    (tmp_path / "folder.parquet").mkdir()
    assert "is a folder; name a file" in refusal("pack", absent, tmp_path / "folder.parquet")


@pytest.mark.parametrize(
    ("command", "name", "setting"),
    [
        ("pack FILE AGAIN", "a.parquet", "target"),
        ("grade FILE --out AGAIN", "a.jsonl", "--out"),
        ("evaluate no/model FILE --out AGAIN", "a.json", "--out"),
        ("evaluate no/model FILE --rows AGAIN", "a.jsonl", "--rows"),
        ("evaluate no/model FILE --server http://127.0.0.1:9/v1 --store AGAIN", "a.jsonl", "--store"),
        ("evaluate no/model FILE --server http://127.0.0.1:9/v1 --out FOLDER/a.json", "a.responses.jsonl", "--store"),
        (
            "evaluate no/model FILE --server http://127.0.0.1:9/v1 --rows FOLDER/b.jsonl --store FOLDER/b.jsonl",
            "a.jsonl",
            "--store",
        ),
        ("evaluate task-scaling no/model FILE --out AGAIN", "a.json", "--out"),
        ("evaluate task-scaling no/model no/data --baseline FILE --out AGAIN", "a.json", "--out"),
        ("evaluate offline x=FILE --out AGAIN", "a.json", "--out"),
        ("evaluate strategies FILE --out AGAIN", "a.json", "--out"),
    ],
)
def test_nothing_is_written_over_what_is_read(tmp_path, command, name, setting):
    file = written(tmp_path / name, LINES)
    (tmp_path / "link").symlink_to(tmp_path)
    words = {"FILE": file, "AGAIN": tmp_path / "link" / name, "FOLDER": tmp_path}
    for word, path in words.items():
        command = command.replace(word, str(path))
    text = refusal(*command.split())
    assert text.startswith(f"{setting}: ")
    assert "overwrite" in text
    assert file.read_text() == LINES


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def failing():
        yield {"a": 1}
        raise RuntimeError

    target = written(tmp_path / "a.jsonl", "old")
    with pytest.raises(RuntimeError):
        write_lines(target, failing())
    assert target.read_text() == "old"
    with replacing(target) as beside:
        beside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_columns_that_parquet_cannot_hold_are_said(tmp_path):
    write_lines(tmp_path / "a.jsonl", [ROWS[0], ROWS[1] | {"difficulty": "hard"}])
    text = refusal("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1, "--keep", "difficulty")
    assert "a column must hold values of one type" in text
    assert not (tmp_path / "o.parquet").exists()


def test_columns_that_the_first_row_lacks_are_kept(tmp_path):
    rows = [{"prompt": "1+1?", "reward_model": {"ground_truth": "2"}}] * 2
    write_lines(tmp_path / "a.jsonl", [rows[0], rows[1] | {"source": "book", "extra_info": {"page": 7}}])
    assert run("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1).exit_code == 0
    first, second = read_rows(tmp_path / "o.parquet")
    assert (first["source"], second["source"]) == (None, "book")
    assert (first["data_source"], first["extra_info"]["index"], second["extra_info"]["page"]) == ("a", 0, 7)


def test_packed_rows_are_checked_too(tmp_path):
    packed = {"prompt": "1. 2.", "reward_model": {"ground_truth": '["1"]'}, "extra_info": {"n": 2}}
    write_lines(tmp_path / "a.jsonl", [packed])
    assert "line 1 must be a list of 2 answers" in refusal(
        "pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1
    )
    write_lines(tmp_path / "a.jsonl", [packed | {"extra_info": "page 7"}])
    assert "extra_info of" in refusal("pack", tmp_path / "a.jsonl", tmp_path / "o.parquet", "--problems", 1)


# --- a sample


@pytest.fixture
def counted(monkeypatch):
    """Row groups and rows that are read of parquet files."""
    seen = []
    real = pq.ParquetFile.iter_batches

    def iter_batches(self, batch_size=65536, row_groups=None, columns=None, **options):
        for batch in real(self, batch_size, row_groups=row_groups, columns=columns, **options):
            seen.append((tuple(row_groups), batch.num_rows))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    return seen


@pytest.mark.parametrize("group", [10, 1000, 100_000])
def test_the_sample_of_a_parquet_file_is_bounded(tmp_path, counted, group):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"number": range(50_000), "other": ["x"] * 50_000}), file, row_group_size=group)
    sample = read_sample(file, columns=["number"])
    assert len({groups for groups, _ in counted}) == len(counted) <= files.ROW_GROUPS_LOOKED_AT
    assert sum(rows for _, rows in counted) == len(sample.rows) <= files.ROWS_LOOKED_AT
    assert sample.columns == ["number", "other"]
    assert [f"row {row['number']}" for row in sample.rows] == sample.places
    assert sample.rows[0] == {"number": 0}
    if group < 50_000:
        assert sample.rows[-1]["number"] > 48_000


def test_the_sample_of_long_json_lines_is_spread_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BYTES_LOOKED_AT", 1000)
    file = tmp_path / "a.jsonl"
    write_lines(file, [{"number": number} for number in range(10_000)])
    sample = read_sample(file, limit=100)
    numbers = [row["number"] for row in sample.rows]
    assert len(numbers) == len(set(numbers)) == 100
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] > 9800
    assert sample.places[1].startswith("byte ")


# --- results, rollouts, logs, launches


SUMMARY = {"problems": 1, "accuracy": 1.0, "accuracy_se": None, "tokens_per_problem": 5.0, "tokens_per_problem_se": None,
           "over_shortest": None, "shortest_tokens_per_problem": None}  # fmt: skip
RESULT = {"label": "a", "data": "d", "summary": SUMMARY,
          "per_prompt": {"key": ["k"], "problems": [1], "correct": [1], "tokens": [5]}}  # fmt: skip
NOT_A_RESULT = "is not a result of `verl-efficiency evaluate`"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", [NOT_A_RESULT, "is empty"]),
        ("{", [NOT_A_RESULT, "line 1 is not JSON"]),
        ("[]", [NOT_A_RESULT]),
        ("7", [NOT_A_RESULT, "got int"]),
        (LINES, [NOT_A_RESULT]),
        ('{"label": "a"}', [NOT_A_RESULT, "lacks data, summary.problems"]),
        (json.dumps(RESULT | {"summary": []}), [NOT_A_RESULT, "lacks summary.problems"]),
        (json.dumps(RESULT | {"per_prompt": {"key": []}}), [NOT_A_RESULT, "lacks per_prompt.problems"]),
        ('{"key": "k", "acc": 1.0, "tokens": 5}\n', [NOT_A_RESULT, "the rows of --rows"]),
        (json.dumps(RESULT).encode("utf-16"), [NOT_A_RESULT, "is UTF-16"]),
        (json.dumps(RESULT)[:-9], [NOT_A_RESULT, "cut off"]),
    ],
)
def test_a_report_of_what_is_not_a_result_is_refused(tmp_path, content, words):
    file = written(tmp_path / "a.json", content)
    text = refusal("report", file)
    assert text.startswith(f"results: {file}")
    for word in words:
        assert word in text


def test_a_report_of_a_result_with_a_bom_passes_and_of_a_missing_one_names_the_nearest(tmp_path):
    written(tmp_path / "before.json", "\ufeff" + json.dumps(RESULT, indent=1))
    assert run("report", tmp_path / "before.json").exit_code == 0
    assert "did you mean 'before.json'?" in refusal("report", tmp_path / "befor.json")
    assert "is a folder" in refusal("report", tmp_path)


ROLLOUTS = "".join(
    json.dumps({"key": str(d), "acc": 1.0, "tokens": 10 + 40 * d, "difficulty": d}) + "\n" for d in (0, 1)
)


@pytest.mark.parametrize("content", [ROLLOUTS, "\ufeff" + ROLLOUTS, "\n" + ROLLOUTS.replace("\n", "\n\n")])
def test_rollouts_with_a_bom_or_blank_lines_are_read(tmp_path, content):
    result = run("calibrate", written(tmp_path / "a.jsonl", content), "--out", tmp_path / "p.png")
    assert result.exit_code == 0, result.exception
    assert "2, of which 2 are correct" in result.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ROLLOUTS.encode("utf-16"), ["is UTF-16"]),
        (ROLLOUTS[:-8], ["line 2 is not JSON", "cut off"]),
        (ROLLOUTS.encode() + b"\n\xe9\n", ["line 4 is not UTF-8"]),
        (ROLLOUTS + "3\n", ["line 3 must be an object with columns"]),
        (b"PAR1\x15\x04", ["line 1 is not JSON"]),
    ],
)
def test_rollouts_that_cannot_be_read_are_refused(tmp_path, content, words):
    text = refusal("calibrate", written(tmp_path / "a.jsonl", content), "--out", tmp_path / "p.png")
    for word in words:
        assert word in text
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", "[1]\n", ["line 1 is not of verl's file logger"]),
        ("a.jsonl", '{"step": 1, "data": 3}\n', ["line 1 is not of verl's file logger"]),
        ("a.jsonl", '{"step": 1, "data": {"x": 1}}\n\n{"step": 2, "da', ["line 3 is not of verl's file logger"]),
        ("a.jsonl", "", ["has no step with response_length/mean"]),
        ("a.log", "nothing\n", ["has no step with response_length/mean"]),
    ],
)
def test_training_logs_that_are_none_are_refused(tmp_path, name, content, words):
    result, log = written(tmp_path / "r.json", json.dumps(RESULT)), written(tmp_path / name, content)
    text = refusal("report", result, "--log", f"a={log}", "--out", tmp_path / "p.png")
    for word in words:
        assert word in text


def test_the_command_line_ends_with_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": ')
    commands = [
        ["pack", "a.jsonl", "o.parquet"],
        ["grade", "absent.jsonl"],
        ["report", "absent.json"],
        ["calibrate", "absent.jsonl"],
        ["evaluate", "no/model", "absent.parquet"],
        ["methods", "token_bugdet"],
    ]
    code = (
        "import sys\n"
        "from verl_efficiency.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['x', *line.split()]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print(end.code)\n"
    )
    command = [sys.executable, "-c", code, *[" ".join(words) for words in commands]]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "COLUMNS": "300"}
    )
    assert done.stdout.split() == ["2"] * len(commands)
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands)
    assert all(line.startswith("error: ") for line in lines)
