"""A few child processes that grade with math-verify, each killed and replaced when it overruns its deadline.

One pool per process, started when first needed. A forked process drops what it inherited and starts its own. The children end
with the process that started them, however it ends: their socket closes.
"""

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from typing import Any

from verl_efficiency.settings import require

# Seconds between a worker's own deadline and the moment its parent kills it.
GRACE = 0.25
START_SECONDS = 120
# Same import path as here, whatever the working directory holds: the child runs no module of the caller.
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from verl_efficiency.grading.child import main; main(*map(int, sys.argv[3:]))"
)


class GradingError(RuntimeError):
    """Grading is impossible here (not: the answer is wrong). The message says the mend."""


class WorkerDied(Exception):
    """The child process ended by itself."""


@dataclass(frozen=True)
class PoolSettings:
    """Size and limits of the pool.

    Attributes:
        workers: child processes, at least 1; each is started when first needed.
        memory_mib: address space of a child in MiB; what needs more counts as unparsable.
        retire_mib: a child whose peak memory passes this many MiB is replaced.
    """

    workers: int = 2
    memory_mib: int = 2048
    retire_mib: int = 512

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers", self.workers, "at least 1")
        require(self.memory_mib >= 512, "memory_mib", self.memory_mib, "at least 512 (math-verify itself needs 300)")
        require(self.retire_mib >= 128, "retire_mib", self.retire_mib, "at least 128 (math-verify itself needs 80)")


class Worker:
    """One child process and the socket to it."""

    def __init__(self, settings: PoolSettings):
        self.connection, theirs = Pipe()
        path = json.dumps([entry or os.getcwd() for entry in sys.path])
        numbers = [str(theirs.fileno()), str(os.getpid()), str(settings.memory_mib)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, "verl_efficiency.grading.child", path, *numbers],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is for the caller
        )
        theirs.close()
        self.ready = False

    def wait_until_ready(self) -> None:
        if self.ready:
            return
        try:
            said = json.loads(self.connection.recv_bytes()) if self.connection.poll(START_SECONDS) else {}
        except (EOFError, ConnectionError):
            said = {"error": f"it ended with exit code {self.process.wait()}"}
        if "ready" not in said:
            raise GradingError(
                f"grading: math-verify does not start in a child process ({said.get('error', 'no sign of life')}). "
                f"Try `{sys.executable} -c 'import math_verify'`; "
                "if that fails, `pip install 'math-verify[antlr4_9_3]>=0.9,<0.10'`."
            )
        self.ready = True

    def ask(self, answer: str, gold: str, deadline: float) -> dict[str, Any] | None:
        """The child's reply, or ``None`` when it overran."""
        try:
            self.connection.send_bytes(json.dumps({"answer": answer, "gold": gold, "deadline": deadline}).encode())
            if not self.connection.poll(deadline + GRACE):
                return None
            return json.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionError) as error:
            raise WorkerDied from error

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """Let go of a process that belongs to the process we were forked from."""
        self.connection.close()
        self.process.returncode = 0


class Pool:
    """Workers handed from thread to thread; the calling thread does the talking, so there is no supervisor that could die."""

    def __init__(self, settings: PoolSettings):
        self.settings = settings
        self.threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="grading")
        self.closed = False
        self.failure: GradingError | None = None
        self.alive: set[Worker] = set()
        # Last in, first out: a worker is only started when all that run are busy.
        self.idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(settings.workers):
            self.idle.put(None)

    def grade(self, answer: str, gold: str, deadline: float) -> str:
        """Status of one grading by a worker; waits for a free one."""
        worker = self.idle.get()
        healthy = False
        try:
            for _ in range(2):  # a worker that was killed from outside deserves a second try
                worker = worker or self.start()
                try:
                    reply = worker.ask(answer, gold, deadline)
                except WorkerDied:
                    self.drop(worker)
                    worker = None
                    continue
                healthy = reply is not None and reply["peak_mib"] <= self.settings.retire_mib
                return reply["status"] if reply else "timed_out"
            return "unparsable"
        finally:
            if worker and not healthy:  # also when an interrupt left it in an unknown state
                self.drop(worker)
            self.idle.put(worker if healthy else None)

    def start(self) -> Worker:
        if self.closed:
            raise GradingError("grading: the pool was shut down while this answer was being graded; grade it again.")
        if self.failure:
            raise self.failure
        worker = Worker(self.settings)
        self.alive.add(worker)
        try:
            worker.wait_until_ready()
        except GradingError as error:
            self.failure = error
            self.drop(worker)
            raise
        return worker

    def drop(self, worker: Worker) -> None:
        self.alive.discard(worker)
        worker.kill()

    def close(self) -> None:
        self.closed = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self.alive):
            self.drop(worker)


_settings = PoolSettings()
_pool: Pool | None = None
_lock = threading.Lock()


def get_pool() -> Pool:
    """The pool of this process."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool(_settings)
        return _pool


def configure(settings: PoolSettings) -> None:
    """Use ``settings`` from now on; a running pool is ended first."""
    global _settings
    shutdown()
    _settings = settings


def shutdown() -> None:
    """End every child process; the next grading that needs one starts afresh."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool:
        pool.close()


def _after_fork() -> None:
    global _pool, _lock
    _lock = threading.Lock()
    if _pool:
        for worker in _pool.alive:
            worker.forget()
    _pool = None


atexit.register(shutdown)
os.register_at_fork(after_in_child=_after_fork)
