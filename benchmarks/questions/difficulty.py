"""Flat and difficulty-following budgets: tokens over difficulty before and after, and what a policy costs at equal accuracy.

*Equal accuracy* compares a row with a flat budget of the same warm start: with the one of the fewest tokens that is at most
half a point less accurate. Half a point is about the standard error of a mean of three seeds. An interpolation between flat
budgets would not do: two of them are equally accurate at 41 and 50 tokens, so a tenth of a point would decide about 9 tokens.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import COLOURS, Line, by_arm, figure, means, plus_minus, scores_of, warm_start
from benchmarks.comparison.table import Arm, Table
from verl_efficiency.testbed.notes.frontier import Point, upper_hull

SAME_ACCURACY = 0.005


def rows(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per arm: tokens by level before and after, a line through each, and the saving against a flat budget."""
    found = by_arm(table, lines)
    result = []
    for arm, its in found:
        row = {"arm": arm.name, "warm_start": warm_start(arm), "budget": budget_of(arm), **scores_of(its)}
        before = means([line["validation"][0]["tokens_by_level"] for line in its])
        row["tokens_by_level_before"] = before
        row["fit_before"], row["fit"] = fit(before), fit(row["tokens_by_level"])
        result.append(row)
    for row in result:
        flat = [
            (other["tokens"], other["accuracy"])
            for other in result
            if other["budget"] == "flat" and other["warm_start"] == row["warm_start"]
        ]
        row["flat_tokens_at_equal_accuracy"] = flat_tokens(flat, row["accuracy"])
        equal = row["flat_tokens_at_equal_accuracy"]
        row["saved_against_flat"] = None if equal is None else round(1 - row["tokens"] / equal, 4)
    return result


def budget_of(arm: Arm) -> str:
    """``flat``, the source of difficulty that the budget follows, ``defaults``, or ``none`` without a budget."""
    given = dict(setting.lstrip("+").split("=", 1) for setting in arm.settings)
    if given["algorithm.adv_estimator"] != "token_budget":
        return "none"
    low, high = (given.get(f"algorithm.efficiency.{name}") for name in ("b_min", "b_max"))
    if low is None:
        return "defaults"
    return "flat" if low == high else given.get("algorithm.efficiency.difficulty", "group")


def fit(tokens: Sequence[float]) -> dict[str, float]:
    """The least-squares line through tokens over difficulty, which is 0 at the easiest level and 1 at the hardest.

    >>> fit([16.0, 30.0, 44.0])
    {'easiest': 16.0, 'slope': 28.0, 'r2': 1.0}
    """
    difficulty = np.linspace(0, 1, len(tokens))
    slope, level = np.polyfit(difficulty, tokens, 1)
    spread = np.var(tokens)
    r2 = 1 - np.var(np.asarray(tokens) - level - slope * difficulty) / spread if spread > 1e-9 else 0.0
    return {"easiest": round(float(level), 3), "slope": round(float(slope), 3), "r2": round(float(r2), 4)}


def flat_tokens(flat: Sequence[Point], accuracy: float) -> float | None:
    """The fewest tokens of a flat budget that is at most half a point less accurate; None if there is none.

    >>> [flat_tokens([(30.0, 0.96), (40.0, 0.98)], accuracy) for accuracy in (0.95, 0.964, 0.97, 0.99)]
    [30.0, 30.0, 40.0, None]
    """
    return min((tokens for tokens, its in flat if its >= accuracy - SAME_ACCURACY), default=None)


def write_report(table: Table, lines: Sequence[Line], out: Path) -> None:
    """Print the rows; write ``out.json`` and ``out.png``."""
    found = rows(table, lines)
    if not found:
        print("no run of this table has been tested yet")
        return
    out.with_suffix(".json").write_text(json.dumps({"steps": table.steps, "rows": found}, indent=1) + "\n")
    printed = Printed(
        "arm",
        "warm start",
        "budget",
        "seeds",
        "accuracy",
        "tokens",
        "tokens by level",
        "slope (r²)",
        "saved against flat",
    )
    for row in found:
        saved = row["saved_against_flat"]
        printed.add_row(
            *(row["arm"], row["warm_start"], row["budget"], str(row["seeds"])),
            *(plus_minus(row, "accuracy", 3), plus_minus(row, "tokens", 1)),
            " ".join(f"{tokens:.0f}" for tokens in row["tokens_by_level"]),
            f"{row['fit']['slope']:.1f} ({row['fit']['r2']:.2f})",
            "none as accurate" if saved is None else f"{saved:.1%}",
        )
    Console(width=160).print(printed)
    draw(found, out.with_suffix(".png"))
    print(f"{out.with_suffix('.json')} {out.with_suffix('.png')}")


def draw(found: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Per warm start: tokens over difficulty, before and after; and accuracy against tokens beside the flat budgets."""
    starts = list(dict.fromkeys(row["warm_start"] for row in found))
    picture, axes = figure(2, len(starts), (6.5 * len(starts), 9))
    for place, start in enumerate(starts):
        of_this = [row for row in found if row["warm_start"] == start]
        above, below = axes[0][place], axes[1][place]
        difficulty = np.linspace(0, 1, len(of_this[0]["tokens_by_level"]))
        above.plot(
            difficulty, of_this[0]["tokens_by_level_before"], color="0.5", linestyle="--", label="before training"
        )
        for number, row in enumerate(of_this):
            look = {"color": COLOURS[number % len(COLOURS)], "marker": "osD^v*PX"[number % 8]}
            name = row["arm"].rpartition("easy_habit.")[2]
            above.plot(difficulty, row["tokens_by_level"], label=f"{name} (r² {row['fit']['r2']:.2f})", **look)
            below.errorbar(
                *(row["tokens"], row["accuracy"]),
                xerr=row["tokens_interval"] or 0,
                yerr=row["accuracy_interval"] or 0,
                elinewidth=0.8,
                label=name,
                **look,
            )
        flat = upper_hull([(row["tokens"], row["accuracy"]) for row in of_this if row["budget"] == "flat"])
        if flat:
            below.plot(*zip(*flat, strict=True), color="0.5", zorder=0, label="flat budgets")
        above.set(xlabel="difficulty (level / 5)", ylabel="tokens per problem", title=f"warm start {start}")
        below.set(xlabel="tokens per problem", ylabel="accuracy on the test problems")
        above.legend(fontsize=8)
        below.legend(fontsize=8)
    picture.savefig(file, dpi=110)
