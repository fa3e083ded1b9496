"""Rows that no reward can grade, and missing files and code, stop ``main_ppo`` on the driver with the fix."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

pytest.importorskip("verl")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

import verl_efficiency
from tests.contract.test_start_up import launch, refusal  # noqa: F401  # fixtures
from verl_efficiency.cli import app
from verl_efficiency.data import PackingSettings, pack_rows, read_rows
from verl_efficiency.verl.checks.concern import concerns_us
from verl_efficiency.verl.checks.data import DEFAULT_FILES, check_data, check_rows

REWARD = "reward.custom_reward_function"
OURS = (f"{REWARD}.path=pkg://verl_efficiency.rewards", "reward.reward_manager.name=efficiency")
ACCURACY, BATCHED = (*OURS, f"{REWARD}.name=accuracy"), (*OURS, f"{REWARD}.name=batched_accuracy")
BUDGET = ("algorithm.adv_estimator=token_budget", "+algorithm.efficiency.b_min=1", "+algorithm.efficiency.b_max=9")
PACKED_DATA = (
    *("data.custom_cls.path=pkg://verl_efficiency.verl.dataset", "data.custom_cls.name=PackedDataset"),
    *("data.dataloader_num_workers=0", "+data.efficiency.grouping=random"),
)
GSM8K = "She sold 24 clips in May.\nShe sold 48 + 24 = 72 clips altogether.\n#### 72"
SENTENCE = "Since he had seven of them and gave two of them to each of his three friends he has one of them left"


def row(truth="4", number=0, prompt=None, **extra_info):
    return {
        "data_source": "sums",
        "prompt": prompt or [{"role": "user", "content": f"{number}+{number}?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"index": number, "split": "train", **extra_info},
    }


@pytest.fixture
def train(tmp_path):
    """An override that names a file of these rows, parquet or JSON lines."""

    def written(rows, name="train.parquet", key="train_files"):
        file = tmp_path / name
        if file.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"data.{key}={file}"

    return written


def expect(words, launch, refusal, *overrides):  # noqa: F811
    """The run is refused in one line that holds these words, or starts (None)."""
    if words is None:
        launch(*overrides)
        return
    (line,) = refusal(*overrides)
    for word in words:
        assert word in line


def run_advised(line, tmp_path):
    """The file that the command in the message writes."""
    new = str(tmp_path / "new.parquet")
    command = shlex.split(line.split("`")[1].replace("NEW.parquet", new))
    assert command[0] == "verl-efficiency"
    assert CliRunner().invoke(app, command[1:]).exit_code == 0
    return new


def same(value):
    return [row(value, number) for number in range(3)]


@pytest.mark.parametrize("name", ["train.parquet", "train.jsonl"])
@pytest.mark.parametrize(
    "truth",
    ["5", 5, 0.5, ["5"], [5], '["5"]', np.array(["5"]).tolist(), r"\frac{1}{2}", r"$\boxed{5}$", "[4, 5]", "(C)"],
    ids=repr,
)
def test_every_form_of_one_answer_passes(launch, train, truth, name):  # noqa: F811
    for reward in (ACCURACY, BATCHED):
        launch(*reward, train(same(truth), name))


@pytest.mark.parametrize("name", ["train.parquet", "train.jsonl"])
@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (GSM8K, ["is a worked solution", "--answer-after '####'"]),
        ("a\n#### 5", ["is a worked solution", "--answer-after '####'"]),
        (r"The legs are 3 and 4, so that the answer is $\boxed{5}$.", ["is a worked solution", "--answer-in-box"]),
        (GSM8K.replace("#### ", ""), ["is a worked solution"]),
        (SENTENCE, ["3 of the 3 answers looked at are sentences"]),
        ("", ["is an empty text"]),
        ("nan", ["is 'nan', the print of a missing value"]),
        ("None", ["is 'None', the print of a missing value"]),
        (float("nan"), ["is nan"]),
        (True, ["True (bool)"]),
        ({"value": "5"}, ["(dict)"]),
        ([["5"]], ["(list)"]),
        (["5", "6"], ["is a list of answers", "batched_accuracy"]),
        ('["5", "6"]', ["is a list of answers", "batched_accuracy"]),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_accuracy_cannot_grade_is_refused(refusal, train, tmp_path, truth, words, name):  # noqa: F811
    (line,) = refusal(*ACCURACY, train(same(truth), name))
    assert line.startswith(f"data.train_files: {tmp_path / name}")
    for word in words:
        assert word in line
    (line,) = refusal(*ACCURACY, train(same(truth), name, key="val_files"))
    assert line.startswith(f"data.val_files: {tmp_path / name}")


def test_a_null_anywhere_is_found_by_the_statistics(refusal, train):  # noqa: F811
    rows = [row(str(number), number) for number in range(5000)]
    rows[3333]["reward_model"]["ground_truth"] = None
    (line,) = refusal(*ACCURACY, train(rows))
    assert "1 rows of" in line
    assert "have no reward_model.ground_truth (null)" in line


def test_one_bad_row_is_named_among_good_ones(refusal, train):  # noqa: F811
    rows = [row(str(number), number) for number in range(20)]
    rows[7] = row(GSM8K, 70)
    rows[9] = row(" ", 90)
    (line,) = refusal(*ACCURACY, train(rows))
    assert "train.parquet row 7: reward_model.ground_truth of data source 'sums', index 70 is a worked solution" in line
    assert "(2 of the 20 rows looked at have such a fault)" in line


def test_a_few_sentences_are_a_warning(launch, train, caplog):  # noqa: F811
    launch(*ACCURACY, train([row(SENTENCE), *same("4")]))
    assert "1 of the 4 answers looked at are sentences" in caplog.text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [{"question": "1+1?", "answer": "2\n#### 2"}],
            [
                "has no column 'prompt'",
                "raw problems (question, answer)",
                "--problems 1 --question question --answer answer",
            ],
        ),
        (
            [{"problem": "?", "solution": r"Both together are the answer, \boxed{2}"}],
            ["--question problem --answer solution --answer-in-box`"],
        ),
        ([{"problem": "?", "solution": "2"}], ["--question problem --answer solution`"]),
        ([{"prompt": [{"role": "user", "content": "?"}], "answer": "2"}], ["no column 'data_source'"]),
        ([{"text": "1+1=2"}], ["has no column 'prompt'; it has text"]),
        ([row() | {"prompt": "1+1?"}], ["row 0 is a text, not a list of messages", "verl-efficiency pack"]),
        ([row(prompt=[{"from": "human", "value": "1+1?"}])], ["from and value", "verl-efficiency pack"]),
        ([row(prompt=[{"role": "user"}])], ["without a role and a content"]),
        ([row() | {"reward_model": "4"}], ["reward_model must be a mapping", "got 4"]),
        (
            [row() | {"reward_model": {"style": "rule"}}],
            ["reward_model must be a mapping with the answer as ground_truth"],
        ),
        ([row('["4"]', n=1)], None),
        ([row("4", n=2)], ["must be a list of 2 answers"]),
    ],
)
def test_rows_of_another_form_are_refused(refusal, launch, train, rows, words):  # noqa: F811
    reward = BATCHED if "n" in rows[0].get("extra_info", {}) else ACCURACY
    expect(words, launch, refusal, *reward, train(rows))


@pytest.mark.parametrize("answer", ["1+1=2\n#### 2", r"Both together are the answer, \boxed{2}", "2"])
def test_the_command_that_is_named_makes_a_file_that_passes(refusal, launch, train, tmp_path, answer):  # noqa: F811
    raw = train([{"question": "1+1?", "answer": answer}])
    (line,) = refusal(*ACCURACY, raw)
    launch(*ACCURACY, f"data.train_files={run_advised(line, tmp_path)}")


# --- packs


def packed(number=2):
    rows = [row(str(k), k, difficulty=0.5) for k in range(6)]
    return pack_rows(rows, PackingSettings(problems=number, grouping="random"), seed=0)


def test_a_packed_file_needs_batched_accuracy(refusal, launch, train):  # noqa: F811
    launch(*BATCHED, train(packed()))
    (line,) = refusal(*ACCURACY, train(packed()))
    assert "is a list of answers" in line
    assert "use batched_accuracy" in line
    terms = "[{name: accuracy, weight: 1.0}, {name: repetition, weight: 0.1}]"
    (line,) = refusal(*OURS, f"{REWARD}.name=composition", f"+{REWARD}.reward_kwargs.terms={terms}", train(packed()))
    assert "use batched_accuracy" in line
    batched = terms.replace("accuracy", "batched_accuracy")
    launch(*OURS, f"{REWARD}.name=composition", f"+{REWARD}.reward_kwargs.terms={batched}", train(packed()))


def test_rows_that_our_data_set_packs_are_looked_at_packed(refusal, launch, train):  # noqa: F811
    single = train([row(str(k), k) for k in range(9)])
    launch(*BATCHED, *PACKED_DATA, single)
    lines = refusal(*ACCURACY, *PACKED_DATA, single)
    assert len(lines) == 2, "the validation file says train, too"
    assert all("pack 0: " in line and "use batched_accuracy" in line for line in lines)
    launch(*ACCURACY, *PACKED_DATA, "+data.efficiency.problems=1", single)
    (line,) = refusal(*BATCHED, *PACKED_DATA, train([row(GSM8K)] * 4))
    assert "is a worked solution" in line
    (line,) = refusal(*BATCHED, *PACKED_DATA, train([row(split=None)] * 4))
    assert "extra_info.split" in line


def test_a_form_of_answers_that_the_prompts_do_not_ask_for_is_refused(refusal, train):  # noqa: F811
    template = f"+{REWARD}.reward_kwargs.answer_template='Answer {{index}}: …'"
    rows = [
        entry | {"extra_info": entry["extra_info"] | {"answer_template": "<a{index}>…</a{index}>"}}
        for entry in packed()
    ]
    (line,) = refusal(*BATCHED, template, train(rows))
    assert "answer_template" in line


# --- columns of a reward


@pytest.mark.parametrize(
    ("reward", "extra_info", "words"),
    [
        ("lcpo_exact", {"target_tokens": 100}, None),
        ("lcpo_exact", {"target_tokens": -5}, ["target_tokens must be a number of tokens above 0, got -5"]),
        ("lcpo_exact", {"target_tokens": "many"}, ["must be a finite number, got 'many'"]),
        ("lcpo_exact", {"tokens": 100}, ["unknown column 'extra_info.target_tokens'"]),
        ("length_levels", {"length_level": "short"}, None),
        ("length_levels", {"length_level": "shrt"}, ["did you mean 'short'?"]),
    ],
)
def test_columns_of_a_reward_are_read_by_it(refusal, launch, train, reward, extra_info, words):  # noqa: F811
    expect(words, launch, refusal, *OURS, f"{REWARD}.name={reward}", train([row(**extra_info)] * 2))


# --- files


@pytest.mark.parametrize(
    "given", [ACCURACY, BUDGET, ("reward.reward_manager.name=efficiency",)], ids=["reward", "estimator", "manager"]
)
def test_a_file_that_is_not_there_is_refused(refusal, train, tmp_path, given):  # noqa: F811
    train(same("4"))
    (line,) = refusal(*given, f"data.train_files={tmp_path / 'trian.parquet'}")
    assert line == f"data.train_files: there is no file {tmp_path / 'trian.parquet'}; did you mean 'train.parquet'?"
    first, second = refusal(*given, f"data.val_files=[{tmp_path / 'a.parquet'},{tmp_path / 'b.parquet'}]")
    assert "a.parquet" in first
    assert "b.parquet" in second


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.parquet", b"PAR1xx", ["cannot be read as parquet"]),
        ("a.parquet", b"", ["is empty"]),
        ("a.csv", b"question,answer\n", ["is not a .parquet, .jsonl or .json file"]),
        ("a.jsonl", b'{"prompt": "caf\xe9"}\n', ["line 1 is not UTF-8"]),
        ("a.jsonl", b'{"prompt": ', ["line 1 is not JSON", "cut off"]),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(refusal, tmp_path, name, content, words):  # noqa: F811
    (tmp_path / name).write_bytes(content)
    (line,) = refusal(*ACCURACY, f"data.train_files={tmp_path / name}")
    for word in words:
        assert word in line


def test_a_folder_null_and_an_empty_list_are_refused(refusal, tmp_path):  # noqa: F811
    assert "is a folder" in refusal(*ACCURACY, f"data.train_files={tmp_path}")[0]
    for nothing in ("null", "[]"):
        assert refusal(*ACCURACY, f"data.val_files={nothing}") == ["data.val_files: names no file"]


def test_home_folders_patterns_and_file_addresses_are_followed(refusal, launch, train, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HOME", str(tmp_path))
    train(same("4"))
    for name in ("~/train.parquet", f"{tmp_path}/*.parquet", f"file://{tmp_path}/train.parquet"):
        launch(*ACCURACY, f"data.train_files='{name}'")
    train(same(GSM8K), "other.parquet")
    for name in ("'~/other.parquet'", f"'{tmp_path}/*.parquet'", f"['~/train.parquet','{tmp_path}/other.parquet']"):
        (line,) = refusal(*ACCURACY, f"data.train_files={name}")
        assert f"{tmp_path / 'other.parquet'} row 0" in line


@pytest.mark.parametrize(
    "name", ["hdfs://far/train.parquet", "s3://bucket/train.parquet", "https://host/train.parquet"]
)
def test_a_file_elsewhere_is_said_and_passes(launch, caplog, name):  # noqa: F811
    launch(*ACCURACY, f"data.train_files='{name}'")
    assert f"data.train_files: {name} is not a local file; its rows are not checked at start-up" in caplog.text


def test_on_several_machines_a_file_may_be_on_another(launch, caplog, monkeypatch):  # noqa: F811
    absent = "data.train_files=/nowhere/train.parquet"
    launch(*ACCURACY, absent, "trainer.nnodes=2")
    assert "/nowhere/train.parquet is not on this machine; its rows are not checked" in caplog.text
    caplog.clear()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    launch(*ACCURACY, absent)
    assert "/nowhere/train.parquet is not on this machine" in caplog.text


# --- code


@pytest.fixture
def code(tmp_path):
    (tmp_path / "reward.py").write_text(
        "raise SystemExit('this file must not be run on the driver')\n"
        "def first(data_source, solution_str, ground_truth, extra_info): return 1.0\n"
        "async def second(**_): return 1.0\n"
        "from somewhere import third as compute\n"
        "if True:\n    fourth = first\n"
        "for name in ('a', 'b'):\n    pass\n"
    )
    (tmp_path / "broken.py").write_text("def first(:\n")
    (tmp_path / "text.txt").write_text("def first(): pass\n")
    return tmp_path


@pytest.mark.parametrize("name", ["first", "second", "compute", "fourth"])
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_function_that_the_file_defines_passes_and_the_file_is_not_run(launch, code, name, prefix):  # noqa: F811
    launch(*BUDGET, f"{REWARD}.path='{prefix}{code / 'reward.py'}'", f"{REWARD}.name={name}")


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("rewrd.py", "first", [".path: there is no file", "did you mean 'reward.py'?"]),
        ("reward.py", "frst", [".name: unknown name 'frst'; did you mean 'first'?", "reward.py"]),
        ("reward.py", "third", [".name: unknown name 'third'"]),
        ("broken.py", "first", [".path:", "broken.py is not Python"]),
        ("text.txt", "first", [".path:", "must be a .py file"]),
        (".", "first", [".path:", "must be a .py file"]),
    ],
)
def test_a_reward_that_is_not_there_is_refused(refusal, code, path, name, words):  # noqa: F811
    (line,) = refusal(*BUDGET, f"{REWARD}.path='{code / path}'", f"{REWARD}.name={name}")
    assert line.startswith(f"{REWARD}.")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("pkg://verl.utils.reward_score.gsm8k", "compute_score", None),
        ("pkg://verl/utils/reward_score/gsm8k", "compute_score", None),
        ("pkg://verl.utils.reward_score.gsm8k", "compute_scores", ["did you mean 'compute_score'?"]),
        ("pkg://verl.utils.reward_score.gsm9k", "compute_score", ["has no module 'gsm9k'; did you mean 'gsm8k'?"]),
        ("pkg://no_such_package.reward", "compute_score", ["there is no package 'no_such_package'"]),
        ("pkg://verl_efficency.rewards", "accuracy", ["did you mean 'verl_efficiency'?"]),
        ("accuracy", "accuracy", ["there is no file accuracy", "a module is written pkg://accuracy"]),
    ],
)
def test_modules(refusal, launch, path, name, words):  # noqa: F811
    expect(words, launch, refusal, *BUDGET, f"{REWARD}.path='{path}'", f"{REWARD}.name={name}")


@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.parametrize(
    ("file", "name", "given", "words"),
    [
        ("accuracy.py", "accuracy", "strip_thinking=True", None),
        ("accuracy.py", "compute_score", "marker=answer", None),
        ("__init__.py", "accuracy", "strip_thinking=True", None),
        (
            "accuracy.py",
            "accuracy",
            "maker=x",
            [f"{REWARD}.reward_kwargs: unknown setting 'maker'; did you mean 'marker'?"],
        ),
        ("accuracy.py", "accuracy", "strip_thinking='true'", [f"{REWARD}.reward_kwargs.strip_thinking: must be bool"]),
        ("__init__.py", "acuracy", "marker=x", [f"{REWARD}.name:", "did you mean 'accuracy'?"]),
        ("accuracy.py", "cosine", "marker=x", [f"{REWARD}.name:", "has accuracy and compute_score, not 'cosine'"]),
        ("acuracy.py", "accuracy", "marker=x", [f"{REWARD}.path:", "did you mean 'accuracy'?"]),
    ],
)
def test_our_reward_by_its_file_is_checked_as_by_its_module(refusal, launch, file, name, given, words, prefix):  # noqa: F811
    rewards = Path(verl_efficiency.__file__).parent / "rewards"
    reward = (f"{REWARD}.path='{prefix}{rewards / file}'", f"{REWARD}.name={name}", f"+{REWARD}.reward_kwargs.{given}")
    expect(words, launch, refusal, "algorithm.adv_estimator=grpo", *reward)


def test_a_copy_of_our_reward_in_another_place_is_a_users_own(launch, compose, tmp_path):  # noqa: F811
    copy = shutil.copy(Path(verl_efficiency.__file__).parent / "rewards" / "accuracy.py", tmp_path / "accuracy.py")
    mine = (f"{REWARD}.path={copy}", f"{REWARD}.name=accuracy", f"+{REWARD}.reward_kwargs.mine=x")
    assert not concerns_us(compose(*mine))
    launch(*BUDGET, *mine)


def test_reward_managers_and_data_sets_of_a_users_own_are_looked_for_too(refusal, launch, code):  # noqa: F811
    manager = ("reward.reward_manager.source=importlib", f"reward.reward_manager.module.path={code / 'reward.py'}")
    launch(*BUDGET, *manager, "reward.reward_manager.name=first")
    (line,) = refusal(*BUDGET, *manager, "reward.reward_manager.name=frist")
    assert line.startswith("reward.reward_manager.module.name: unknown name 'frist'; did you mean 'first'?")
    data_set = (f"data.custom_cls.path={code / 'reward.py'}", "data.train_files=/nowhere/of/any/kind.bin")
    launch(*BUDGET, *data_set, "data.custom_cls.name=first")
    (line,) = refusal(*BUDGET, *data_set, "data.custom_cls.name=last")
    assert line.startswith("data.custom_cls.name: unknown name 'last'")


def test_terms_of_a_users_own_are_not_called(launch, train, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "my_terms.py").write_text("def term(*_, **__): raise SystemExit('called on made-up input')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    terms = "[{name: accuracy, weight: 1.0}, {name: 'pkg://my_terms:term', weight: 0.5}]"
    launch(*OURS, f"{REWARD}.name=composition", f"+{REWARD}.reward_kwargs.terms={terms}", train(same("4")))


# --- others' runs


def test_a_run_that_uses_nothing_of_ours_is_left_alone(launch, compose):  # noqa: F811
    theirs = ("data.train_files=/nowhere/train.parquet", f"{REWARD}.path=/nowhere/reward.py")
    launch(*theirs)
    assert len(list(check_data(compose(*theirs), asked=True))) == 2, "doctor is asked, and says it"


def test_verls_default_files_may_be_missing_where_doctor_is_asked(compose, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train_file, val_file = DEFAULT_FILES
    config = compose(*BUDGET, f"data.train_files='{train_file}'", f"data.val_files='{val_file}'")
    assert list(check_data(config, asked=True)) == []
    lines = list(check_data(config))
    assert [line.split(":")[0] for line in lines] == ["data.train_files", "data.val_files"]
    assert all("verl's default, since the configuration names none" in line for line in lines)
    (tmp_path / "data" / "rlhf" / "gsm8k").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{"question": "?"}]), tmp_path / "data" / "rlhf" / "gsm8k" / "train.parquet")
    assert len(list(check_data(config, asked=True))) == 1


def test_the_check_reads_a_bounded_part_of_a_large_file(launch, train, tmp_path, monkeypatch):  # noqa: F811
    rows = [row(str(number), number, difficulty=0.5) for number in range(4000)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "many.parquet", row_group_size=50)
    read = {}
    real = pq.ParquetFile.iter_batches

    def iter_batches(self, batch_size=65536, row_groups=None, columns=None, **options):
        for batch in real(self, batch_size, row_groups=row_groups, columns=columns, **options):
            read[tuple(columns)] = read.get(tuple(columns), 0) + batch.num_rows
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    monkeypatch.setattr(pq, "read_table", None)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    launch(*BUDGET, "+algorithm.efficiency.difficulty=data", *ACCURACY, f"data.train_files={tmp_path / 'many.parquet'}")
    difficulty = read.pop(("extra_info.difficulty",))  # all rows are read, since every number counts
    assert difficulty == 4000
    assert 0 < sum(read.values()) <= 1024 + 8  # the sample, and the eight rows of the validation file


def test_pack_and_copy_of_the_readme_pass(launch, tmp_path):  # noqa: F811
    """A packed file is valid for both of its rewards."""
    (tmp_path / "p.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n' * 6)
    for problems, reward in ((1, ACCURACY), (3, BATCHED)):
        target = tmp_path / f"{problems}.parquet"
        command = ["pack", str(tmp_path / "p.jsonl"), str(target), "--problems", str(problems), "--grouping", "random"]
        assert CliRunner().invoke(app, command).exit_code == 0
        assert len(read_rows(target)) == 6 // problems
        launch(*reward, f"data.train_files={target}", f"data.val_files={shutil.copy(target, tmp_path / 'val.parquet')}")


# --- verl's own reward


@pytest.mark.parametrize("key", ["train_files", "val_files"])
def test_a_data_source_that_verls_reward_does_not_know_is_refused(refusal, launch, train, code, key):  # noqa: F811
    unknown = train([row() | {"data_source": "my_sums"}] * 2, key=key)
    (line,) = refusal(*BUDGET, unknown)
    assert line.startswith(f"data.{key}:")
    assert "'my_sums'" in line
    assert f"write {REWARD}.path=pkg://verl_efficiency.rewards {REWARD}.name=accuracy" in line
    launch(*BUDGET, unknown, f"{REWARD}.path=pkg://verl_efficiency.rewards", f"{REWARD}.name=accuracy")
    launch(*BUDGET, unknown, f"{REWARD}.path={code / 'reward.py'}", f"{REWARD}.name=first")
    launch(*BUDGET, unknown, "reward.reward_manager.source=importlib", "reward.reward_manager.name=first",
           f"reward.reward_manager.module.path={code / 'reward.py'}")  # fmt: skip
    launch(*BUDGET, unknown, "reward.reward_manager.name=registered_in_the_run")
    launch(*BUDGET, unknown, "reward.reward_model.enable=True")


@pytest.mark.parametrize("source", ["openai/gsm8k", "lighteval/MATH", "aime2024", "codecontests", "searchR1_nq"])
def test_a_data_source_that_verls_reward_knows_passes(launch, train, source):  # noqa: F811
    launch(*BUDGET, train([row() | {"data_source": source}] * 2))


def test_a_run_of_others_with_such_a_source_is_left_alone(launch, compose, train):  # noqa: F811
    unknown = train([row() | {"data_source": "my_sums"}] * 2)
    launch(unknown)
    assert len(list(check_data(compose(unknown), asked=True))) == 1


# --- what the prompts ask for


ASKS = r"1+1? Put the answer in \boxed{}."


@pytest.mark.parametrize(
    ("prompt", "settings", "warned"),
    [
        ("1+1?", (), r"asks for \boxed{}"),
        (ASKS, (), None),
        ("1+1? End with #### answer.", (), r"asks for \boxed{}"),
        (ASKS, (f"+{REWARD}.reward_kwargs.marker='####'",), "asks for ####"),
        ("1+1? End with #### answer.", (f"+{REWARD}.reward_kwargs.marker='####'",), None),
        ("Use <answer>.", (f"+{REWARD}.reward_kwargs.marker='<answer>…</answer>'",), None),
        (ASKS, (f"+{REWARD}.reward_kwargs.marker='<answer>…</answer>'",), "asks for <answer>…</answer>"),
    ],
)
def test_prompts_that_do_not_ask_for_the_form_are_a_warning(launch, train, caplog, prompt, settings, warned):  # noqa: F811
    rows = [row(prompt=[{"role": "user", "content": prompt}])] * 3
    launch(*ACCURACY, *settings, train(rows), train(rows, key="val_files"))
    if warned is None:
        assert "asks for" not in caplog.text
    else:
        assert warned in caplog.text
        assert "--problems 1 --ending" in caplog.text


def test_the_sentence_that_is_advised_is_enough(launch, train, tmp_path, caplog):  # noqa: F811
    marker = f"+{REWARD}.reward_kwargs.marker='####'"
    for settings in ((), (marker,)):
        caplog.clear()
        launch(*ACCURACY, *settings, train(same("4")))
        (line,) = [m for m in caplog.messages if m.startswith("data.train_files:")]
        new = run_advised(line, tmp_path)
        caplog.clear()
        launch(*ACCURACY, *settings, f"data.train_files={new}")
        assert not [m for m in caplog.messages if m.startswith("data.train_files:")]


def test_single_problems_for_batched_accuracy_are_a_warning(launch, train, caplog):  # noqa: F811
    launch(*BATCHED, train(same("4")))
    assert "holds one problem" in caplog.text
    assert "PackedDataset" in caplog.text
    caplog.clear()
    launch(*BATCHED, train(packed()))
    launch(*BATCHED, *PACKED_DATA, train([row(str(k), k) for k in range(9)]))
    launch(*ACCURACY, train(same("4")))
    assert "holds one problem" not in caplog.text


@pytest.mark.parametrize(("least", "warned"), [(512, True), (600, True), (511, False), (100, False)])
def test_a_budget_that_no_response_exceeds_is_a_warning(launch, caplog, least, warned):  # noqa: F811
    budget = (f"+algorithm.efficiency.b_min={least}", "+algorithm.efficiency.b_max=900", "data.max_response_length=512")
    launch("algorithm.adv_estimator=token_budget", *budget)
    assert ("algorithm.efficiency.b_min:" in caplog.text) == warned
    caplog.clear()
    kwargs = (f"+{REWARD}.reward_kwargs.b_min={least}", f"+{REWARD}.reward_kwargs.b_max=900")
    launch(*OURS, f"{REWARD}.name=token_budget", *kwargs, "data.max_response_length=512")
    assert (f"{REWARD}.reward_kwargs.b_min:" in caplog.text) == warned


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("algorithm.adv_estimator=laser",), "algorithm.efficiency.target_length"),
        (
            ("algorithm.adv_estimator=cosine", "+algorithm.efficiency.max_response_length=513"),
            "algorithm.efficiency.max_response_length",
        ),
        (("algorithm.adv_estimator=gfpo", "+algorithm.efficiency.keep=8"), "algorithm.efficiency.keep"),
        ((f"{REWARD}.name=cosine", f"+{REWARD}.reward_kwargs.max_tokens=513"), f"{REWARD}.reward_kwargs.max_tokens"),
        (
            (
                f"{REWARD}.name=composition",
                f"+{REWARD}.reward_kwargs.terms=[{{name: accuracy, weight: 1}}, {{name: cosine, weight: 1, max_tokens: 513}}]",
            ),
            f"{REWARD}.reward_kwargs.terms[1].max_tokens",
        ),
        (("algorithm.adv_estimator=laser", "+algorithm.efficiency.target_length=511"), None),
        (("algorithm.adv_estimator=cosine",), None),
        (("algorithm.adv_estimator=gfpo", "+algorithm.efficiency.keep=7"), None),
    ],
)
def test_what_no_response_of_the_run_reaches_is_a_warning(launch, caplog, overrides, named):  # noqa: F811
    launch(*OURS, f"{REWARD}.name=accuracy", "data.max_response_length=512", *overrides)
    mentioned = [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "verl_efficiency"]
    assert mentioned == ([named] if named else [])


def test_a_setting_that_does_not_fit_the_limit_is_refused_before_the_run(refusal, launch):  # noqa: F811
    overlong = ("algorithm.adv_estimator=overlong", "data.max_response_length=1024")
    (line,) = refusal(*overlong, "+algorithm.efficiency.buffer=4096")
    assert line == "algorithm.efficiency.buffer: must be at most max_response_length=1024, got 4096"
    launch(*overlong, "+algorithm.efficiency.buffer=1024")


@pytest.mark.parametrize("name", ["train.parquet", "train.jsonl"])
@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (("data.train_batch_size=9",), True),
        (("data.train_batch_size=8",), False),
        (("data.train_batch_size=9", "trainer.use_v1=False"), True),
        (("data.train_batch_size=8", "data.train_max_samples=7"), True),
        (("data.train_batch_size=8", "data.train_max_samples=9"), False),
        (("data.train_batch_size=9", "trainer.total_training_steps=2"), True),
        (("data.train_batch_size=9", "trainer.v1.trainer_mode=efficiency_sync"), True),
        (
            ("data.train_batch_size=9", "trainer.v1.trainer_mode=efficiency_sync", "trainer.total_training_steps=2"),
            False,
        ),
        (("data.train_batch_size=9", "data.gen_batch_size=1"), False),
        (("data.train_batch_size=9", "data.custom_cls.path=/my/data.py"), False),
        (
            ("data.train_batch_size=9", "actor_rollout_ref.model.path='~/models/deepseek-llm-7b-chat'"),
            False,
        ),  # verl's own
    ],
)
def test_fewer_rows_than_a_batch_are_refused_in_a_launch(compose, train, name, overrides, refused):
    config = compose(train([row(str(number), number) for number in range(8)], name), *overrides)
    lines = list(check_rows(config))
    assert len(lines) == refused
    assert all(line.startswith("data.train_batch_size: ") and "rows of data.train_files" in line for line in lines)


def test_files_that_cannot_be_counted_may_fill_a_batch(compose, train):
    two = train([row("4")]).partition("=")[2]
    for files in (f"[{two},'hdfs://far/away.parquet']", f"[{two},/nowhere.parquet]", "[]"):
        assert list(check_rows(compose(f"data.train_files={files}"))) == []
    (line,) = check_rows(compose(f"data.train_files=[{two},{two}]"))
    assert "8 is more than the 2 rows" in line


def test_packing_without_a_difficulty_says_what_to_write(refusal, train):  # noqa: F811
    stratified = [x for x in PACKED_DATA if "grouping" not in x]
    (line,) = refusal(*BATCHED, *stratified, train([row(str(k), k) for k in range(9)]))
    assert line.startswith("data.efficiency.difficulty: unknown column 'extra_info.difficulty'")
    assert "+data.efficiency.grouping=random" in line
    assert "did you mean" not in line, "extra_info.split has only the prefix in common"
