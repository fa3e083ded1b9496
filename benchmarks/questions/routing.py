"""The answer to ``routing``: accuracy and tokens of each method over the steps and over wall time, for both warm starts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import figure, mean_and_interval, tested
from benchmarks.comparison.report import rows
from benchmarks.comparison.table import Table
from verl_efficiency.testbed.notes import frontier as notes_frontier

TOLD = "told_"  # begins the name of an arm whose warm start learns from demonstrations
COLOURS = {
    "grpo": "#000000",
    "self_distillation": "#D55E00",
    "sample_routing": "#0072B2",
    "variance_routing": "#009E73",
    "variance_routing_teacher": "#CC79A7",
}


def curves(table: Table, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per arm: means over the seeds on the validation split, at each validated step, with 95 % intervals.

    ``seconds`` is the step times the median seconds of a training step, so validations do not count. They are those of the last
    seed: its runs follow one another, so the arms share the load of the machine.
    """
    found = []
    for (arm, _, _), of_arm in tested(table, lines, notes_frontier.load()).items():
        steps = [score["step"] for score in of_arm[0]["validation"]]
        pace = of_arm[-1]["seconds"]["step"]
        row: dict[str, Any] = {
            "arm": arm,
            "seeds": len(of_arm),
            "steps": steps,
            "seconds_per_step": round(pace, 3),
        }
        row["seconds"] = [round(step * pace, 1) for step in steps]
        for name in ("accuracy", "tokens"):
            columns = zip(*([score[name] for score in line["validation"]] for line in of_arm), strict=True)
            pairs = [mean_and_interval(column) for column in columns]
            row[name], row[f"{name}_interval"] = [mean for mean, _ in pairs], [interval for _, interval in pairs]
        found.append(row)
    return found


def write_report(table: Table, lines: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Print the curves; write ``out.json`` and ``out.png``."""
    found = curves(table, lines)
    if not found:
        print("no run of this table has been tested yet")
        return
    content = {"steps": table.steps, "curves": found, "rows": rows(table, lines, notes_frontier.load())}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    steps = max((row["steps"] for row in found), key=len)
    printed = Printed(
        "arm", "seeds", *(f"step {step}" for step in steps), "s per step", title="accuracy @ tokens, validation"
    )
    for row in found:
        cells = [
            f"{accuracy:.3f} @ {tokens:.1f}" for accuracy, tokens in zip(row["accuracy"], row["tokens"], strict=True)
        ]
        printed.add_row(row["arm"], str(row["seeds"]), *cells, f"{row['seconds_per_step']:.2f}")
    Console(width=150).print(printed)
    draw(found, out.with_suffix(".png"))
    print(f"{out.with_suffix('.json')} {out.with_suffix('.png')}")


def draw(found: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Accuracy and tokens over steps and over seconds; dashed for the warm start that learns from demonstrations."""
    picture, axes = figure(2, 2, (11, 7.5), sharex="col", sharey="row")
    for column, (along, label) in enumerate((("steps", "training step"), ("seconds", "seconds in training steps"))):
        for place, (name, title) in enumerate((("accuracy", "accuracy"), ("tokens", "tokens per problem"))):
            for row in found:
                axes[place, column].errorbar(
                    *(row[along], row[name]),
                    yerr=[interval or 0 for interval in row[f"{name}_interval"]],
                    label=row["arm"],
                    color=COLOURS.get(row["arm"].removeprefix(TOLD), "0.5"),
                    linestyle="--" if row["arm"].startswith(TOLD) else "-",
                    elinewidth=0.6,
                )
            axes[place, 0].set_ylabel(f"{title}, validation problems")
        axes[1, column].set_xlabel(label)
    picture.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7)
    picture.suptitle(
        "Testbed task notes; bars: 95 % intervals over seeds; dashed: the warm start that has seen demonstrations"
    )
    picture.savefig(file, dpi=110)
