"""A row per arm, over its seeds: accuracy, tokens, and the tokens above the frontier at equal accuracy."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import figure, mean_and_interval, plus_minus, scores_of, tested
from benchmarks.comparison.table import Table
from verl_efficiency.testbed.notes import frontier as notes_frontier
from verl_efficiency.testbed.notes.frontier import Point, tokens_at

LOWEST = 0.88  # of the accuracy axis


def rows(table: Table, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]) -> list[dict[str, Any]]:
    """One row per arm and kind of tested runs, sorted by tokens above the frontier.

    Rows below the table's floor of accuracy come last. Lines of other settings than the table's are left out.
    The row of a tuned arm names the setting that was tuned, and what its trials found on the validation split.
    """
    result = [_row(*name, group, frontier) for name, group in tested(table, lines, frontier).items()]
    arms = {arm.name: arm for arm in table.arms}
    for row in result:
        row["reaches_floor"] = row["accuracy"] >= table.floor
        if row["kind"] == "tuned":
            row["strength"] = arms[row["arm"]].strength.rpartition(".")[2]
            row["tried"] = [
                {"value": value, "accuracy": accuracy, "tokens": tokens}
                for value, (accuracy, tokens) in table.tried(arms[row["arm"]], lines).items()
            ]
    return sorted(result, key=lambda row: (not row["reaches_floor"], row["above_frontier"]))


def _row(
    arm: str, kind: str, value: float | None, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]
) -> dict[str, Any]:
    above = [line["test"]["tokens"] - tokens_at(frontier, line["test"]["accuracy"]) for line in lines]
    row: dict[str, Any] = {"arm": arm, "kind": kind, "value": value, **scores_of(lines)}
    row["above_frontier"], row["above_frontier_interval"] = mean_and_interval(above)
    row["step_seconds"] = round(statistics.fmean(line["seconds"]["step"] for line in lines), 3)
    row["run_seconds"] = round(statistics.fmean(line["seconds"]["whole"] for line in lines), 1)
    return row


def write_report(table: Table, lines: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Print the rows; write ``out.json`` and ``out.png``, and ``out_tuned.png`` if any arm was tuned.

    The first picture has the published settings. In the second, each arm that was tuned takes its tuned strength.
    """
    frontier = notes_frontier.load()
    found = rows(table, lines, frontier)
    if not found:
        print("no run of this table has been tested yet")
        return
    content = {"steps": table.steps, "floor": table.floor, "frontier": frontier, "rows": found}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    title = f"{table.steps} steps; * below the floor of accuracy, {table.floor}"
    printed = Printed(
        "arm", "kind", "seeds", "accuracy", "tokens", "above the frontier", "hardest level", "s per step", title=title
    )
    for row in found:
        printed.add_row(
            *(row["arm"], row["kind"] + ("" if row["value"] is None else f" {row['value']:g}"), str(row["seeds"])),
            *(
                plus_minus(row, "accuracy", 3) + "*" * (not row["reaches_floor"]),
                plus_minus(row, "tokens", 1),
                plus_minus(row, "above_frontier", 1),
            ),
            *(f"{row['accuracy_by_level'][-1]:.2f}", f"{row['step_seconds']:.2f}"),
        )
    Console(width=140).print(printed)
    draw([row for row in found if row["kind"] == "published"], frontier, table.steps, out.with_suffix(".png"))
    tuned = {row["arm"] for row in found if row["kind"] == "tuned"}
    if tuned:
        best = [row for row in found if (row["kind"] == "tuned") == (row["arm"] in tuned)]
        draw(best, frontier, table.steps, out.with_name(f"{out.name}_tuned.png"))
    print(f"{out.with_suffix('.json')} and its pictures")


def draw(found: Sequence[Mapping[str, Any]], frontier: Sequence[Point], steps: int, file: Path) -> None:
    """Accuracy against tokens, a point per row with its intervals, and the frontier as a line.

    A point below ``LOWEST`` lies on the lower edge, with its accuracy.
    """
    from adjustText import adjust_text
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture, ((axes,),) = figure(1, 1, (9.5, 6))
    FigureCanvasAgg(picture)  # it measures the labels
    axes.plot(*zip(*frontier, strict=True), color="0.5", marker=".", label="the best possible (frontier)")
    axes.set(
        xlabel="tokens per problem",
        ylabel="accuracy on the test problems",
        title=f"Task notes, {steps} steps; {_range([row['seeds'] for row in found])} seeds; bars: 95 % intervals",
        ylim=(LOWEST - 0.005, 1.004),
        xlim=(15, max(row["tokens"] for row in found) + 3),
    )
    labels = []
    for row in found:
        inside, published = row["accuracy"] >= LOWEST, row["kind"] == "published"
        several = row["seeds"] >= 3 and inside
        place = row["tokens"], max(row["accuracy"], LOWEST)
        axes.errorbar(
            *place,
            xerr=row["tokens_interval"] if several else 0,
            yerr=row["accuracy_interval"] if several else 0,
            marker=("o" if published else "D") if inside else "v",
            color="#D55E00" if row["arm"] == "grpo" else "#0072B2",
            elinewidth=0.8,
        )
        name = row["arm"] if published else f"{row['arm']} {row['value']:g}"
        labels.append(axes.text(*place, name if inside else f"{name} ({row['accuracy']:.2f})", fontsize=8))
    axes.legend(loc="lower right")
    adjust_text(labels, ax=axes, arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5})
    picture.savefig(file, dpi=110)


def _range(numbers: Sequence[int]) -> str:
    """
    >>> _range([2, 2]), _range([3, 1, 2])
    ('2', '1 to 3')
    """
    return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"
