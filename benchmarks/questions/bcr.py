"""Batched Contextual Reinforcement: what packs of N problems and their limit do to single problems, and to larger packs.

The law of task scaling is fitted up to N = ``KNOWN_PACKS``. The warm start was not trained on larger packs: it leaves problems
out there, so fewer tokens per problem are no saving.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import COLOURS, Line, by_arm, figure, means, plus_minus, scores_of
from benchmarks.comparison.table import Arm, Table
from verl_efficiency.evaluation.task_scaling import fit_law
from verl_efficiency.testbed.tasks import task_named

CONTROL = "grpo"
LIMIT = "data.max_response_length="
RESPONSE_TOKENS = 66  # of a run that sets none
KNOWN_PACKS = 3  # the largest packs that the warm start was trained on
FREE = 0.01  # loss of accuracy that still counts as none


def rows(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per arm: its N and limit, its test, and both against plain GRPO."""
    found = by_arm(table, lines)
    control = next((scores_of(its) for arm, its in found if arm.name == CONTROL), None)
    result = []
    for arm, its in found:
        problems, limit = packs_of(arm)
        row = {"arm": arm.name, "problems": problems, "limit": limit, "limit_per_problem": round(limit / problems, 1)}
        row["binds"] = limit < task_named(table.task).max_new_tokens * problems
        row |= scores_of(its)
        if control is not None:
            row["tokens_saved"] = round(1 - row["tokens"] / control["tokens"], 4)
            row["accuracy_gained"] = round(row["accuracy"] - control["accuracy"], 4)
            row["free"] = row["tokens_saved"] > 0 and row["accuracy_gained"] >= -FREE
        result.append(row)
    return result


def packs_of(arm: Arm) -> tuple[int, int]:
    """N, and the token limit that its problems share."""
    given = dict(arm.variables)
    limits = [setting.removeprefix(LIMIT) for setting in arm.settings if setting.startswith(LIMIT)]
    limit = limits[-1] if limits else given.get("RESPONSE_TOKENS", RESPONSE_TOKENS)
    return int(given.get("PROBLEMS", 1)), int(limit)


def scaling(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Task scaling of the warm start and of each measured arm: means over the seeds, and the fitted law."""
    measured = {
        arm.name: [line["task_scaling"] for line in its if "task_scaling" in line] for arm, its in by_arm(table, lines)
    }
    measured = {name: its for name, its in measured.items() if its}
    curves = [("warm start", [one["before"] for its in measured.values() for one in its])] if measured else []
    curves += [(name, [one["after"] for one in its]) for name, its in measured.items()]
    result = []
    for name, runs in curves:
        columns = {
            key: means([[point[key] for point in run] for run in runs])
            for key in ("problems", "accuracy", "tokens_per_problem", "finished")
        }
        points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        law = fit_law([point for point in points if point["problems"] <= KNOWN_PACKS])
        result.append({"model": name, "measurements": len(runs), "points": points, "law": law})
    return result


def write_report(table: Table, lines: Sequence[Line], out: Path) -> None:
    """Print both tables; write ``out.json`` and ``out.png``."""
    found, scaled = rows(table, lines), scaling(table, lines)
    if not found:
        print("no run of this table has been tested yet")
        return
    content = {"steps": table.steps, "free": FREE, "law_up_to": KNOWN_PACKS, "rows": found, "task_scaling": scaled}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    printed = Printed(
        "arm", "N", "limit per problem", "seeds", "accuracy", "tokens", "tokens saved", "accuracy gained", "free"
    )
    for row in found:
        against = (
            (f"{row['tokens_saved']:.1%}", f"{row['accuracy_gained']:+.3f}", "yes" if row["free"] else "no")
            if "free" in row
            else ("", "", "")
        )
        limit = f"{row['limit_per_problem']:g}" + ("" if row["binds"] else " (does not bind)")
        printed.add_row(
            *(row["arm"], str(row["problems"]), limit, str(row["seeds"])),
            *(plus_minus(row, "accuracy", 3), plus_minus(row, "tokens", 1), *against),
        )
    Console(width=140).print(printed)
    for model in scaled:
        pairs = [
            f"N={point['problems']:g} {point['accuracy']:.3f} @ {point['tokens_per_problem']:.1f}"
            for point in model["points"]
        ]
        print(f"{model['model']}: {', '.join(pairs)}; exponent b = {model['law']['b']:.3f} up to N = {KNOWN_PACKS}")
    draw(found, scaled, out.with_suffix(".png"))
    print(f"{out.with_suffix('.json')} {out.with_suffix('.png')}")


def draw(found: Sequence[Mapping[str, Any]], scaled: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Single problems: accuracy against tokens. Packs: tokens per problem, and accuracy, over N."""
    picture, ((single, tokens, accuracy),) = figure(1, 3, (15, 4.6))
    for problems in sorted({row["problems"] for row in found}):
        of_this = sorted((row for row in found if row["problems"] == problems), key=lambda row: row["tokens"])
        single.errorbar(
            [row["tokens"] for row in of_this],
            [row["accuracy"] for row in of_this],
            xerr=[row["tokens_interval"] or 0 for row in of_this],
            yerr=[row["accuracy_interval"] or 0 for row in of_this],
            color=COLOURS[problems - 1],
            marker="osD^v*"[problems - 1],
            elinewidth=0.8,
            label=f"trained on packs of {problems}",
        )
        for row in of_this:
            text = f"{row['limit_per_problem']:g}" if row["binds"] else "no limit"
            single.annotate(text, (row["tokens"], row["accuracy"]), (4, 4), textcoords="offset points", fontsize=8)
    single.set(
        xlabel="tokens per single problem",
        ylabel="accuracy on single problems",
        title="labels: token limit per problem",
    )
    single.legend(fontsize=8)
    for place, model in enumerate(scaled):
        sizes = [point["problems"] for point in model["points"]]
        for axes, name in ((tokens, "tokens_per_problem"), (accuracy, "accuracy")):
            values = [point[name] for point in model["points"]]
            axes.plot(sizes, values, color=COLOURS[place], marker="osD^v*"[place % 6], label=model["model"])
    for axes in (tokens, accuracy):
        axes.axvline(KNOWN_PACKS + 0.5, color="0.5", linestyle=":")
        axes.set_title("right of the line: larger packs than the warm start knows", fontsize=9)
    tokens.set(xlabel="problems in a prompt, N", ylabel="tokens per problem")
    accuracy.set(xlabel="problems in a prompt, N", ylabel="accuracy per problem")
    if scaled:
        tokens.legend(fontsize=8)
    picture.savefig(file, dpi=110)
