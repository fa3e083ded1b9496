"""``report``: results of ``evaluate`` compared with each other, as a table, a picture or a page."""

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from verl_efficiency.data.files import require_ending
from verl_efficiency.evaluation.diagnose import SERIES, diagnose
from verl_efficiency.evaluation.page import Section, write_page
from verl_efficiency.evaluation.plot import (
    PICTURES,
    Panel,
    accuracy_at_budget,
    draw,
    looks_of,
    report_panels,
    save,
    scaling,
    scores,
    strategies,
)
from verl_efficiency.evaluation.results import Kind, load_result, settings_of
from verl_efficiency.evaluation.run_log import RunLog, read_run
from verl_efficiency.evaluation.samples import answers_section
from verl_efficiency.evaluation.summary import compare
from verl_efficiency.evaluation.tables import (
    comparison_table,
    efficiency_table,
    evaluation_table,
    new_table,
    number,
    scaling_tables,
    strategies_table,
)
from verl_efficiency.evaluation.training_log import TrainingLog
from verl_efficiency.methods.catalog import METHODS
from verl_efficiency.settings import require

TITLES: dict[Kind, str] = {
    "offline": "Stored generations",
    "strategies": "Test-time strategies, replayed",
    "live": "Test-time strategies on a server",
}


def report(
    results: Sequence[str | Path],
    training_logs: Sequence[TrainingLog] = (),
    out: str | Path | None = None,
    rows: Sequence[Path] = (),
    png: Path | None = None,
) -> list[dict[str, Any]]:
    """Print the tables of the results; write a page or a picture if asked for.

    Args:
        results: JSON files of the ``evaluate`` commands. Those of ``evaluate`` itself are on the same problems, and are
            compared with the first, "before". The others (task scaling, stored generations, strategies) have their own tables
            and parts of the page.
        training_logs: for the curves, the statistics of the methods, and the faults that ``diagnose`` finds.
        out: the page (``.html``), or a picture of the evaluations and curves.
        rows: files of ``evaluate --rows``, whose answers the page shows side by side.
        png: a folder for the pictures of the page as PNG files.

    Returns:
        For each further evaluation its label and its comparison with the first, see :func:`compare`.

    Raises:
        SettingsError: a file is missing or of another kind, or the evaluations are not on the same problems.
    """
    require(len(results) > 0, "results", list(results), "at least one JSON of `verl-efficiency evaluate`")
    endings = (".html", *PICTURES)
    if out is not None:
        require_ending(out, "--out", endings)
    page = out is not None and Path(out).suffix == ".html"
    require(page or not (rows or png), "--rows, --png", [*map(str, rows), str(png)], "used with --out PAGE.html")
    require(out is not None or not training_logs, "--log", [log.label for log in training_logs], "used with --out")
    loaded = [load_result(Path(path)) for path in results]
    evaluations = [result for kind, result in loaded if kind == "evaluation"]
    labels = [evaluation["label"] for evaluation in evaluations]
    for kind in get_args(Kind):
        same = [result["label"] for other, result in loaded if other == kind]
        fix = "different for each result of one command (--label; `evaluate strategies`: LABEL=FILE)"
        require(len(set(same)) == len(same), "label", same, fix)
    changes = [{"label": after["label"]} | compare(evaluations[0], after) for after in evaluations[1:]]
    if evaluations:
        Console().print(comparison_table(evaluations, changes))
    for kind, result in loaded:
        if kind != "evaluation":
            Console().print(*tables_of(kind, result))
    if out is None:
        return changes
    if not page:
        require(bool(evaluations), "--out", str(out), "a page (.html), since none of the files is of `evaluate MODEL`")
        panels = report_panels(evaluations, changes, training_logs)
        save(draw(*panels, size=(5.0, 4.6) if training_logs else (6, 4.6)), Path(out))
        print(f"picture: {out}")
        return changes

    logs = {log.label: read_run([log.path], log.scores) for log in training_logs}
    sections = [
        *comparison_section(evaluations, changes, training_logs, logs),
        *(training_section(label, log) for label, log in logs.items()),
        *scaling_section([result for kind, result in loaded if kind == "scaling"], looks_of(evaluations)),
        *(strategies_section(kind, result) for kind, result in loaded if kind in ("strategies", "live")),
        *(offline_section(result) for kind, result in loaded if kind == "offline"),
        *answers_section(rows),
        *settings_section(loaded),
    ]
    named = labels if len(labels) <= 3 else [f"{labels[0]} and {len(labels) - 1} others"]
    title = ", ".join(named) or "verl-efficiency report"
    write_page(Path(out), title, [in_words(change, labels[0]) for change in changes], sections)
    print(f"page: {out}")
    if png is not None:
        drawn = [pair for section in sections for pair in section.panels.items()]
        for stem, (_, panel) in zip(file_names([name for name, _ in drawn]), drawn, strict=True):
            picture = png / f"{stem}.png"
            save(draw(panel), picture)
            print(f"picture: {picture}")
    return changes


def file_names(names: Sequence[str]) -> list[str]:
    """A file name without its ending for each of the names, all different.

    >>> file_names(["Strategies: a b", "Strategies: a-b", "Tokens over N"])
    ['strategies_a_b', 'strategies_a_b_2', 'tokens_over_n']
    """
    found: list[str] = []
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        numbered = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        found.append(next(one for one in numbered if one not in found))
    return found


def tables_of(kind: Kind, result: Mapping[str, Any]) -> list[Group | Text]:
    """The tables of a result that is not an evaluation, after its title."""
    if kind == "scaling":
        return [*scaling_tables(result)]
    table = efficiency_table(result["rows"]) if kind == "offline" else strategies_table(result["rows"])
    return [Text(title_of(kind, result)), table]


def title_of(kind: Kind, result: Mapping[str, Any]) -> str:
    """What a result of stored responses or strategies is, and its label."""
    return f"{TITLES[kind]}: {result['label']}"


def in_words(change: Mapping[str, Any], before: str) -> str:
    """One line for a comparison.

    >>> in_words({"label": "b", "tokens_ratio": 0.5, "tokens_ratio_se": 0.01, "accuracy_change": 0.1,
    ...           "accuracy_change_se": None}, "a")
    'b against a: -50.0 ± 1.0 % tokens, +10.0 points of accuracy.'
    """
    tokens = number(change["tokens_ratio"] - 1, change["tokens_ratio_se"], scale=100, sign="+")
    accuracy = number(change["accuracy_change"], change["accuracy_change_se"], scale=100, sign="+")
    return f"{change['label']} against {before}: {tokens} % tokens, {accuracy} points of accuracy."


def comparison_section(
    evaluations: Sequence[dict[str, Any]],
    changes: Sequence[dict[str, Any]],
    training_logs: Sequence[TrainingLog],
    logs: Mapping[str, RunLog],
) -> list[Section]:
    """Before and after, with the curves of training; empty without evaluations."""
    if not evaluations:
        return []
    names = ("Accuracy against tokens", "Tokens in training")
    panels: dict[str, Panel] = dict(zip(names, report_panels(evaluations, changes, training_logs), strict=False))
    curves = [(label, points) for label, log in logs.items() if (points := log.series(*SERIES["accuracy"]))]
    if curves:
        panels["Score in training"] = partial(scores, curves=curves, looks=looks_of(evaluations))
    by_difficulty = [evaluation_table(evaluation) for evaluation in evaluations if evaluation["by_difficulty"]]
    return [Section("Before and after", panels, [comparison_table(evaluations, changes), *by_difficulty])]


def training_section(label: str, log: RunLog) -> Section:
    """What the method logged in the first and in the last third of the steps, and the faults that ``diagnose`` finds."""
    methods = {method.name for method in METHODS} | {"efficiency", "reward"}
    names = sorted({name for step in log.steps.values() for name in step if name.partition("/")[0] in methods})
    table = new_table("statistic", "early", "late")
    for name in names:
        values = [value for _, value in log.series(re.escape(name))]
        third = max(1, len(values) // 3)
        table.add_row(name, *(f"{sum(part) / len(part):.4g}" for part in (values[:third], values[-third:])))
    faults = [f"{finding.name}: {finding.evidence}. {finding.fix}" for finding in diagnose(log).findings]
    tables: list[Table] = [table] if names else []
    title = f"Training of {label}, steps {min(log.steps)} to {max(log.steps)}"
    text = "" if faults else "No known fault (verl-efficiency diagnose)."
    return Section(title, tables=tables, faults=faults, text=text)


def scaling_section(results: Sequence[dict[str, Any]], looks: Mapping[str, dict[str, Any]]) -> list[Section]:
    """Tokens and accuracy over the number of problems in a prompt."""
    if not results:
        return []
    panels: dict[str, Panel] = {
        "Tokens over N": partial(scaling, results=results, looks=looks),
        "Accuracy over N": partial(scaling, results=results, name="accuracy", looks=looks),
    }
    return [
        Section("N problems in a prompt", panels, [table for result in results for table in scaling_tables(result)])
    ]


def strategies_section(kind: Kind, result: Mapping[str, Any]) -> Section:
    """Accuracy and tokens of every strategy."""
    title, rows = title_of(kind, result), result["rows"]
    return Section(title, {title: partial(strategies, results=rows)}, [strategies_table(rows)])


def offline_section(result: Mapping[str, Any]) -> Section:
    """The numbers of stored generations, and what a token limit would leave of their accuracy."""
    rows = result["rows"]
    panels: dict[str, Panel] = {f"Accuracy at a budget: {result['label']}": partial(accuracy_at_budget, results=rows)}
    return Section(title_of("offline", result), panels, [efficiency_table(rows)])


def settings_section(loaded: Sequence[tuple[Kind, Mapping[str, Any]]]) -> list[Section]:
    """How each result was made, and the versions of the packages."""
    if not loaded:
        return []
    commands: dict[Kind, str] = {"evaluation": "evaluate", "scaling": "evaluate task-scaling"}
    table = new_table("setting", *(result["label"] for _, result in loaded))
    columns = [dict(_flat({"command": commands.get(kind)} | settings_of(result))) for kind, result in loaded]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return [Section("Settings and versions", tables=[table])]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", str(value))]
    return pairs
