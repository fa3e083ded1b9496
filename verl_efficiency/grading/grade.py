"""Grade one answer, or many: the fast path here, the rest in the pool."""

import asyncio
import time
from collections.abc import Sequence

from verl_efficiency.grading import pool
from verl_efficiency.grading.equality import quick_equal
from verl_efficiency.grading.verdict import Status, Verdict

DEADLINE = 5.0
MAX_CHARS = 1_000


def grade(answer: str | None, gold: str, *, deadline: float = DEADLINE) -> Verdict:
    r"""Is ``answer`` equal to the reference ``gold``? Callable from any thread, event loop, Ray worker or forked process.

    Args:
        answer: what the model gave, without ``\boxed{}``; ``None`` if it gave nothing.
        gold: the reference answer.
        deadline: seconds a comparison may take once a worker has it.

    Raises:
        GradingError: math-verify cannot be run here. A pool that does not work never counts as a wrong answer.

    >>> grade("0.5", "1/2").status.value
    'correct'
    """
    started = time.perf_counter()
    status = _without_pool(answer, gold)
    if status is None:
        assert answer is not None
        started, status = _in_pool(answer, gold, deadline)
    return Verdict(status, answer, time.perf_counter() - started)


async def grade_async(answer: str | None, gold: str, *, deadline: float = DEADLINE) -> Verdict:
    """:func:`grade` without blocking the event loop."""
    if _without_pool(answer, gold) is not None:
        return grade(answer, gold)
    threads = pool.get_pool().threads
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: grade(answer, gold, deadline=deadline))


def grade_batch(answers: Sequence[str | None], golds: Sequence[str], *, deadline: float = DEADLINE) -> list[Verdict]:
    """:func:`grade` for every pair, in parallel over the workers of the pool."""
    verdicts = {}
    waiting = {}
    for index, (answer, gold) in enumerate(zip(answers, golds, strict=True)):
        started = time.perf_counter()
        status = _without_pool(answer, gold)
        if status is None:
            waiting[index] = pool.get_pool().threads.submit(grade, answer, gold, deadline=deadline)
        else:
            verdicts[index] = Verdict(status, answer, time.perf_counter() - started)
    try:
        verdicts.update({index: future.result() for index, future in waiting.items()})
    finally:
        for future in waiting.values():
            future.cancel()
    return [verdicts[index] for index in range(len(answers))]


def _without_pool(answer: str | None, gold: str) -> Status | None:
    if answer is None or not answer.strip():
        return Status.no_answer
    equal = quick_equal(answer, gold)
    if equal is not None:
        return Status.correct if equal else Status.wrong
    if max(len(answer), len(gold)) > MAX_CHARS:
        return Status.unparsable
    return None


def _in_pool(answer: str, gold: str, deadline: float) -> tuple[float, Status]:
    started = time.perf_counter()
    return started, Status(pool.get_pool().grade(answer, gold, deadline))
