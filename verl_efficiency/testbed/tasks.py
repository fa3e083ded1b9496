"""The table of tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from verl_efficiency.settings import SettingsError, unknown
from verl_efficiency.testbed.checks import task as checks
from verl_efficiency.testbed.notes import task as notes


@dataclass(frozen=True)
class Task:
    """A task of the testbed."""

    name: str
    characters: str  # of its texts, besides the fixed pieces of the tokenizer and the line break
    levels: Sequence[int]  # of difficulty, the easiest first
    level: Callable[[Any], int]  # the level of a problem
    count: Callable[[int], int]  # the number of problems of a level
    numbered: Callable[[int, int], Any]  # the problem of a number (from 0) and a level
    splits: tuple[str, ...]  # the splits that are written as data, the one for training first
    warm_start_split: str  # the split that the warm start is trained on
    sample_pack: Callable[[Random, int, str], list[Any]]  # (rng, size, split) -> problems that can share a prompt
    info: Callable[[Any], dict[str, Any]]  # what a data row has about a problem, besides text and difficulty
    max_new_tokens: int  # the limit for one problem; no sensible response is longer
    shortest_tokens: Callable[[Sequence[Any]], int] | None = (
        None  # of the shortest correct response to a pack, if known
    )

    @property
    def warm_start(self) -> Path:
        """The folder of the committed warm start."""
        return Path(__file__).parent / self.name / "warm_start"

    def difficulty(self, problem: Any) -> float:
        """0 at the lowest level, 1 at the highest."""
        return (self.level(problem) - self.levels[0]) / (self.levels[-1] - self.levels[0])


TASKS = (
    Task(
        name="checks",
        characters=checks.CHARACTERS,
        levels=range(1, checks.MAX_DEPTH + 1),
        level=lambda problem: problem.depth,
        count=checks.count,
        numbered=checks.numbered,
        splits=("train", "test"),
        warm_start_split="train",
        sample_pack=checks.sample_pack,
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
        count=notes.count,
        numbered=notes.numbered,
        splits=("train", "validation", "test"),
        warm_start_split="warm_start",
        sample_pack=notes.sample_pack,
        info=lambda problem: {"level": problem.level},
        max_new_tokens=66,  # a note after every digit takes 58
    ),
)


def task_named(name: str) -> Task:
    """The task of that name."""
    for task in TASKS:
        if task.name == name:
            return task
    raise SettingsError(f"--task: {unknown('task', name, [task.name for task in TASKS])}")
