"""The pool works from any process and thread, keeps its deadlines, survives crashes and leaves no process behind."""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from verl_efficiency.grading import (
    GradingError,
    PoolSettings,
    Status,
    configure,
    grade,
    grade_async,
    grade_batch,
    shutdown,
)
from verl_efficiency.grading import pool as pool_module
from verl_efficiency.settings import SettingsError

SYMBOLIC = [
    ("1 + x", "x + 1", True),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
    ("x = 5", "5", True),
    ("2 + x", "x + 1", False),
    (r"\{1, 3\}", r"\{1, 2\}", False),
    (r"\sqrt{3}", r"\sqrt{2}", False),
]
HANGS = r"t = (x+y)^{20000} + \int_0^1 y dy"  # stops sympy for minutes
LARGE = r"t = (x+y+z)^{3000} + \int_0^1 y dy"  # takes about a GiB


@pytest.fixture(autouse=True)
def fresh_pool():
    configure(PoolSettings(workers=2))
    yield
    configure(PoolSettings())


def workers_of(pid: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "verl_efficiency.grading.child" in child.cmdline()
    ]


def end(processes: list[psutil.Process]) -> bool:
    """Whether all of them end; on a starved machine that may take a while."""
    return not psutil.wait_procs(processes, timeout=30)[1]


def python(code: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("answer", "gold", "status"),
    [
        ("x + 1", "1 + x", "correct"),
        ("x + 2", "1 + x", "wrong"),
        (None, "1", "no_answer"),
        ("  ", "1", "no_answer"),
        ("x + 2 @@", "1 + x", "unparsable"),
        ("4\N{FULLWIDTH DIGIT TWO}", "42", "unparsable"),
        ("9^{9^{9}}", "2", "unparsable"),
        ("y" + "1" * 100_000, "2", "unparsable"),
    ],
)
def test_status(answer, gold, status):
    verdict = grade(answer, gold)
    assert verdict.status is Status(status)
    assert verdict.correct is (status == "correct")
    assert verdict.answer == answer


@pytest.mark.parametrize("gold", ["", "  ", None, 42])
def test_a_reference_that_is_none_raises(gold):
    with pytest.raises(ValueError, match=r"^gold: .*got "):
        grade("1", gold)


def test_bad_settings_raise():
    with pytest.raises(SettingsError, match="workers: must be at least 1, got 0"):
        PoolSettings(workers=0)
    with pytest.raises(SettingsError, match="deadline: must be above 0 seconds"):
        grade("x", "y", deadline=0)
    with pytest.raises(ValueError, match="zip"):
        grade_batch(["1"], ["1", "2"])


def test_batch_keeps_the_order_and_uses_both_workers():
    answers, golds, expected = zip(*SYMBOLIC * 20, strict=True)
    verdicts = grade_batch([*answers, "7", None], [*golds, "7", "7"])
    assert [verdict.correct for verdict in verdicts] == [*expected, True, False]
    assert len(workers_of(os.getpid())) == 2  # the second is only started while the first is busy


def test_a_batch_is_graded_in_parallel():
    """Four answers that hang for two seconds each take four seconds on two workers, not eight."""
    grade_batch(["x + 1", "2 + x"] * 10, ["1 + x", "x + 2"] * 10)
    started = time.perf_counter()
    verdicts = grade_batch([f"{HANGS} + {term}" for term in (2, 3, 5, 7)], ["1"] * 4, deadline=2)
    assert [verdict.status for verdict in verdicts] == [Status.timed_out] * 4
    assert time.perf_counter() - started < 7


def test_a_batch_grades_equal_pairs_once():
    """A policy that has collapsed to one hanging answer costs one deadline, not fifty."""
    started = time.perf_counter()
    verdicts = grade_batch([HANGS] * 50, ["1"] * 50, deadline=2)
    assert {verdict.status for verdict in verdicts} == {Status.timed_out}
    assert time.perf_counter() - started < 25  # not 50


def test_easy_answers_start_no_process_and_load_no_sympy():
    code = """
        import sys
        import verl_efficiency.grading as g
        assert g.grade(g.extract_answer(r"\\boxed{1,000}"), "1000").correct
        assert not g.grade_batch(["3", None], ["4", "5"])[0].correct
        import psutil
        assert not psutil.Process().children()
        heavy = {"sympy", "torch", "math_verify", "latex2sympy2_extended", "numpy"} & set(sys.modules)
        assert not heavy, heavy
    """
    process = python(code)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_the_child_loads_math_verify_and_not_torch():
    code = """
        import sys
        import verl_efficiency.grading.child as child
        assert not {"sympy", "torch", "verl"} & set(sys.modules)
        assert child.judge("x + 1", "1 + x") == "correct"
        assert not {"torch", "verl", "transformers", "numpy"} & set(sys.modules)
    """
    process = python(code)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_64_threads_and_an_event_loop_agree_with_one_by_one():
    """1,000 gradings each way, a third of them symbolic."""
    pairs = [(answer, gold) for answer, gold, _ in SYMBOLIC] + [("3", "3"), ("3", "4"), (None, "3"), ("1/2", "0.5")] * 3
    pairs = (pairs * 56)[:1000]
    one_by_one = [grade(answer, gold).status for answer, gold in pairs]

    with ThreadPoolExecutor(64) as threads:
        assert list(threads.map(lambda pair: grade(*pair).status, pairs)) == one_by_one

    async def in_a_loop():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        verdicts = await asyncio.gather(*(grade_async(answer, gold) for answer, gold in pairs))
        ticking.cancel()
        return [verdict.status for verdict in verdicts], ticks

    statuses, ticks = asyncio.run(in_a_loop())
    assert statuses == one_by_one
    assert ticks >= 10  # the loop kept turning


def test_a_hanging_grading_is_timed_out_and_the_pool_goes_on():
    verdict = grade(HANGS, "1", deadline=0.5)
    assert verdict.status is Status.timed_out
    assert grade("x + 1", "1 + x").correct


def test_a_worker_that_does_not_react_is_killed_and_replaced():
    assert grade("x + 1", "1 + x").correct
    (worker,) = workers_of(os.getpid())
    worker.suspend()  # as in one huge integer operation, its own alarm cannot go off
    verdict = grade("x + 1", "1 + x", deadline=0.5)
    assert verdict.status is Status.timed_out
    assert verdict.seconds > 0.5
    assert end([worker])
    assert grade("x + 1", "1 + x").correct


def test_a_worker_killed_from_outside_costs_no_verdict():
    assert grade("x + 1", "1 + x").correct
    (worker,) = workers_of(os.getpid())
    worker.kill()
    end([worker])
    assert grade("x + 1", "1 + x").correct


def test_an_answer_on_which_the_comparison_fails_costs_no_worker(caplog):
    """The number of digits of a letter to the power of 10¹⁰ is not a number."""
    assert grade("x + 1", "1 + x").correct
    before = workers_of(os.getpid())
    assert grade("x^{10^{10}}", "x + 1").status is Status.unparsable
    assert "x^{10^{10}}" in caplog.text
    assert workers_of(os.getpid()) == before


def test_killed_in_the_middle_of_a_grading():
    assert grade("x + 1", "1 + x").correct
    (worker,) = workers_of(os.getpid())
    threading.Timer(0.2, worker.kill).start()
    assert grade(HANGS, "1", deadline=1).status is Status.timed_out  # by the second worker
    assert grade("x + 1", "1 + x").correct


def test_an_interrupt_leaves_the_pool_usable():
    assert grade("x + 1", "1 + x").correct
    before = workers_of(os.getpid())
    # A shell's background job starts with the signal ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            grade(HANGS, "1", deadline=20)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert end(before)
    assert [grade(answer, gold).correct for answer, gold, _ in SYMBOLIC] == [expected for *_, expected in SYMBOLIC]


def test_shutdown_ends_every_process_and_grading_starts_again():
    grade_batch(["x + 1"] * 20, ["1 + x"] * 20)
    running = workers_of(os.getpid())
    assert running
    shutdown()
    assert end(running)
    assert grade("x + 1", "1 + x").correct


def _in_a_child(connection):
    connection.send([grade(answer, gold).correct for answer, gold, _ in SYMBOLIC])
    connection.send([process.pid for process in workers_of(os.getpid())])
    connection.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_from_a_forked_or_spawned_process(method):
    assert grade("x + 1", "1 + x").correct
    mine = {process.pid for process in workers_of(os.getpid())}
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=_in_a_child, args=(theirs,))
    process.start()
    assert ours.recv() == [expected for *_, expected in SYMBOLIC]
    its_own = set(ours.recv())
    process.join(30)
    assert process.exitcode == 0
    assert its_own
    assert not its_own & mine
    assert end([psutil.Process(pid) for pid in its_own if psutil.pid_exists(pid)])
    assert grade("x + 1", "1 + x").correct
    assert {process.pid for process in workers_of(os.getpid())} == mine


def test_a_child_that_python_cannot_interrupt_ends_itself():
    """During one long call into C, Python handles no alarm, and the parent may be dead already."""
    code = """
        from verl_efficiency.grading import child
        assert child.prepare(1024) is None
        child.judge = lambda answer, gold: sum(range(10**12))
        child.judge_within(0.2, "x", "y", open("/dev/null", "w"))
        print("survived")
    """
    process = python(code)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert output == ""


CALLER = """
    import sys, threading, time
    from verl_efficiency.grading import grade
    if __name__ == "__main__":
        hangs = "t = (x+y)^{20000} + \\\\int_0^1 y dy"
        threads = [threading.Thread(target=grade, args=(hangs, "1"), kwargs={"deadline": 2}) for _ in range(2)]
        assert grade("x + 1", "1 + x").correct
        [thread.start() for thread in threads[:int(sys.argv[1])]]
        time.sleep(0.5)
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("busy", [0, 1])
def test_no_orphan_after_sigkill_of_the_caller(busy):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CALLER), str(busy)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = workers_of(process.pid)
    assert children
    process.kill()
    process.communicate()
    assert end(children)  # a busy one finishes within its deadline


def test_no_orphan_when_a_forked_process_still_holds_the_socket():
    code = """
        import os, time
        from verl_efficiency.grading import grade
        assert grade("x + 1", "1 + x").correct
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        print("ready", flush=True)
        time.sleep(60)
    """
    process = python(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = workers_of(process.pid)
    everything = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    try:
        assert end(children)
    finally:
        for other in everything:
            if other.is_running() and other not in children:
                other.kill()
        process.communicate()


def test_nothing_left_after_a_normal_end_or_an_exception():
    code = """
        import os, psutil
        from verl_efficiency.grading import grade
        assert grade("x + 1", "1 + x").correct
        print([child.pid for child in psutil.Process().children(recursive=True)], flush=True)
        raise SystemExit(3)
    """
    process = python(code)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    pids = json.loads(output)
    assert pids
    assert end([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)])
    assert errors == ""


def test_a_pool_that_cannot_start_says_so_and_how_to_fix_it(tmp_path, monkeypatch):
    broken = tmp_path / "math_verify"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('antlr is missing')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    shutdown()
    with pytest.raises(GradingError, match=r"(?s)ImportError: antlr is missing.*pip install 'math-verify"):
        grade("x + 1", "1 + x")
    monkeypatch.setattr(subprocess, "Popen", None)  # the failure is known: no second start
    with pytest.raises(GradingError, match="antlr is missing"):
        grade_batch(["x + 1"] * 10, ["1 + x"] * 10)
    assert grade("3", "3").correct  # what needs no pool still works
    assert end(workers_of(os.getpid()))


def test_a_parser_that_reads_nothing_is_found_at_the_start(tmp_path, monkeypatch):
    """With the wrong antlr runtime, math-verify parses nothing and reports nothing. Every answer would be a silent zero."""
    broken = tmp_path / "math_verify"
    broken.mkdir()
    (broken / "__init__.py").write_text("verify = lambda *_, **__: False")
    (broken / "parser.py").write_text(
        "from latex2sympy2_extended.math_normalization import NormalizationConfig\n"
        "class LatexExtractionConfig:\n    normalization_config = NormalizationConfig()\n"
        "get_last_eq = lambda text: text\n"
    )
    (broken / "grader.py").write_text("def should_treat_as_complex(text):\n    raise Exception(text)\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    shutdown()
    with pytest.raises(GradingError, match=r"x \+ 1 = 1 \+ x came out as unparsable"):
        grade("x + 1", "1 + x")


def test_the_working_directory_cannot_shadow_modules(tmp_path, monkeypatch):
    (tmp_path / "sympy.py").write_text("raise ImportError('a user file of this name')")
    (tmp_path / "json.py").write_text("raise ImportError('a user file of this name')")
    monkeypatch.chdir(tmp_path)
    shutdown()
    assert grade("x + 1", "1 + x").correct


def test_a_large_caller_does_not_count_as_a_large_worker():
    """A new process inherits the peak memory of its parent (ru_maxrss). That must not replace the workers of a trainer."""
    configure(PoolSettings(workers=1, retire_mib=100))
    ballast = bytearray(os.urandom(1) * 200 * 2**20)
    assert grade("x + 1", "1 + x").correct
    (before,) = workers_of(os.getpid())
    assert grade("x + 2", "2 + x").correct
    assert workers_of(os.getpid()) == [before]
    del ballast


def test_memory_of_a_worker_is_bounded(capsys):
    """The kernel refuses more than the limit, and a worker that has grown is replaced."""
    configure(PoolSettings(workers=1, memory_mib=256, retire_mib=100))
    assert grade("x + 1", "1 + x").correct
    (worker,) = workers_of(os.getpid())
    assert worker.rlimit(psutil.RLIMIT_AS)[0] == 256 * 2**20
    assert not grade(LARGE, "1", deadline=30).correct
    assert end([worker])
    assert grade("x + 1", "1 + x").correct
    peak = pool_module.get_pool().peak_mib
    with capsys.disabled():
        print(f"\npeak memory of a grading worker: {peak:.0f} MiB of 256")
    assert 100 < peak <= 256
