"""Launches a recipe on the CPU, and reads verl's output."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparison.launch import in_process
from tests.e2e.run_tree import CompletedRun, run_tree

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Training:
    """The output of a run: console log, metrics per step, and the rollouts of each step."""

    run: CompletedRun
    metrics: dict[int, dict[str, float]]
    rollouts: dict[int, list[dict]]

    def lines(self, word: str) -> list[str]:
        """The log lines that hold ``word``."""
        return [line for line in self.run.log.splitlines() if word in line]


def train(
    recipe: str,
    folder: Path,
    *overrides: str,
    timeout: float = 240,
    stop: threading.Event | None = None,
    one_process: bool = False,
    **variables: object,
) -> Training:
    """Run ``recipes/verl/train.sh <recipe>`` in ``folder`` and dump every rollout; on the CPU unless ``GPUS`` says otherwise.

    Args:
        overrides: appended to the recipe's own.
        one_process: on the stand-ins of ``benchmarks/comparison/in_process.py`` instead of Ray.
        timeout, stop: what ends the run, see :func:`run_tree`.
        variables: of ``recipes/verl/_common.sh`` (MODEL, TRAIN, VAL, BATCH, …).
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"GPUS": "0"} | {name: str(value) for name, value in variables.items()}
    environment |= {"RUNS": str(folder), "NAME": "run", "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [
        *("bash", str(ROOT / "recipes" / "verl" / "train.sh"), recipe),
        *("trainer.val_before_train=False", "trainer.test_freq=-1", "data.seed=0"),
        f"trainer.rollout_data_dir={folder / 'rollouts'}",
        f"hydra.run.dir={folder / 'hydra'}",
        # verl's defaults, as in the references. The published recipes of the self-teacher use other values.
        *("algorithm.rollout_correction.rollout_is=null", "actor_rollout_ref.actor.clip_ratio_high=0.2"),
        *overrides,
    ]
    if one_process:
        command = in_process([*command, "trainer.resume_mode=disable"], folder, environment)
    run = run_tree(command, timeout=timeout, log=folder / "log.txt", env=environment, stop=stop)
    metrics_file = folder / "run" / "metrics.jsonl"
    records = [json.loads(line) for line in metrics_file.read_text().splitlines()] if metrics_file.exists() else []
    return Training(
        run=run,
        metrics={record["step"]: record["data"] for record in records},
        rollouts={int(file.stem): read_jsonl(file) for file in (folder / "rollouts").glob("*.jsonl")},
    )


def read_jsonl(file: Path) -> list[dict]:
    """One object per line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def small_testbed(folder: Path) -> dict[str, object]:
    """The testbed's model and data in ``folder``, as variables for :func:`train`."""
    subprocess.run(
        [sys.executable, "-m", "verl_efficiency.testbed.prepare", "--out", folder, "--train", "192", "--test", "24"],
        check=True,
        timeout=120,
    )
    return {"MODEL": folder / "model", "TRAIN": folder / "train.parquet", "VAL": folder / "test.parquet"}
