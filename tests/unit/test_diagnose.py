"""``diagnose`` and ``watch``: every rule on a real run that has its fault, on healthy runs, and every kind of log."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.evaluation.diagnose import RULES, diagnose
from verl_efficiency.evaluation.run_log import read_run
from verl_efficiency.settings import SettingsError

RUNS = Path(__file__).parent / "runs"  # written by benchmarks/diagnose_runs.py
PLANTED = {
    "length_collapse": "length collapse",
    "explosion": "length explosion",
    "truncation": "truncation",
    "equal_groups": "all-equal groups",
    "unsolved_groups": "unsolved groups",
    "entropy_collapse": "entropy collapse",
    "reward_errors": "reward errors",
    "grader_timeouts": "grader time-outs",
    "idle_budget": "idle budget",
}
HEALTHY = ("healthy_budget", "healthy_notes", "healthy_packed")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def found(*paths):
    return [finding.name for finding in diagnose(read_run(list(paths))).findings]


@pytest.mark.parametrize(("name", "rule"), PLANTED.items())
def test_a_planted_fault_is_found(name, rule):
    assert rule in found(RUNS / name)
    assert run("diagnose", RUNS / name).exit_code == 1


def test_reward_errors_are_not_mistaken_for_truncation():
    assert found(RUNS / "reward_errors") == ["reward errors"]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_has_none(name):
    assert found(RUNS / name) == []
    assert run("diagnose", RUNS / name).exit_code == 0


def test_there_is_a_run_for_each_rule():
    assert sorted(PLANTED.values()) == sorted(rule.name for rule in RULES)


# rules, on numbers by hand


def log_of(tmp_path, **columns):
    """A log of verl's file logger; the columns are metrics, with __ for /."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    lines = [
        {"step": step, "data": {name.replace("__", "/"): value for name, value in row.items()}}
        for step, row in enumerate(rows, start=1)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize(
    ("tokens", "score", "expected"),
    [
        ([100] * 3 + [70] * 3, [0.9] * 3 + [0.8] * 3, ["length collapse"]),
        ([100] * 3 + [70] * 3, [0.9] * 3 + [0.88] * 3, []),  # what a length method is for
        ([100] * 3 + [90] * 3, [0.9] * 3 + [0.8] * 3, []),  # accuracy falls for another reason
        ([100] * 3 + [70] * 3, [0.9, 0.5, 0.9, 0.8, 0.4, 0.8], []),  # noise
        ([100] * 3 + [150] * 3, [0.9] * 6, ["length explosion"]),
        ([100] * 3 + [150] * 3, [0.5] * 3 + [0.6] * 3, []),  # it learns to think
        ([100] * 3 + [150] * 3, [0.9] * 3 + [0.2] * 3, ["length explosion"]),
        ([100] * 4, [0.9] * 4, []),  # too few steps
    ],
)
def test_length_against_accuracy(tmp_path, tokens, score, expected):
    assert found(log_of(tmp_path, response_length__mean=tokens, critic__score__mean=score)) == expected


@pytest.mark.parametrize(
    ("longest", "share", "expected"),
    [
        ([50] * 6, [0.3] * 6, ["truncation"]),
        ([50] * 6, [0.0] * 3 + [0.15] * 3, ["truncation"]),
        ([50] * 6, [0.9] * 3 + [0.1] * 3, []),
        ([50, 40, 41, 42, 43, 44], [0.5] * 6, []),  # half are as long as the longest, which is below the limit
    ],
)
def test_truncation(tmp_path, longest, share, expected):
    assert found(log_of(tmp_path, response_length__max=longest, response_length__clip_ratio=share)) == expected


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        (0.8, 0.85, ["entropy collapse"]),
        (0.8, 0.95, []),  # it has learned, and little is left to explore
        (0.95, 0.95, ["entropy collapse"]),
    ],
)
def test_entropy_falls_when_a_model_learns(tmp_path, early, late, expected):
    accuracy = [early] * 3 + [late] * 3
    assert found(log_of(tmp_path, actor__entropy=[0.5] * 3 + [0.1] * 3, critic__score__mean=accuracy)) == expected


def test_rules_without_their_metrics_are_named(tmp_path):
    diagnosis = diagnose(read_run([log_of(tmp_path, actor__entropy=[0.5] * 3 + [0.1] * 3)]))
    assert [finding.name for finding in diagnosis.findings] == ["entropy collapse"]
    assert diagnosis.unchecked.keys() == {rule.name for rule in RULES} - {"entropy collapse"}


# the kinds of logs


VERL_CONSOLE = """\
{'data': {'max_response_length': 60}}
\x1b[36m(TaskRunner pid=1)\x1b[0m [token_budget] b_min=11 over_budget=0 unsolved_share=0.5
Training Progress:  10%
\x1b[36m(TaskRunner pid=1)\x1b[0m step:1 - critic/score/mean:0.5 - response_length/mean:np.float64(6e+01) - a/b:nan
\x1b[36m(Worker pid=2)\x1b[0m REWARD ERROR: f raised ValueError: x (data_source 'a', index 3).
\x1b[36m(Worker pid=2)\x1b[0m grading: 'x' against 'y' timed out after 3 s
"""
OPENRLHF_CONSOLE = """\
(PPOTrainer pid=1) [kimi] solve_rate=0.25 unsolved_share=0.1
(PPOTrainer pid=1) INFO ppo_trainer.py:551] ✨ Global step 7: {'policy_loss': -1e-05, 'rollout/reward_mean': 0.25, \
'rollout/truncated_rate': 0.5, 'kl': nan}
(RolloutRayActor pid=1) Failed to fetch reward: boom
"""


def test_the_console_of_verl(tmp_path):
    (tmp_path / "run.log").write_text(VERL_CONSOLE)
    log = read_run([tmp_path / "run.log"])
    assert log.steps == {
        1: {
            "token_budget/b_min": 11,
            "token_budget/over_budget": 0,
            "token_budget/unsolved_share": 0.5,
            "critic/score/mean": 0.5,
            "response_length/mean": 60,
        }
    }
    assert (log.faults["reward error"], log.faults["grader time-out"], log.limit) == (1, 1, 60)
    assert found(tmp_path / "run.log") == ["unsolved groups", "reward errors", "idle budget"]


def test_the_console_of_openrlhf(tmp_path):
    (tmp_path / "run.log").write_text(OPENRLHF_CONSOLE)
    log = read_run([tmp_path])
    assert log.steps == {
        7: {
            "kimi/solve_rate": 0.25,
            "kimi/unsolved_share": 0.1,
            "policy_loss": -1e-05,
            "rollout/reward_mean": 0.25,
            "rollout/truncated_rate": 0.5,
        }
    }
    assert log.faults["reward error"] == 1


def test_tensorboard_of_both(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "run" / "tensorboard")) as writer:
        writer.add_scalar("critic/score/mean", 0.5, 3)
        writer.add_scalar("train/rollout/truncated_rate", 0.25, 3)
    assert read_run([tmp_path / "run"]).steps == {3: {"critic/score/mean": 0.5, "rollout/truncated_rate": 0.25}}


@pytest.mark.parametrize("groups", [("uid", ["a_0_0", "a_1_0", "b_0_0", "b_1_0"]), ("input", ["p", "p", "q", "q"])])
def test_rollout_dumps_of_both_trainers(tmp_path, groups):
    name, values = groups
    rows = [
        {name: value, "output": "x", "score": score, "status": status, "reward_error": error}
        for value, score, status, error in zip(
            values, [1, 1, 0, 1], ["correct", "correct", "timed_out", "correct"], [0, 0, 1, 0], strict=True
        )
    ]
    (tmp_path / "12.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = {"rollouts/equal_groups": 0.5, "rollouts/timed_out": 0.25, "rollouts/reward_error": 0.25}
    assert read_run([tmp_path]).steps == {12: expected}
    assert found(tmp_path) == ["reward errors", "grader time-outs"]


def test_dumps_alone_show_equal_groups(tmp_path):
    row = {"input": "a", "output": "b", "score": 1.0}
    for step in (1, 2):
        written(tmp_path / f"{step}.jsonl", 4 * (json.dumps(row) + "\n"))
    outcome = run("diagnose", tmp_path)
    assert outcome.exit_code == 1
    assert "100 % of the groups have equal scores" in outcome.output


def test_a_reward_may_leave_its_columns_out(tmp_path):
    """Rewards of two data sources: one tells status and error, verl fills the other with nothing, or leaves it out."""
    rows = [
        {"status": "timed_out", "reward_error": 1.0},
        {"status": None, "reward_error": None},
        {},
        {"status": "correct"},
    ]
    rows = [{"input": "a", "score": 1.0} | row for row in rows]
    written(tmp_path / "5.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read_run([tmp_path]).steps[5] | {"rollouts/equal_groups": 0} == {
        **{"rollouts/equal_groups": 0, "rollouts/timed_out": 0.25, "rollouts/reward_error": 0.25}
    }


def test_a_run_of_which_nothing_can_be_checked_is_not_fine(tmp_path):
    file = log_of(tmp_path, perf__throughput=[1.0, 2.0])
    outcome = run("diagnose", file)
    assert outcome.exit_code == 2
    assert "steps 1 to 2: nothing could be checked" in outcome.output


def test_a_dump_may_contain_any_sign(tmp_path):
    row = {"input": "p\u2028\x85q", "output": "x", "score": 1.0}
    (tmp_path / "3.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_run([tmp_path]).steps == {3: {"rollouts/equal_groups": 1.0}}


def test_a_folder_stands_for_its_logs_without_checkpoints(tmp_path):
    log_of(tmp_path, a=[1.0])
    (tmp_path / "global_step_1").mkdir()
    (tmp_path / "global_step_1" / "metrics.jsonl").write_text('{"step": 9, "data": {"a": 1}}\n')
    (tmp_path / "rows.jsonl").write_text('{"something": "else"}\n')
    assert read_run([tmp_path]).steps == {1: {"a": 1.0}}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "absent.jsonl", "absent.jsonl"),
        (lambda folder: folder, "holds no log"),
        (lambda folder: written(folder / "a.jsonl", '{"step": 1, "data": {}}\n{"st\n'), "line 2"),
        (lambda folder: written(folder / "a.jsonl", '{"key": 1}\n'), "line 1"),
        (lambda folder: written(folder / "7.jsonl", '{"score": 1}\n'), "7.jsonl"),
        (lambda folder: written(folder / "a.log", "nothing of interest\n"), "at least one step"),
    ],
)
def test_what_is_not_a_log_is_refused(tmp_path, make, said):
    outcome = run("diagnose", make(tmp_path))
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)


def written(file, text):
    file.write_text(text)
    return file


# watch


def test_watch_shows_each_step_once(tmp_path):
    file = log_of(tmp_path, critic__score__mean=[0.5, 0.75], response_length__mean=[80.0, 60.4])
    lines = run("watch", "--once", file).output.splitlines()
    assert lines == ["step 1: score 0.500, 80 tokens", "step 2: score 0.750, 60 tokens"]


def test_watch_shows_the_validation_before_the_training(tmp_path):
    steps = [
        {"step": 0, "data": {"val-core/sums/reward/mean@1": 0.25}},
        {"step": 1, "data": {"critic/score/mean": 0.5}},
    ]
    file = written(tmp_path / "metrics.jsonl", "".join(json.dumps(step) + "\n" for step in steps))
    assert run("watch", "--once", file).output.splitlines() == ["step 0: validation 0.250", "step 1: score 0.500"]


def test_watch_shows_the_score_of_the_training_beside_the_validation(tmp_path):
    """Step 2 logs both. The score of a step is always that of the training."""
    steps = [
        {"step": 1, "data": {"critic/score/mean": 0.5}},
        {"step": 2, "data": {"critic/score/mean": 0.25, "val-core/sums/acc/mean@1": 0.75}},
    ]
    file = written(tmp_path / "metrics.jsonl", "".join(json.dumps(step) + "\n" for step in steps))
    lines = run("watch", "--once", file).output.splitlines()
    assert lines == ["step 1: score 0.500", "step 2: score 0.250, validation 0.750"]


def test_watch_refuses_what_it_cannot_show(tmp_path):
    written(tmp_path / "1.jsonl", json.dumps({"input": "a", "output": "b", "score": 1.0}) + "\n")
    outcome = run("watch", "--once", tmp_path)
    assert "holds only rollout dumps; `verl-efficiency diagnose`" in str(outcome.exception)
    outcome = run("watch", "--once", "--steps", 0, tmp_path)
    assert "--steps: must be at least 1, got 0" in str(outcome.exception)


def test_watch_shows_what_is_cut_off(tmp_path):
    """verl logs the share of responses as long as the longest of the step. Only in step 2 that is the longest of all, 60."""
    file = log_of(tmp_path, response_length__max=[50.0, 60.0, 55.0], response_length__clip_ratio=[0.5, 0.5, 0.25])
    assert run("watch", "--once", file).output.splitlines() == [
        *("step 1: 0% cut off", "step 2: 50% cut off", "step 3: 0% cut off"),
    ]
    written(tmp_path / "run.log", "{'data': {'max_response_length': 70}}\n")  # so even step 2 is below the limit
    lines = run("watch", "--once", file, tmp_path / "run.log").output.splitlines()
    assert lines == [f"step {step}: 0% cut off" for step in (1, 2, 3)]
    file = log_of(tmp_path, reward__finished=[0.75], reward__reward_error=[0.05])
    assert run("watch", "--once", file).output.splitlines() == ["step 1: 20% cut off"]
    written(tmp_path / "openrlhf.log", OPENRLHF_CONSOLE)
    assert run("watch", "--once", tmp_path / "openrlhf.log").output.splitlines() == ["step 7: score 0.250, 50% cut off"]


def test_watch_waits_for_the_last_step(tmp_path):
    file = tmp_path / "metrics.jsonl"

    def train():
        for step in (1, 2):
            time.sleep(0.1)
            with file.open("a") as out:
                out.write(json.dumps({"step": step, "data": {"response_length/mean": step}}) + "\n")

    training = threading.Thread(target=train)
    training.start()
    outcome = run("watch", file, "--steps", 2)
    training.join()
    assert "step 2 of 2: 2 tokens" in outcome.output
    assert f"waiting for {file} to appear" in outcome.output.replace("\n", "")


def test_watch_ends_with_its_process(tmp_path):
    file = log_of(tmp_path, response_length__mean=[80.0])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while Path(f"/proc/{ended.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    assert "step 1 of 9" in run("watch", file, "--steps", 9, "--pid", ended.pid).output
    os.waitpid(ended.pid, 0)
    assert isinstance(run("watch", tmp_path / "absent.jsonl", "--pid", ended.pid).exception, SettingsError)


def test_scores_of_minus_one_are_scaled(tmp_path):
    """The score falls by 0.08 from -1 to 1, which is 4 points of accuracy and no collapse."""
    columns = {"response_length__mean": [100] * 3 + [70] * 3, "critic__score__mean": [0.8] * 3 + [0.72] * 3}
    log = log_of(tmp_path, **columns)
    assert CliRunner().invoke(app, ["diagnose", str(log)]).exit_code == 1
    outcome = CliRunner().invoke(app, ["diagnose", str(log), "--score-wrong", "-1"])
    assert (outcome.exit_code, outcome.exception.__class__) == (0, type(None)), outcome.output
