"""Writes a task's model and data: ``python -m verl_efficiency.testbed.prepare --task checks --out DIR``."""

import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from verl_efficiency.settings import require
from verl_efficiency.testbed.packs import Problem
from verl_efficiency.testbed.tasks import TASKS, Task, task_named


def problems(task: Task, split: str, count: int, seed: int) -> list[Problem]:
    """Draw ``count`` problems of one split, balanced over the levels and shuffled.

    A text repeats only if its level has too few: the test split of ``checks`` has about 25 texts of depth 1, that of ``notes``
    8 of level 0, that of ``products`` about 70 of two digits.
    """
    require(split in task.splits, "split", split, f"one of {', '.join(task.splits)}")
    rng = random.Random(f"{split} {seed}")
    of_level = [_cycle(rng, task, level, split) for level in task.levels]
    drawn = [next(of_level[index % len(of_level)]) for index in range(count)]
    rng.shuffle(drawn)
    return drawn


def row(task: Task, problem: Problem, split: str, index: int) -> dict[str, Any]:
    """One single problem in verl's data format; ``difficulty`` is 0 at the lowest level and 1 at the highest."""
    info = {"split": split, "index": index, "question": problem.text, "difficulty": task.difficulty(problem)}
    info |= task.info(problem)
    return {
        "data_source": "testbed",
        "prompt": [{"role": "user", "content": problem.text}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
        "extra_info": info,
    }


def prepare(task: Task, out: Path, seed: int, counts: dict[str, int]) -> None:
    """Copy the warm start to ``out/model``, and write ``out/SPLIT.parquet`` with ``counts[SPLIT]`` problems."""
    for split, count in counts.items():
        require(count >= 1, f"--{split}", count, "at least 1 problem")
    shutil.copytree(task.warm_start, out / "model", dirs_exist_ok=True)
    for split, count in counts.items():
        drawn = problems(task, split, count, seed)
        rows = [row(task, problem, split, index) for index, problem in enumerate(drawn)]
        pq.write_table(pa.Table.from_pylist(rows), out / f"{split}.parquet")


def _cycle(rng: random.Random, task: Task, level: int, split: str) -> Iterator[Problem]:
    total = task.count(level)
    numbers = rng.sample(range(total), min(total, 100_000))
    drawn = (task.numbered(number, level) for number in numbers)
    return itertools.cycle(problem for problem in drawn if problem.split == split)


def main(
    out: Annotated[Path, typer.Option(help="folder for model/ and a parquet file per split")],
    task: Annotated[str, typer.Option(help=f"one of {', '.join(task.name for task in TASKS)}")] = TASKS[0].name,
    seed: Annotated[int, typer.Option(help="seed of the problems")] = 0,
    train: Annotated[int, typer.Option(help="training problems")] = 2048,
    test: Annotated[int, typer.Option(help="test problems; a multiple of the number of levels balances them")] = 960,
    validation: Annotated[int, typer.Option(help="validation problems, if the task has such a split")] = 240,
) -> None:
    """Write a task's model and data."""
    chosen = task_named(task)
    asked = {"train": train, "validation": validation, "test": test}
    counts = {split: asked[split] for split in chosen.splits}
    prepare(chosen, out, seed, counts)
    print(f"model, {', '.join(f'{count} {split}' for split, count in counts.items())} problems: {out}")


if __name__ == "__main__":
    typer.run(main)
