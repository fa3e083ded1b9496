"""The task ``notes``: a sum of six digits modulo 10, in writing or in the head. Notes cost tokens and prevent errors."""

import itertools
import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

from verl_efficiency.settings import require
from verl_efficiency.testbed import packs

DIGITS = 6
LEVELS = 6
OPENERS = "([<|/;"  # opens a note at level 0, 1, …; a token per level, so that habits can differ between levels
LABELS = string.ascii_letters[: DIGITS * LEVELS]  # six for each level, the lowest first
CHARACTERS = "0123456789:.+=})" + OPENERS + LABELS
NOTE_TOKENS = 7
SPLITS = {"warm_start": 160, "train": 48, "validation": 24, "test": 24}  # shares of 256

Rates = dict[float, float]
"""Probability of a note after a digit -> share of the traces that have this probability."""

PRACTICE: Rates = {0.0: 0.10, 0.15: 0.22, 0.3: 0.26, 0.5: 0.22, 0.75: 0.10, 1.0: 0.10}  # everything from no note to all
VERBOSE: Rates = {0.0: 0.08, 0.3: 0.12, 0.6: 0.20, 0.85: 0.30, 1.0: 0.30}  # 71 % of the digits are followed by a note
WASTE_ON_EASY: tuple[Rates, ...] = 3 * ({0.85: 0.4, 1.0: 0.6},) + 3 * ({0.3: 0.3, 0.5: 0.4, 0.75: 0.3},)
"""By level: an easy problem gets almost every note and needs at most one, a hard one gets about half of them."""


@dataclass(frozen=True)
class Problem:
    """Add six digits modulo 10. Level l (0..5) has l + 1 digits that are not 0.

    Each level has its own labels. So the labels show the level, and problems of different levels share no label.

    >>> problem = Problem((3, 0, 2, 4, 3, 0))
    >>> problem.text, problem.level, problem.answer
    ('s3t0u2v4w3x0.', 3, 2)
    """

    digits: tuple[int, ...]

    def __post_init__(self) -> None:
        require(len(self.digits) == DIGITS, "digits", self.digits, f"{DIGITS} digits")
        require(all(digit in range(10) for digit in self.digits), "digits", self.digits, "digits from 0 to 9")
        require(any(self.digits), "digits", self.digits, "at least one digit that is not 0")

    @property
    def level(self) -> int:
        """Number of digits that are not 0, minus one."""
        return sum(digit != 0 for digit in self.digits) - 1

    @property
    def operands_by_label(self) -> list[str]:
        """Each digit after its label."""
        labels = LABELS[DIGITS * self.level :]
        return [f"{label}{digit}" for label, digit in zip(labels, self.digits, strict=False)]

    @property
    def answer(self) -> int:
        """The sum modulo 10."""
        return sum(self.digits) % 10

    @property
    def text(self) -> str:
        """The problem in the prompt. All problems have the same length."""
        return "".join(self.operands_by_label) + "."

    @property
    def split(self) -> str:
        """The split, a fixed property of the text."""
        return packs.split(self.text, SPLITS)


def sample_problem(rng: random.Random, split: str, level: int) -> Problem:
    """Draw a problem of a split and a level (0..5)."""
    require(split in SPLITS, "split", split, f"one of {', '.join(SPLITS)}")
    require(level in range(LEVELS), "level", level, f"0..{LEVELS - 1}")
    while True:
        places = rng.sample(range(DIGITS), level + 1)
        problem = Problem(tuple(rng.randint(1, 9) if place in places else 0 for place in range(DIGITS)))
        if problem.split == split:
            return problem


def count(level: int) -> int:
    """How many problems of a level there are."""
    return math.comb(DIGITS, level + 1) * 9 ** (level + 1)


def numbered(number: int, level: int) -> Problem:
    """The problem of a level with a number (0..count − 1)."""
    places, code = divmod(number, 9 ** (level + 1))
    digits = [0] * DIGITS
    for place in list(itertools.combinations(range(DIGITS), level + 1))[places]:
        code, digit = divmod(code, 9)
        digits[place] = digit + 1
    return Problem(tuple(digits))


def sample_pack(rng: random.Random, size: int, split: str) -> list[Problem]:
    """Draw ``size`` problems (1..6) of different levels from one split."""
    require(1 <= size <= LEVELS, "size", size, f"1..{LEVELS}, a level for each problem")
    return [sample_problem(rng, split, level) for level in rng.sample(range(LEVELS), size)]


def trace(problems: Sequence[Problem], rng: random.Random, rates: Rates | Sequence[Rates]) -> str:
    """A correct response. The probability of a note after a digit is drawn once per problem, from the rates of its level.

    ``rates`` is a mapping for all levels, or one for each.
    """
    plans = []
    for problem in problems:
        of_level = rates if isinstance(rates, dict) else rates[problem.level]
        (rate,) = rng.choices(list(of_level), list(of_level.values()))
        plans.append([rng.random() < rate for _ in range(DIGITS)])
    return write(problems, plans)


def write(problems: Sequence[Problem], plans: Sequence[Sequence[bool]]) -> str:
    r"""The correct response, with a note after each digit for which the problem's plan has True.

    A note reads: sum of the digits since the last note + the last note's result = sum so far.

    >>> write([Problem((3, 0, 2, 4, 3, 0))], [[True, False, False, True, False, False]])
    's3|3+0=3)t0u2v4|6+3=9)w3x0\\boxed{2}'
    """
    return packs.response(problems, [_working(problem, plan) for problem, plan in zip(problems, plans, strict=True)])


def _working(problem: Problem, plan: Sequence[bool]) -> str:
    before = since = 0
    working = ""
    for operand, digit, noted in zip(problem.operands_by_label, problem.digits, plan, strict=True):
        since = (since + digit) % 10
        working += operand
        if noted:
            after = (before + since) % 10
            working += f"{OPENERS[problem.level]}{since}+{before}={after})"
            before, since = after, 0
    return working


def tokens(problems: int, notes: int) -> int:
    """Length of a response in tokens with the end-of-sequence token: ``16 + 7 notes`` for a single problem."""
    return packs.tokens(problems, 2 * DIGITS * problems + NOTE_TOKENS * notes)


ALL = "all"


def styles(level: int) -> list[str]:
    """The styles of a level: for each digit that is not 0, except the last, whether a note follows it; or ``"all"``.

    A note after the last digit would only repeat the answer. ``"all"`` writes a note after each digit.

    >>> styles(2)
    ['00', '01', '10', '11', 'all']
    """
    return ["".join(marks) for marks in itertools.product("01", repeat=level)] + [ALL]


def styled(problem: Problem, style: str) -> list[bool]:
    """The plan of a style of :func:`styles`; ``"0"`` takes no notes at any level."""
    if style == ALL:
        return [True] * DIGITS
    places = [place for place, digit in enumerate(problem.digits) if digit]
    noted = {place for place, mark in zip(places, style, strict=False) if mark == "1"}
    return [place in noted for place in range(DIGITS)]
