"""Grading in Ray workers: reward functions run there, in threads, and are killed at any moment; and so does ``--ray``."""

import json
import os
import threading
import time

import psutil
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.data import write_rows
from verl_efficiency.evaluation import chunks
from verl_efficiency.settings import SettingsError

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.e2e

HANGS = r"t = (x+y)^{20000} + \int_0^1 y dy"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    for thread in threading.enumerate():  # Ray ends this process if one of its threads still works after the shutdown
        if "StreamingExecutor" in thread.name:
            thread.join(timeout=60)
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


ANSWERS = [r"\boxed{4}", r"wait, maybe \boxed{2+2}", r"\boxed{5}", "none", r"\boxed{2 \cdot x}", r"\boxed{x + x}"]
GOLDS = ["4", "4", "4", "4", "x + x", "2x"]


@pytest.fixture
def rows(monkeypatch):
    """36 rows of 9 problems, in pieces of 10 lines."""
    monkeypatch.setattr(chunks, "PIECE_ROWS", 10)
    return [
        {"problem": f"p{i % 9}", "response": ANSWERS[i % 6], "answer": GOLDS[i % 6], "tokens": 10 + i}
        for i in range(36)
    ]


def both_ways(*words):
    """The outcome of a command in this process, and with ``--ray``."""
    return [CliRunner().invoke(app, [*map(str, words), *more]) for more in ([], ["--ray"])]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("command", [["grade"], ["evaluate", "offline"]])
def test_a_file_gives_the_same_results_with_ray(rows, tmp_path, form, command):
    file = tmp_path / f"rows.{form}"
    if form == "jsonl":
        file.write_text("\n\n".join(map(json.dumps, rows)))
    else:
        write_rows(file, rows)
    out = tmp_path / ("out.jsonl" if command == ["grade"] else "out.json")
    written = []
    for more in ([], ["--ray"]):
        done = CliRunner().invoke(app, [*command, str(file), "--answer", "answer", "--out", str(out), *more])
        assert done.exit_code == 0, done.output
        written.append(out.read_text())
    assert written[0] == written[1]
    if command == ["grade"]:
        right = [json.loads(line)["correct"] for line in written[1].splitlines()]
        assert right == [True, True, False, False, True, True] * 6
    else:
        (result,) = json.loads(written[1])["rows"]
        assert (result["responses"], result["problems"], result["accuracy"]) == (36, 9, 24 / 36)


def test_results_come_in_the_order_of_the_file(rows, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def work(part):
        time.sleep(0.5 if part.start == 0 else 0)
        return part.start, len(part.rows), part.places[0]

    expected = [(0, 10, "line 1"), (10, 10, "line 11"), (20, 10, "line 21"), (30, 6, "line 31")]
    assert list(chunks.map_chunks(work, file, "file", ray=True)) == expected


@pytest.mark.parametrize("command", [["grade"], ["evaluate", "offline"]])
def test_the_first_wrong_row_is_named_with_ray_too(rows, tmp_path, command):
    rows[14]["answer"] = ["4", "5"]
    rows[31]["answer"] = " "
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    here, with_ray = both_ways(*command, file, "--answer", "answer")
    assert isinstance(with_ray.exception, SettingsError)
    assert "rows.jsonl line 15 is a list of answers" in str(with_ray.exception)
    assert str(with_ray.exception) == str(here.exception)


def runs(process: psutil.Process) -> bool:
    """Whether it does; a dead one whose parent has not asked for its exit status (a zombie) does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
