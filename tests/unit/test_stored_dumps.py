r"""Stored responses as others write them: verl's dumps of rollouts and validations, and GSM8K's solutions of four models."""

import ast
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.test_grading_agreement import DATA
from tests.unit.test_offline import written
from verl_efficiency.cli import app
from verl_efficiency.evaluation.calibrate import find_files, read_rollouts
from verl_efficiency.evaluation.generations import read_generations
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.checks.task import CHARACTERS
from verl_efficiency.testbed.tokenizer import build_tokenizer

# verl's dumps. Each step has input, output, gts, score.
STEPS = {
    1: [
        ("q", r"1+1=2\boxed{2}", "2", 1.0),  # 5 + 3 tokens, then the end of sequence
        ("q", r"\boxed{3}", "2", 0.0),  # 3
        ("r", "22", "4", 0.0),  # 2, without an answer
        ("r", r"2+2=4\boxed{4}", "4", 1.0),  # 8
    ],
    10: [("q", r"\boxed{2}", "2", 1.0), ("q", "2", "2", 0.0)],  # 3 and 1
}
TOKENS = [9, 4, 3, 9, 4, 2]


def write_generations(inputs, outputs, gts, scores, reward_extra_infos_dict, dump_path, global_steps):
    """The files of ``_write_generations`` of verl 0.9.1's trainers; the next test compares them."""
    columns = {"input": inputs, "output": outputs, "gts": gts, "score": scores, "step": [global_steps] * len(inputs)}
    columns |= reward_extra_infos_dict
    Path(dump_path).mkdir(parents=True, exist_ok=True)
    with (Path(dump_path) / f"{global_steps}.jsonl").open("w") as file:
        for number in range(len(inputs)):
            row = {name: values[number] for name, values in columns.items()}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def further_columns(trainer, scores):
    """What each trainer adds: V1 the key of each response, validation all that the reward function returned."""
    keys = [f"5f0c_{number}_0" for number in range(len(scores))]
    returned = {"reward": scores, "acc": [score == 1.0 for score in scores]}
    return {
        "V1 rollouts": {"uid": keys},
        "V1 validation": returned | {"uid": keys},
        "V0 rollouts": {"acc": returned["acc"], "request_id": keys},
        "V0 validation": returned,
    }[trainer]


def dump(folder, trainer="V1 rollouts", write=write_generations, steps=STEPS):
    for step, rows in steps.items():
        inputs, outputs, gts, scores = map(list, zip(*rows, strict=True))
        write(inputs, outputs, gts, scores, further_columns(trainer, scores), str(folder), step)
    return folder


TRAINERS = ("V1 rollouts", "V1 validation", "V0 rollouts", "V0 validation")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(CHARACTERS).save_pretrained(path)
    return str(path)


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def results(tmp_path, *arguments):
    out = tmp_path / "out.json"
    outcome = run("evaluate", *arguments, "--out", out)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    return written(out), outcome.output


@pytest.mark.parametrize("trainer", TRAINERS)
def test_our_files_are_those_of_verls_own_code(tmp_path, trainer):
    """The function is cut out of verl's file, so that verl need not be loaded."""
    verl = importlib.util.find_spec("verl")
    if verl is None:
        pytest.skip("verl is not installed")
    source = "v1/trainer_base.py" if trainer.startswith("V1") else "ray_trainer.py"
    tree = ast.parse((Path(verl.submodule_search_locations[0]) / "trainer" / "ppo" / source).read_text())
    (function,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_write_generations"
    )
    function.decorator_list = []
    names = {"os": os, "json": json, "np": np}
    exec(compile(ast.Module([function], []), source, "exec"), names)
    ours, theirs = dump(tmp_path / "ours", trainer), dump(tmp_path / "theirs", trainer, names["_write_generations"])
    for step in STEPS:
        assert (ours / f"{step}.jsonl").read_bytes() == (theirs / f"{step}.jsonl").read_bytes()


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_folder_of_dumps_is_measured(tmp_path, tokenizer, trainer):
    folder = dump(tmp_path / "rollouts", trainer)
    (result,), output = results(tmp_path, "offline", folder, "--tokenizer", tokenizer)
    assert (result["label"], result["problems"], result["responses"]) == ("rollouts", 2, 6)
    assert result["accuracy"] == 3 / 6
    assert result["tokens"] == pytest.approx(sum(TOKENS) / 6)
    correct = "score" if trainer == "V1 rollouts" else "acc"
    said = f"rollouts: read problem from 'input', response from 'output', correct from '{correct}', of 2 files"
    assert said in output.splitlines()
    (step,), output = results(tmp_path, "offline", f"first={folder / '1.jsonl'}", "--tokenizer", tokenizer)
    assert (step["label"], step["accuracy"], step["tokens"]) == ("first", 2 / 4, (9 + 4 + 3 + 9) / 4)
    assert "files" not in output


def test_the_steps_of_a_run_are_compared(tmp_path, tokenizer):
    folder = dump(tmp_path / "validation", "V1 validation")
    files = [f"before={folder / '1.jsonl'}", f"after={folder / '10.jsonl'}"]
    (_, after), _ = results(tmp_path, "offline", *files, "--tokenizer", tokenizer)
    assert after["against"]["paired"]["problems"] == 1  # q
    assert after["against"]["paired"]["tokens_ratio"] == pytest.approx((4 + 2) / (9 + 4))


@pytest.mark.parametrize("grade", [False, True])
def test_strategies_are_replayed_on_a_folder_of_dumps(tmp_path, tokenizer, grade):
    """All ordered pairs are drawn: 12 of q, 2 of r. Of r, one response has an answer, and it is right."""
    folder = dump(tmp_path / "rollouts")
    graded = ["--answer", "gts"] * grade
    rows, _ = results(tmp_path, "strategies", folder, "--tokenizer", tokenizer, "--caps", 8, *graded)
    found = {(row["strategy"], row["k"]): (row["accuracy"], row["tokens"]) for row in rows}
    assert found["plain", 1] == pytest.approx(((2 / 4 + 1 / 2) / 2, (19 / 4 + 12 / 2) / 2))
    # q: correct within 8 is the answer of 4 tokens; r: none
    assert found["cap 8", 1] == pytest.approx(((1 / 4 + 0) / 2, (18 / 4 + 11 / 2) / 2))
    assert found["majority", 2][1] == pytest.approx((2 * 19 / 4 + 12) / 2)
    # a limit of 8 leaves no room for the end of sequence of the two responses of 8
    rows, _ = results(tmp_path, "strategies", folder, "--tokenizer", tokenizer, "--max-tokens", 8, *graded)
    assert next(row["tokens"] for row in rows if row["strategy"] == "plain") == pytest.approx((18 / 4 + 11 / 2) / 2)


@pytest.mark.parametrize(("limit", "expected"), [(None, TOKENS), (8, [8, 4, 3, 8, 4, 2])])
def test_every_command_counts_the_same_tokens(tmp_path, tokenizer, limit, expected):
    """``evaluate`` counts what the model generated, with its end; a dump has the text of the same tokens."""
    encode = build_tokenizer(CHARACTERS)
    texts = [row[1] for rows in STEPS.values() for row in rows]
    generated = [[*encode.encode(text), encode.eos_token_id][:limit] for text in texts]
    assert [encode.decode(ids, skip_special_tokens=True) for ids in generated] == texts
    assert [len(ids) for ids in generated] == expected
    folder = dump(tmp_path / "rollouts", steps={s: [(*row[:3], 1.0) for row in rows] for s, rows in STEPS.items()})
    read = read_generations(find_files([folder]), "dump", tokenizer=tokenizer, max_tokens=limit)
    assert read.tokens_N.tolist() == expected
    rollouts = [rollout for file in find_files([folder]) for rollout in read_rollouts(file, 0.5, tokenizer, limit)]
    assert [rollout.tokens for rollout in rollouts] == expected
    rows = [
        {"key": "p", "acc": 1.0, "tokens": len(ids), "response": text}
        for ids, text in zip(generated, texts, strict=True)
    ]
    file = tmp_path / "rows.jsonl"  # of `evaluate --rows`
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_generations([file], "evaluate").tokens_N.tolist() == expected


def test_scores_of_minus_one_are_refused_and_graded_instead(tmp_path, tokenizer):
    steps = {1: [(*row[:3], 2 * row[3] - 1) for row in STEPS[1]]}
    folder = dump(tmp_path / "rollouts", steps=steps)
    outcome = run("evaluate", "offline", folder, "--tokenizer", tokenizer)
    assert isinstance(outcome.exception, SettingsError)
    assert str(outcome.exception) == (
        f"files: {folder / '1.jsonl'} line 2: score (the correctness) must be a number in [0, 1], not a shaped score, "
        "got -1.0. If a wrong answer has another score, give it: --score-wrong -1; or "
        "give --correct COLUMN, or --answer COLUMN to have the responses graded, for example --answer gts"
    )
    (result,), _ = results(tmp_path, "offline", folder, "--tokenizer", tokenizer, "--answer", "gts")
    assert result["accuracy"] == 2 / 4
    for command in ("offline", "strategies"):
        rows, _ = results(tmp_path, command, folder, "--tokenizer", tokenizer, "--score-wrong", "-1")
        (of_one,) = (row for row in rows if row.get("strategy", "plain") == "plain")
        assert of_one["accuracy"] == 2 / 4


def test_scores_that_cannot_be_are_refused(tmp_path, tokenizer):
    folder = dump(tmp_path / "rollouts")
    for words, said in (
        (["--score-wrong", "1"], "--score-wrong: must be below --score-correct, 1"),
        (["--score-wrong", "-1", "--answer", "gts"], "--score-wrong: must be left out with --answer"),
        (["--score-correct", "2", "--answer", "gts"], "--score-correct: must be left out with --answer"),
    ):
        outcome = run("evaluate", "offline", folder, "--tokenizer", tokenizer, *words)
        assert isinstance(outcome.exception, SettingsError)
        assert said in str(outcome.exception)


def test_folders_that_cannot_be_read_as_one_are_refused(tmp_path, tokenizer):
    (tmp_path / "none").mkdir()
    mixed = dump(tmp_path / "mixed", "V0 validation")
    dump(mixed, "V1 rollouts", steps={10: STEPS[10]})
    broken = dump(tmp_path / "broken")
    (broken / "11.jsonl").write_text("")  # as a run that was killed leaves it
    for folder, said in (
        ("none", f"no .jsonl file in the folder {tmp_path / 'none'}"),
        (
            "mixed",
            f"{mixed / '1.jsonl'} and {mixed / '10.jsonl'} differ in the column of the correctness: 'acc' and 'score'",
        ),
        ("broken", f"{broken / '11.jsonl'} has no rows"),
    ):
        for command in ("offline", "strategies"):
            outcome = run("evaluate", command, tmp_path / folder, "--tokenizer", tokenizer)
            assert isinstance(outcome.exception, SettingsError), (folder, outcome.exception)
            assert said in str(outcome.exception)
            assert len(str(outcome.exception).splitlines()) == 1
    (result,), _ = results(tmp_path, "offline", mixed, "--tokenizer", tokenizer, "--correct", "score")
    assert result["accuracy"] == 3 / 6


# Recorded accuracies

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
ANSWERS = [  # the right answer, and a solution of each model with what is recorded about it
    ("18", ("A: 18", True), ("A: 26", False), ("16 - 3 = <<16-3=13>>13\nA: 18", True), ("A: 18", True)),
    ("1,080", ("A: 1080", True), ("A: 108", False), ("A: 1,080", True), ("no end, so 1080", False)),
    ("5", ("A: 6", False), ("A: 5", True), ("A: 5.0", True), ("A: 5\nA: 7", False)),
]


def made_solutions():
    """Rows in the form of GSM8K's ``example_model_solutions.jsonl``."""
    for number, (answer, *solutions) in enumerate(ANSWERS):
        yield {"question": f"q{number}", "ground_truth": f"It is {answer}.\nA: {answer}"} | {
            model: {"is_correct": is_correct, "solution": f"So it is.\n{solution}"}
            for model, (solution, is_correct) in zip(MODELS, solutions, strict=True)
        }


REAL = DATA / "gsm8k_model_solutions.jsonl"
needs_real = pytest.mark.skipif(not REAL.is_file(), reason="data sets not found; set VERL_EFFICIENCY_DATA")


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=needs_real)])
def test_the_commands_find_the_recorded_accuracy(tmp_path, real):
    rows = [json.loads(line) for line in REAL.open()] if real else list(made_solutions())
    files, recorded = [], []
    for model in MODELS:
        file = tmp_path / f"{model}.jsonl"
        file.write_text(
            "".join(
                json.dumps({k: row[k] for k in ("question", "ground_truth")} | row[model] | {"tokens": 1}) + "\n"
                for row in rows
            )
        )
        files.append(file)
        recorded.append(sum(row[model]["is_correct"] for row in rows) / len(rows))
    assert len(rows) == 1319 if real else recorded == [2 / 3, 1 / 3, 1, 1 / 3]
    answers = ["--answer", "ground_truth", "--answer-after", "A:", "--marker", "\nA:"]
    graded, _ = results(tmp_path, "offline", *files, *answers)
    assert [result["accuracy"] for result in graded] == recorded
    read, _ = results(tmp_path, "offline", *files)
    assert [result["accuracy"] for result in read] == recorded
    for file, accuracy in zip(files, recorded, strict=True):
        out = tmp_path / "verdicts.jsonl"
        outcome = run("grade", file, "--response", "solution", *answers, "--out", out)
        assert outcome.exit_code == 0, (outcome.output, outcome.exception)
        verdicts = [json.loads(line)["correct"] for line in out.open()]
        assert len(verdicts) == len(rows)
        assert sum(verdicts) / len(rows) == accuracy
        counted = next(line.split() for line in outcome.output.splitlines() if line.split()[:1] == ["correct"])
        assert counted == ["correct", str(sum(verdicts)), f"{accuracy:.1%}"]
