"""Write the testbed's model and data: ``python -m verl_efficiency.testbed.prepare --out DIR``."""

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
from verl_efficiency.testbed.task import MAX_DEPTH, SEGMENTS, Problem, shortest_tokens

WARM_START = Path(__file__).parent / "warm_start"


def problems(split: str, count: int, seed: int) -> list[Problem]:
    """Draw ``count`` problems of one split ("train" or "test"), balanced over depth and shuffled.

    A text repeats only where its depth has too few of them: the test split holds about 25 texts of depth 1, so they come
    round several times.
    """
    require(split in ("train", "test"), "split", split, "'train' or 'test'")
    rng = random.Random(f"{split} {seed}")
    of_depth = {depth: _cycle(rng, depth, split == "test") for depth in range(1, MAX_DEPTH + 1)}
    drawn = [next(of_depth[1 + index % MAX_DEPTH]) for index in range(count)]
    rng.shuffle(drawn)
    return drawn


def row(problem: Problem, split: str, index: int) -> dict[str, Any]:
    """One single problem in verl's data format; ``difficulty`` is 0 at depth 1 and 1 at depth 6."""
    return {
        "data_source": "testbed",
        "prompt": [{"role": "user", "content": problem.text}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
        "extra_info": {
            "split": split,
            "index": index,
            "question": problem.text,
            "difficulty": (problem.depth - 1) / (MAX_DEPTH - 1),
            "depth": problem.depth,
            "segment": problem.segment,
            "shortest_tokens": shortest_tokens([problem]),
        },
    }


def prepare(out: Path, seed: int, train: int, test: int) -> None:
    """Copy the warm start to ``out/model`` and write ``out/train.parquet`` and ``out/test.parquet``."""
    for name, count in (("train", train), ("test", test)):
        require(count >= 1, f"--{name}", count, "at least 1 problem")
    shutil.copytree(WARM_START, out / "model", dirs_exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        rows = [row(problem, split, index) for index, problem in enumerate(problems(split, count, seed))]
        pq.write_table(pa.Table.from_pylist(rows), out / f"{split}.parquet")


def _cycle(rng: random.Random, depth: int, test: bool) -> Iterator[Problem]:
    total = SEGMENTS * 10**depth  # every problem of this depth has a number
    numbers = rng.sample(range(total), min(total, 100_000))
    drawn = (_numbered(number, depth) for number in numbers)
    return itertools.cycle(problem for problem in drawn if problem.is_test == test)


def _numbered(number: int, depth: int) -> Problem:
    segment, operands = divmod(number, 10**depth)
    return Problem(segment, tuple(int(digit) for digit in f"{operands:0{depth}d}"))


def main(
    out: Annotated[Path, typer.Option(help="where model/, train.parquet and test.parquet go")],
    seed: Annotated[int, typer.Option(help="draws the problems")] = 0,
    train: Annotated[int, typer.Option(help="training problems")] = 2048,
    test: Annotated[int, typer.Option(help="test problems, a multiple of 6 for a balance over depth")] = 960,
) -> None:
    """Write the testbed's model and data."""
    prepare(out, seed, train, test)
    print(f"model, {train} training and {test} test problems: {out}")


if __name__ == "__main__":
    typer.run(main)
