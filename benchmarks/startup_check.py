"""Time and memory of the start-up checks on a large file.

    python benchmarks/startup_check.py --rows 1000000 --out benchmarks/results/startup_check.json

Writes two parquet files in verl's form: one with row groups of 1,000 rows, as ``datasets`` writes by default, and one with a
single row group, as pyarrow does. A fresh process then composes a configuration and checks it like ``main_ppo``. The memory is
the peak of the process during the checks, minus its memory before.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer

LIMIT_SECONDS, LIMIT_MB = 3.0, 300
CHUNK = 50_000  # rows written at a time
QUESTION = "Natalia sold clips to her friends in April and then half as many in May; how many did she sell altogether?"


def make(file: Path, rows: int, group: int) -> None:
    """Rows with a difficulty and prompts of about 230 characters, half of which do not compress."""
    writer = None
    for start in range(0, rows, CHUNK):
        numbers = range(start, min(start + CHUNK, rows))
        prompts = [f"{QUESTION} {hashlib.sha512(str(n).encode()).hexdigest()} {n}" for n in numbers]
        table = pa.table(
            {
                "data_source": ["sums"] * len(numbers),
                "prompt": [[{"role": "user", "content": text}] for text in prompts],
                "ability": ["math"] * len(numbers),
                "reward_model": [{"style": "rule", "ground_truth": str(n)} for n in numbers],
                "extra_info": [{"index": n, "split": "train", "difficulty": n / rows} for n in numbers],
            }
        )
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table, row_group_size=group)
    if writer is not None:
        writer.close()


def rewrite_as_one_group(source: Path, target: Path) -> None:
    """Write all rows as one row group; they must fit into memory."""
    pq.write_table(pq.read_table(source), target, row_group_size=10**9)


def memory(name: str) -> float:
    """A number from /proc/self/status in MB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def check_here(file: str) -> None:
    """In the fresh process: compose, check, and print time and memory."""
    from hydra import compose, initialize_config_module
    from verl.trainer import main_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "ppo_trainer",
            [
                "algorithm.adv_estimator=token_budget",
                "+algorithm.efficiency.difficulty=data",
                "+algorithm.efficiency.b_min=100",
                "+algorithm.efficiency.b_max=200",
                "reward.custom_reward_function.path=pkg://verl_efficiency.rewards",
                "reward.custom_reward_function.name=accuracy",
                f"data.train_files={file}",
                f"data.val_files={file}",
                "data.train_batch_size=8",
                "actor_rollout_ref.model.path=/nowhere/model",
                "actor_rollout_ref.actor.ppo_mini_batch_size=8",
                "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
                "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1",
                "trainer.n_gpus_per_node=1",
            ],
        )
    policy, critic = need_reference_policy(config), need_critic(config)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    before = memory("VmRSS")
    started, cpu = time.perf_counter(), time.process_time()
    main_ppo.validate_config(config=config, use_reference_policy=policy, use_critic=critic)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    added = memory("VmHWM") - before
    print(json.dumps({"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "mb_added": round(added, 1),
                      "mb_before": round(before, 1)}))  # fmt: skip


def main(
    rows: Annotated[int, typer.Option(help="Rows of each file.")] = 1_000_000,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Print time and memory of the checks, for train and validation file together."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        many, one = Path(folder) / "many.parquet", Path(folder) / "one.parquet"
        make(many, rows, group=1000)
        rewrite_as_one_group(many, one)
        for name, file in (("row groups of 1000", many), ("one row group", one)):
            command = [sys.executable, __file__, "--check", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            measured = json.loads(done.stdout.strip().splitlines()[-1])
            figures[name] = {"file_mb": round(file.stat().st_size / 2**20, 1), **measured}
            print(f"{name}: {figures[name]}")
    result = {
        "rows": rows,
        "limits": {"seconds": LIMIT_SECONDS, "mb_added": LIMIT_MB},
        "versions": {"python": platform.python_version(), "pyarrow": pa.__version__},
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # far above the number of cores, other programs took most of the time
        "figures": figures,
    }
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check_here(sys.argv[2])
    else:
        typer.run(main)
