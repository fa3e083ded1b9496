"""``run_tree`` must leave no processes behind, whatever the command does."""

import sys

import psutil
import pytest

from tests.e2e.run_tree import MARKER, run_tree

# A daemon like Ray's: a process in its own session, whose parent ends at once.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
time.sleep({stay})
sys.exit({code})
"""


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_good_run_is_reported_with_its_output_and_memory(tmp_path):
    code = "import time; block = bytearray(100 * 2**20); print('hello'); time.sleep(1.5)"
    run = run_tree([sys.executable, "-c", code], timeout=20, log=tmp_path / "log", poll=0.1, scan=0.1)
    assert (run.returncode, run.timed_out, run.leftovers) == (0, False, [])
    assert "hello" in run.log
    assert 1.5 <= run.seconds < 10
    assert 100 * 2**20 <= run.peak_memory_bytes < 1000 * 2**20


def test_a_daemon_that_outlives_a_good_run_is_ended_and_reported(tmp_path):
    code = DAEMON.format(stay=0.5, code=3)
    run = run_tree([sys.executable, "-c", code], timeout=20, log=tmp_path / "log", grace=0.2, poll=0.1)
    assert (run.returncode, run.timed_out) == (3, False)
    assert len(run.leftovers) == 1
    assert "time.sleep(600)" in run.leftovers[0]


def test_the_time_out_ends_the_command_and_its_daemon(tmp_path):
    code = f"import os; print('PIDS', os.getpid(), flush=True)\n{DAEMON.format(stay=600, code=0)}"
    run = run_tree([sys.executable, "-c", code], timeout=1.0, log=tmp_path / "log", poll=0.1)
    assert (run.returncode, run.timed_out) == (None, True)
    assert 1.0 <= run.seconds < 5
    assert not _is_alive(int(run.log.split()[1]))


def test_an_interrupt_ends_the_tree_and_is_raised_on(tmp_path, monkeypatch):
    seen = []

    def interrupted(process):
        seen.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.e2e.run_tree._memory", interrupted)
    code = DAEMON.format(stay=611, code=0)
    with pytest.raises(KeyboardInterrupt):
        run_tree([sys.executable, "-c", code], timeout=30, log=tmp_path / "log", scan=0.1)
    assert seen
    assert not any("time.sleep(611)" in " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))


def test_a_command_that_does_not_exist_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_tree([str(tmp_path / "nowhere")], timeout=5, log=tmp_path / "log")


def test_processes_of_another_run_are_left_alone(tmp_path):
    other = psutil.Popen([sys.executable, "-c", "import time; time.sleep(30)"], env={MARKER: "another run"})
    try:
        run = run_tree([sys.executable, "-c", "pass"], timeout=20, log=tmp_path / "log", poll=0.1)
        assert (run.returncode, run.leftovers) == (0, [])
        assert _is_alive(other.pid)
    finally:
        other.kill()
        other.wait()
