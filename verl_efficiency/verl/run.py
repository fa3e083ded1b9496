"""Global data on the driver of a verl run: the current step, its metrics, the states of the methods.

verl passes only scores, mask and uids to an advantage estimator. The estimator finds everything else here. Our trainer
(``trainer.py``) sets the step and collects the metrics. Without our trainer there is no step, and metrics are printed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from verl_efficiency.adapter.metrics import console_line
from verl_efficiency.adapter.rollouts import Step
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.verl.columns import rows_of_groups

_states: dict[str, Any] = {}
_step: Step | None = None
_of_rows: dict[str, Any] = {}
_metrics: dict[str, float] = {}


def step(**known: Any) -> Step:
    """A step of verl; ``known`` are the fields of :class:`Step` that the caller has."""
    return Step("algorithm.efficiency", rows_of_groups, **known)


def begin_step(step: Step) -> None:
    """Called by our trainer for each batch. From then on estimators use ``step`` and report metrics to the trainer."""
    global _step
    _step = step
    _metrics.clear()


@contextmanager
def rows_with(**known: Any) -> Iterator[None]:
    """Inside the context, ``known`` are fields of the current step, with or without our trainer."""
    _of_rows.update(known)
    try:
        yield
    finally:
        _of_rows.clear()


def current_step() -> Step:
    """The current step. Without our trainer it gives access to the data set and to the sessions only."""
    return replace(_step or step(), **_of_rows)


def report(method: Estimator, metrics: dict[str, float]) -> None:
    """Pass an estimator's metrics to our trainer, or print them into the driver's log."""
    if _step is None:
        print(console_line(method.name, metrics), flush=True)
    else:
        _metrics.update({f"{method.name}/{key}": value for key, value in metrics.items()})


def reported() -> dict[str, float]:
    """The metrics reported since the step began."""
    return dict(_metrics)


def state_of(method: Estimator) -> Any:
    """The state of ``method`` in this process; the first call creates it."""
    if method.name not in _states:
        _states[method.name] = method.new_state()
    return _states[method.name]


def set_state(method: Estimator, state: Any) -> None:
    """Continue with ``state``, from a checkpoint."""
    _states[method.name] = state


def reset() -> None:
    """Delete the states and the step, for a new run in the same process."""
    global _step
    _step = None
    _states.clear()
    _metrics.clear()
