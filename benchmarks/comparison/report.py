"""A row per arm, over its seeds: accuracy, tokens, and the tokens above the frontier at equal accuracy."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.table import Table
from verl_efficiency.testbed.notes import frontier as notes_frontier
from verl_efficiency.testbed.notes.frontier import Point, tokens_at

# Student's t for a 95 % interval, by degrees of freedom; 1.96 for more.
T_95 = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over seeds and half of its 95 % interval (Student's t); no interval for a single seed.

    >>> mean_and_interval([1.0, 2.0, 3.0])
    (2.0, 2.4826)
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return round(mean, 4), None
    t = T_95[len(values) - 1] if len(values) <= len(T_95) else 1.96
    return round(mean, 4), round(t * statistics.stdev(values) / math.sqrt(len(values)), 4)


def rows(table: Table, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]) -> list[dict[str, Any]]:
    """One row per arm and kind of tested runs, sorted by tokens above the frontier.

    Rows below the table's floor of accuracy come last. Lines of other settings than the table's are left out.
    """
    result = [_row(*name, group, frontier) for name, group in tested(table, lines, frontier).items()]
    for row in result:
        row["reaches_floor"] = row["accuracy"] >= table.floor
    return sorted(result, key=lambda row: (not row["reaches_floor"], row["above_frontier"]))


def tested(
    table: Table, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]
) -> dict[tuple[str, str, float | None], list[Mapping[str, Any]]]:
    """The lines of each arm, kind and value, by seed."""
    groups: dict[tuple[str, str, float | None], list[Mapping[str, Any]]] = {}
    for run in table.runs(lines, frontier):
        line = next((line for line in lines if run.made(line)), None) if run.kind != "trial" else None
        if line is not None:
            groups.setdefault((run.arm, run.kind, run.value), []).append(line)
    return groups


def forms(table: Table, lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Method → form → its lines by seed, for arms named ``method.form``; methods that lack a form are left out."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for (arm, _, _), group in tested(table, lines, notes_frontier.load()).items():
        method, _, form = arm.partition(".")
        found.setdefault(method, {})[form or "published"] = group
    most = max((len(of_form) for of_form in found.values()), default=0)
    return {method: of_form for method, of_form in found.items() if len(of_form) == most}


def _row(
    arm: str, kind: str, value: float | None, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]
) -> dict[str, Any]:
    tests = [line["test"] for line in lines]
    above = [test["tokens"] - tokens_at(frontier, test["accuracy"]) for test in tests]
    row: dict[str, Any] = {"arm": arm, "kind": kind, "value": value, "seeds": len(lines)}
    for name, values in (
        ("accuracy", [test["accuracy"] for test in tests]),
        ("tokens", [test["tokens"] for test in tests]),
        ("above_frontier", above),
    ):
        row[name], row[f"{name}_interval"] = mean_and_interval(values)
    for name in ("accuracy_by_level", "tokens_by_level"):
        columns = zip(*(test[name] for test in tests), strict=True)
        row[name] = [round(statistics.fmean(column), 3) for column in columns]
    row["step_seconds"] = round(statistics.fmean(line["seconds"]["step"] for line in lines), 3)
    row["run_seconds"] = round(statistics.fmean(line["seconds"]["whole"] for line in lines), 1)
    return row


def write_report(table: Table, lines: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Print the rows; write ``out.json`` and ``out.png``."""
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
                _cell(row, "accuracy", 3) + "*" * (not row["reaches_floor"]),
                _cell(row, "tokens", 1),
                _cell(row, "above_frontier", 1),
            ),
            *(f"{row['accuracy_by_level'][-1]:.2f}", f"{row['step_seconds']:.2f}"),
        )
    Console(width=140).print(printed)
    draw(found, frontier, table.steps, out.with_suffix(".png"))
    print(f"{out.with_suffix('.json')} {out.with_suffix('.png')}")


def _cell(row: Mapping[str, Any], name: str, digits: int) -> str:
    interval = row[f"{name}_interval"]
    return f"{row[name]:.{digits}f}" + ("" if interval is None else f" ± {interval:.{digits}f}")


def draw(found: Sequence[Mapping[str, Any]], frontier: Sequence[Point], steps: int, file: Path) -> None:
    """Accuracy against tokens, a point per row with its intervals, and the frontier as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    axes.plot(*zip(*frontier, strict=True), color="0.5", marker=".", label="frontier of the warm start")
    for row in found:
        axes.errorbar(
            *(row["tokens"], row["accuracy"]),
            xerr=row["tokens_interval"] if row["seeds"] >= 3 else 0,
            yerr=row["accuracy_interval"] if row["seeds"] >= 3 else 0,
            marker="o" if row["kind"] == "published" else "D",
            color="#0072B2" if row["kind"] == "published" else "#D55E00",
            elinewidth=0.8,
        )
        label = row["arm"] if row["kind"] == "published" else f"{row['arm']} {row['value']:g}"
        right = row["tokens"] > 40  # its label goes to the left, inside the picture
        place = {"xytext": (-5, 4) if right else (5, 4), "ha": "right" if right else "left"}
        axes.annotate(label, (row["tokens"], row["accuracy"]), textcoords="offset points", fontsize=7, **place)
    counts = [row["seeds"] for row in found]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    axes.set(
        xlabel="tokens per problem",
        ylabel="accuracy on the test problems",
        title=f"Testbed task notes, {steps} steps; seeds per arm: {seeds}; bars: 95 % intervals of three seeds or more",
        ylim=(min(0.85, *(row["accuracy"] for row in found)) - 0.02, 1.005),
    )
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
