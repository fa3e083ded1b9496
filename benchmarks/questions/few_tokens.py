"""The answer to ``few_tokens``: what is learned from a part of the tokens, beside GRPO on all of them, in full and with LoRA.

A token has a gradient if its advantage is not 0. GRPO's share is below 1 too: a group of equal scores teaches nothing.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from benchmarks.comparison.by_arm import COLOURS, Line, by_arm, figure, mean_and_interval, means, plus_minus, scores_of
from benchmarks.comparison.table import Table

BASELINE = "grpo"


def rows(table: Table, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per arm, in the order of the table. Arms with LoRA are named ``method.lora``."""
    found = {arm.name: its for arm, its in by_arm(table, lines)}
    result = []
    for name, its in found.items():
        method, _, lora = name.partition(".")
        baseline = found.get(f"{BASELINE}.{lora}" if lora else BASELINE, [])
        result.append({"arm": name, "method": method, "lora": bool(lora), **_measured(its, baseline)})
    return result


def _measured(lines: Sequence[Line], baseline: Sequence[Line]) -> dict[str, Any]:
    """Test accuracy, validation accuracy before and after, and the difference to the baseline's runs of the same seeds."""
    curves = [[score["accuracy"] for score in line["validation"]] for line in lines]
    of_seed = {line["run"]["seed"]: line["test"]["accuracy"] for line in baseline}
    pairs = [
        line["test"]["accuracy"] - of_seed[line["run"]["seed"]] for line in lines if line["run"]["seed"] in of_seed
    ]
    shares = [line["training"]["tokens_with_gradient"] for line in lines]
    row = scores_of(lines)
    for name, values in (
        ("before", [curve[0] for curve in curves]),
        ("after", [curve[-1] for curve in curves]),
        ("gain", [curve[-1] - curve[0] for curve in curves]),
        ("tokens_with_gradient", [statistics.fmean(share) for share in shares]),
    ):
        row[name], row[f"{name}_interval"] = mean_and_interval(values)
    row["against_grpo"], row["against_grpo_interval"] = mean_and_interval(pairs) if pairs else (None, None)
    row["steps"] = [score["step"] for score in lines[0]["validation"]]
    row["accuracy_by_step"] = means(curves)
    row["tokens_with_gradient_by_step"] = means(shares)
    return row


def write_report(table: Table, lines: Sequence[Line], out: Path) -> None:
    """Print a row per arm; write ``out.json`` and ``out.png``."""
    found = rows(table, lines)
    if not found:
        print("no run of this table has been tested yet")
        return
    out.with_suffix(".json").write_text(json.dumps({"steps": table.steps, "rows": found}, indent=1) + "\n")
    printed = Printed(
        *("arm", "seeds", "validation before", "after", "test", "against grpo", "tokens with gradient"),
        title=f"accuracy, {table.steps} steps",
    )
    for row in found:
        printed.add_row(
            *(row["arm"], str(row["seeds"])),
            *(plus_minus(row, name, 3) for name in ("before", "after", "accuracy")),
            "–" if row["against_grpo"] is None else plus_minus(row, "against_grpo", 3),
            f"{row['tokens_with_gradient']:.1%}",
        )
    Console(width=140).print(printed)
    draw(found, out.with_suffix(".png"))
    print(f"{out.with_suffix('.json')} {out.with_suffix('.png')}")


def draw(found: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Two pictures: validation accuracy over the steps, and test accuracy against the share of tokens with a gradient."""
    picture, ((over_steps, by_share),) = figure(1, 2, (12, 5))
    methods = list(dict.fromkeys(row["method"] for row in found))
    for row in found:
        look = {"color": COLOURS[methods.index(row["method"])], "marker": "D" if row["lora"] else "o"}
        line = {"linestyle": "--" if row["lora"] else "-"}
        over_steps.plot(row["steps"], row["accuracy_by_step"], label=row["arm"], **look, **line)
        interval = row["accuracy_interval"] if row["seeds"] >= 3 else 0
        by_share.errorbar(row["tokens_with_gradient"], row["accuracy"], yerr=interval, elinewidth=0.8, **look)
        place = {"textcoords": "offset points", "xytext": (5, 4), "fontsize": 8}
        by_share.annotate(row["arm"], (row["tokens_with_gradient"], row["accuracy"]), **place)
    over_steps.set(xlabel="training step", ylabel="accuracy on the validation problems")
    over_steps.legend(fontsize=8)
    by_share.set(
        xlabel="share of the response tokens with a gradient", ylabel="accuracy on the test problems", xscale="log"
    )
    picture.savefig(file, dpi=110)
