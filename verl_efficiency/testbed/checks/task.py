"""The task ``checks``: chained addition modulo 10 in written steps, with checks that fix nothing."""

import hashlib
import itertools
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verl_efficiency.settings import require
from verl_efficiency.testbed import packs

MAX_DEPTH = 6
SEGMENTS = 8
START = 0
CHARACTERS = "0123456789+-*=?:.}" + string.ascii_letters
CHECK_PROBABILITIES = (0.25, 0.30, 0.25, 0.20)  # of 0, 1, 2, 3 checks after a step
TEST_SHARE = 1 / 3


@dataclass(frozen=True)
class Problem:
    """Add ``operands`` to ``start`` one after the other, modulo 10.

    A problem of depth d (1..6) labels its steps with the last d letters of its segment (0..7). So a label shows whether it
    is the last one, and problems of different segments share no label.

    >>> problem = Problem(segment=0, operands=(4, 2, 8, 1))
    >>> problem.text, problem.steps[1], problem.answer
    ('0c4d2e8f1.', ('d', 2, 4, 6), 5)
    """

    segment: int
    operands: tuple[int, ...]
    start: int = START

    def __post_init__(self) -> None:
        require(self.segment in range(SEGMENTS), "segment", self.segment, f"0..{SEGMENTS - 1}")
        require(1 <= self.depth <= MAX_DEPTH, "operands", self.operands, f"1 to {MAX_DEPTH} digits")
        require(all(digit in range(10) for digit in (*self.operands, self.start)), "operands", self.operands, "digits")

    @property
    def depth(self) -> int:
        """Number of steps."""
        return len(self.operands)

    @property
    def steps(self) -> tuple[tuple[str, int, int, int], ...]:
        """One ``(label, operand, value before, value after)`` per step."""
        end = (self.segment + 1) * MAX_DEPTH
        labels = string.ascii_letters[end - self.depth : end]
        values = list(
            itertools.accumulate(self.operands, lambda value, operand: (value + operand) % 10, initial=self.start)
        )
        return tuple(zip(labels, self.operands, values, values[1:], strict=False))

    @property
    def answer(self) -> int:
        """The value after the last step."""
        return self.steps[-1][-1]

    @property
    def text(self) -> str:
        """The problem in the prompt."""
        return f"{self.start}" + "".join(self.operands_by_label) + "."

    @property
    def operands_by_label(self) -> list[str]:
        """Each operand after the label of its step."""
        return [f"{label}{operand}" for label, operand, _, _ in self.steps]

    @property
    def split(self) -> str:
        """``test`` (about one text in three) or ``train``, a fixed property of the text."""
        return "test" if hashlib.sha256(self.text.encode()).digest()[0] < TEST_SHARE * 256 else "train"


def sample_problem(rng: random.Random, depth: int | None = None, segment: int | None = None) -> Problem:
    """Draw a problem; depth (1..6) and segment (0..7) are uniform unless given."""
    depth = rng.randint(1, MAX_DEPTH) if depth is None else depth
    segment = rng.randrange(SEGMENTS) if segment is None else segment
    return Problem(segment, tuple(rng.randrange(10) for _ in range(depth)))


def count(depth: int) -> int:
    """How many problems of a depth there are."""
    return SEGMENTS * 10**depth


def numbered(number: int, depth: int) -> Problem:
    """The problem of a depth with a number (0..count − 1)."""
    segment, operands = divmod(number, 10**depth)
    return Problem(segment, tuple(int(digit) for digit in f"{operands:0{depth}d}"))


def sample_pack(rng: random.Random, size: int, split: str) -> list[Problem]:
    """Draw ``size`` problems (1..8) of different segments from one split ("train" or "test")."""
    require(split in ("train", "test"), "split", split, "'train' or 'test'")
    require(1 <= size <= SEGMENTS, "size", size, f"1..{SEGMENTS}, a segment for each problem")

    def draw(segment: int) -> Problem:
        depth = rng.randint(1, MAX_DEPTH)
        return next(p for p in iter(lambda: sample_problem(rng, depth, segment), None) if p.split == split)

    return [draw(segment) for segment in rng.sample(range(SEGMENTS), size)]


def trace(problems: Sequence[Problem], rng: random.Random) -> str:
    """A correct but wasteful response: each step is written, then copied as a check 0 to 3 times (1.4 on average).

    >>> trace([Problem(segment=0, operands=(8, 1))], random.Random(0))
    '0e8+0=8?e8+0=8?e8+0=8?e8+0=8f1+8=9?f1+8=9?f1+8=9\\\\boxed{9}'
    """
    return _write(problems, lambda: rng.choices(range(len(CHECK_PROBABILITIES)), CHECK_PROBABILITIES)[0])


def shortest_trace(problems: Sequence[Problem]) -> str:
    """The same response without checks.

    >>> shortest_trace([Problem(segment=0, operands=(8, 1)), Problem(segment=1, operands=(7,))])
    '1:0e8+0=8f1+8=9Answer1::\\\\boxed{9}\\n2:0l7+0=7Answer2::\\\\boxed{7}'
    """
    return _write(problems, lambda: 0)


def shortest_tokens(problems: Sequence[Problem]) -> int:
    """Length of the shortest trace in tokens with the end-of-sequence token: ``5 + 6 depth`` for a single problem."""
    return packs.tokens(len(problems), sum(1 + 6 * problem.depth for problem in problems))


def _write(problems: Sequence[Problem], checks: Callable[[], int]) -> str:
    return packs.response(problems, [_working(problem, checks) for problem in problems])


def _working(problem: Problem, checks: Callable[[], int]) -> str:
    steps = (f"{label}{operand}+{before}={after}" for label, operand, before, after in problem.steps)
    return f"{problem.start}" + "".join("?".join([step] * (1 + checks())) for step in steps)
