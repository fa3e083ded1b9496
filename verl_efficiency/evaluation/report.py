"""Result files of the evaluation: written, read back, and compared with each other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from verl_efficiency.data.columns import has_key
from verl_efficiency.data.files import read_rows, require_ending, require_file, write_text
from verl_efficiency.evaluation.plot import PICTURES, plot
from verl_efficiency.evaluation.summary import compare
from verl_efficiency.evaluation.tables import comparison_table
from verl_efficiency.evaluation.training_log import TrainingLog
from verl_efficiency.settings import SettingsError, require

NEEDED = (
    *("label", "data", "summary.problems", "summary.accuracy", "summary.accuracy_se", "summary.tokens_per_problem"),
    *("summary.tokens_per_problem_se", "summary.over_shortest", "summary.shortest_tokens_per_problem"),
    *("per_prompt.key", "per_prompt.problems", "per_prompt.correct", "per_prompt.tokens"),
)


def report(
    results: Sequence[str | Path], training_logs: Sequence[TrainingLog] = (), out: str | Path | None = None
) -> list[dict[str, Any]]:
    """Print a table that compares evaluations with the first one, "before", and draw the picture into ``out`` if given.

    Args:
        results: JSON files written by ``verl-efficiency evaluate``, all on the same problems.
        training_logs: what the right half of the picture shows.
        out: the picture to write.

    Returns:
        For each further evaluation its label and its comparison with the first, see :func:`compare`.

    Raises:
        SettingsError: a file is missing or of another kind, or the evaluations are not on the same problems.
    """
    require(len(results) > 0, "results", list(results), "at least one JSON of `verl-efficiency evaluate`")
    if out is not None:
        require_ending(out, "picture", PICTURES)
    evaluations = [load_evaluation(Path(path)) for path in results]
    labels = [evaluation["label"] for evaluation in evaluations]
    require(len(set(labels)) == len(labels), "label", labels, "different for each evaluation (evaluate --label)")
    changes = [{"label": after["label"]} | compare(evaluations[0], after) for after in evaluations[1:]]
    Console().print(comparison_table(evaluations, changes))
    if out is not None:
        plot(evaluations, changes, training_logs, Path(out))
        print(f"picture: {out}")
    return changes


def write_result(out: Path, result: Any) -> None:
    """Write a result as JSON, and say where."""
    write_text(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"result: {out}")


def load_evaluation(path: Path) -> dict[str, Any]:
    """A result that ``verl-efficiency evaluate`` wrote.

    Raises:
        SettingsError: it is another kind of file.
    """
    require_file(path, "results", (".json", ".jsonl"))
    wrong = f"results: {path} is not a result of `verl-efficiency evaluate`"
    try:
        rows = read_rows(path, "results")
    except SettingsError as error:
        raise SettingsError(f"{wrong} ({str(error).removeprefix('results: ')})") from None
    result = rows[0]
    if len(rows) > 1 or {"key", "acc", "tokens"} <= result.keys():
        raise SettingsError(f"{wrong} --out; it looks like the rows of --rows")
    missing = [path for path in NEEDED if not has_key(result, path)]
    if missing:
        raise SettingsError(f"{wrong}: it lacks {', '.join(missing)}")
    return result


def load_scaling(path: Path) -> dict[str, Any]:
    """A result that ``verl-efficiency evaluate task-scaling`` wrote.

    Raises:
        SettingsError: it is another kind of file.
    """
    wrong = f"--baseline: {path} is not a result of `verl-efficiency evaluate task-scaling`"
    require(path.is_file(), "--baseline", str(path), "a result of `verl-efficiency evaluate task-scaling`")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{wrong} ({error})") from None
    if not (isinstance(result, dict) and {"label", "points", "law"} <= result.keys()):
        raise SettingsError(wrong)
    return result
