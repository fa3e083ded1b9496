r"""Grade one answer, or many. These are the decisions in order, each with the file that makes it.

In this process, within microseconds:

1. ``None`` or blank: ``no_answer``.
2. ``quick.py``: two integers, the same text, two options of a multiple choice, two plain numbers, or two names with the
   same letters are decided.
3. ``clean.py`` removes box, math mode and punctuation around both texts and rewrites Unicode as LaTeX. ``domains.py`` removes
   the domain of a letter, as in ``2k\pi, k\in\mathbb{Z}``, and ``lone_name.py`` the name before a value. Then step 2 again.
4. ``quantities.py``: numbers with units or words (``5 cm``, ``3 million``, ``7:30 p.m.``) are decided, or lose their units and
   go on.
5. A text longer than ``MAX_CHARS`` is ``unparsable``, and so is an answer that math-verify would misread (``clean.misread``).

In a child process, within milliseconds. ``pool.py`` keeps a few children. It kills a child that overruns its deadline
(``timed_out``). ``child.judge`` takes these steps:

6. ``parse.py`` parses LaTeX into sympy. ``evaluate.py``: a number too large to evaluate is ``unparsable``.
7. ``sets.py``: sets of real numbers (``x > 3`` and ``(3, \infty)``).
8. ``values.py``: an answer that contradicts itself (``\sqrt 3 = \sqrt 2``) is ``wrong``. Two expressions are compared by value.
9. math-verify decides the rest.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from verl_efficiency.grading import pool
from verl_efficiency.grading.clean import misread, natural_logarithms, spell_out, undress
from verl_efficiency.grading.domains import without_domains
from verl_efficiency.grading.lone_name import without_lone_name
from verl_efficiency.grading.named import as_points, same_options, without_names
from verl_efficiency.grading.quantities import compare_quantities
from verl_efficiency.grading.quick import MAX_CHARS, quick_equal
from verl_efficiency.grading.spoken import compare_phrases
from verl_efficiency.grading.systems import unstack
from verl_efficiency.settings import require

DEADLINE = 3.0


class Status(str, Enum):
    """Why an answer is, or is not, accepted. Only ``correct`` earns a reward."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no_answer"  # nothing was given
    unparsable = "unparsable"  # the answer or the reference cannot be parsed, is too long, or too large to evaluate
    timed_out = "timed_out"  # the comparison overran its deadline


@dataclass(frozen=True)
class Verdict:
    """The outcome of one grading. ``seconds`` is the time spent on it, without the wait for a free worker."""

    status: Status
    answer: str | None
    seconds: float

    @property
    def correct(self) -> bool:
        return self.status is Status.correct


def grade(answer: str | None, gold: str, *, deadline: float = DEADLINE) -> Verdict:
    r"""Whether ``answer`` equals the reference ``gold``. Callable from any thread, event loop, Ray worker or forked process.

    Args:
        answer: the answer of the model, without ``\boxed{}``; ``None`` if it gave none.
        gold: the reference answer. If it is longer than ``MAX_CHARS`` characters, only the same text equals it.
        deadline: seconds that a comparison may take in a worker; above 0.

    Raises:
        ValueError: ``gold`` is blank or not a string; ``answer`` is neither a string nor ``None``.
        GradingError: math-verify does not run here. A broken pool never counts as a wrong answer.

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
    """:func:`grade` for every pair, in the given order. The workers of the pool run in parallel; equal pairs run once."""
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
    """Steps 1 to 5: the verdict, or the answer and the reference as the child process has to compare them."""
    started = time.perf_counter()
    if not isinstance(gold, str) or not gold.strip():
        raise ValueError(f"gold: the reference answer must be a string that is not blank, got {gold!r}")
    require(deadline > 0, "deadline", deadline, "above 0 seconds")
    if not isinstance(answer, str | None):
        raise ValueError(f"answer: must be a string, or None for no answer, got {answer!r} ({type(answer).__name__})")
    if answer is None or not answer.strip():
        return Verdict(Status.no_answer, answer, time.perf_counter() - started)
    left, right = answer, gold
    equal = quick_equal(answer, gold)
    if equal is None:
        left, right = (spell_out(unstack(undress(text))) for text in (answer, gold))
        left, right = without_lone_name(*without_domains(*as_points(*without_names(left, right))))
        left, right = natural_logarithms(left, right)
        equal = quick_equal(left, right)
    if equal is None:
        equal = same_options(left, right)
    if equal is None:
        equal, left, right = compare_phrases(left, right)
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
    """Steps 6 to 9, in a child process."""
    status, seconds = pool.get_pool().grade(*texts, deadline)
    return Verdict(Status(status), answer, seconds)
