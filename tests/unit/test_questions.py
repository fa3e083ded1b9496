"""The reports of the questions, on made-up lines: figures by hand, and a JSON file and a picture for each."""

import doctest
import json

import pyarrow.parquet as pq
import pytest

from benchmarks import compare
from benchmarks.comparison import by_arm, launch
from benchmarks.questions import bcr, checks, collapse, difficulty, few_tokens
from verl_efficiency.evaluation.run_log import RunLog

STEPS = 20


def lines_of(question, scores):
    """A line per run of the arms in ``scores``: arm → (accuracy, tokens) by seed, or one for all seeds."""
    table = compare.table_of(question, STEPS)
    lines = []
    for run in table.runs([], []):
        if run.arm not in scores:
            continue
        given = scores[run.arm]
        accuracy, tokens = given[run.seed] if isinstance(given, list) else given
        test = {"accuracy": accuracy, "tokens": tokens}
        test |= {"accuracy_by_level": [1.0, accuracy], "tokens_by_level": [tokens - 10, tokens + 10]}
        start = {
            "step": 0,
            "accuracy": 0.9,
            "tokens": 46.0,
            "accuracy_by_level": [0.9, 0.9],
            "tokens_by_level": [46, 46],
        }
        line = {"run": run.key, "validation": [start, {"step": STEPS} | test], "test": test}
        lines.append(json.loads(json.dumps(line)))
    return table, lines


@pytest.mark.parametrize("module", [by_arm, collapse, difficulty, launch], ids=lambda module: module.__name__)
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_warm_start_that_an_arm_names_is_there():
    named = {
        dict(arm.variables)["MODEL"]
        for file in compare.QUESTIONS.glob("*.yaml")
        for arm in compare.table_of(file.stem).arms
        if "MODEL" in dict(arm.variables)
    }
    assert named
    for folder in named:
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= {
            file.name for file in (launch.ROOT / folder).iterdir()
        }


def test_a_line_without_task_scaling_is_not_the_run_that_measures_it():
    table, lines = lines_of("bcr", {"grpo": (0.9, 50.0), "cap_28": (0.9, 30.0)})
    runs = {run.name: run for run in table.runs([], [])}
    grpo, cap = runs["grpo.published.seed0"], runs["cap_28.published.seed0"]
    assert [run.made(line) for run, line in zip((grpo, cap), lines[:2], strict=True)] == [False, True]
    assert grpo.made({**lines[0], "task_scaling": {}})


def test_findings_are_asked_every_ten_steps_and_at_the_end():
    log = RunLog()
    for step in range(1, 26):
        tokens, accuracy = (50.0, 0.9) if step <= 10 else (10.0, 0.2)
        log.add(step, {"response_length/mean": tokens, "reward/acc": accuracy})
    found = launch.findings(log)
    assert list(found) == ["20", "25"]
    assert all("length collapse" in names for names in found.values())


def test_collapse_by_hand():
    table, lines = lines_of("collapse", {"grpo": (0.95, 50.0), "early.penalty_2": [(0.5, 20.0), (0.7, 24.0)]})
    for line in lines:
        if line["run"]["arm"] == "grpo":  # made before `diagnose` was asked
            line["training"] = {"score": [0.9] * STEPS, "response_tokens": [50.0] * STEPS}
        else:
            line |= {"diagnosis": {"10": ["truncation"], "20": ["length collapse"]}, "warnings": ["alp: too strong"]}
    del lines[-1]["diagnosis"]["20"]
    grpo, early = collapse.rows(table, lines)
    assert (grpo["warm_start"], grpo["weight"], grpo["lost_at"], grpo["told"]) == ("task", None, [None, None], {})
    assert (early["warm_start"], early["weight"]) == ("notes_early", 2.0)
    assert (early["accuracy"], early["tokens"], early["seeds"]) == (0.6, 22.0, 2)
    assert early["accuracy_by_step_and_level"] == [[0.9, 0.9], [1.0, 0.6]]
    assert early["tokens_by_step"] == [46.0, 22.0]
    assert early["lost_at"] == [None, 20]
    assert early["told"] == {"length collapse": [20, None], "truncation": [10, 10]}
    assert early["start_up_warnings"] == ["alp: too strong"]


def test_an_old_line_is_diagnosed_by_its_curves():
    lost = [{"step": step, "accuracy": 0.9 if step < 10 else 0.3} for step in range(0, 21, 5)]
    training = {"score": [0.9] * 20, "response_tokens": [50.0] * 10 + [15.0] * 10}
    assert collapse.diagnosis({"training": training, "validation": lost}) == {"20": ["length collapse"]}


def test_bcr_by_hand():
    scores = {"grpo": (0.98, 50.0), "cap_28": (0.9, 25.0), "bcr_2_88": (0.97, 40.0), "bcr_3_uncapped": (0.99, 55.0)}
    table, lines = lines_of("bcr", scores)
    points = {"problems": 1, "accuracy": 0.9, "tokens_per_problem": 60.0, "finished": 1.0}
    after = [points, {**points, "problems": 2, "accuracy": 0.8, "tokens_per_problem": 30.0}]
    after += [{**points, "problems": 6, "accuracy": 0.1, "tokens_per_problem": 1.0}]  # not in the law
    for line in lines:
        if line["run"]["arm"] in ("grpo", "bcr_3_uncapped"):
            line["task_scaling"] = {"before": [points, {**points, "problems": 2}], "after": after}
    found = {row["arm"]: row for row in bcr.rows(table, lines)}
    keys = ("problems", "limit", "limit_per_problem", "binds", "tokens_saved", "accuracy_gained", "free")
    assert {name: tuple(row[key] for key in keys) for name, row in found.items()} == {
        "grpo": (1, 66, 66.0, False, 0.0, 0.0, False),
        "cap_28": (1, 28, 28.0, True, 0.5, -0.08, False),
        "bcr_2_88": (2, 88, 44.0, True, 0.2, -0.01, True),
        "bcr_3_uncapped": (3, 210, 70.0, False, -0.1, 0.01, False),
    }
    warm, grpo, packed = bcr.scaling(table, lines)
    assert [model["model"] for model in (warm, grpo, packed)] == ["warm start", "grpo", "bcr_3_uncapped"]
    assert (warm["measurements"], grpo["measurements"]) == (6, 3)
    assert warm["law"]["b"] == pytest.approx(0)
    assert (grpo["law"]["b"], grpo["law"]["points_per_problem"]) == pytest.approx((1.0, -10.0))


def test_difficulty_by_hand():
    scores = {"flat_30": (0.96, 30.0), "flat_37": (0.98, 40.0), "group": (0.97, 28.0), "running": (0.99, 28.0)}
    table, lines = lines_of("difficulty", {**scores, "grpo": (0.98, 50.0), "token_budget": (0.95, 24.0)})
    found = {row["arm"]: row for row in difficulty.rows(table, lines)}
    assert {name: row["budget"] for name, row in found.items()} == {
        **{"grpo": "none", "token_budget": "defaults", "flat_30": "flat", "flat_37": "flat"},
        **{"group": "group", "running": "running"},
    }
    assert found["group"]["flat_tokens_at_equal_accuracy"] == 40.0  # flat_30 is a whole point less accurate
    assert found["group"]["saved_against_flat"] == 0.3
    assert found["running"]["saved_against_flat"] is None  # more accurate than all flat budgets
    assert found["token_budget"]["saved_against_flat"] == 0.2
    assert found["group"]["fit"] == {"easiest": 18.0, "slope": 20.0, "r2": 1.0}
    assert found["group"]["fit_before"] == {"easiest": 46.0, "slope": 0.0, "r2": 0.0}


def test_checks_by_hand():
    scores = {
        "grpo": [(0.98, 60.0), (0.96, 64.0), (0.97, 62.0)],
        "token_budget": [(0.99, 26.0), (0.97, 26.0), (0.98, 39.0)],
    }
    grpo, budget = checks.rows(*lines_of("checks", scores))
    assert checks.SHORTEST == 26  # 5 + 6 d tokens for d = 1 … 6
    assert "accuracy_gained" not in grpo
    assert (budget["accuracy_gained"], budget["accuracy_gained_interval"]) == (0.01, 0.0)
    assert budget["over_shortest"] == pytest.approx((1 + 1 + 1.5) / 3, abs=1e-4)
    assert budget["over_shortest_interval"] == pytest.approx(4.30 * 0.288675 / 3**0.5, abs=1e-4)
    assert budget["validation"][0] == {"step": 0, "accuracy": 0.9, "tokens": 46.0}
    assert budget["tokens_changed"] == pytest.approx((26 + 26 + 39) / 3 / 46 - 1, abs=1e-4)  # 46 before the training


def test_checks_pools_warm_starts():
    """A run is compared with plain GRPO from its own warm start."""
    scores = {"grpo": (0.9, 52.0), "bcr_3": (0.8, 26.0), "start_0.grpo": (0.7, 52.0), "start_0.bcr_3": (0.9, 39.0)}
    grpo, packed = checks.rows(*lines_of("checks", scores))
    assert (grpo["warm_starts"], grpo["seeds"], packed["warm_starts"], packed["seeds"]) == (2, 6, 2, 6)
    assert (packed["accuracy"], packed["accuracy_gained"]) == (0.85, 0.05)
    assert packed["over_shortest_by_warm_start"] == [1.0, 1.5]
    assert packed["over_shortest_interval"] == pytest.approx(2.57 * 0.273861 / 6**0.5, abs=1e-4)


def test_checks_has_validation_problems_of_its_train_split(tmp_path):
    task = compare.task_named("checks")
    compare.prepare_data(task, tmp_path)
    rows = {
        split: pq.read_table(tmp_path / f"{split}.parquet").to_pylist() for split in ("train", "validation", "test")
    }
    assert {split: len(found) for split, found in rows.items()} == compare.COUNTS
    assert {row["extra_info"]["split"] for row in rows["validation"]} == {"validation"}  # so they are not packed
    tested = {row["extra_info"]["question"] for row in rows["test"]}
    assert not tested & {row["extra_info"]["question"] for row in rows["validation"]}
    assert sorted({row["extra_info"]["depth"] for row in rows["validation"]}) == [1, 2, 3, 4, 5, 6]


def test_few_tokens_by_hand():
    scores = {"grpo": [(0.8, 40.0), (0.9, 40.0), (0.7, 40.0)], "t_spmo": [(0.85, 40.0), (0.7, 40.0), (0.9, 40.0)]}
    table, lines = lines_of("few_tokens", {**scores, "t_spmo.lora": (0.95, 40.0)})
    shares = {"grpo": [1.0, 0.6], "t_spmo": [0.02, 0.04], "t_spmo.lora": [0.5, 0.1]}
    for line in lines:
        line["training"] = {"tokens_with_gradient": shares[line["run"]["arm"]]}
    del lines[0]  # grpo's first seed is not there yet
    grpo, full, lora = few_tokens.rows(table, lines)
    assert [(row["method"], row["lora"], row["seeds"]) for row in (grpo, full, lora)] == [
        *(("grpo", False, 2), ("t_spmo", False, 3), ("t_spmo", True, 3))
    ]
    assert [row["tokens_with_gradient"] for row in (grpo, full, lora)] == [0.8, 0.03, 0.3]
    assert full["tokens_with_gradient_by_step"] == [0.02, 0.04]
    assert (grpo["accuracy"], grpo["before"], grpo["after"], grpo["gain"]) == (0.8, 0.9, 0.8, -0.1)
    assert grpo["accuracy_by_step"] == [0.9, 0.8]
    assert grpo["against_grpo"] == 0.0
    assert full["against_grpo"] == 0.0  # of the seeds that both have: −.2 and +.2
    assert full["against_grpo_interval"] == pytest.approx(12.71 * 0.2, abs=0.001)  # t · s / √n, s = .2 √2
    assert (lora["against_grpo"], lora["against_grpo_interval"]) == (None, None)  # grpo has no run with LoRA


@pytest.mark.parametrize("module", [bcr, checks, collapse, difficulty, few_tokens], ids=lambda module: module.__name__)
def test_a_report_writes_json_and_a_picture(module, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    question = module.__name__.rpartition(".")[2]
    table = compare.table_of(question, STEPS)
    module.write_report(table, [], tmp_path / "nothing")
    assert not list(tmp_path.glob("nothing*"))
    two = table.arms[:2]
    table, lines = lines_of(question, {arm.name: (0.9, 40.0) for arm in two})
    point = {"problems": 1, "accuracy": 0.9, "tokens_per_problem": 60.0, "finished": 1.0}
    for line in lines:
        line["diagnosis"] = {}
        line["training"] = {"tokens_with_gradient": [0.5]}
        line["task_scaling"] = {"before": [point, {**point, "problems": 2}], "after": [point, {**point, "problems": 2}]}
    module.write_report(table, lines, tmp_path / question)
    written = json.loads((tmp_path / f"{question}.json").read_text())
    assert [row["arm"] for row in written["rows"]] == [arm.name for arm in two]
    assert (tmp_path / f"{question}.png").read_bytes().startswith(b"\x89PNG")
    assert two[-1].name in capsys.readouterr().out
