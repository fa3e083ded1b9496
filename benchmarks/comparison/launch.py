"""One run: train with verl's trainer, read its files, test the model. The result is one line of JSON.

The trainer runs in one process (``in_process.py``), which makes the same run as ``main_ppo`` in about a quarter of the time.
With ``stock`` it is ``main_ppo`` itself, which starts its own Ray.
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.comparison.table import Run
from tests.e2e.run_tree import run_tree
from verl_efficiency.evaluation.diagnose import diagnose
from verl_efficiency.evaluation.run_log import RunLog, read_run
from verl_efficiency.testbed.packs import PROBLEM_TEMPLATE, SEPARATOR
from verl_efficiency.testbed.tasks import Task, task_named

ROOT = Path(__file__).parents[2]
PACKAGES = ("verl-efficiency", "verl", "torch", "transformers", "ray")
SCALING_PER_LEVEL = 64  # problems of each level that are asked in packs
SPARE = 14  # tokens that a response to one problem may have in a test, beyond the task's limit
_one_test = threading.Lock()  # sampling uses torch's global random state


class RunFailed(Exception):
    """A run ended without a result; the message gives the reason and the log file."""


def launch(
    run: Run, data: Path, folder: Path, timeout: float, stop: threading.Event | None = None, stock: bool = False
) -> dict[str, Any]:
    """Train and test; returns the result line.

    Args:
        data: a folder of ``verl_efficiency.testbed.prepare``: ``model``, ``train.parquet``, ``validation.parquet``,
            ``test.parquet``. The test problems are read once, after the training of a published or tuned run.
        folder: the files of the run; emptied first.
        timeout: seconds after which the training and all its processes are ended.
        stop: ends them at once when another thread sets it.
        stock: train with ``main_ppo`` on Ray, not in one process.

    Raises:
        RunFailed: the trainer failed, or was ended.
    """
    started = datetime.now(timezone.utc)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="ve") as ray_folder:
        environment = environment_of(run, data, folder) | {"RAY_TMPDIR": ray_folder}
        log = folder / "log.txt"
        started_by = command(run, folder) if stock else one_process(run, folder, environment)
        done = run_tree(started_by, timeout=timeout, log=log, env=environment, stop=stop)
    if done.returncode != 0:
        why = f"ended after {done.seconds:.0f} s" if done.timed_out else f"exit code {done.returncode}"
        end = "\n".join(line[:200] for line in done.log.splitlines()[-15:])  # verl prints a step's metrics in one line
        raise RunFailed(f"{run.name}: {why}; the log is {log}, its end:\n{end}")
    task = task_named(run.task)
    metrics = read_metrics(folder / "run" / "metrics.jsonl")
    step_seconds = [data["timing_s/step"] for step, data in metrics.items() if step > 1 and "timing_s/step" in data]
    line = {
        "run": run.key,
        "launch": "main_ppo" if stock else "in_process",
        "started": started.isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "validation": [
            {"step": int(file.stem)} | validation_scores(file, task)
            for file in sorted((folder / "validation").glob("*.jsonl"), key=lambda file: int(file.stem))
        ],
        "training": training_curves(metrics),
        "seconds": {
            "whole": round(done.seconds, 1),
            "step": round(statistics.median(step_seconds), 3),
            "outside_steps": round(done.seconds - sum(data.get("timing_s/step", 0.0) for data in metrics.values()), 1),
            "validation": round(sum(data.get("timing_s/testing", 0.0) for data in metrics.values()), 1),
        },
        "peak_memory_gb": round(done.peak_memory_bytes / 1e9, 2),
        "warnings": start_up_warnings(done.log.replace(f"{data}/", "")),
        "diagnosis": findings(read_run([folder / "run" / "metrics.jsonl", log])),
    }
    if run.kind != "trial":
        begin = time.monotonic()
        with _one_test:
            line["test"] = test(task, folder / "run", data / "test.parquet", run.seed)
        line["seconds"]["test"] = round(time.monotonic() - begin, 1)
    if run.task_scaling:
        with _one_test:
            models = {"before": model_of(run, data), "after": folder / "run"}
            line["task_scaling"] = {
                when: scaling(task, model, data / "test.parquet", run.seed) for when, model in models.items()
            }
    return line


def model_of(run: Run, data: Path) -> Path:
    """The run's warm start: the one of the task, or its variable MODEL, a folder of this repository."""
    given = dict(run.variables).get("MODEL")
    return ROOT / given if given else data / "model"


def command(run: Run, folder: Path) -> list[str]:
    """The stock launch: a recipe, or the settings that all recipes share."""
    recipes = ROOT / "recipes" / "verl"
    script = ["bash", f"{recipes / run.recipe}.sh"] if run.recipe else ["bash", "-c", 'source "$0"; train "$@"']
    return [
        *script,
        *([] if run.recipe else [f"{recipes / '_common.sh'}"]),
        f"data.seed={run.seed}",
        f"actor_rollout_ref.rollout.seed={run.seed}",
        f"trainer.save_freq={run.steps}",
        "actor_rollout_ref.actor.checkpoint.save_contents=[hf_model]",
        "trainer.resume_mode=disable",
        f"trainer.validation_data_dir='{folder / 'validation'}'",
        f"hydra.run.dir='{folder / 'hydra'}'",
        *run.settings,
    ]


def environment_of(run: Run, data: Path, folder: Path) -> dict[str, str]:
    """The variables of the recipe; those of the run come after our defaults."""
    return {
        **{"GPUS": "0", "BATCH": "16", "GROUP": "8", "LR": "5e-4", "STEPS": str(run.steps)},
        **{"PROMPT_TOKENS": "80", "RESPONSE_TOKENS": "66"},
        **{"TRAIN": f"{data / 'train.parquet'}", "VAL": f"{data / 'validation.parquet'}"},
        **dict(run.variables),
        "MODEL": f"{model_of(run, data)}",
        **{"RUNS": f"{folder}", "NAME": "run", "HF_HUB_OFFLINE": "1"},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }


def one_process(run: Run, folder: Path, environment: dict[str, str]) -> list[str]:
    """The command of a run in one process. Its settings may hold a line break, so they do not go through the dry run."""
    plain = command(replace(run, settings=()), folder)
    return [*in_process(plain, folder, environment), *run.settings]


def in_process(launched: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """The command that trains in one process with the overrides of ``launched``; it completes ``environment``."""
    overrides = overrides_of(launched, environment)
    (folder / "run").mkdir()
    environment |= {"VERL_FILE_LOGGER_PATH": f"{folder / 'run' / 'metrics.jsonl'}", "OMP_NUM_THREADS": "1"}
    return [sys.executable, "-m", "benchmarks.comparison.in_process", *overrides]


def start_up_warnings(log: str) -> list[str]:
    """Our warnings in a log: they begin with the setting or the method that they are about.

    >>> start_up_warnings("WARNING:2026-01-01 10:00:00,1:alp: too short\\nWARNING:2026-01-01 10:00:00,2:Something else")
    ['alp: too short']
    """
    return re.findall(r"(?m)^WARNING:[\d :,-]+:([a-z_]+(?:\.[a-z_]+)*: .*)$", log)


def findings(log: RunLog) -> dict[str, list[str]]:
    """What ``verl-efficiency diagnose`` says about the run so far, every ten steps and at the end: step → names of rules."""
    looks = sorted({step for step in log.steps if step and step % 10 == 0} | {max(log.steps, default=0)})
    found = {}
    for look in looks:
        so_far = replace(log, steps={step: metrics for step, metrics in log.steps.items() if step <= look})
        found[str(look)] = [finding.name for finding in diagnose(so_far).findings]
    return {look: names for look, names in found.items() if names}


def overrides_of(launched: list[str], environment: Mapping[str, str]) -> list[str]:
    """verl's overrides of a recipe's launch."""
    dry = {**os.environ, **environment, "DRY_RUN": "1"}
    return subprocess.run(launched, env=dry, capture_output=True, text=True, check=True).stdout.splitlines()


def read_metrics(file: Path) -> dict[int, dict[str, Any]]:
    """Metrics by step, as verl's file logger writes them."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return {record["step"]: record["data"] for record in records}


def training_curves(metrics: Mapping[int, Mapping[str, Any]]) -> dict[str, list[float]]:
    """Curves over the steps: score, response length, and what our trainers log of the update.

    >>> training_curves({0: {}, 1: {"critic/score/mean": 0.5, "response_length/mean": 9.0, "kimi/unsolved_share": 0.25}})
    {'score': [0.5], 'response_tokens': [9.0], 'unsolved_share': [0.25]}
    """
    curves: dict[str, list[float]] = {}
    for name, end in (
        ("score", "critic/score/mean"),
        ("response_tokens", "response_length/mean"),
        ("unsolved_share", "/unsolved_share"),
        ("tokens_with_gradient", "/tokens_with_gradient"),
    ):
        values = [value for data in metrics.values() for key, value in data.items() if key.endswith(end)]
        if values:
            curves[name] = [round(value, 4) for value in values]
    return curves


def validation_scores(file: Path, task: Task) -> dict[str, Any]:
    """Scores of one validation, from verl's dump. The prompt's text gives the level."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    levels = [task.level_of_text(row["input"]) for row in rows]
    tokens = [row["tokens"] if "tokens" in row else row["tokens_per_problem"] for row in rows]  # of a reward for packs
    return scores(levels, [row["acc"] for row in rows], tokens)


def test(task: Task, model: Path, data: Path, seed: int) -> dict[str, Any]:
    """Scores at temperature 1, one response to each problem of ``data``."""
    import torch

    from verl_efficiency.evaluation.engines import Sampling
    from verl_efficiency.evaluation.evaluate import evaluate

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows_file = Path(folder) / "rows.jsonl"
        sampling = Sampling(max_new_tokens=task.max_new_tokens + SPARE, batch_size=240, seed=seed)
        evaluate(model, data, sampling=sampling, rows_file=rows_file, device="cpu")
        rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    levels = [task.level_at(row["difficulty"]) for row in rows]
    return scores(levels, [row["acc"] for row in rows], [row["tokens"] for row in rows])


def scaling(task: Task, model: Path, data: Path, seed: int) -> list[dict[str, Any]]:
    """Accuracy and tokens per problem of packs of 1 to 6 problems, at temperature 1.

    Labels tell the problems of a pack apart, so its levels differ. That takes equally many problems of each level.
    """
    import torch

    from verl_efficiency.data.parquet import load_verl_rows, write_rows
    from verl_efficiency.evaluation.engines import Sampling
    from verl_efficiency.evaluation.generate import transformers_engine
    from verl_efficiency.evaluation.task_scaling import task_scaling

    torch.set_num_threads(1)
    rows = load_verl_rows(data)
    of_level = [[row for row in rows if row["extra_info"]["level"] == level] for level in task.levels]
    form = {"instruction": "", "problem_template": PROBLEM_TEMPLATE, "separator": SEPARATOR}
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "chosen.parquet"
        write_rows(chosen, [row for its in of_level for row in its[:SCALING_PER_LEVEL]])
        measured = task_scaling(
            transformers_engine(model, "cpu"),
            chosen,
            range(1, task.largest_pack + 1),
            form | {"distinct_by": "extra_info.level"},
            sampling=Sampling(
                max_new_tokens=(task.max_new_tokens + SPARE) * task.largest_pack, batch_size=240, seed=seed
            ),
            label=model.name,
        )
    return [
        {name: round(value, 4) for name, value in point.items() if isinstance(value, int | float)}
        for point in measured["points"]
    ]


def scores(levels: Sequence[int], accuracy: Sequence[float], tokens: Sequence[float]) -> dict[str, Any]:
    """Means over the problems, and over those of each level.

    >>> scores([0, 0, 1], [1, 0, 1], [16, 18, 23])["tokens_by_level"]
    [17.0, 23.0]
    """
    of_level: Mapping[int, list[int]] = {level: [] for level in sorted(set(levels))}
    for row, level in enumerate(levels):
        of_level[level].append(row)

    def means(values: Sequence[float]) -> list[float]:
        return [round(statistics.fmean(values[row] for row in rows), 4) for rows in of_level.values()]

    return {
        "problems": len(levels),
        "accuracy": round(statistics.fmean(accuracy), 4),
        "tokens": round(statistics.fmean(tokens), 3),
        "accuracy_by_level": means(accuracy),
        "tokens_by_level": means(tokens),
    }
