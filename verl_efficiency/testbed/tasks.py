"""The table of tasks, and what the programs of the testbed know about a task."""

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
    """A task of the testbed.

    Attributes:
        characters: what its texts are made of, besides the fixed pieces of the tokenizer and the line break.
        levels: its levels of difficulty, the easiest first.
        level: the level of a problem.
        count, numbered: how many problems a level has, and the problem of a number and a level. Numbers start at 0.
        splits: the splits that are written as data, the one for training first.
        warm_start_split: the split that the warm start learns from.
        sample_pack: draws problems of a split that can share a prompt: ``sample_pack(rng, size, split)``.
        info: what a row of data says about a problem, besides its text and its difficulty.
        max_new_tokens: the limit for one problem; no sensible response is longer.
        shortest_tokens: tokens of the shortest correct response to a pack; empty where short responses are often wrong.
    """

    name: str
    characters: str
    levels: Sequence[int]
    level: Callable[[Any], int]
    count: Callable[[int], int]
    numbered: Callable[[int, int], Any]
    splits: tuple[str, ...]
    warm_start_split: str
    sample_pack: Callable[[Random, int, str], list[Any]]
    info: Callable[[Any], dict[str, Any]]
    max_new_tokens: int
    shortest_tokens: Callable[[Sequence[Any]], int] | None = None

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
