"""The task: chained addition modulo 10, worked out in writing, with checks that repair nothing."""

import hashlib
import itertools
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verl_efficiency.settings import require

MAX_DEPTH = 6
SEGMENTS = 8
START = 0
PROBLEM_TEMPLATE = "### Problem {index}:{problem}"
SEPARATOR = "\n"
SINGLE_ANSWER = r"\boxed{{{answer}}}"
PACKED_ANSWER = r"Answer{index}::\boxed{{{answer}}}"
CHECK_PROBABILITIES = (0.25, 0.30, 0.25, 0.20)  # of 0, 1, 2, 3 checks after a step
TEST_SHARE = 1 / 3


@dataclass(frozen=True)
class Problem:
    """Add ``operands`` to ``start`` one after the other, modulo 10.

    A problem of depth d (1..6) labels its steps with the last d letters of its segment (0..7). So a label tells whether
    it is the last one, and two problems of different segments share no label.

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
        """The problem as the user states it."""
        return f"{self.start}" + "".join(f"{label}{operand}" for label, operand, _, _ in self.steps) + "."

    @property
    def is_test(self) -> bool:
        """Whether the text belongs to the test split; a fixed property of the text (about one text in three)."""
        return hashlib.sha256(self.text.encode()).digest()[0] < TEST_SHARE * 256


def sample_problem(rng: random.Random, depth: int | None = None, segment: int | None = None) -> Problem:
    """Draw a problem; depth (1..6) and segment (0..7) are uniform unless given."""
    depth = rng.randint(1, MAX_DEPTH) if depth is None else depth
    segment = rng.randrange(SEGMENTS) if segment is None else segment
    return Problem(segment, tuple(rng.randrange(10) for _ in range(depth)))


def sample_pack(rng: random.Random, size: int, test: bool) -> list[Problem]:
    """Draw ``size`` problems (1..8) of different segments, all from the test split or all from the train split."""
    require(1 <= size <= SEGMENTS, "size", size, f"1..{SEGMENTS}, a segment for each problem")

    def draw(segment: int) -> Problem:
        depth = rng.randint(1, MAX_DEPTH)
        return next(p for p in iter(lambda: sample_problem(rng, depth, segment), None) if p.is_test == test)

    return [draw(segment) for segment in rng.sample(range(SEGMENTS), size)]


def prompt(problems: Sequence[Problem]) -> str:
    """What the user writes: the bare text of one problem, or a pack, one numbered problem a line."""
    if len(problems) == 1:
        return problems[0].text
    return SEPARATOR.join(PROBLEM_TEMPLATE.format(index=i, problem=p.text) for i, p in enumerate(problems, start=1))


def trace(problems: Sequence[Problem], rng: random.Random) -> str:
    """A correct and wasteful response: each step is written, then copied as a check 0 to 3 times (1.4 on average).

    >>> trace([Problem(segment=0, operands=(8, 1))], random.Random(0))
    '0e8+0=8?e8+0=8?e8+0=8?e8+0=8f1+8=9?f1+8=9?f1+8=9\\\\boxed{9}'
    """
    return _write(problems, lambda: rng.choices(range(len(CHECK_PROBABILITIES)), CHECK_PROBABILITIES)[0])


def shortest_trace(problems: Sequence[Problem]) -> str:
    """The same response without a single check.

    >>> shortest_trace([Problem(segment=0, operands=(8, 1)), Problem(segment=1, operands=(7,))])
    '1:0e8+0=8f1+8=9Answer1::\\\\boxed{9}\\n2:0l7+0=7Answer2::\\\\boxed{7}'
    """
    return _write(problems, lambda: 0)


def shortest_tokens(problems: Sequence[Problem]) -> int:
    """Length of the shortest trace in tokens with the end-of-sequence token: ``5 + 6 depth`` for a single problem.

    A pack adds ``i:`` and ``Answeri::`` (5 tokens) to every problem and a line break between two.
    """
    steps = 6 * sum(problem.depth for problem in problems)
    if len(problems) == 1:
        return 5 + steps
    return 9 * len(problems) + steps + len(problems)


def _write(problems: Sequence[Problem], checks: Callable[[], int]) -> str:
    packed = len(problems) > 1
    lines = []
    for index, problem in enumerate(problems, start=1):
        line = f"{index}:{problem.start}" if packed else f"{problem.start}"
        for label, operand, before, after in problem.steps:
            step = f"{label}{operand}+{before}={after}"
            line += "?".join([step] * (1 + checks()))
        template = PACKED_ANSWER if packed else SINGLE_ANSWER
        lines.append(line + template.format(index=index, answer=problem.answer))
    return SEPARATOR.join(lines)
