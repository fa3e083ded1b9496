"""Compare evaluations: a table of before and after, and one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from verl_efficiency.data.files import read_rows, require_ending, require_file
from verl_efficiency.evaluation.plot import PICTURES, plot
from verl_efficiency.evaluation.summary import compare
from verl_efficiency.evaluation.training_log import TrainingLog
from verl_efficiency.settings import SettingsError, require

NEEDED: dict[str, tuple[str | None, ...]] = {
    "label": (None,),
    "data": (None,),
    "summary": (
        *("problems", "accuracy", "accuracy_se", "tokens_per_problem", "tokens_per_problem_se"),
        *("over_shortest", "shortest_tokens_per_problem"),
    ),
    "per_prompt": ("key", "problems", "correct", "tokens"),
}


def report(
    results: Sequence[str | Path], training_logs: Sequence[TrainingLog] = (), out: str | Path | None = None
) -> list[dict[str, Any]]:
    """Print the table of evaluations, the first being "before", and draw the picture into ``out`` if it is given.

    Args:
        results: JSON files written by ``verl-efficiency evaluate``, all on the same problems.
        training_logs: what the right half of the picture shows.
        out: the PNG to write.

    Returns:
        For each further evaluation its comparison with the first, see :func:`compare`, and its label.

    Raises:
        SettingsError: a file is missing or of another kind, or the evaluations are not on the same problems.
    """
    require(len(results) > 0, "results", list(results), "at least one JSON of `verl-efficiency evaluate`")
    if out is not None:
        require_ending(out, "picture", PICTURES)
    evaluations = [_load(Path(path)) for path in results]
    labels = [evaluation["label"] for evaluation in evaluations]
    require(len(set(labels)) == len(labels), "label", labels, "different for each evaluation (evaluate --label)")
    changes = [{"label": after["label"]} | compare(evaluations[0], after) for after in evaluations[1:]]
    Console().print(comparison_table(evaluations, changes))
    if out is not None:
        plot(evaluations, changes, training_logs, Path(out))
        print(f"picture: {out}")
    return changes


def comparison_table(evaluations: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> Table:
    """One row per evaluation; ``changes`` belong to all but the first."""
    problems, data = evaluations[0]["summary"]["problems"], Path(evaluations[0]["data"]).name
    caption = "± one standard error; changes are paired, problem by problem"
    table = _table(f"{problems} problems of {data}", caption)
    longest = max(len(evaluation["label"]) for evaluation in evaluations)
    table.add_column("model", overflow="fold", min_width=min(longest, 20))
    for name in ("accuracy\n%", "change\npoints", "tokens per\nproblem", "change\n%", "over the\nshortest"):
        table.add_column(name, justify="right")
    for evaluation, change in zip(evaluations, [None, *changes], strict=True):
        summary = evaluation["summary"]
        table.add_row(
            evaluation["label"],
            _number(summary["accuracy"], summary["accuracy_se"], scale=100),
            "" if change is None else _number(change["accuracy_change"], change["accuracy_change_se"], 100, sign="+"),
            _tokens(summary["tokens_per_problem"], summary["tokens_per_problem_se"]),
            "" if change is None else _number(change["tokens_ratio"] - 1, change["tokens_ratio_se"], 100, sign="+"),
            _number(summary["over_shortest"], digits=2),
        )
    return table


def evaluation_table(evaluation: dict[str, Any]) -> Table:
    """One row per difficulty and one for all."""
    table = _table(f"{evaluation['label']} on {Path(evaluation['data']).name}", "accuracy ± one standard error")
    table.add_column("difficulty", overflow="fold")
    reasons = evaluation["summary"].get("reasoning_share") is not None
    names = ["problems", "accuracy\n%", "tokens per\nproblem", "median", "p90", "cut off\n%", "over the\nshortest"]
    names += ["reasoning\n%"] * reasons
    for name in names:
        table.add_column(name, justify="right")
    for name, summary in {**evaluation["by_difficulty"], "all": evaluation["summary"]}.items():
        table.add_row(
            name,
            str(summary["problems"]),
            _number(summary["accuracy"], summary["accuracy_se"], scale=100),
            _tokens(summary["tokens_per_problem"]),
            _tokens(summary["tokens_median"]),
            _tokens(summary["tokens_p90"]),
            _number(summary["truncated_share"], scale=100),
            _number(summary["over_shortest"], digits=2),
            *[_number(summary["reasoning_share"], scale=100)] * reasons,
        )
    return table


def _table(title: str, caption: str) -> Table:
    return Table(title=title, caption=caption, box=box.SIMPLE, pad_edge=False, collapse_padding=True)


def _number(value: float | None, error: float | None = None, scale: float = 1, digits: int = 1, sign: str = "") -> str:
    if value is None:
        return "-"
    text = f"{value * scale:{sign}.{digits}f}"
    return text if error is None else f"{text} ± {error * scale:.{digits}f}"


def _tokens(value: float, error: float | None = None) -> str:
    return _number(value, error, digits=1 if value < 100 else 0)


def _load(path: Path) -> dict[str, Any]:
    require_file(path, "results", (".json", ".jsonl"))
    wrong = f"results: {path} is not a result of `verl-efficiency evaluate`"
    try:
        rows = read_rows(path, "results")
    except SettingsError as error:
        raise SettingsError(f"{wrong} ({str(error).removeprefix('results: ')})") from None
    result = rows[0]
    if len(rows) > 1 or {"key", "acc", "tokens"} <= result.keys():
        raise SettingsError(f"{wrong} --out; it looks like the rows of --rows")
    missing = [
        name if inner is None else f"{name}.{inner}"
        for name, inners in NEEDED.items()
        for inner in inners
        if not _has(result, name, inner)
    ]
    if missing:
        raise SettingsError(f"{wrong} (it lacks {', '.join(missing)})")
    return result


def _has(result: dict[str, Any], name: str, inner: str | None) -> bool:
    return name in result and (inner is None or (isinstance(result[name], dict) and inner in result[name]))
