"""The answer to ``normalisation``: every method in three normalisations, and what explains the differences."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import figure, forms, scores_of
from benchmarks.comparison.table import Table
from verl_efficiency.testbed.notes import frontier as notes_frontier

COLORS = {"published": "#D55E00", "dr_grpo": "#E69F00", "decoupled": "#0072B2"}


def write_report(table: Table, lines: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Print accuracy and tokens per method and normalisation; write ``out.json`` and ``out.png``."""
    found = forms(table, lines)
    if not found:
        print("no method has been tested in all normalisations yet")
        return
    rows = [
        {"method": method, "form": form, **scores_of(group)}
        for method, of_form in found.items()
        for form, group in of_form.items()
    ]
    shares = {
        name: explained({(row["method"], row["form"]): row[name] for row in rows}) for name in ("accuracy", "tokens")
    }
    out.with_suffix(".json").write_text(
        json.dumps({"steps": table.steps, "explained": shares, "rows": rows}, indent=1) + "\n"
    )
    names = list(next(iter(found.values())))
    printed = Printed("method", *names, title=f"accuracy @ tokens, {table.steps} steps")
    for method in found:
        cells = [row for row in rows if row["method"] == method]
        printed.add_row(method, *(f"{row['accuracy']:.3f} @ {row['tokens']:.1f}" for row in cells))
    Console(width=120).print(printed)
    for name, share in shares.items():
        print(
            f"{name}: the normalisation explains {share['form']:.0%} of the variance, the method {share['method']:.0%}"
        )
    draw(rows, table.steps, out.with_suffix(".png"))


def explained(values: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The share of the variance of ``values`` over (method, form) that each of the two explains alone; 0 without variance.

    >>> explained({("a", "x"): 0.0, ("a", "y"): 2.0, ("b", "x"): 0.0, ("b", "y"): 2.0})
    {'method': 0.0, 'form': 1.0}
    """
    mean = statistics.fmean(values.values())
    total = sum((value - mean) ** 2 for value in values.values())
    shares = {}
    for place, name in enumerate(("method", "form")):
        groups: dict[str, list[float]] = {}
        for key, value in values.items():
            groups.setdefault(key[place], []).append(value)
        between = sum(len(group) * (statistics.fmean(group) - mean) ** 2 for group in groups.values())
        shares[name] = round(between / total, 3) if total else 0.0
    return shares


def draw(rows: Sequence[Mapping[str, Any]], steps: int, file: Path) -> None:
    """A point per method and normalisation; a line joins the points of a method."""
    picture, ((axes,),) = figure(1, 1, (9, 6))
    axes.plot(*zip(*notes_frontier.load(), strict=True), color="0.5", marker=".", label="frontier of the warm start")
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        axes.plot(
            [row["tokens"] for row in own], [row["accuracy"] for row in own], color="0.8", linewidth=0.8, zorder=1
        )
        axes.annotate(
            method, (own[0]["tokens"], own[0]["accuracy"]), textcoords="offset points", xytext=(4, -10), fontsize=7
        )
    for form in dict.fromkeys(row["form"] for row in rows):
        own = [row for row in rows if row["form"] == form]
        tokens, accuracy = [row["tokens"] for row in own], [row["accuracy"] for row in own]
        axes.scatter(tokens, accuracy, color=COLORS.get(form, "0"), label=form, zorder=2)
    axes.set(
        xlabel="tokens per problem",
        ylabel="accuracy on the test problems",
        title=f"Testbed task notes, {steps} steps",
        ylim=(min(0.8, *(row["accuracy"] for row in rows)) - 0.02, 1.005),
    )
    axes.legend(loc="lower right")
    picture.savefig(file, dpi=110)
