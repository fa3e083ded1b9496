"""The results of ``recipes/smollm2.sh``, over all seeds that are there: ``python recipes/smollm2/results.py RUNS``.

A problem counts once, with the mean over the seeds that all arms have. So the intervals are paired by problem, and their width
says how much other problems could change the figures. How much another seed changes them is shown by the lines per seed.

Reads ``RUNS/warm_start.rows.jsonl`` and ``RUNS/seed*/ARM.{json,rows.jsonl}`` with ``RUNS/seed*/ARM/metrics.jsonl``. Writes
``results.json``, ``report.png`` and ``examples.md``.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from verl_efficiency.data.files import write_text
from verl_efficiency.evaluation.report import report
from verl_efficiency.evaluation.summary import Row, per_prompt, summarise
from verl_efficiency.evaluation.training_log import parse_training_log

SETTINGS = ("STEPS", "BATCH", "GROUP", "LR", "GPUS", "ROLLOUT", "TOKENS_PER_GPU")
CURVES = {"score": "critic/score/mean", "tokens": "response_length/mean", "seconds": "timing_s/step"}
PROBLEMS_PER_PROMPT = {"batched_accuracy": 2}


def main(
    runs: Annotated[Path, typer.Argument(help="the folder of the runs")],
    compared: Annotated[str, typer.Option(help="the arm with which the others are compared")] = "grpo",
) -> None:
    """Print and write the results."""
    seeds = {int(folder.name[4:]): folder for folder in sorted(runs.glob("seed*"))}
    found = {
        seed: sorted(file.stem for file in folder.glob("*.json") if ".part" not in file.name)
        for seed, folder in seeds.items()
    }
    arms = sorted({arm for names in found.values() for arm in names}, key=lambda arm: (arm != compared, arm))
    if not arms:
        raise SystemExit(f"{runs}: no arm has been evaluated")
    logged = {
        seed: {file.parent.name: file for file in folder.glob("*/metrics.jsonl")} for seed, folder in seeds.items()
    }
    files = {arm: {seed: seeds[seed] / arm for seed in seeds if arm in found[seed]} for arm in arms}
    if (runs / "warm_start.json").exists():
        files["warm_start"] = {0: runs / "warm_start"}
    rows = {
        arm: {seed: read(Path(f"{stem}.rows.jsonl")) for seed, stem in stems.items()} for arm, stems in files.items()
    }

    shared = seeds_of_all({arm: files[arm] for arm in arms})
    temporary = runs / "pooled"
    temporary.mkdir(exist_ok=True)
    pooled = {}
    for arm, by_seed in rows.items():
        if arm in arms:
            by_seed = {seed: by_seed[seed] for seed in shared}
        pooled[arm] = temporary / f"{arm}.json"
        write_text(pooled[arm], json.dumps(pool(arm, list(by_seed.values()), str(runs / "data" / "test.parquet"))))
    logs = [
        f"{arm}={stem}/metrics.jsonl:{PROBLEMS_PER_PROMPT.get(arm, 1)}"
        for arm in arms
        for stem in [next(iter(files[arm].values()))]
    ]
    changes = report(list(pooled.values()), [parse_training_log(text) for text in logs], runs / "report.png")
    steps = {arm: {seed: saved_step(stem) for seed, stem in files[arm].items()} for arm in arms}
    if len({step for by_seed in steps.values() for step in by_seed.values()}) > 1:
        print(f"not compared at equal steps, because arms were ended before: {steps}")
    summaries = {arm: {seed: summarise(one) for seed, one in by_seed.items()} for arm, by_seed in rows.items()}
    for arm, by_seed in summaries.items():
        for seed, summary in by_seed.items():
            print(f"{arm}, seed {seed}: accuracy {summary['accuracy']:.3f}, {summary['tokens_per_problem']:.1f} tokens")
    write_text(
        runs / "results.json",
        json.dumps(
            {
                "machine": machine(),
                "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
                "compared_with": arms[0],
                "compared_seeds": shared,
                "changes": changes,
                "summaries": summaries,
                "steps": steps,
                "curves": {
                    seed: {arm: curves(file) for arm, file in by_arm.items()} for seed, by_arm in logged.items()
                },
            },
            indent=1,
        )
        + "\n",
    )
    examples = [f"{arm}={next(iter(stems.values()))}.rows.jsonl" for arm, stems in files.items()]
    script = Path(__file__).with_name("examples.py")
    data = runs / "data" / "test.parquet"
    subprocess.run([sys.executable, script, data, *examples, "--out", runs / "examples.md"], check=True)


def seeds_of_all(arms: Mapping[str, Iterable[int]]) -> list[int]:
    """The seeds that every arm has; what is left out is said.

    Raises:
        SystemExit: there is none.

    >>> seeds_of_all({"grpo": [0, 2], "token_budget": [0, 1, 2]})
    compared on seeds 0, 2; left out, because not every arm has them: 1
    [0, 2]
    """
    by_arm = {arm: set(seeds) for arm, seeds in arms.items()}
    shared = sorted(set.intersection(*by_arm.values()))
    left_out = sorted(set.union(*by_arm.values()) - set(shared))
    if not shared:
        raise SystemExit(f"no seed has been trained with every arm: { {arm: sorted(by_arm[arm]) for arm in by_arm} }")
    if left_out:
        names = (", ".join(map(str, seeds)) for seeds in (shared, left_out))
        print("compared on seeds {}; left out, because not every arm has them: {}".format(*names))
    return shared


def read(file: Path) -> list[Row]:
    """The graded responses that ``verl-efficiency evaluate --rows`` wrote."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [Row(**{name: value for name, value in row.items() if name != "label"}) for row in rows]


def pool(label: str, by_seed: Sequence[Sequence[Row]], data: str) -> dict[str, Any]:
    """One evaluation from those of several seeds, in the form of ``verl-efficiency evaluate``."""
    rows = [row for one in by_seed for row in one]
    sums = per_prompt(rows)
    return {
        "label": label,
        "data": data,
        "summary": summarise(rows),
        "per_prompt": {
            name: column if name == "key" else [value / len(by_seed) for value in column]
            for name, column in sums.items()
        },
    }


def saved_step(run: Path) -> int:
    """The step of the last checkpoint, which was evaluated."""
    return int((run / "latest_checkpointed_iteration.txt").read_text())


def curves(file: Path) -> Mapping[str, list[float]]:
    """Score, tokens of a response and seconds of each step, from verl's metrics."""
    steps = [json.loads(line)["data"] for line in file.read_text().splitlines()]
    return {name: [round(step[key], 4) for step in steps] for name, key in CURVES.items()}


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu[1] if cpu else "CPU"
    return {"device": name, "cores": str(os.cpu_count()), "torch": torch.__version__}


if __name__ == "__main__":
    typer.run(main)
