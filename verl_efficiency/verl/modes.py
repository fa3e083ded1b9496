"""The names of our trainer modes (``trainer.v1.trainer_mode``), each with verl's mode that it adds to."""

import importlib.metadata
import importlib.util
from typing import Any

SYNC = "efficiency_sync"
MODES = {
    SYNC: "sync",
    "efficiency_colocate_async": "colocate_async",
    "efficiency_separate_async": "separate_async",
}


def mode_of(trainer: Any) -> str | None:
    """``trainer.v1.trainer_mode`` of a configuration's ``trainer``; None for a verl without it."""
    return (trainer.get("v1") or {}).get("trainer_mode")


def ours_of(mode: str | None) -> str:
    """Our mode in place of one of verl's.

    >>> ours_of("colocate_async"), ours_of("sync"), ours_of(None)
    ('efficiency_colocate_async', 'efficiency_sync', 'efficiency_sync')
    """
    return next((ours for ours, verls in MODES.items() if verls == mode), SYNC)


def v1_is_missing() -> str | None:
    """Why there is no V1 trainer, and the fix; None for verl>=0.9, which has it."""
    if importlib.util.find_spec("verl.trainer.ppo.v1") is not None:
        return None
    return f"verl {importlib.metadata.version('verl')} has no V1 trainer; pip install 'verl>=0.9.1,<0.10'"
