"""Result files of ``verl-efficiency evaluate``: written, and read back by their kind."""

import json
from pathlib import Path
from typing import Any, Literal

from verl_efficiency.data.columns import has_key
from verl_efficiency.data.files import read_rows, require_file, write_text
from verl_efficiency.settings import SettingsError, require

NEEDED = (
    *("label", "data", "summary.problems", "summary.accuracy", "summary.accuracy_se", "summary.tokens_per_problem"),
    *("summary.tokens_per_problem_se", "summary.over_shortest", "summary.shortest_tokens_per_problem"),
    *("per_prompt.key", "per_prompt.problems", "per_prompt.correct", "per_prompt.tokens"),
)


Kind = Literal["evaluation", "scaling", "offline", "strategies"]
# Keys that only a result of this kind has, in the object or in each object of the list
KINDS: dict[Kind, set[str]] = {
    "scaling": {"label", "points", "law"},
    "offline": {"label", "accuracy_at", "cap"},
    "strategies": {"strategy", "k", "pareto"},
}


def load_result(path: Path) -> tuple[Kind, Any]:
    """A result of any ``evaluate`` command, and its kind: an object, or a list of them for ``offline`` and ``strategies``.

    Raises:
        SettingsError: it is another kind of file.
    """
    require_file(path, "results", (".json", ".jsonl"))
    try:
        result = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:  # load_evaluation says what is wrong
        return "evaluation", load_evaluation(path)
    first = result[0] if isinstance(result, list) and result else result
    for kind, keys in KINDS.items():
        if isinstance(first, dict) and keys <= first.keys() and isinstance(result, list) == (kind != "scaling"):
            return kind, result
    return "evaluation", load_evaluation(path)


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
    if {"key", "acc", "tokens"} <= result.keys():
        raise SettingsError(f"{wrong} --out; it looks like the rows of --rows")
    if len(rows) > 1:
        raise SettingsError(
            f"{wrong} --out; it looks like stored responses, which `verl-efficiency evaluate offline` measures"
        )
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
    if not (isinstance(result, dict) and KINDS["scaling"] <= result.keys()):
        raise SettingsError(wrong)
    return result
