"""What methods carry from step to step, as plain data for a checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from verl_efficiency.methods.own import all_estimators
from verl_efficiency.settings import SettingsError, unknown


def dump(states: Mapping[str, Any]) -> dict[str, dict]:
    """States by the name of their method as plain data; a method without a state (None) is left out."""
    return {name: dataclasses.asdict(state) for name, state in states.items() if state is not None}


def restore(saved: Mapping[str, Mapping]) -> dict[str, Any]:
    """The states that :func:`dump` made ``saved`` of.

    Raises:
        SettingsError: a method, or a field of its state, that this version does not have.
    """
    known = all_estimators()
    for name in saved:
        if name not in known:
            raise SettingsError(f"the checkpoint holds the state of an {unknown('estimator', name, known)}")
    return {name: known[name].restored_state(values) for name, values in saved.items()}
