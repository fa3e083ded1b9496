"""The tasks of the testbed, one row each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from verl_efficiency.settings import SettingsError, unknown
from verl_efficiency.testbed.checks import task as checks
from verl_efficiency.testbed.notes import task as notes
from verl_efficiency.testbed.products import task as products


@dataclass(frozen=True)
class Task:
    """A task of the testbed."""

    name: str
    characters: str  # characters of its texts, without the fixed pieces of the tokenizer and the line break
    levels: Sequence[int]  # levels of difficulty, easiest first
    level: Callable[[Any], int]  # the level of a problem
    level_of_text: Callable[[str], int]  # the same, from the problem's text in a prompt
    count: Callable[[int], int]  # the number of problems of a level
    numbered: Callable[[int, int], Any]  # (number from 0, level) -> problem
    splits: tuple[str, ...]  # the splits that are written as data, the one for training first
    warm_start_split: str  # the split that the warm start is trained on
    sample_pack: Callable[[Random, int, str], list[Any]]  # (rng, size, split) -> problems that can share a prompt
    largest_pack: int  # the most problems that can share a prompt
    info: Callable[[Any], dict[str, Any]]  # further fields of a problem's data row, besides text and difficulty
    max_new_tokens: int  # the limit for one problem; no sensible response is longer
    shortest_tokens: Callable[[Sequence[Any]], int] | None = (
        None  # tokens of the shortest correct response to a pack, if known
    )

    @property
    def warm_start(self) -> Path:
        """The folder of the committed warm start."""
        return Path(__file__).parent / self.name / "warm_start"

    def difficulty(self, problem: Any) -> float:
        """0 at the lowest level, 1 at the highest."""
        return (self.level(problem) - self.levels[0]) / (self.levels[-1] - self.levels[0])

    def level_at(self, difficulty: float) -> int:
        """The level whose problems have this difficulty."""
        return round(self.levels[0] + difficulty * (self.levels[-1] - self.levels[0]))


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


TASKS = (
    Task(
        name="checks",
        characters=checks.CHARACTERS,
        levels=range(1, checks.MAX_DEPTH + 1),
        level=lambda problem: problem.depth,
        level_of_text=lambda text: _digits(text) - 1,
        count=checks.count,
        numbered=checks.numbered,
        splits=("train", "test"),
        warm_start_split="train",
        sample_pack=checks.sample_pack,
        largest_pack=checks.SEGMENTS,
        info=lambda problem: {
            "depth": problem.depth,
            "segment": problem.segment,
            "shortest_tokens": checks.shortest_tokens([problem]),
        },
        max_new_tokens=230,  # the longest verbose response at depth 6 has 173 + 5
        shortest_tokens=checks.shortest_tokens,
    ),
    Task(
        name="notes",
        characters=notes.CHARACTERS,
        levels=range(notes.LEVELS),
        level=lambda problem: problem.level,
        level_of_text=lambda text: _digits(text.replace("0", "")) - 1,
        count=notes.count,
        numbered=notes.numbered,
        splits=("train", "validation", "test"),
        warm_start_split="warm_start",
        sample_pack=notes.sample_pack,
        largest_pack=notes.LEVELS,
        info=lambda problem: {"level": problem.level},
        max_new_tokens=66,  # a note after every digit takes 58
    ),
    Task(
        name="products",
        characters=products.CHARACTERS,
        levels=products.LEVELS,
        level=lambda problem: problem.level,
        level_of_text=lambda text: _digits(text) - 1,
        count=products.count,
        numbered=products.numbered,
        splits=("train", "validation", "test"),
        warm_start_split="warm_start",
        sample_pack=products.sample_pack,
        largest_pack=1,
        info=lambda problem: {"level": problem.level},
        max_new_tokens=66,  # a number of 4 digits takes 44
    ),
)


def task_named(name: str) -> Task:
    """The task of that name."""
    for task in TASKS:
        if task.name == name:
            return task
    raise SettingsError(f"--task: {unknown('task', name, [task.name for task in TASKS])}")
