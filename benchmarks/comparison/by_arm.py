"""What the reports of the questions share: the tested runs of each arm, and means over their seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.comparison.table import Arm, Table
from verl_efficiency.testbed.notes import frontier as notes_frontier
from verl_efficiency.testbed.notes.frontier import Point

Line = Mapping[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito


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


def tested(
    table: Table, lines: Sequence[Line], frontier: Sequence[Point]
) -> dict[tuple[str, str, float | None], list[Line]]:
    """The lines of each arm, kind and value, by seed."""
    groups: dict[tuple[str, str, float | None], list[Line]] = {}
    for run in table.runs(lines, frontier):
        line = next((line for line in lines if run.made(line)), None) if run.kind != "trial" else None
        if line is not None:
            groups.setdefault((run.arm, run.kind, run.value), []).append(line)
    return groups


def forms(table: Table, lines: Sequence[Line]) -> dict[str, dict[str, list[Line]]]:
    """Method → form → its lines by seed, for arms named ``method.form``; methods that lack a form are left out."""
    found: dict[str, dict[str, list[Line]]] = {}
    for (arm, _, _), group in tested(table, lines, notes_frontier.load()).items():
        method, _, form = arm.partition(".")
        found.setdefault(method, {})[form or "published"] = group
    most = max((len(of_form) for of_form in found.values()), default=0)
    return {method: of_form for method, of_form in found.items() if len(of_form) == most}


def by_arm(table: Table, lines: Sequence[Line]) -> list[tuple[Arm, list[Line]]]:
    """The result lines of each arm's published runs, one per seed. An arm without one is left out."""
    found = tested(table, lines, notes_frontier.load())
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


def figure(rows: int, columns: int, size: tuple[float, float], **shared: str) -> tuple[Any, Any]:
    """A figure of matplotlib that needs no window and no closing, and its axes (rows, columns).

    ``shared`` are matplotlib's ``sharex`` and ``sharey``.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    return picture, picture.subplots(rows, columns, squeeze=False, **shared)
