"""The first testbed: tokens over the shortest correct answer, and accuracy against plain GRPO."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import COLOURS, Line, by_arm, figure, mean_and_interval, plus_minus, scores_of
from benchmarks.comparison.table import Table
from verl_efficiency.testbed.checks.task import MAX_DEPTH, Problem, shortest_tokens

CONTROL = "grpo"
SHORTEST = statistics.fmean(shortest_tokens([Problem(0, (0,) * depth)]) for depth in range(1, MAX_DEPTH + 1))


def rows(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per arm: its test, and its change in accuracy against the same seeds of plain GRPO."""
    found = by_arm(table, lines)
    plain = {line["run"]["seed"]: line["test"]["accuracy"] for arm, its in found if arm.name == CONTROL for line in its}
    result = []
    for arm, its in found:
        row = {"arm": arm.name, **scores_of(its)}
        row["over_shortest"], row["over_shortest_interval"] = mean_and_interval(
            [line["test"]["tokens"] / SHORTEST for line in its]
        )
        gained = [line["test"]["accuracy"] - plain[line["run"]["seed"]] for line in its if line["run"]["seed"] in plain]
        if gained and arm.name != CONTROL:
            row["accuracy_gained"], row["accuracy_gained_interval"] = mean_and_interval(gained)
        row["validation"] = [
            {name: round(statistics.fmean(one[name] for one in ones), 4) for name in ("step", "accuracy", "tokens")}
            for ones in zip(*(line["validation"] for line in its), strict=True)
        ]
        result.append(row)
    return result


def write_report(table: Table, lines: Sequence[Line], out: Path) -> None:
    """Print the rows; write ``out.json`` and ``out.png``."""
    found = rows(table, lines)
    if not found:
        print("no run of this table has been tested yet")
        return
    content = {"steps": table.steps, "shortest": SHORTEST, "rows": found}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    printed = Printed(
        "arm", "seeds", "accuracy", "against grpo", "tokens", "over the shortest", title=f"{table.steps} steps"
    )
    for row in found:
        printed.add_row(
            *(row["arm"], str(row["seeds"]), plus_minus(row, "accuracy", 3)),
            plus_minus(row, "accuracy_gained", 3) if "accuracy_gained" in row else "–",
            *(plus_minus(row, "tokens", 1), plus_minus(row, "over_shortest", 2) + " ×"),
        )
    Console(width=140).print(printed)
    picture, ((axes,),) = figure(1, 1, (8, 5))
    for row, colour, marker in zip(found, COLOURS, "osD^vPX", strict=False):
        points = row["validation"]
        steps, tokens = ([one[name] for one in points] for name in ("step", "tokens"))
        axes.plot(steps, tokens, color=colour, marker=marker, label=row["arm"])
    axes.axhline(SHORTEST, color="0.5", linestyle="--", label="the shortest correct answer")
    axes.set(xlabel="training step", ylabel="tokens per problem", title="Task checks: tokens of single problems")
    axes.legend()
    picture.savefig(out.with_suffix(".png"), dpi=110)
