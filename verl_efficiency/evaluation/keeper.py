"""Runs a command until it ends or standard input does, then ends its whole process group.

It is a program of its own, so that a command is ended whatever happens to the program that started it. That program holds the
other end of standard input, and the system closes this end with it. The exit code is that of the command, or 128 + the number
of the signal that ended it.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

STOP_SECONDS = 20
POLL_SECONDS = 0.2


def keep(command: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    signals: list[int] = []
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, lambda number, _: signals.append(number))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while server.poll() is None and not signals:
        if select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            break
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the second is macOS's for a group of zombies
            os.killpg(server.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
    code = server.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
