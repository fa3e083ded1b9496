"""The names of our trainer modes (``trainer.v1.trainer_mode``), each with verl's mode that it adds to."""

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
