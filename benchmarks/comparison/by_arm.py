"""What the reports of the questions share: the tested runs of each arm, and means over their seeds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.comparison.report import mean_and_interval, tested
from benchmarks.comparison.table import Arm, Table
from verl_efficiency.testbed.notes import frontier

Line = Mapping[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito


def by_arm(table: Table, lines: Sequence[Line]) -> list[tuple[Arm, list[Line]]]:
    """The result lines of each arm's published runs, one per seed. An arm without one is left out."""
    found = tested(table, lines, frontier.load())
    return [(arm, found[key]) for arm in table.arms if (key := (arm.name, "published", None)) in found]


def scores_of(lines: Sequence[Line]) -> dict[str, Any]:
    """Means over the seeds of accuracy and tokens on the test problems, with half of their 95 % interval, and by level."""
    row: dict[str, Any] = {"seeds": len(lines)}
    for name in ("accuracy", "tokens"):
        row[name], row[f"{name}_interval"] = mean_and_interval([line["test"][name] for line in lines])
    for name in ("accuracy_by_level", "tokens_by_level"):
        row[name] = means([line["test"][name] for line in lines])
    return row


def means(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column.

    >>> means([[1.0, 0.5], [0.0, 0.25]])
    [0.5, 0.375]
    """
    return [round(statistics.fmean(column), 4) for column in zip(*rows, strict=True)]


def warm_start(arm: Arm) -> str:
    """The name of the arm's warm start; that of the task is called ``task``."""
    return dict(arm.variables).get("MODEL", "task").rpartition("/")[2]


def plus_minus(row: Mapping[str, Any], name: str, digits: int) -> str:
    """A mean with its interval, for a table."""
    interval = row[f"{name}_interval"]
    return f"{row[name]:.{digits}f}" + ("" if interval is None else f" ± {interval:.{digits}f}")


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure of matplotlib without a window, and its axes (rows, columns)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
