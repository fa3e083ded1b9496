"""What methods carry from step to step: as plain data for a checkpoint, and as files in a checkpoint's folder.

Every file is written in full or not at all. A checkpoint without the state stops a run that resumes from it. The user may allow
it by a file beside the checkpoint, see :func:`starts_again`.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verl_efficiency.adapter.response_files import ResponseFiles
from verl_efficiency.data.files import write_text
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.methods.row import Estimator
from verl_efficiency.settings import SettingsError

logger = logging.getLogger("verl_efficiency")
FILE_NAME = "verl_efficiency.json"
STARTS_AGAIN = "verl_efficiency_starts_again"


def dump(states: Mapping[str, Any]) -> dict[str, dict]:
    """The state of each method as plain data, by the method's name. A method without state (None) is left out."""
    return {name: dataclasses.asdict(state) for name, state in states.items() if state is not None}


def state_in(saved: Mapping[str, Mapping], method: Estimator, folder: str | Path) -> Any:
    """The state of ``method`` in ``saved``, the states of the checkpoint in ``folder``. None: it starts again.

    Raises:
        SettingsError: the checkpoint lacks the state and may not, or the state is of another version.
    """
    if method.name in saved:
        return method.restored_state(saved[method.name])
    others = f" (it holds the state of {', '.join(sorted(saved))})" if saved else ""
    starts_again(folder, f"state of {method.name}{others}")
    return None


def starts_again(folder: str | Path, what: str) -> None:
    """Return if the user allows the checkpoint in ``folder`` to lack ``what``, which then starts again. A warning says so.

    The file ``verl_efficiency_starts_again`` in the folder allows it. It belongs to one checkpoint. Resumes from later ones are
    checked.

    Raises:
        SettingsError: it is not allowed.
    """
    allowed = Path(folder) / STARTS_AGAIN
    if not allowed.exists():
        raise SettingsError(
            f"{folder}: this checkpoint has no {what}, so the run would not go on as before. Resume from a checkpoint that has "
            f"it. To start it again from this checkpoint, run `touch {allowed}` and launch again"
        )
    logger.warning("%s: this checkpoint has no %s. It starts again, because of %s.", folder, what, allowed.name)


class StateFiles:
    """The states of a run in its checkpoint folders, for a framework that does not save them itself.

    ``verl_efficiency.json`` has all states. Stored responses stand in files beside it, see :class:`ResponseFiles`.
    """

    def __init__(self) -> None:
        self.responses = ResponseFiles()

    def write(self, states: Mapping[str, Any], folder: str | Path) -> list[Path]:
        """Write the states into ``folder``. Returns the files of this checkpoint, the JSON file last."""
        folder = Path(folder)
        files: list[Path] = []
        values = {}
        for name, state in states.items():
            if isinstance(state, StoredResponses):
                files = self.responses.write(state, folder)
                values[name] = {"files": [str(file.relative_to(folder)) for file in files]}
            else:
                values |= dump({name: state})
        write_text(folder / FILE_NAME, json.dumps(values))
        return [*files, folder / FILE_NAME]

    def read(self, method: Estimator, folder: str | Path) -> Any:
        """The state of ``method`` in ``folder``, or None if it starts again.

        Raises:
            SettingsError: a file is missing or cannot be read, or the state is of another version.
        """
        folder = Path(folder)
        file = folder / FILE_NAME
        try:
            saved = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except ValueError as error:
            raise SettingsError(f"{file} cannot be read: {error}; resume from an earlier checkpoint") from None
        names = saved.get(method.name, {}).get("files")
        if names is not None and isinstance(method.new_state(), StoredResponses):
            return self.responses.read([folder / name for name in names])
        return state_in(saved, method, folder)
