"""Grade one answer, or many: the easy ones here, the others in the pool."""

import asyncio
import time
from collections.abc import Sequence

from verl_efficiency.grading import pool
from verl_efficiency.grading.dressing import undress
from verl_efficiency.grading.equality import quick_equal
from verl_efficiency.grading.quantities import compare_quantities
from verl_efficiency.grading.reading import MAX_CHARS
from verl_efficiency.grading.screen import misread
from verl_efficiency.grading.spelling import spell_out
from verl_efficiency.grading.verdict import Status, Verdict
from verl_efficiency.settings import require

DEADLINE = 3.0


def grade(answer: str | None, gold: str, *, deadline: float = DEADLINE) -> Verdict:
    r"""Is ``answer`` equal to the reference ``gold``? Callable from any thread, event loop, Ray worker or forked process.

    Args:
        answer: what the model gave, without ``\boxed{}``; ``None`` if it gave nothing.
        gold: the reference answer. Beyond ``MAX_CHARS`` characters, only the same text counts as equal.
        deadline: seconds that a comparison may take once a worker has it; above 0.

    Raises:
        ValueError: ``gold`` is empty or no string; ``answer`` is neither a string nor ``None``.
        GradingError: math-verify cannot be run here. A pool that does not work never counts as a wrong answer.

    >>> grade("0.5", "1/2").status.value
    'correct'
    """
    verdict = _quick_verdict(answer, gold, deadline)
    return verdict if isinstance(verdict, Verdict) else _pool_verdict(answer, verdict, deadline)


async def grade_async(answer: str | None, gold: str, *, deadline: float = DEADLINE) -> Verdict:
    """:func:`grade` without blocking the event loop."""
    verdict = _quick_verdict(answer, gold, deadline)
    if isinstance(verdict, Verdict):
        return verdict
    threads = pool.get_pool().threads
    return await asyncio.get_running_loop().run_in_executor(threads, _pool_verdict, answer, verdict, deadline)


def grade_batch(answers: Sequence[str | None], golds: Sequence[str], *, deadline: float = DEADLINE) -> list[Verdict]:
    """:func:`grade` for every pair, in the order given: parallel over the workers of the pool, equal pairs only once."""
    pairs = list(zip(answers, golds, strict=True))
    verdicts = [_quick_verdict(answer, gold, deadline) for answer, gold in pairs]
    hard = {pair: texts for pair, texts in zip(pairs, verdicts, strict=True) if not isinstance(texts, Verdict)}
    threads = pool.get_pool().threads if hard else None
    waiting = {pair: threads.submit(_pool_verdict, pair[0], hard[pair], deadline) for pair in hard if threads}
    try:
        return [
            verdict if isinstance(verdict, Verdict) else waiting[pair].result()
            for pair, verdict in zip(pairs, verdicts, strict=True)
        ]
    finally:
        for future in waiting.values():  # after an interrupt
            future.cancel()


def _quick_verdict(answer: str | None, gold: str, deadline: float) -> Verdict | tuple[str, str]:
    """The verdict, or the answer and the reference as math-verify has to compare them."""
    started = time.perf_counter()
    if not isinstance(gold, str) or not gold.strip():
        raise ValueError(f"gold: the reference answer must be a string with something in it, got {gold!r}")
    require(deadline > 0, "deadline", deadline, "above 0 seconds")
    if not isinstance(answer, str | None):
        raise ValueError(f"answer: must be a string, or None for no answer, got {answer!r} ({type(answer).__name__})")
    if answer is None or not answer.strip():
        return Verdict(Status.no_answer, answer, time.perf_counter() - started)
    left, right = answer, gold
    equal = quick_equal(answer, gold)
    if equal is None:
        left, right = spell_out(undress(answer)), spell_out(undress(gold))
        equal = quick_equal(left, right)
    if equal is None:
        equal, left, right = compare_quantities(left, right)
    if equal is not None:
        status = Status.correct if equal else Status.wrong
    elif max(len(answer), len(gold)) > MAX_CHARS or (misread(left) and not misread(right)):
        status = Status.unparsable
    else:
        return left, right
    return Verdict(status, answer, time.perf_counter() - started)


def _pool_verdict(answer: str | None, texts: tuple[str, str], deadline: float) -> Verdict:
    status, seconds = pool.get_pool().grade(*texts, deadline)
    return Verdict(Status(status), answer, seconds)
