"""Run a command that starts daemons (Ray) with a hard time-out, and leave none of its processes behind."""

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MARKER = "VERL_EFFICIENCY_RUN_ID"
"""An environment variable that every process of one run inherits; Ray's daemons leave the session, not the environment."""


@dataclass(frozen=True)
class CompletedRun:
    """How a run ended."""

    returncode: int | None
    """None if it was ended on the time-out"""
    timed_out: bool
    seconds: float
    peak_memory_bytes: int
    """of all processes together, shared pages counted once (PSS), sampled"""
    leftovers: list[str]
    """command lines of processes that were still there at the end and had to be ended"""
    log: str
    """what the command wrote to stdout and stderr"""


def run_tree(
    command: Sequence[str],
    *,
    timeout: float,
    log: Path,
    env: Mapping[str, str] | None = None,
    grace: float = 15.0,
    poll: float = 0.5,
    scan: float = 5.0,
    stop: threading.Event | None = None,
) -> CompletedRun:
    """Run ``command`` in its own session, and end its process tree afterwards, also on a time-out or an error.

    The tree holds every descendant seen during the run and every process with the run's :data:`MARKER`. Processes are ended one
    by one by pid and start time, never by name.

    Args:
        timeout: seconds until everything is ended.
        log: file that receives stdout and stderr.
        env: variables added to the environment.
        grace: seconds for daemons to end by themselves after the command returns.
        poll: seconds between two looks at the command and at ``stop``.
        scan: seconds between two scans of the tree and its memory. A scan of a run takes a quarter of a second of a core, and
            the kernel holds up the processes that it measures.
        stop: when another thread sets it, everything is ended, as on a time-out.
    """
    run_id = uuid.uuid4().hex
    started = time.monotonic()
    tree: set[psutil.Process] = set()
    peak = 0
    scanned = started
    returncode = None
    leftovers: list[str] = []
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **(env or {}), MARKER: run_id},
            )
        while returncode is None and time.monotonic() - started < timeout and not (stop and stop.is_set()):
            try:
                returncode = process.wait(poll)
            except subprocess.TimeoutExpired:
                if time.monotonic() < scanned + scan:
                    continue
                tree |= _running(run_id, tree)
                scanned = time.monotonic()
                peak = max(peak, sum(_memory(one) for one in tree))
        seconds = time.monotonic() - started
        if returncode is not None:
            _wait_for_end(run_id, tree, grace)
    finally:
        leftovers = _end(run_id, tree)
    if returncode is None:
        process.wait()
    return CompletedRun(
        returncode=returncode,
        timed_out=returncode is None,
        seconds=seconds,
        peak_memory_bytes=peak,
        leftovers=leftovers if returncode is not None else [],
        log=log.read_text(errors="replace"),
    )


def _running(run_id: str, seen: set[psutil.Process]) -> set[psutil.Process]:
    """The living processes of the run: marked ones, and descendants of those seen before."""
    parents = {one.pid for one in seen if one.is_running()}
    found = set()
    for process in psutil.process_iter(["ppid"]):
        try:
            ours = process in seen or process.info["ppid"] in parents or process.environ().get(MARKER) == run_id
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile, or it belongs to somebody else
    return found


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _wait_for_end(run_id: str, tree: set[psutil.Process], grace: float) -> None:
    deadline = time.monotonic() + grace
    while _running(run_id, tree) and time.monotonic() < deadline:
        time.sleep(0.1)


def _end(run_id: str, tree: set[psutil.Process]) -> list[str]:
    """Kill the remaining processes, and repeat, because a process may start another before it ends. Returns those killed."""
    ended: dict[psutil.Process, str] = {}
    while alive := _running(run_id, tree):
        tree |= alive
        for process in alive:
            try:
                ended.setdefault(process, " ".join(process.cmdline()) or process.name())
                process.kill()
            except psutil.NoSuchProcess:
                ended.pop(process, None)
        psutil.wait_procs(alive, timeout=1.0)
    return list(ended.values())
