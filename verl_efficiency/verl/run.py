"""What the driver of a verl run keeps between calls: the step in progress, its metrics, the states of the methods.

verl calls an advantage estimator by its name, with scores, mask and uids only. The rest it finds here. Our trainer
(``trainer.py``) hands over the step and collects the metrics; without it there is no step, and metrics are printed.
"""

from typing import Any

from verl_efficiency.adapter import state
from verl_efficiency.adapter.metrics import console_line
from verl_efficiency.adapter.rollouts import Step
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.verl.columns import rows_of_groups

_states: dict[str, Any] = {}
_step: Step | None = None
_metrics: dict[str, float] = {}


def step(**known: Any) -> Step:
    """A step of verl with what is ``known`` of it."""
    return Step("algorithm.efficiency", rows_of_groups, **known)


def begin_step(step: Step) -> None:
    """Our trainer has a batch: estimators use ``step``, and report metrics to the trainer."""
    global _step
    _step = step
    _metrics.clear()


def current_step() -> Step:
    """The step in progress; without our trainer nothing but the data set is known of it."""
    return _step or step()


def report(method: Estimator, metrics: dict[str, float]) -> None:
    """Metrics of an estimator: for our trainer, or printed in the driver's log."""
    if _step is None:
        print(console_line(method.name, metrics), flush=True)
    else:
        _metrics.update({f"{method.name}/{key}": value for key, value in metrics.items()})


def reported() -> dict[str, float]:
    """The metrics that were reported since the step began."""
    return dict(_metrics)


def state_of(method: Estimator) -> Any:
    """The state of ``method`` in this process; a fresh one at first."""
    if method.name not in _states:
        _states[method.name] = method.new_state()
    return _states[method.name]


def dump_states() -> dict[str, dict]:
    """All states as plain data, for a checkpoint."""
    return state.dump(_states)


def load_states(saved: dict[str, dict]) -> None:
    """Replace states by those of a checkpoint; errors as :func:`verl_efficiency.adapter.state.restore`."""
    _states.update(state.restore(saved))


def reset() -> None:
    """Forget the states and the step: a new run in the same process."""
    global _step
    _step = None
    _states.clear()
    _metrics.clear()
