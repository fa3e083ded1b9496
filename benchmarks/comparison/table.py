"""The table of a comparison: which arms there are, and which runs follow from it.

An arm is trained with its published settings, once per seed. An arm that names a ``strength`` is also tuned: one trial for each
of its values on a seed of its own, judged on the validation split, then the best value once per seed. All arms have the same
number of trials.
"""

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
    """One row of the table.

    Attributes:
        settings: overrides of verl on top of the common ones.
        recipe: a script of ``recipes/verl``, for a method that needs more than overrides.
        variables: what the recipe reads from the environment, for example ``PROBLEMS: 3``.
        strength: the override that is tuned, written with ``++`` where verl's configuration lacks it.
        values: what is tried for it.
    """

    name: str
    settings: tuple[str, ...]
    recipe: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    strength: str = ""
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        kind: ``published`` and ``tuned`` runs are tested, a ``trial`` is only validated.
        value: of the arm's strength; None for its published settings.
        settings: all overrides of verl that set this run apart, the common ones included.
    """

    arm: str
    kind: str
    value: float | None
    seed: int
    steps: int
    recipe: str
    variables: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """How a run is called in messages and folders."""
        strength = "" if self.value is None else f"={self.value:g}"
        return f"{self.arm}.{self.kind}{strength}.seed{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a result line says of its run; a line with another key belongs to another run."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Table:
    """A comparison.

    Attributes:
        steps, seeds: of every published and every tuned run.
        trial_seed: the seed of all trials; not one of ``seeds``.
        trials: how many values of its strength are tried for each tuned arm.
        floor: the least accuracy on the validation split that a tuned arm has to keep, if one of its trials does.
        common: overrides of all arms.
    """

    steps: int
    seeds: tuple[int, ...]
    trial_seed: int
    trials: int
    floor: float
    common: tuple[str, ...]
    arms: tuple[Arm, ...]

    def runs(self, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]) -> list[Run]:
        """All runs that can be named by now; tuned ones appear once all trials of their arm have a result line."""
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
        """The number of runs in the end, tuned ones included."""
        tuned = sum(bool(arm.strength) for arm in self.arms)
        return len(self.seeds) * (len(self.arms) + tuned) + tuned * self.trials

    def best(self, arm: Arm, lines: Sequence[Mapping[str, Any]], frontier: Sequence[Point]) -> float | None:
        """The value with the fewest tokens above the frontier on the validation split; None while a trial is missing.

        Values below the floor of accuracy do not count. If all are, the most accurate one is taken.
        """
        found = {}
        for value in arm.values:
            key = self._run(arm, "trial", value, self.trial_seed).key
            line = next((line for line in lines if line["run"] == key), None)
            if line is None:
                return None
            last = line["validation"][-1]
            found[value] = (last["accuracy"], last["tokens"])
        good = {value: score for value, score in found.items() if score[0] >= self.floor}
        if not good:
            return max(found, key=lambda value: found[value])
        return min(good, key=lambda value: good[value][1] - tokens_at(frontier, good[value][0]))

    def _run(self, arm: Arm, kind: str, value: float | None, seed: int) -> Run:
        strength = () if value is None else (f"{arm.strength}={value:g}",)
        settings = (*self.common, *arm.settings, *strength)
        return Run(arm.name, kind, value, seed, self.steps, arm.recipe, arm.variables, settings)


def read_table(path: Path, steps: int = 0) -> Table:
    """Read a table in YAML; ``steps``, unless 0, stands in for the table's own.

    Raises:
        SettingsError: it names the arm or the key, and what is wrong with it.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from None
    known = {field.name for field in fields(Table)}
    _check_keys(f"{path}", content, known, known)
    arms = tuple(
        _arm(f"{path}: arms.{name}", name, entry, content["trials"]) for name, entry in content["arms"].items()
    )
    table = Table(
        **{**content, "seeds": tuple(content["seeds"]), "common": tuple(content["common"]), "arms": arms},
    )
    table = replace(table, steps=steps or table.steps)
    require(table.trial_seed not in table.seeds, f"{path}: trial_seed", table.trial_seed, "a seed of its own")
    require(bool(table.seeds), f"{path}: seeds", table.seeds, "at least one seed")
    return table


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
    """The runs without a result line of exactly their settings."""
    return [run for run in runs if not any(line["run"] == run.key for line in lines)]
