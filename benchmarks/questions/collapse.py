"""When a price per token destroys the accuracy: each level over the steps, and what the user was told.

A level is *lost* from the first validation after which its accuracy stays at least ``LOST`` below its best before. ``told`` has
each rule of ``verl-efficiency diagnose`` that fired, with the first step at which it did, per run. It is asked every ten steps.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import Line, by_arm, figure, means, plus_minus, scores_of, warm_start
from benchmarks.comparison.launch import findings
from benchmarks.comparison.table import Arm, Table
from verl_efficiency.evaluation.run_log import RunLog

LOST = 0.2
WEIGHT = "+reward.custom_reward_function.reward_kwargs.weight="


def rows(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per arm, in the order of the table."""
    return [_row(arm, its) for arm, its in by_arm(table, lines)]


def _row(arm: Arm, lines: Sequence[Line]) -> dict[str, Any]:
    curves = [{score["step"]: score for score in line["validation"]} for line in lines]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    by_step = [means([curve[step]["accuracy_by_level"] for curve in curves]) for step in steps]
    weights = [setting.removeprefix(WEIGHT) for setting in arm.settings if setting.startswith(WEIGHT)]
    return {
        "arm": arm.name,
        "warm_start": warm_start(arm),
        "weight": float(weights[0]) if weights else None,
        **scores_of(lines),
        "steps": steps,
        "accuracy_by_step_and_level": by_step,
        "tokens_by_step": means([[curve[step]["tokens"] for step in steps] for curve in curves]),
        "lost_at": lost_at(steps, by_step),
        "told": told([diagnosis(line) for line in lines]),
        "start_up_warnings": sorted({text for line in lines for text in line.get("warnings", ())}),
    }


def lost_at(steps: Sequence[int], by_step: Sequence[Sequence[float]]) -> list[int | None]:
    """For each level the step at which it is lost, see the module; None if it never is.

    >>> lost_at([0, 10, 20, 30], [[0.5, 0.5, 0.9], [0.9, 0.9, 0.5], [0.8, 0.5, 0.4], [0.8, 0.4, 0.9]])
    [None, 20, None]
    """
    found: list[int | None] = []
    for accuracy in zip(*by_step, strict=True):
        at = None
        for place in range(len(steps) - 1, 0, -1):
            if accuracy[place] > max(accuracy[:place]) - LOST:
                break
            at = steps[place]
        found.append(at)
    return found


def told(diagnoses: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, list[int | None]]:
    """Rule → for each run the first step at which it fired, or None.

    >>> told([{"10": ["truncation"], "20": ["truncation"]}, {}])
    {'truncation': [10, None]}
    """
    rules = sorted({rule for diagnosis in diagnoses for names in diagnosis.values() for rule in names})
    return {
        rule: [next((int(step) for step, names in one.items() if rule in names), None) for one in diagnoses]
        for rule in rules
    }


def diagnosis(line: Line) -> Mapping[str, Sequence[str]]:
    """What ``diagnose`` said; for a line made before it was asked, what it says about the curves that the line has."""
    if "diagnosis" in line:
        return line["diagnosis"]
    log = RunLog()
    training = line["training"]
    for step, (score, tokens) in enumerate(zip(training["score"], training["response_tokens"], strict=True), start=1):
        log.add(step, {"critic/score/mean": score, "response_length/mean": tokens})
    for score in line["validation"]:
        log.add(score["step"], {"val-core/testbed/acc/mean@1": score["accuracy"]})
    return findings(log)


def write_report(table: Table, lines: Sequence[Line], out: Path) -> None:
    """Print the rows; write ``out.json`` and ``out.png``."""
    found = rows(table, lines)
    if not found:
        print("no run of this table has been tested yet")
        return
    out.with_suffix(".json").write_text(
        json.dumps({"steps": table.steps, "lost": LOST, "rows": found}, indent=1) + "\n"
    )
    printed = Printed(
        "arm", "warm start", "seeds", "accuracy", "tokens", "by level", "lost at step", "diagnose: first step"
    )
    for row in found:
        printed.add_row(
            *(row["arm"], row["warm_start"], str(row["seeds"])),
            *(plus_minus(row, "accuracy", 3), plus_minus(row, "tokens", 1)),
            " ".join(f"{accuracy:.2f}" for accuracy in row["accuracy_by_level"]),
            " ".join("–" if step is None else str(step) for step in row["lost_at"]),
            "; ".join(f"{rule} {', '.join(map(str, steps))}" for rule, steps in row["told"].items()),
        )
    Console(width=160).print(printed)
    draw(found, out.with_suffix(".png"))
    print(f"{out.with_suffix('.json')} {out.with_suffix('.png')}")


def draw(found: Sequence[Mapping[str, Any]], file: Path) -> None:
    """A row of pictures per warm start, a picture per arm: accuracy over the steps, a line per level."""
    from matplotlib import colormaps

    of_start: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        of_start.setdefault(row["warm_start"], []).append(row)
    columns = max(map(len, of_start.values()))
    picture, axes = figure(len(of_start), columns, (2.2 * columns + 1, 2.6 * len(of_start)))
    for place, (start, of_this) in enumerate(of_start.items()):
        for column, one in enumerate(axes[place]):
            if column >= len(of_this):
                one.set_axis_off()
                continue
            row = of_this[column]
            levels = list(zip(*row["accuracy_by_step_and_level"], strict=True))
            for level, accuracy in enumerate(levels):
                colour = colormaps["viridis"](level / max(1, len(levels) - 1))
                one.plot(row["steps"], accuracy, color=colour, marker=".", label=f"level {level}")
            title = row["arm"].rpartition("early.")[2] if row["weight"] is None else f"λ = {row['weight']:g}"
            one.set(ylim=(-0.02, 1.02), title=title)
            if column == 0:
                one.set_ylabel(f"accuracy\nwarm start {start}")
            if place == len(of_start) - 1:
                one.set_xlabel("training step")
    axes[0][0].legend(fontsize=7, loc="lower left")
    picture.savefig(file, dpi=110)
