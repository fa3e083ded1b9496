"""The first testbed: tokens over the shortest correct answer, and accuracy against plain GRPO."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import (
    COLOURS,
    Line,
    by_arm,
    figure,
    mean_and_interval,
    plus_minus,
    scores_of,
    warm_start,
)
from benchmarks.comparison.table import Table
from verl_efficiency.testbed.checks.task import MAX_DEPTH, Problem, shortest_tokens

CONTROL = "grpo"
SHORTEST = statistics.fmean(shortest_tokens([Problem(0, (0,) * depth)]) for depth in range(1, MAX_DEPTH + 1))


def rows(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per method, over its warm starts and seeds. Accuracy is compared with the run of plain GRPO from the same warm
    start with the same seed, tokens with those of the warm start.
    """
    methods: dict[str, dict[tuple[str, int], Line]] = {}  # by warm start and seed
    for arm, its in by_arm(table, lines):
        runs = methods.setdefault(arm.name.rpartition(".")[2], {})
        runs |= {(warm_start(arm), line["run"]["seed"]): line for line in its}
    plain = methods.get(CONTROL, {})
    result = []
    for name, runs in methods.items():
        its = list(runs.values())
        starts = list(dict.fromkeys(start for start, _ in runs))
        row = {"arm": name, "warm_starts": len(starts), **scores_of(its)}  # `seeds` counts the runs of all warm starts
        over = {key: line["test"]["tokens"] / SHORTEST for key, line in runs.items()}
        row["over_shortest"], row["over_shortest_interval"] = mean_and_interval(list(over.values()))
        row["over_shortest_by_warm_start"] = [
            mean_and_interval([ratio for (start, _), ratio in over.items() if start == one])[0] for one in starts
        ]
        pairs = [(line, plain[key]) for key, line in runs.items() if key in plain]
        if pairs:
            changed = [line["test"]["tokens"] / control["validation"][0]["tokens"] - 1 for line, control in pairs]
            row["tokens_changed"], row["tokens_changed_interval"] = mean_and_interval(changed)
        if pairs and name != CONTROL:
            gained = [line["test"]["accuracy"] - control["test"]["accuracy"] for line, control in pairs]
            row["accuracy_gained"], row["accuracy_gained_interval"] = mean_and_interval(gained)
        row["validation"] = [
            {what: round(statistics.fmean(one[what] for one in ones), 4) for what in ("step", "accuracy", "tokens")}
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
        *("arm", "runs", "accuracy", "against grpo", "tokens", "changed", "over the shortest", "of each warm start"),
        title=f"{table.steps} steps",
    )
    for row in found:
        printed.add_row(
            *(row["arm"], str(row["seeds"]), plus_minus(row, "accuracy", 3)),
            plus_minus(row, "accuracy_gained", 3) if "accuracy_gained" in row else "–",
            plus_minus(row, "tokens", 1),
            plus_minus(row, "tokens_changed", 3) if "tokens_changed" in row else "–",
            plus_minus(row, "over_shortest", 2) + " ×",
            " ".join(f"{over:.2f}" for over in row["over_shortest_by_warm_start"]),
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
