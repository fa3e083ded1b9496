"""The task ``products``: a number of several digits times one digit, in steps with carries. One slip spoils the answer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from verl_efficiency.settings import require
from verl_efficiency.testbed import packs

LEVELS = range(2, 5)  # digits of the number
MULTIPLIERS = range(2, 10)
LABELS = "abcd"  # of the number's digits, units first
MULTIPLIER = "x"  # label of the multiplier
CHARACTERS = "0123456789*+=.}" + LABELS + MULTIPLIER
SPLITS = {"warm_start": 160, "train": 48, "validation": 24, "test": 24}  # shares of 256
SLIPS = 0.15  # share of the steps that go wrong in the traces of the warm start


@dataclass(frozen=True)
class Problem:
    """Multiply ``number`` (2 to 4 digits) by ``multiplier`` (2..9). The level is the number of digits.

    Each digit follows the label of its place, so that a small model can find it.

    >>> problem = Problem(347, 6)
    >>> problem.text, problem.level, problem.answer
    ('c3b4a7*x6.', 3, 2082)
    """

    number: int
    multiplier: int

    def __post_init__(self) -> None:
        require(self.level in LEVELS, "number", self.number, f"{LEVELS[0]} to {LEVELS[-1]} digits")
        require(self.multiplier in MULTIPLIERS, "multiplier", self.multiplier, "a digit from 2 to 9")

    @property
    def level(self) -> int:
        """Number of digits of the number."""
        return len(str(self.number))

    @property
    def operands_by_label(self) -> list[str]:
        """Each digit of the number after its label, the units last, then the multiplier."""
        places = reversed(LABELS[: self.level])
        return [*(f"{place}{digit}" for place, digit in zip(places, str(self.number), strict=True)), self._multiplier]

    @property
    def _multiplier(self) -> str:
        return f"{MULTIPLIER}{self.multiplier}"

    @property
    def answer(self) -> int:
        """The product."""
        return self.number * self.multiplier

    @property
    def text(self) -> str:
        """The problem in the prompt."""
        *digits, multiplier = self.operands_by_label
        return "".join(digits) + f"*{multiplier}."

    @property
    def split(self) -> str:
        """The split, a fixed property of the text."""
        return packs.split(self.text, SPLITS)


def count(level: int) -> int:
    """How many problems of a level there are."""
    return len(MULTIPLIERS) * 9 * 10 ** (level - 1)


def numbered(number: int, level: int) -> Problem:
    """The problem of a level (2..4) with a number (0..count − 1)."""
    above, place = divmod(number, len(MULTIPLIERS))
    return Problem(10 ** (level - 1) + above, MULTIPLIERS[place])


def sample_pack(rng: random.Random, size: int, split: str) -> list[Problem]:
    """Draw a problem of a split; its level is uniform. All problems share their labels, so a prompt holds only one."""
    require(split in SPLITS, "split", split, f"one of {', '.join(SPLITS)}")
    require(size == 1, "size", size, "1")
    level = rng.choice(LEVELS)
    return [next(p for p in iter(lambda: numbered(rng.randrange(count(level)), level), None) if p.split == split)]


def trace(problems: Sequence[Problem], rng: random.Random) -> str:
    """A response to one problem in which each step goes wrong with probability ``SLIPS``, and the answer with it.

    So a model that learns from traces knows all steps, and slips when it samples.
    """
    (problem,) = problems
    return write(problem, [rng.randint(1, 9) if rng.random() < SLIPS else 0 for _ in range(problem.level)])


def write(problem: Problem, slips: Sequence[int] = ()) -> str:
    r"""The response: a step per digit, units first, then the answer that the steps give.

    A step reads: digit · multiplier + carry = two digits, the next carry and a digit of the answer. ``slips`` are added to the
    last digits of the steps, modulo 10: the correct response has none, and any other number than 0 makes the answer wrong.

    >>> write(Problem(347, 6))
    'a7x6+0=42b4x6+4=28c3x6+2=20\\boxed{2082}'
    >>> write(Problem(347, 6), [0, 5, 0])
    'a7x6+0=42b4x6+4=23c3x6+2=20\\boxed{2032}'
    """
    *operands, multiplier = problem.operands_by_label
    carry, working, answer = 0, "", ""
    for operand, slip in zip(reversed(operands), slips or [0] * len(operands), strict=True):
        next_carry, digit = divmod(int(operand[1]) * problem.multiplier + carry, 10)
        digit = (digit + slip) % 10
        working += f"{operand}{multiplier}+{carry}={next_carry}{digit}"
        carry, answer = next_carry, f"{digit}{answer}"
    return working + packs.SINGLE_ANSWER.format(answer=int(f"{carry}{answer}"))
