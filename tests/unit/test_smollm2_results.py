"""recipes/smollm2/results.py on small made-up runs: what is pooled, and runs whose folder is gone."""

import importlib.util
import json
import random
import shutil
import statistics
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
ARMS, SEEDS, PROBLEMS = ("grpo", "token_budget", "batched_accuracy"), (0, 1, 2), 9
SETTINGS = {"STEPS": "2", "BATCH": "4", "GROUP": "4", "LR": "3e-5", "GPUS": "0", "ROLLOUT": "hf"}


@pytest.fixture
def results(monkeypatch):
    spec = importlib.util.spec_from_file_location("smollm2_results", ROOT / "recipes" / "smollm2" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return module


def answers(drawn: random.Random, problems: int) -> list[dict]:
    """The rows of an evaluation, not in the order of the problems."""
    rows = [
        {
            **{"label": "x", "prompt": number, "key": f"key of {number}", "problems": 1, "score": 0.0},
            **{"acc": float(drawn.random() < 0.7), "tokens": drawn.randint(20, 60), "truncated": False},
            **{"shortest_tokens": None, "difficulty": 0.5, "response": f"answer {drawn.random()}"},
        }
        for number in range(problems)
    ]
    drawn.shuffle(rows)
    return rows


def write_rows(stem: Path, rows: list[dict]) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{stem}.json").write_text("{}")
    Path(f"{stem}.rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(runs: Path, arm: str, seed: int, problems: int = PROBLEMS) -> None:
    drawn, stem = random.Random(f"{arm} {seed}"), runs / f"seed{seed}" / arm
    write_rows(stem, answers(drawn, problems))
    stem.mkdir()
    (stem / "latest_checkpointed_iteration.txt").write_text("2")
    metrics = ("critic/score/mean", "response_length/mean", "response_length/clip_ratio", "timing_s/step")
    lines = [{"step": step, "data": {name: drawn.random() for name in metrics}} for step in (1, 2)]
    (stem / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_data(runs: Path, problems: int = PROBLEMS) -> None:
    rows = [{"prompt": [{"role": "user", "content": f"question {number}"}]} for number in range(problems)]
    (runs / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), runs / "data" / "test.parquet")
    write_rows(runs / "warm_start", answers(random.Random("warm start"), problems))


@pytest.fixture
def runs(tmp_path):
    for arm in ARMS:
        for seed in SEEDS:
            write_run(tmp_path / "runs", arm, seed)
    write_data(tmp_path / "runs")
    return tmp_path / "runs"


def written(runs: Path) -> dict:
    return json.loads((runs / "results.json").read_text())


def rows_of(runs: Path, arm: str, seed: int) -> list[dict]:
    lines = (runs / f"seed{seed}" / f"{arm}.rows.jsonl").read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda row: row["prompt"])


def test_changes_are_paired_by_problem_over_the_mean_of_the_seeds(results, runs):
    results.main(runs)
    found = written(runs)
    assert found["compared_seeds"] == list(SEEDS)
    by_arm = {arm: [rows_of(runs, arm, seed) for seed in SEEDS] for arm in ARMS}
    (change,) = (one for one in found["changes"] if one["label"] == "token_budget")
    mean = {
        arm: [statistics.fmean(rows[number]["acc"] for rows in by_seed) for number in range(PROBLEMS)]
        for arm, by_seed in by_arm.items()
    }
    differences = [after - before for before, after in zip(mean["grpo"], mean["token_budget"], strict=True)]
    assert change["accuracy_change"] == pytest.approx(statistics.fmean(differences))
    assert change["accuracy_change_se"] == pytest.approx(statistics.stdev(differences) / PROBLEMS**0.5)
    tokens = {arm: sum(row["tokens"] for rows in by_seed for row in rows) for arm, by_seed in by_arm.items()}
    assert change["tokens_ratio"] == pytest.approx(tokens["token_budget"] / tokens["grpo"])


def test_the_figures_of_each_problem_are_in_the_order_of_the_problems_and_take_a_line(results, runs):
    results.main(runs)
    rows = rows_of(runs, "token_budget", 1)
    lists = written(runs)["per_problem"]["token_budget"]["1"]
    assert lists == {"accuracy": [row["acc"] for row in rows], "tokens": [row["tokens"] for row in rows]}
    line = f'"tokens": [{", ".join(str(row["tokens"]) for row in rows)}]'
    assert line in [text.strip() for text in (runs / "results.json").read_text().splitlines()]


def test_runs_whose_folder_is_gone_count_as_before(results, runs, capsys):
    results.main(runs)
    whole = written(runs)
    earlier = runs.parent / "earlier.json"
    shutil.move(runs / "results.json", earlier)
    shutil.rmtree(runs / "seed1")
    # Of seed 2 grpo is gone, and of batched_accuracy everything.
    shutil.rmtree(runs / "seed2" / "grpo")
    gone = [*runs.glob("seed2/grpo.*"), *runs.glob("seed*/batched_accuracy.*")]
    assert len(gone) == 2 + 4
    for file in gone:
        file.unlink()

    results.main(runs, add=earlier)
    assert written(runs) == whole
    assert "taken from" in capsys.readouterr().out
    assert "batched_accuracy" not in (runs / "examples.md").read_text()


def test_a_new_seed_beside_earlier_ones(results, runs, capsys):
    """The folder was lost; one more seed was trained since, with seed 0 of one arm again."""
    results.main(runs)
    whole = written(runs)
    earlier = runs.parent / "earlier.json"
    whole["machine"] = {"device": "another"}
    earlier.write_text(json.dumps(whole))
    new = runs.parent / "new"
    write_data(new)
    for arm in ARMS:
        write_run(new, arm, 3)
    write_rows(new / "seed0" / "grpo", answers(random.Random("again"), PROBLEMS))
    shutil.copytree(new / "seed3" / "grpo", new / "seed0" / "grpo")
    write_rows(new / "warm_start", answers(random.Random("another warm start"), PROBLEMS))

    results.main(new, add=earlier)
    found = written(new)
    assert found["compared_seeds"] == [0, 1, 2, 3]
    assert found["steps"]["grpo"] == dict.fromkeys("0123", 2)
    assert found["curves"]["1"] == whole["curves"]["1"]
    assert found["summaries"]["token_budget"]["1"] == whole["summaries"]["token_budget"]["1"]
    again = [row["tokens"] for row in rows_of(new, "grpo", 0)]
    assert found["per_problem"]["grpo"]["0"]["tokens"] == again, "the folder's own run counts"
    assert again != whole["per_problem"]["grpo"]["0"]["tokens"]
    assert found["other_machines"] == [{"device": "another"}]
    said = capsys.readouterr().out
    assert "token_budget, seed 1" in said
    assert "grpo, seed 0;" not in said.split("taken from")[1].split("\n")[0]
    assert "its runs began from other weights" in said


def change_settings(found: dict) -> None:
    found["settings"]["STEPS"] = "30"


def change_number(found: dict) -> None:
    found["problems"]["number"] = 510


def change_problems(found: dict) -> None:
    found["problems"]["hash"] = "of others"


def drop_lists(found: dict) -> None:
    del found["per_problem"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (change_settings, "other settings: STEPS=30 there, 2 here. Set them as there"),
        (change_number, "510 held-out problems there, 9 here; set TEST as there"),
        (change_problems, "as many held-out problems, but others"),
        (drop_lists, "does not have the figures of each problem"),
        (dict.clear, "is no results.json"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_in_one_line(results, runs, change, why):
    results.main(runs)
    found = written(runs)
    change(found)
    earlier = runs.parent / "earlier.json"
    earlier.write_text(json.dumps(found))
    with pytest.raises(SystemExit, match=f"^--add: .*earlier.json .*{why}") as refused:
        results.main(runs, add=earlier)
    assert "\n" not in str(refused.value)


def test_what_is_no_result_is_refused(results, runs):
    for name, content in (("missing.json", None), ("text.json", "no JSON"), ("list.json", "[]")):
        file = runs.parent / name
        if content is not None:
            file.write_text(content)
        with pytest.raises(SystemExit, match=f"^--add: .*{name}"):
            results.main(runs, add=file)


def test_arms_that_were_evaluated_on_other_problems_are_refused(results, runs):
    write_rows(runs / "seed1" / "grpo", answers(random.Random(0), PROBLEMS - 1))
    with pytest.raises(SystemExit, match=r"seed1/grpo\.rows\.jsonl is of other problems than .*TEST changed"):
        results.main(runs)
