"""Logs the results of ``evaluate`` with verl's own ``Tracking``: wandb, tensorboard, mlflow, swanlab, trackio, …"""

from collections.abc import Mapping, Sequence
from typing import Any

from verl_efficiency.evaluation.results import settings_of
from verl_efficiency.settings import SettingsError, unknown


def track_results(backends: Sequence[str], project: str, results: Sequence[tuple[str, Any]]) -> None:
    """Log every number of the results, one experiment per label.

    Args:
        backends: names that verl knows.
        project: the project's name there.
        results: what :func:`verl_efficiency.evaluation.results.load_result` returns, with different labels for each kind. The
            steps of task scaling are N.

    Raises:
        SettingsError: verl is not installed, does not know a backend, or the backend's package is missing.
    """
    try:
        from verl.utils.tracking import Tracking
    except ModuleNotFoundError as error:
        raise SettingsError(f"--track: {error.name} is missing; pip install verl") from None
    for backend in backends:
        if backend not in Tracking.supported_backend:
            raise SettingsError(f"--track: {unknown('backend', backend, Tracking.supported_backend)}")
    for label, steps in by_label(results).items():
        try:
            tracking = Tracking(project, label, list(backends), config=_config(project, label, results))
        except ModuleNotFoundError as error:
            raise SettingsError(f"--track: {error.name} is missing; pip install {error.name}") from None
        for step, numbers in steps.items():
            tracking.log(numbers, step)
        tracking.finish()
        print(f"tracked: {label} ({', '.join(backends)})")


def _config(project: str, label: str, results: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The settings of an experiment, by kind of result. ``trainer`` is what verl's backends look into (wandb, rl_insight)."""
    kinds = {kind: settings_of(result) for kind, result in results if result["label"] == label}
    return {"trainer": {"project_name": project, "experiment_name": label}} | kinds


def by_label(results: Sequence[tuple[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    """``{label: {step: {name: value}}}``.

    >>> by_label([("evaluation", {"label": "a", "summary": {"accuracy": 0.5, "over_shortest": None}})])
    {'a': {0: {'evaluate/accuracy': 0.5}}}
    """
    steps: dict[str, dict[int, dict[str, float]]] = {}

    def add(label: str, step: int, prefix: str, values: Mapping[str, Any]) -> None:
        numbers = {f"{prefix}/{name}": float(value) for name, value in values.items() if isinstance(value, int | float)}
        steps.setdefault(label, {}).setdefault(step, {}).update(numbers)

    for kind, result in results:
        if kind == "evaluation":
            add(result["label"], 0, "evaluate", result["summary"])
        elif kind == "scaling":
            for point in result["points"]:
                add(result["label"], point["problems"], "task_scaling", point)
        elif kind == "offline":
            for one in result["rows"]:
                add(result["label"], 0, f"offline/{one['label']}", one)
        else:
            for one in result["rows"]:
                name = f"{kind}/{one['strategy']}@{one['k']}".replace(" ", "_")
                add(result["label"], 0, name, {key: one[key] for key in ("accuracy", "tokens")})
    return steps
