"""One picture of ``evaluate offline``: the accuracy that a limit on tokens would leave, for every file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_efficiency.evaluation.plot import AFTER, BEFORE, blank_figure, save


def plot_budget(results: Sequence[dict[str, Any]], out: Path) -> None:
    """Write a PNG of ``accuracy_at`` of each result of :func:`verl_efficiency.evaluation.efficiency.measure`.

    A dot marks the smallest cap that costs one point.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    figure = blank_figure((6.5, 4.4))
    axes = figure.subplots()
    for colour, result in zip((BEFORE, *AFTER * len(results)), results, strict=False):
        budgets, accuracies = zip(*result["accuracy_at"], strict=True)
        axes.plot(
            (0, *budgets), [0.0, *(100 * value for value in accuracies)], color=colour, lw=2, label=result["label"]
        )
        kept = 100 * max(0.0, result["accuracy"] - 0.01)
        axes.plot([result["cap"]], [kept], "o", color=colour, markersize=7)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("limit on the tokens of a response")
    axes.set_ylabel("accuracy, %")
    axes.set_title("Accuracy at a budget (dot: the cap that costs one point)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(framealpha=1, edgecolor="none")
    save(figure, out)
