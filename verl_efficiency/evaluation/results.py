"""Result files of ``verl-efficiency evaluate``: written, and read back by their kind."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
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


Kind = Literal["evaluation", "scaling", "offline", "strategies", "live"]
# The command that writes a result with ``rows``, see :func:`result_of_rows`
KINDS: dict[str, Kind] = {
    "evaluate offline": "offline",
    "evaluate strategies": "strategies",
    "evaluate live": "live",
}
SCALING = {"label", "points", "law"}
WITHOUT_SETTINGS = ({"accuracy_at", "cap"}, {"strategy", "k", "pareto"})  # lists that earlier versions wrote
NOT_SETTINGS = (
    "label",
    "rows",
    "summary",
    "by_difficulty",
    "per_prompt",
    "seconds",
    "points",
    "law",
    "auto",
    "against",
)


def versions() -> dict[str, str]:
    """Of Python, and of the packages that grade."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("verl-efficiency", "math-verify")}


def result_of_rows(command: str, label: str, rows: Sequence[Any], **settings: Any) -> dict[str, Any]:
    """The result of a command whose numbers are rows: the command, its label and settings, the versions, the rows."""
    return {"command": command, "label": label, **settings, "versions": versions(), "rows": rows}


def load_result(path: Path) -> tuple[Kind, dict[str, Any]]:
    """A result of any ``evaluate`` command, and its kind.

    Raises:
        SettingsError: it is another kind of file, or a list of an earlier version, which has no settings.
    """
    require_file(path, "results", (".json", ".jsonl"))
    try:
        result = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:  # load_evaluation says what is wrong
        return "evaluation", load_evaluation(path)
    first = result[0] if isinstance(result, list) and result else None
    if isinstance(first, dict) and any(keys <= first.keys() for keys in WITHOUT_SETTINGS):
        raise SettingsError(
            f"results: {path} is of an earlier version, without label, data, settings and versions; write it again with the "
            "same command (`evaluate live` asks nothing twice)"
        )
    if isinstance(result, dict) and result.keys() >= SCALING:
        return "scaling", result
    if isinstance(result, dict) and {"label", "rows"} <= result.keys() and result.get("command") in KINDS:
        return KINDS[result["command"]], result
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
    if not (isinstance(result, dict) and result.keys() >= SCALING):
        raise SettingsError(wrong)
    return result


def settings_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """How a result was made: its settings and the versions of the packages, without its numbers."""
    return {name: value for name, value in result.items() if name not in NOT_SETTINGS}
