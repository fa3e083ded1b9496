"""A few child processes that grade with math-verify. One that overruns its deadline is killed and replaced.

Each process has its own pool, started when first needed. A forked process drops the inherited pool. When a process ends, for
whatever reason, the sockets of its children close, and the children end too.
"""

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from typing import Any

from verl_efficiency.settings import require

logger = logging.getLogger(__name__)

GRACE = 0.25  # seconds after a worker's own deadline until its parent kills it
START_SECONDS = 120  # within which a worker must be ready
# The child gets the import path of this process, so a file in the working directory cannot shadow a module.
_START = (
    "import sys; sys.path[:] = sys.argv[2].splitlines(); "
    "from verl_efficiency.grading.child import main; main(*map(int, sys.argv[3:]))"
)


class GradingError(RuntimeError):
    """Grading does not work here. It never means that the answer is wrong. The message gives the fix."""


class WorkerDied(Exception):
    """The child process ended by itself."""


@dataclass(frozen=True)
class PoolSettings:
    """Size and limits of the pool.

    Attributes:
        workers: number of child processes, at least 1; each starts when first needed.
        memory_mib: limit of the address space of a child in MiB, at least 256.
        retire_mib: a child whose peak memory exceeds this many MiB is replaced; at least 100.
    """

    workers: int = 2
    memory_mib: int = 1024
    retire_mib: int = 256

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers", self.workers, "at least 1")
        require(self.memory_mib >= 256, "memory_mib", self.memory_mib, "at least 256 (math-verify itself takes 145)")
        require(self.retire_mib >= 100, "retire_mib", self.retire_mib, "at least 100 (math-verify itself takes 66)")


class Worker:
    """One child process and the socket to it."""

    def __init__(self, settings: PoolSettings):
        self.connection, theirs = Pipe()
        path = "\n".join(entry or os.getcwd() for entry in sys.path)
        numbers = [str(theirs.fileno()), str(os.getpid()), str(settings.memory_mib)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, "verl_efficiency.grading.child", path, *numbers],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches only the caller
        )
        theirs.close()
        self.ready = False

    def wait_until_ready(self) -> None:
        try:
            heard = self.connection.poll(START_SECONDS)
            problem = json.loads(self.connection.recv_bytes())["problem"] if heard else f"silent for {START_SECONDS} s"
        except (EOFError, OSError):
            problem = f"it ended with exit code {self.process.wait()}"
        if problem:
            raise GradingError(
                f"grading: math-verify does not work in a child process ({problem}). "
                f"Run `{sys.executable} -c 'import math_verify'` to see the error; most often the fix is "
                "`pip install 'math-verify>=0.9,<0.10' antlr4-python3-runtime==4.9.3`."
            )
        self.ready = True

    def ask(self, answer: str, gold: str, deadline: float) -> dict[str, Any] | None:
        """The child's reply, or ``None`` if it overran the deadline."""
        try:
            self.connection.send_bytes(json.dumps({"answer": answer, "gold": gold, "deadline": deadline}).encode())
            if not self.connection.poll(deadline + GRACE):
                return None
            return json.loads(self.connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise WorkerDied from error

    def kill(self) -> None:
        """Kill the process without waiting: a process with much memory takes a while to exit."""
        self.connection.close()
        self.process.kill()

    def forget(self) -> None:
        """Close the socket to a process that belongs to the parent of this fork."""
        self.connection.close()
        self.process.returncode = 0


class Pool:
    """Workers shared by threads. Each thread talks to its worker directly: there is no supervisor thread that could die."""

    def __init__(self, settings: PoolSettings):
        self.settings = settings
        self.threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="grading")
        self.closed = False
        self.failure: GradingError | None = None
        self.peak_mib = 0.0  # of any child so far
        self.alive: set[Worker] = set()
        self.ending: set[subprocess.Popen[bytes]] = set()  # killed, not yet reaped
        self.idle: list[Worker] = []  # last in, first out
        self.places = threading.Semaphore(settings.workers)

    def grade(self, answer: str, gold: str, deadline: float) -> tuple[str, float]:
        """The status of one grading and the seconds it took, without the wait for a free worker."""
        with self.places:
            try:
                return self.grade_once(answer, gold, deadline)
            except WorkerDied:
                logger.warning("grading: a worker process ended by itself; its answer is graded once more")
            try:
                return self.grade_once(answer, gold, deadline)
            except WorkerDied:
                return "unparsable", deadline  # the answer crashes math-verify

    def grade_once(self, answer: str, gold: str, deadline: float) -> tuple[str, float]:
        worker = self.take()
        started = time.perf_counter()
        healthy = False
        try:
            reply = worker.ask(answer, gold, deadline)
            if reply:
                self.peak_mib = max(self.peak_mib, reply["peak_mib"])
                healthy = reply["peak_mib"] <= self.settings.retire_mib
        finally:  # also after an interrupt: otherwise the next answer would get this answer's verdict
            self.give_back(worker, healthy)
        if reply and reply["problem"]:
            logger.warning("grading: %r against %r is unparsable: %s", answer, gold, reply["problem"])
        status = reply["status"] if reply else "timed_out"
        if status == "timed_out":
            logger.warning("grading: %.200r against %.200r timed out after %g s", answer, gold, deadline)
        return status, time.perf_counter() - started

    def take(self) -> Worker:
        if self.failure:
            raise self.failure
        if self.closed:
            raise GradingError("grading: the pool was shut down while it graded this answer; grade it again.")
        try:
            return self.idle.pop()
        except IndexError:  # every running worker is busy
            worker = Worker(self.settings)
        self.alive.add(worker)
        try:
            worker.wait_until_ready()
        except GradingError as error:
            if (worker.process.returncode or 0) >= 0:  # a kill from outside says nothing about math-verify
                self.failure = error
            raise
        finally:
            if not worker.ready:
                self.give_back(worker, healthy=False)
        return worker

    def give_back(self, worker: Worker, healthy: bool) -> None:
        if healthy and not self.closed:
            self.idle.append(worker)
            return
        self.alive.discard(worker)
        worker.kill()
        self.ending.add(worker.process)
        for process in list(self.ending):
            if process.poll() is not None:
                self.ending.discard(process)

    def close(self) -> None:
        self.closed = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        while self.idle:
            self.give_back(self.idle.pop(), healthy=False)
        busy = [worker.process for worker in list(self.alive)]
        for process in busy:
            process.kill()  # the thread that waits for its reply notices
        for process in busy + list(self.ending):
            process.wait()


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
    """Use ``settings`` from now on. A running pool is shut down first."""
    global _settings
    shutdown()
    _settings = settings


def shutdown() -> None:
    """End every child process. The next grading that needs one starts a new pool."""
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
