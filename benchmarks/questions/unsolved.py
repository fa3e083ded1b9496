"""The answer to ``unsolved``: the share of the update from unsolved groups, and what leaving them out changes."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import figure, forms, mean_and_interval, scores_of
from benchmarks.comparison.table import Table


def write_report(table: Table, lines: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Print a row per method; write ``out.json`` and ``out.png``."""
    found = forms(table, lines)
    if not found:
        print("no method has been tested both ways yet")
        return
    rows = [row(method, of_form["published"], of_form["leave"]) for method, of_form in found.items()]
    out.with_suffix(".json").write_text(json.dumps({"steps": table.steps, "rows": rows}, indent=1) + "\n")
    printed = Printed(
        "method",
        "share of the update",
        "as published",
        "left out",
        "accuracy gained",
        "tokens",
        title=f"{table.steps} steps",
    )
    for one in rows:
        published, leave = one["as_published"], one["leave"]
        printed.add_row(
            *(one["method"], f"{one['unsolved_share']:.0%}"),
            *(f"{score['accuracy']:.3f} @ {score['tokens']:.1f}" for score in (published, leave)),
            *(_signed(one["accuracy_gain"], 100, 1), _signed(one["tokens_gain"], 1, 1)),
        )
    Console(width=120).print(printed)
    draw(rows, out.with_suffix(".png"))


def row(method: str, published: Sequence[Mapping[str, Any]], leave: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One method: its runs as published and with ``unsolved=leave``, of the same seeds."""
    pairs = [(a["test"], b["test"]) for a in published for b in leave if a["run"]["seed"] == b["run"]["seed"]]
    return {
        "method": method,
        "seeds": len(pairs),
        "unsolved_share": round(
            statistics.fmean(statistics.fmean(a["training"]["unsolved_share"]) for a in published), 4
        ),
        **{
            form: scores_of(lines) | {"accuracy_by_seed": [line["test"]["accuracy"] for line in lines]}
            for form, lines in (("as_published", published), ("leave", leave))
        },
        "accuracy_gain": mean_and_interval([b["accuracy"] - a["accuracy"] for a, b in pairs]),
        "tokens_gain": mean_and_interval([b["tokens"] - a["tokens"] for a, b in pairs]),
    }


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """An arrow per method, from as published to left out."""
    picture, ((axes,),) = figure(1, 1, (8, 5))
    for one in rows:
        (x, y), (to_x, to_y) = ((one[name]["tokens"], one[name]["accuracy"]) for name in ("as_published", "leave"))
        axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "color": "#0072B2"})
        axes.plot(x, y, "o", color="#D55E00")
        axes.annotate(
            f"{one['method']} ({one['unsolved_share']:.0%})", (x, y), textcoords="offset points", xytext=(5, 4)
        )
    axes.set(
        xlabel="tokens per problem",
        ylabel="accuracy on the test problems",
        title="From as published (dot, share of the update) to unsolved=leave (arrow)",
    )
    picture.savefig(file, dpi=110)


def _signed(value: Sequence[float | None], scale: float, digits: int) -> str:
    mean, interval = value
    assert mean is not None
    return f"{mean * scale:+.{digits}f}" + ("" if interval is None else f" ± {interval * scale:.{digits}f}")
