"""The results of ``recipes/smollm2.sh``, over all seeds that are there: ``python recipes/smollm2/results.py RUNS``.

A problem counts once, with the mean over the seeds that all arms have. So the intervals are paired by problem, and their width
says how much other problems could change the figures. How much another seed changes them is shown by the lines per seed.

Reads ``RUNS/warm_start.rows.jsonl`` and ``RUNS/seed*/ARM.{json,rows.jsonl}`` with ``RUNS/seed*/ARM/metrics.jsonl``. Writes
``results.json``, ``report.png`` and ``examples.md``. ``results.json`` has the accuracy and the tokens of every problem. So its
runs can be compared with new ones when their folder is gone: ``--add results.json``.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from verl_efficiency.data.files import write_text
from verl_efficiency.evaluation.report import report
from verl_efficiency.evaluation.summary import Row, ratio, summarise
from verl_efficiency.evaluation.training_log import parse_training_log

SETTINGS = ("STEPS", "BATCH", "GROUP", "LR", "GPUS", "ROLLOUT", "TOKENS_PER_GPU")
CURVES = {
    "score": "critic/score/mean",
    "tokens": "response_length/mean",
    "cut_off": "response_length/clip_ratio",
    "seconds": "timing_s/step",
}
PROBLEMS_PER_PROMPT = {"batched_accuracy": 1 / (0.3 + 0.7 / 2)}  # 30 % of the problems come alone, the others in pairs
WARM_START = "warm_start"


@dataclass(frozen=True)
class Run:
    """A model on the held-out problems.

    Attributes:
        summary: its figures over all problems.
        accuracy: 1 or 0 for each problem, in the order of the data.
        tokens: of each answer.
        step: the training step; None for the warm start.
        stem: its files, without their endings; None if they are gone.
    """

    summary: Mapping[str, Any]
    accuracy: list[int]
    tokens: list[int]
    step: int | None
    stem: Path | None = None


Runs = dict[str, dict[int, Run]]  # arm → seed → run


def main(
    runs: Annotated[Path, typer.Argument(help="the folder of the runs")],
    compared: Annotated[str, typer.Option(help="the arm with which the others are compared")] = "grpo",
    add: Annotated[
        Path | None, typer.Option(help="an earlier results.json; its runs that are not in the folder count too")
    ] = None,
) -> None:
    """Print and write the results."""
    found, keys = evaluated(runs)
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    problems = {"number": len(keys), "hash": hashlib.sha256(" ".join(keys).encode()).hexdigest()[:16]}
    lines = {
        str(seed): {file.parent.name: curves(file) for file in sorted(folder.glob("*/metrics.jsonl"))}
        for seed, folder in seeds_in(runs)
    }
    this = machine()
    others = [] if add is None else take(found, lines, load(add, settings, problems), this, add)

    arms = sorted(set(found) - {WARM_START}, key=lambda arm: (arm != compared, arm))
    found = {arm: dict(sorted(found[arm].items())) for arm in [*arms, *({WARM_START} & set(found))]}
    shared = seeds_of_all({arm: found[arm] for arm in arms})
    temporary = runs / "pooled"
    temporary.mkdir(exist_ok=True)
    pooled = {arm: temporary / f"{arm}.json" for arm in found}
    for arm, file in pooled.items():
        chosen = [found[arm][seed] for seed in shared] if arm in arms else list(found[arm].values())
        write_text(file, json.dumps(pool(arm, keys, chosen, str(runs / "data" / "test.parquet"))))
    # Of each arm the first run whose files are here.
    here = {arm: one.stem for arm in found for one in reversed(found[arm].values()) if one.stem}
    logs = [
        f"{arm}={stem}/metrics.jsonl:{PROBLEMS_PER_PROMPT.get(arm, 1):.3f}" for arm, stem in here.items() if arm in arms
    ]
    changes = report(list(pooled.values()), [parse_training_log(text) for text in logs], runs / "report.png")
    steps = {arm: {seed: one.step for seed, one in found[arm].items()} for arm in arms}
    if len({step for by_seed in steps.values() for step in by_seed.values()}) > 1:
        print(f"not compared at equal steps, because arms were ended before: {steps}")
    for arm, by_seed in found.items():
        for seed, one in by_seed.items():
            accuracy, tokens = one.summary["accuracy"], one.summary["tokens_per_problem"]
            print(f"{arm}, seed {seed}: accuracy {accuracy:.3f}, {tokens:.1f} tokens")
    result = {
        "machine": this,
        **({"other_machines": others} if others else {}),
        "settings": settings,
        "compared_with": arms[0],
        "compared_seeds": shared,
        "changes": changes,
        "changes_seeds": shared,
        "summaries": {arm: {seed: one.summary for seed, one in by_seed.items()} for arm, by_seed in found.items()},
        "steps": steps,
        "curves": lines,
        "problems": problems,
        "per_problem": {
            arm: {seed: {"accuracy": one.accuracy, "tokens": one.tokens} for seed, one in by_seed.items()}
            for arm, by_seed in found.items()
        },
    }
    text = json.dumps(result, indent=1)
    # A list of numbers takes one line.
    text = re.sub(r"\[[\d\s.,eE+-]+\]", lambda numbers: re.sub(r"\s+", "", numbers[0]).replace(",", ", "), text)
    write_text(runs / "results.json", text + "\n")
    examples = [f"{arm}={stem}.rows.jsonl" for arm, stem in here.items()]
    script = Path(__file__).with_name("examples.py")
    data = runs / "data" / "test.parquet"
    subprocess.run([sys.executable, script, data, *examples, "--out", runs / "examples.md"], check=True)


def seeds_in(runs: Path) -> list[tuple[int, Path]]:
    """The folder of each seed."""
    return [(int(folder.name[4:]), folder) for folder in sorted(runs.glob("seed*"))]


def evaluated(runs: Path) -> tuple[Runs, list[str]]:
    """The runs in the folder, and the keys of the held-out problems.

    Raises:
        SystemExit: there is none, or they were evaluated on different problems.
    """
    stems = [
        (file.stem, seed, file.with_suffix(""))
        for seed, folder in seeds_in(runs)
        for file in sorted(folder.glob("*.json"))
        if ".part" not in file.name
    ]
    if not stems:
        raise SystemExit(f"{runs}: no arm has been evaluated")
    if (runs / f"{WARM_START}.json").exists():
        stems.append((WARM_START, 0, runs / WARM_START))
    found: Runs = {}
    keys: list[str] = []
    for arm, seed, stem in stems:
        rows = read(Path(f"{stem}.rows.jsonl"))
        if keys and [row.key for row in rows] != keys:
            raise SystemExit(
                f"{stem}.rows.jsonl is of other problems than {stems[0][2]}.rows.jsonl; remove {stem}.json and what else was "
                "evaluated before TEST changed, and run recipes/smollm2.sh again"
            )
        keys = [row.key for row in rows]
        found.setdefault(arm, {})[seed] = Run(
            summarise(rows),
            [round(row.acc) for row in rows],
            [row.tokens for row in rows],
            None if arm == WARM_START else saved_step(stem),
            stem,
        )
    return found, keys


def read(file: Path) -> list[Row]:
    """The graded responses that ``verl-efficiency evaluate --rows`` wrote, in the order of the problems."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    read = [Row(**{name: value for name, value in row.items() if name != "label"}) for row in rows]
    return sorted(read, key=lambda row: row.prompt)


def load(file: Path, settings: Mapping[str, str], problems: Mapping[str, Any]) -> dict[str, Any]:
    """Earlier results, if their runs can be compared with those of these settings and problems.

    Raises:
        SystemExit: they cannot.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SystemExit(f"--add: there is no file {file}; name a results.json of recipes/smollm2.sh") from None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not {"settings", "summaries", "steps", "curves", "machine"} <= found.keys():
        raise SystemExit(f"--add: {file} is no results.json of recipes/smollm2.sh")
    if "per_problem" not in found:
        raise SystemExit(
            f"--add: {file} does not have the figures of each problem, because an earlier version wrote it; its runs "
            "cannot be compared problem by problem, so leave it out"
        )
    names = [name for name in SETTINGS if found["settings"].get(name) != settings.get(name)]
    if names:
        differ = (
            f"{name}={found['settings'].get(name, '')} there, {settings.get(name, 'not set')} here" for name in names
        )
        raise SystemExit(f"--add: the runs of {file} had other settings: {'; '.join(differ)}. Set them as there")
    if found["problems"] != problems:
        numbers = [one["number"] for one in (found["problems"], problems)]
        what = "{} held-out problems there, {} here; set TEST as there".format(*numbers)
        if numbers[0] == numbers[1]:
            what = "as many held-out problems, but others; take the version of this repository that drew them"
        raise SystemExit(f"--add: the runs of {file} cannot be compared: {what}")
    return found


def take(
    found: Runs, lines: dict[str, dict[str, Any]], earlier: Mapping[str, Any], this: Mapping[str, str], file: Path
) -> list[Mapping[str, str]]:
    """Put the earlier runs that are not in the folder into ``found``, and their curves into ``lines``.

    Returns:
        the machines on which they ran, other than this one.
    """
    taken = []
    for arm, by_seed in earlier["per_problem"].items():
        for seed, lists in by_seed.items():
            own = found.setdefault(arm, {}).get(int(seed))
            if own is not None:
                if arm == WARM_START and own.tokens != lists["tokens"]:
                    print(
                        f"the warm start of {file} answers otherwise than this one: its runs began from other weights"
                    )
                continue
            summary, step = earlier["summaries"][arm][seed], earlier["steps"].get(arm, {}).get(seed)
            found[arm][int(seed)] = Run(summary, lists["accuracy"], lists["tokens"], step)
            if curve := earlier["curves"].get(seed, {}).get(arm):
                lines.setdefault(seed, {})[arm] = curve
            taken.append(f"{arm}, seed {seed}")
    print(f"taken from {file}: {'; '.join(taken) or 'nothing, because the folder has all of its runs'}")
    machines = [earlier["machine"], *earlier.get("other_machines", [])]
    return [one for one in machines if one != this] if taken else []


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


def pool(label: str, keys: Sequence[str], by_seed: Sequence[Run], data: str) -> dict[str, Any]:
    """One evaluation from those of several seeds, in the form of ``verl-efficiency evaluate``."""
    correct_P = np.mean([one.accuracy for one in by_seed], axis=0)
    tokens_P = np.mean([one.tokens for one in by_seed], axis=0)
    accuracy, accuracy_se = ratio(correct_P, np.ones(len(keys)))
    tokens, tokens_se = ratio(tokens_P, np.ones(len(keys)))
    return {
        "label": label,
        "data": data,
        "summary": {
            "problems": len(keys),
            "accuracy": accuracy,
            "accuracy_se": accuracy_se,
            "tokens_per_problem": tokens,
            "tokens_per_problem_se": tokens_se,
            "shortest_tokens_per_problem": None,
            "over_shortest": None,
        },
        "per_prompt": {
            "key": list(keys),
            "problems": [1] * len(keys),
            "correct": correct_P.tolist(),
            "tokens": tokens_P.tolist(),
        },
    }


def saved_step(run: Path) -> int:
    """The step of the last checkpoint, which was evaluated."""
    return int((run / "latest_checkpointed_iteration.txt").read_text())


def curves(file: Path) -> Mapping[str, list[float]]:
    """What ``CURVES`` names, of each step, from verl's metrics."""
    steps = [json.loads(line)["data"] for line in file.read_text().splitlines()]
    return {name: [round(step[key], 4) for step in steps] for name, key in CURVES.items()}


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu[1] if cpu else "CPU"
    return {"device": name, "cores": str(os.cpu_count()), "torch": torch.__version__}


if __name__ == "__main__":
    typer.run(main)
