"""The comparison runner: what there is to run, what is run again, what a failure leaves, and what the report says."""

import doctest
import json
import shutil
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks import compare
from benchmarks.comparison import by_arm, flat_penalty
from benchmarks.comparison import launch as launching
from benchmarks.comparison import report as reporting
from benchmarks.comparison.launch import RunFailed, launch, validation_scores
from benchmarks.comparison.report import rows
from benchmarks.comparison.table import missing_runs, read_table
from benchmarks.questions import normalisation, unsolved
from verl_efficiency.methods.catalog import METHODS
from verl_efficiency.rewards.base import WHERE
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.prepare import prepare
from verl_efficiency.testbed.tasks import task_named

FRONTIER = [(16.0, 0.5), (26.0, 1.0)]
TABLE = """
    task: notes
    steps: 4
    seeds: [0, 1]
    trial_seed: 9
    trials: 2
    floor: 0.9
    common: [trainer.test_freq=2]
    arms:
      grpo: {settings: [algorithm.adv_estimator=grpo]}
      kimi: {settings: [algorithm.adv_estimator=kimi], strength: ++algorithm.efficiency.weight, values: [0.1, 0.2]}
"""


@pytest.fixture
def table_file(tmp_path):
    file = tmp_path / "table.yaml"
    file.write_text(textwrap.dedent(TABLE))
    return file


@pytest.fixture
def table(table_file):
    return read_table(table_file)


def result(run, accuracy=0.95, tokens=30.0):
    """A result line."""
    score = {"accuracy": accuracy, "tokens": tokens, "accuracy_by_level": [1.0, accuracy], "tokens_by_level": [16, 44]}
    seconds = {"whole": 100.0, "step": 1.0}
    line = {"run": run.key, "validation": [{"step": 0, "accuracy": 0.0, "tokens": 9.0}, score], "seconds": seconds}
    return json.loads(json.dumps(line if run.kind == "trial" else line | {"test": score}))


def test_the_plan_by_hand(table):
    runs = table.runs([], FRONTIER)
    assert [run.name for run in runs] == [
        *("grpo.published.seed0", "kimi.published.seed0", "grpo.published.seed1", "kimi.published.seed1"),
        *("kimi.trial=0.1.seed9", "kimi.trial=0.2.seed9"),
    ]
    assert runs[0].settings == ("trainer.test_freq=2", "algorithm.adv_estimator=grpo")
    assert runs[-1].settings[1:] == ("algorithm.adv_estimator=kimi", "++algorithm.efficiency.weight=0.2")
    assert table.total == 8


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        ((0.95, 30.0), (0.95, 28.0), 0.2),  # fewer tokens at equal accuracy
        ((0.95, 30.0), (0.89, 18.0), 0.1),  # the second is below the floor of accuracy
        ((1.00, 31.0), (0.92, 30.0), 0.1),  # 5 tokens above the frontier against 5.6
        ((0.80, 40.0), (0.85, 50.0), 0.2),  # both are below the floor: the more accurate one
    ],
)
def test_tuned_runs_follow_from_the_trials(table, first, second, best):
    trials = [run for run in table.runs([], FRONTIER) if run.kind == "trial"]
    assert not [run for run in table.runs([result(trials[0], *first)], FRONTIER) if run.kind == "tuned"]
    lines = [result(trials[0], *first), result(trials[1], *second)]
    tuned = [run for run in table.runs(lines, FRONTIER) if run.kind == "tuned"]
    assert [(run.seed, run.value) for run in tuned] == [(0, best), (1, best)]


def test_only_a_line_of_exactly_the_same_settings_counts(table, table_file):
    runs = table.runs([], FRONTIER)
    assert missing_runs(runs, [result(run) for run in runs[:4]]) == runs[4:]
    table_file.write_text(textwrap.dedent(TABLE).replace("steps: 4", "steps: 5"))
    longer = read_table(table_file).runs([], FRONTIER)
    assert missing_runs(longer, [result(run) for run in runs]) == longer


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seedz:", r"seedz.*'seeds'"),
        ("steps: 4", "", "steps"),
        ("values: [0.1, 0.2]", "values: [0.1]", r"arms\.kimi\.values"),
        ("values: [0.1, 0.2]", "values: [0.1, 0.1]", r"arms\.kimi\.values"),
        ("strength:", "strenght:", r"arms\.kimi.*strenght.*'strength'"),
        ("trial_seed: 9", "trial_seed: 1", "trial_seed"),
        ("seeds: [0, 1]", "seeds: []", "seeds"),
        ("{settings: [algorithm.adv_estimator=grpo]}", "text", r"arms\.grpo"),
        ("arms:", "arms: [", "table.yaml"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table_file, old, new, message):
    table_file.write_text(textwrap.dedent(TABLE).replace(old, new))
    with pytest.raises(SettingsError, match=message):
        read_table(table_file)


def test_a_table_takes_arms_of_another_and_their_runs_count(table, table_file, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text(
        "take: {from: table.yaml, arms: [kimi]}\narms:\n  renamed: {settings: [algorithm.adv_estimator=grpo]}\n"
    )
    other = read_table(file)
    assert (other.steps, other.seeds, other.common) == (table.steps, table.seeds, table.common)
    runs = other.runs([], FRONTIER)
    assert [run.name for run in runs] == [
        *("kimi.published.seed0", "renamed.published.seed0", "kimi.published.seed1", "renamed.published.seed1")
    ]
    lines = [result(run) for run in table.runs([], FRONTIER)]
    assert missing_runs(runs, lines) == []
    assert [row["arm"] for row in rows(other, lines, FRONTIER)] == ["kimi", "renamed"]
    trial = {**lines[0]}
    del trial["test"]
    assert missing_runs(runs[1:2], [trial]) == runs[1:2]  # a trial was not tested
    file.write_text("take: {from: table.yaml, arms: [kimi], with: {plain: [], more: [a=1]}}\n")
    plain, more = read_table(file).arms
    assert (plain.name, more.name) == ("kimi", "kimi.more")
    assert (plain.settings, more.settings) == (table.arms[1].settings, (*table.arms[1].settings, "a=1"))
    file.write_text("take: {from: table.yaml, arms: [kimmi]}\n")
    with pytest.raises(SettingsError, match=r"kimmi.*'kimi'"):
        read_table(file)


def test_agreement_by_hand(table):
    runs = table.runs([], FRONTIER)
    ours, theirs = result(runs[0]), result(runs[0], accuracy=0.75)
    ours["training"] = {"score": [0.5, 0.75, 1.0], "response_tokens": [9.0, 8.0, 7.0]}
    theirs["training"] = {"score": [0.5, 0.5, 1.0], "response_tokens": [9.0, 8.0, 7.0]}
    found = compare.agreement(ours, theirs)
    assert (found["score_difference"], found["score_equal_steps"]) == (0.25, 1)
    assert (found["response_tokens_difference"], found["response_tokens_equal_steps"]) == (0, 3)
    assert found["test_accuracy"] == [0.95, 0.75]


def test_an_interrupted_comparison_goes_on_and_a_failed_run_is_run_again(table, tmp_path, monkeypatch, capsys):
    results, launched, bad = tmp_path / "results" / "lines.jsonl", [], {"kimi.published.seed0"}

    def fake(run, data, folder, timeout, stop, stock):
        launched.append(run.name)
        if run.name in bad:
            raise RunFailed(f"{run.name}: exit code 1")
        return result(run)

    monkeypatch.setattr(compare, "launch", fake)
    runs = table.runs([], FRONTIER)
    failed = compare.run_all(runs[:3], results, tmp_path, tmp_path, jobs=1, timeout=1, stock=False)
    assert [run.name for run in failed] == ["kimi.published.seed0"]
    assert [line["run"] for line in compare.read_lines(results)] == [runs[0].key, runs[2].key]
    assert "kimi.published.seed0: exit code 1" in capsys.readouterr().out

    bad.clear()
    launched.clear()
    todo = missing_runs(runs, compare.read_lines(results))
    assert not compare.run_all(todo, results, tmp_path, tmp_path, jobs=2, timeout=1, stock=False)
    assert sorted(launched) == sorted(run.name for run in runs if run not in (runs[0], runs[2]))
    assert missing_runs(runs, compare.read_lines(results)) == []


def test_jobs_run_side_by_side(table, tmp_path, monkeypatch):
    both = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(compare, "launch", lambda run, *_: [both.wait(), result(run)][1])
    runs = table.runs([], FRONTIER)[:2]
    assert not compare.run_all(runs, tmp_path / "lines.jsonl", tmp_path, tmp_path, jobs=2, timeout=1, stock=False)


def test_an_interrupt_ends_the_run_under_way_and_starts_no_other(table, tmp_path, monkeypatch):
    def interrupted(run, data, folder, timeout, stop, stock):
        launched.append(run.name)
        if len(launched) == 1:
            raise KeyboardInterrupt
        assert stop.wait(20)
        raise RunFailed("ended")

    launched: list[str] = []
    monkeypatch.setattr(compare, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare.run_all(
            table.runs([], FRONTIER), tmp_path / "lines.jsonl", tmp_path, tmp_path, jobs=2, timeout=1, stock=False
        )
    assert (
        len(launched) <= 4
    )  # of 6; two were under way, and each may have taken one more before the rest was called off
    assert not (tmp_path / "lines.jsonl").exists()


def test_what_is_left_is_estimated_from_the_runs_so_far(table):
    runs = table.runs([], FRONTIER)  # 4 steps take 100 s
    assert "2 left, about 0.1 h" in compare.estimate(runs[:2], [result(runs[3])], jobs=1)
    assert "about 5.0 h" in compare.estimate(runs * 30 * 2, [result(runs[3])], jobs=2)


def test_a_broken_line_is_named(tmp_path):
    file = tmp_path / "lines.jsonl"
    file.write_text('{"run": {}}\n{"run": \n')
    with pytest.raises(SettingsError, match="line 2"):
        compare.read_lines(file)


def test_the_time_out_ends_the_run_and_keeps_its_log(table, tmp_path, monkeypatch):
    script = "echo started; exec sleep 600"
    monkeypatch.setattr(launching, "command", lambda run, folder: ["bash", "-c", script])
    start = time.monotonic()
    with pytest.raises(RunFailed, match=r"(?s)grpo\.published\.seed0: ended after \d+ s.*started"):
        launch(table.runs([], FRONTIER)[0], tmp_path, tmp_path / "run", timeout=2, stock=True)
    assert time.monotonic() - start < 60
    assert (tmp_path / "run" / "log.txt").read_text().startswith("started")
    stop = threading.Event()
    stop.set()
    with pytest.raises(RunFailed, match=r"ended after"):
        launch(table.runs([], FRONTIER)[0], tmp_path, tmp_path / "run", timeout=600, stop=stop, stock=True)
    monkeypatch.setattr(launching, "command", lambda run, folder: ["bash", "-c", "echo no such key; exit 3"])
    with pytest.raises(RunFailed, match=r"(?s)exit code 3.*no such key"):
        launch(table.runs([], FRONTIER)[0], tmp_path, tmp_path / "run", timeout=60, stock=True)


def test_settings_reach_the_process_as_they_are(table, tmp_path):
    """Also a line break, which a recipe's list of overrides cannot hold."""
    run = replace(table.runs([], FRONTIER)[0], settings=("a=1", 'b="\n"'))
    variables = {"GPUS": "0", "MODEL": "m", "TRAIN": "t", "VAL": "v", "NAME": "run"}
    launched = launching.one_process(run, tmp_path, variables)
    assert launched[-2:] == list(run.settings)
    assert "actor_rollout_ref.model.path=m" in launched
    assert all("=" in override for override in launched[3:])


def test_a_run_becomes_a_line(table, tmp_path, monkeypatch):
    """The trainer is played by a script that leaves what verl leaves: metrics, validations, and the warm start as the model."""
    monkeypatch.setattr(launching, "PACKAGES", ("verl-efficiency",))  # verl and Ray need not be installed
    notes = task_named("notes")
    prepare(notes, tmp_path / "data", seed=0, counts={"train": 6, "validation": 6, "test": 60})
    left = tmp_path / "left"
    (left / "run" / "global_step_4" / "actor").mkdir(parents=True)
    (left / "validation").mkdir()
    shutil.copytree(notes.warm_start, left / "run" / "global_step_4" / "actor" / "huggingface")
    for step, tokens in ((0, 58.0), (4, 16.0)):
        row = {"input": "a0b7c0d0e0f0.\n", "acc": 1.0, "tokens": tokens}
        (left / "validation" / f"{step}.jsonl").write_text(json.dumps(row))
    seconds = {0: {}, 1: {"timing_s/step": 9.0}, 2: {"timing_s/step": 1.0}, 3: {"timing_s/step": 2.0}}
    seconds[4] = {"timing_s/step": 3.0, "timing_s/testing": 0.5, "response_length/mean": 40.0, "critic/score/mean": 0.5}
    lines = [json.dumps({"step": step, "data": data}) for step, data in seconds.items()]
    (left / "run" / "metrics.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(launching, "command", lambda run, folder: ["cp", "-r", f"{left}/.", f"{folder}"])
    published, trial = table.runs([], FRONTIER)[0], table.runs([], FRONTIER)[-1]
    line = launch(published, tmp_path / "data", tmp_path / "run", timeout=60, stock=True)
    assert missing_runs([published], [json.loads(json.dumps(line))]) == []
    assert [(score["step"], score["tokens"]) for score in line["validation"]] == [(0, 58.0), (4, 16.0)]
    assert line["training"] == {"score": [0.5], "response_tokens": [40.0]}
    assert (line["seconds"]["step"], line["seconds"]["validation"]) == (2.0, 0.5)  # the first step warms up
    assert line["versions"]["verl-efficiency"]
    assert line["test"]["problems"] == 60
    assert len(line["test"]["accuracy_by_level"]) == 6
    assert 0.6 < line["test"]["accuracy"] <= 1
    assert 35 < line["test"]["tokens"] < 55  # the warm start has 46
    assert "test" not in launch(trial, tmp_path / "data", tmp_path / "run", timeout=60, stock=True)


def test_validation_scores_by_hand(tmp_path):
    """The prompt's text tells the level: a0b7c0d0e0f0 has one digit that is not 0."""
    dumped = [("a0b7c0d0e0f0.\n", 1.0, 16.0), ("a0b8c0d0e0f0.\n", 0.0, 23.0), ("E3F9G2H4I3J8.\n", 1.0, 58.0)]
    lines = [json.dumps({"input": text, "acc": acc, "tokens": tokens}) for text, acc, tokens in dumped]
    (tmp_path / "25.jsonl").write_text("\n".join(lines))
    assert validation_scores(tmp_path / "25.jsonl", task_named("notes")) == {
        "problems": 3,
        "accuracy": 0.6667,
        "tokens": 32.333,
        "accuracy_by_level": [0.5, 1.0],
        "tokens_by_level": [19.5, 58.0],
    }


@pytest.mark.parametrize("module", [flat_penalty, launching, by_arm, normalisation], ids=lambda module: module.__name__)
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_report_rows_by_hand(table):
    runs = table.runs([], FRONTIER)
    lines = [result(runs[0], 1.0, 30.0), result(runs[2], 0.8, 26.0), result(runs[1], 0.9, 25.0), result(runs[4])]
    kimi, grpo = rows(table, lines, FRONTIER)  # the fewest tokens above the frontier first; a trial has no row
    assert (kimi["arm"], kimi["seeds"], kimi["above_frontier"], kimi["above_frontier_interval"]) == (
        "kimi",
        1,
        1.0,
        None,
    )
    assert (grpo["accuracy"], grpo["tokens"], grpo["seeds"]) == (0.9, 28.0, 2)
    assert grpo["above_frontier"] == pytest.approx((30 - 26 + 26 - 22) / 2)
    assert grpo["tokens_interval"] == pytest.approx(12.71 * 2, abs=0.01)  # t · s / √n, s = 2 √2
    assert grpo["accuracy_by_level"] == [1.0, 0.9]
    assert kimi["reaches_floor"]
    low = result(runs[3], 0.5, 16.0)  # on the frontier, and below the floor: .7 with the other seed
    assert [row["arm"] for row in rows(table, [*lines, low], FRONTIER)] == ["grpo", "kimi"]
    old = {**lines[0], "run": {**lines[0]["run"], "steps": 3}}
    assert [row["arm"] for row in rows(table, [old, lines[2]], FRONTIER)] == ["kimi"]


QUESTIONS = [file.stem for file in sorted(compare.QUESTIONS.glob("*.yaml"))]
ARMS = {(arm.recipe, arm.settings, arm.strength): arm for name in QUESTIONS for arm in compare.table_of(name).arms}


@pytest.mark.parametrize("arm", ARMS.values(), ids=lambda arm: arm.name)
def test_every_arm_of_the_table_names_settings_that_exist(arm):
    """Its estimator, its reward and all values of its strength are what the package knows."""
    for value in (None, *arm.values):
        strength = [] if value is None else [f"{arm.strength}={value:g}"]
        given = dict(setting.lstrip("+").split("=", 1) for setting in [*arm.settings, *strength])
        estimator = given.get("algorithm.adv_estimator", "grpo")
        found = [method for method in METHODS if method.name == estimator and method.hook != "reward"]
        assert estimator == "grpo" or found
        for prefix, build in (
            ("algorithm.efficiency.", found[0].build_settings if found else None),
            (f"{WHERE}.", None if arm.name == "flat_penalty" else _reward(given)),
        ):
            mapping = {key.removeprefix(prefix): _parsed(x) for key, x in given.items() if key.startswith(prefix)}
            if build is not None and mapping:
                build(mapping, prefix)
    assert not arm.recipe or (Path(launching.ROOT) / "recipes" / "verl" / f"{arm.recipe}.sh").is_file()


def _reward(given):
    name = given.get("reward.custom_reward_function.name")
    return next((method.build_settings for method in METHODS if method.hook == "reward" and method.name == name), None)


def _parsed(text):
    """A value as Hydra reads it; YAML takes 1e-05 for a text."""
    try:
        return float(text) if "e-" in text else yaml.safe_load(text)
    except ValueError:
        return text


def test_report_writes_json_and_a_picture(table, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    runs = table.runs([], FRONTIER)
    reporting.write_report(table, [], tmp_path / "nothing")
    assert not list(tmp_path.glob("nothing*"))
    reporting.write_report(table, [result(run) for run in runs], tmp_path / "pareto")
    written = json.loads((tmp_path / "pareto.json").read_text())
    assert [row["arm"] for row in written["rows"]] == ["grpo", "kimi"]
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "pareto_tuned.png").exists()  # the trials are there, no tuned run yet
    assert "kimi" in capsys.readouterr().out


def test_report_shows_a_tuned_arm_with_its_trials(table, tmp_path, monkeypatch):
    """Both trials reach the floor; the second has fewer tokens above the frontier, and its value is tested."""
    first, second = (run for run in table.runs([], FRONTIER) if run.kind == "trial")
    lines = [result(first, 1.0, 30.0), result(second, 1.0, 28.0)]
    lines += [result(run) for run in table.runs(lines, FRONTIER) if run.kind != "trial"]
    drawn = {}
    monkeypatch.setattr(reporting, "draw", lambda found, frontier, steps, file: drawn.update({file.name: found}))
    reporting.write_report(table, lines, tmp_path / "pareto")
    tuned = next(row for row in json.loads((tmp_path / "pareto.json").read_text())["rows"] if row["kind"] == "tuned")
    assert (tuned["arm"], tuned["strength"], tuned["value"], tuned["seeds"]) == ("kimi", "weight", 0.2, 2)
    assert tuned["tried"] == [
        {"value": 0.1, "accuracy": 1.0, "tokens": 30.0},
        {"value": 0.2, "accuracy": 1.0, "tokens": 28.0},
    ]
    shown = {name: [(row["arm"], row["kind"]) for row in found] for name, found in drawn.items()}
    assert shown == {
        "pareto.png": [("grpo", "published"), ("kimi", "published")],
        "pareto_tuned.png": [("grpo", "published"), ("kimi", "tuned")],
    }


def answered(module, question, lines, tmp_path):
    """The JSON that a question's module writes."""
    pytest.importorskip("matplotlib")
    module.write_report(compare.table_of(question), lines, tmp_path / question)
    assert (tmp_path / f"{question}.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((tmp_path / f"{question}.json").read_text())


def test_normalisation_by_hand(tmp_path):
    """Two methods. The normalisation adds .1 and .2 to the accuracy, and nothing to the tokens."""
    accuracy = {"published": 0.7, "dr_grpo": 0.8, "decoupled": 0.9}
    tokens = {"kimi": 20.0, "laser": 30.0}
    runs = compare.table_of("normalisation").runs([], FRONTIER)
    lines = [
        result(run, accuracy[run.arm.split(".")[1] if "." in run.arm else "published"], tokens[run.arm.split(".")[0]])
        for run in runs
        if run.arm.split(".")[0] in tokens
    ]
    lines += [result(run) for run in runs if run.arm == "alp"]  # not in all forms yet
    found = answered(normalisation, "normalisation", lines, tmp_path)
    assert found["explained"] == {"accuracy": {"method": 0.0, "form": 1.0}, "tokens": {"method": 1.0, "form": 0.0}}
    assert {row["method"] for row in found["rows"]} == {"kimi", "laser"}
    assert [row["accuracy"] for row in found["rows"] if row["method"] == "kimi"] == [0.7, 0.8, 0.9]


def test_unsolved_by_hand(tmp_path):
    lines = []
    for run in compare.table_of("unsolved").runs([], FRONTIER):
        if run.arm.startswith("alp."):
            better = 0.1 if run.arm.endswith("leave") else 0.0
            line = result(run, 0.8 + better + run.seed / 100, 30.0 + 10 * better)
            lines.append({**line, "training": {"unsolved_share": [0.2, 0.4 + run.seed / 5]}})
    (found,) = answered(unsolved, "unsolved", lines, tmp_path)["rows"]
    assert (found["method"], found["seeds"]) == ("alp", 4)
    assert found["unsolved_share"] == pytest.approx(0.45)
    assert (found["accuracy_gain"], found["tokens_gain"]) == ([0.1, 0.0], [1.0, 0.0])
    assert found["as_published"]["accuracy"] == pytest.approx(0.815)
