"""The table of a question: its arms, and the runs that follow from them.

All questions share one file of results. A run that two tables ask for is made once.

An arm is trained with its published settings, once per seed. An arm with a ``strength`` is also tuned: one trial per value, on
a separate seed and judged on the validation split, then the best value once per seed. All tuned arms have equally many trials.
"""

import functools
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from verl_efficiency.settings import SettingsError, require, unknown
from verl_efficiency.testbed.notes.frontier import Point, tokens_at


@dataclass(frozen=True)
class Arm:
    """One row of the table."""

    name: str
    settings: tuple[str, ...]  # overrides of verl on top of the common ones
    recipe: str = ""  # a script of `recipes/verl`, for a method that needs more than overrides
    variables: tuple[tuple[str, str], ...] = ()  # environment of the recipe, for example `PROBLEMS: 3`
    strength: str = ""  # the override that is tuned, with `++` if verl's configuration lacks it
    values: tuple[float, ...] = ()  # the values that are tried for it


@dataclass(frozen=True)
class Run:
    """One training run."""

    arm: str
    kind: str  # `published` and `tuned` runs are tested, a `trial` is only validated
    value: float | None  # of the arm's strength; None for its published settings
    task: str
    seed: int
    steps: int
    recipe: str
    variables: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]  # all overrides of verl that set this run apart, the common ones included
    task_scaling: bool = False  # whether its model also answers packs of 1 to 6 problems

    @property
    def name(self) -> str:
        """The run's name in messages and folders."""
        strength = "" if self.value is None else f"={self.value:g}"
        return f"{self.arm}.{self.kind}{strength}.seed{self.seed}"

    @functools.cached_property  # every run is held against every line
    def key(self) -> dict[str, Any]:
        """The entry `run` of a result line, which tells its run."""
        told = asdict(self)
        del told["task_scaling"]  # a line that has it also has the entry `task_scaling`
        return json.loads(json.dumps(told))

    def made(self, line: Mapping[str, Any]) -> bool:
        """Whether ``line`` is the result of this run, in this table or in another."""
        own, its = ({key: run[key] for key in _SETTINGS} for run in (self.key, line["run"]))
        measured = [*["test"] * (self.kind != "trial"), *["task_scaling"] * self.task_scaling]
        return own == its and all(entry in line for entry in measured)


# What a run does. The rest of a run is how a table names it.
_SETTINGS = ("task", "seed", "steps", "recipe", "variables", "settings")


@dataclass(frozen=True)
class Table:
    """A question."""

    task: str  # of the testbed
    steps: int  # of every run
    seeds: tuple[int, ...]  # of the published and the tuned runs
    trial_seed: int  # the seed of all trials; not one of `seeds`
    trials: int  # number of values that are tried for each tuned arm
    floor: float  # accuracy on the validation split that a tuned arm must keep, if one of its trials does
    common: tuple[str, ...]  # overrides of all arms
    arms: tuple[Arm, ...]
    task_scaling: tuple[str, ...] = ()  # arms whose models also answer packs of 1 to 6 problems

    def runs(self, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]) -> list[Run]:
        """All runs so far; the tuned ones of an arm appear once all its trials have a result line."""
        runs = [self._run(arm, "published", None, seed) for seed in self.seeds for arm in self.arms]
        tuned = [arm for arm in self.arms if arm.strength]
        runs += [self._run(arm, "trial", value, self.trial_seed) for arm in tuned for value in arm.values]
        for seed, arm in itertools.product(self.seeds, tuned):
            value = self.best(arm, lines, frontier)
            if value is not None:
                runs.append(self._run(arm, "tuned", value, seed))
        return runs

    @property
    def total(self) -> int:
        """The final number of runs, with the tuned ones."""
        tuned = sum(bool(arm.strength) for arm in self.arms)
        return len(self.seeds) * (len(self.arms) + tuned) + tuned * self.trials

    def best(self, arm: Arm, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]) -> float | None:
        """The value with the fewest tokens above the frontier on the validation split; None while a trial is missing.

        Only values that reach the floor of accuracy count. If none does, the most accurate value is the best.
        """
        found = self.tried(arm, lines)
        if len(found) < len(arm.values):
            return None
        good = {value: score for value, score in found.items() if score[0] >= self.floor}
        if not good:
            return max(found, key=lambda value: found[value])
        return min(good, key=lambda value: good[value][1] - tokens_at(frontier, good[value][0]))

    def tried(self, arm: Arm, lines: Sequence[Mapping[str, Any]]) -> dict[float, tuple[float, float]]:
        """Accuracy and tokens on the validation split after each trial of the arm that has a result line, by its value."""
        found = {}
        for value in arm.values:
            run = self._run(arm, "trial", value, self.trial_seed)
            line = next((line for line in lines if run.made(line)), None)
            if line is not None:
                found[value] = (line["validation"][-1]["accuracy"], line["validation"][-1]["tokens"])
        return found

    def _run(self, arm: Arm, kind: str, value: float | None, seed: int) -> Run:
        strength = () if value is None else (f"{arm.strength}={value:g}",)
        settings = (*self.common, *arm.settings, *strength)
        scaling = arm.name in self.task_scaling and kind != "trial"
        return Run(arm.name, kind, value, self.task, seed, self.steps, arm.recipe, arm.variables, settings, scaling)


def read_table(path: Path, steps: int = 0) -> Table:
    """Read a table in YAML; ``steps``, unless 0, replaces the table's.

    With ``take``, a table has arms of another file too: ``from`` names the file beside it, ``arms`` its arms. What the table
    does not set itself, from ``task`` to ``common``, is as in that file. Taken arms are not tuned. ``with`` gives each of them
    once per entry, with the settings of the entry added; an entry without settings is the arm as it is.

    Raises:
        SettingsError: the table is wrong; the message names the arm or the key.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from None
    known = {field.name for field in fields(Table)}
    taken: tuple[Arm, ...] = ()
    if isinstance(content, dict) and "take" in content:
        content, taken = _with_taken(path, content)
    _check_keys(f"{path}", content, known, known - {"task_scaling"})
    arms = tuple(
        _arm(f"{path}: arms.{name}", name, entry, content["trials"]) for name, entry in content["arms"].items()
    )
    arms = (*taken, *arms)
    scaled = tuple(content.get("task_scaling", ()))
    for name in scaled:
        if name not in (names := [arm.name for arm in arms]):
            raise SettingsError(f"{path}: task_scaling: {unknown('arm', name, names)}")
    lists = {"seeds": tuple(content["seeds"]), "common": tuple(content["common"]), "task_scaling": scaled}
    table = Table(**{**content, **lists, "arms": arms})
    table = replace(table, steps=steps or table.steps)
    require(
        table.trial_seed not in table.seeds, f"{path}: trial_seed", table.trial_seed, "a seed that is not among seeds"
    )
    require(bool(table.seeds), f"{path}: seeds", table.seeds, "at least one seed")
    return table


def _with_taken(path: Path, content: dict[str, Any]) -> tuple[dict[str, Any], tuple[Arm, ...]]:
    """The content of a table with ``take``, completed from the other table, and the arms that it takes."""
    content = dict(content)
    take = content.pop("take")
    _check_keys(f"{path}: take", take, {"from", "arms", "with"}, {"from", "arms"})
    other = read_table(path.parent / take["from"])
    by_name = {arm.name: arm for arm in other.arms}
    for name in take["arms"]:
        if name not in by_name:
            raise SettingsError(f"{path}: take.arms: {unknown('arm', name, by_name)}")
    taken = tuple(
        replace(
            by_name[name],
            name=f"{name}.{form}" if added else name,
            strength="",
            values=(),
            settings=(*by_name[name].settings, *added),
        )
        for name in take["arms"]
        for form, added in take.get("with", {"": ()}).items()
    )
    defaults = {field.name: getattr(other, field.name) for field in fields(Table)}
    return {**defaults, "arms": {}, **content}, taken


def _arm(where: str, name: str, entry: Any, trials: int) -> Arm:
    known = {field.name for field in fields(Arm)} - {"name"}
    _check_keys(where, entry, known, set())
    values = tuple(entry.get("values", ()))
    expected = trials if "strength" in entry else 0
    require(len(values) == expected, f"{where}.values", list(values), f"{expected} values, as many as all arms try")
    require(len(set(values)) == len(values), f"{where}.values", list(values), "different values")
    variables = tuple((key, str(value)) for key, value in entry.get("variables", {}).items())
    settings = tuple(entry.get("settings", ()))
    return Arm(name, settings, entry.get("recipe", ""), variables, entry.get("strength", ""), values)


def _check_keys(where: str, entry: Any, known: set[str], needed: set[str]) -> None:
    require(isinstance(entry, dict), where, entry, "a mapping")
    for key in entry:
        if key not in known:
            raise SettingsError(f"{where}: {unknown('key', key, known)}")
    missing = sorted(needed - entry.keys())
    if missing:
        raise SettingsError(f"{where}: lacks {', '.join(missing)}")


def missing_runs(runs: Iterable[Run], lines: Sequence[Mapping[str, Any]]) -> list[Run]:
    """The runs without a result line for exactly their settings."""
    return [run for run in runs if not any(run.made(line) for line in lines)]
