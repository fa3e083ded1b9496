"""Grading in Ray workers, where reward functions run: in threads, and killed at any moment."""

import os
import time

import psutil
import pytest

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.e2e

HANGS = r"t = (x+y)^{20000} + \int_0^1 y dy"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Grader:
    def grade(self, answer: str, gold: str, deadline: float = 5.0) -> str:
        from verl_efficiency.grading import grade

        return grade(answer, gold, deadline=deadline).status.value

    async def grade_in_loop(self, answer: str, gold: str) -> str:
        from verl_efficiency.grading import grade_async

        return (await grade_async(answer, gold)).status.value

    async def processes(self) -> list[int]:
        return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]


def test_actor_with_threads_and_event_loop():
    actor = ray.remote(Grader).options(max_concurrency=16).remote()
    tasks = [actor.grade_in_loop.remote(answer, "1 + x") for answer in ("x + 1", "x + 2") * 20]
    assert ray.get(tasks, timeout=120) == ["correct", "wrong"] * 20
    ray.kill(actor)


@pytest.mark.parametrize("busy", [False, True])
def test_a_killed_worker_leaves_no_process_behind(busy):
    actor = ray.remote(Grader).options(max_concurrency=4).remote()
    assert ray.get(actor.grade_in_loop.remote("x + 1", "1 + x"), timeout=120) == "correct"
    pids = ray.get(actor.processes.remote(), timeout=60)
    assert len(pids) > 1
    watched = [psutil.Process(pid) for pid in pids]
    if busy:
        actor.grade.remote(HANGS, "1", deadline=3.0)
        time.sleep(0.5)
    watched[0].kill()  # SIGKILL, the actor's own process
    deadline = time.monotonic() + 60
    while (left := [process for process in watched if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def runs(process: psutil.Process) -> bool:
    """Whether it does; a dead one whose parent has not asked for its exit status (a zombie) does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
