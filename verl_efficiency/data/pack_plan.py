r"""How many problems share a prompt, by the length of the answer that is expected.

``verl-efficiency evaluate task-scaling --problems auto`` measures a plan. ``verl-efficiency pack --problems RESULT.json``
applies it to a file. A service applies it to each batch of its problems::

    plan = load_plan("task_scaling.json")
    for pack in packs_by_plan(expected, plan, seed=0):  # numbers of problems, of like expected length
        prompt = prompt_text([questions[number] for number in pack], plan.packing)

>>> plan = PackPlan("characters", (Band(up_to=20, problems=3), Band(up_to=60, problems=2)), PackingSettings())
>>> packs = packs_by_plan([12, 55, 18, 41, 900, 15], plan, seed=0)
>>> sorted(sorted(pack) for pack in packs)
[[0, 2, 5], [1, 3], [4]]
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verl_efficiency.data.columns import Row, column
from verl_efficiency.data.files import require_file
from verl_efficiency.data.packing import packed_rows
from verl_efficiency.data.problems import ProblemSet, read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.settings import SettingsError, build_settings, require

CHARACTERS = "characters"  # in place of a column: the length of the problem's text


@dataclass(frozen=True)
class Band:
    """Problems of like expected length: those above the band before, up to ``up_to``."""

    up_to: float  # inclusive
    problems: int  # at most so many in a prompt, at least 1


@dataclass(frozen=True)
class PackPlan:
    """How many problems share a prompt, for each band of expected length.

    A problem above the last band was never measured, and is asked alone.
    """

    by: str  # column path of a number that says how long the answer will be, or ``characters``
    bands: tuple[Band, ...]  # ascending, at least one
    packing: PackingSettings  # the wording of the prompts, and ``distinct_by``

    def __post_init__(self) -> None:
        ends = [band.up_to for band in self.bands]
        require(bool(ends) and ends == sorted(set(ends)), "bands", ends, "ascending ends, at least one")
        require(min(band.problems for band in self.bands) >= 1, "bands", self.bands, "bands of at least one problem")

    def __str__(self) -> str:
        return ", ".join(f"N = {band.problems} up to {band.up_to:g}" for band in self.bands) + ", above alone"


def packs_by_plan(
    expected: Sequence[float] | np.ndarray,
    plan: PackPlan,
    seed: int | Sequence[int],
    keys: Sequence[object] | None = None,
) -> list[list[int]]:
    """Packs of problems of one band each. Every problem is in exactly one pack, and no pack holds more than its band allows.

    Args:
        expected: a number per problem that says how long its answer will be, on the scale of the plan's bands.
        plan: the bands.
        seed: determines the packs.
        keys: one hashable value per problem; the problems of a pack have different keys, and packs are smaller where they must.

    Returns:
        Packs of problem numbers, the shortest band first. The packs of a band differ by at most one problem.

    Raises:
        SettingsError: an expected length is not finite.
    """
    expected_n = np.asarray(expected, dtype=float)
    bad = np.flatnonzero(~np.isfinite(expected_n))
    if bad.size:
        raise SettingsError(f"expected: {expected_n[bad[0]]} of problem {bad[0]} is not a finite number")
    band_n = np.searchsorted([band.up_to for band in plan.bands], expected_n)
    sizes = [*(band.problems for band in plan.bands), 1]
    rng = np.random.default_rng(seed)
    return [
        pack
        for number, size in enumerate(sizes)
        for pack in even_packs(np.flatnonzero(band_n == number), size, rng, keys)
    ]


def even_packs(
    members: Sequence[int] | np.ndarray, size: int, rng: np.random.Generator, keys: Sequence[object] | None = None
) -> list[list[int]]:
    """Random packs of at most ``size`` of these problems, as few and as even as possible, with different ``keys`` in each."""
    order = rng.permutation(np.asarray(members, dtype=int))
    fewest = math.ceil(len(order) / size)
    if keys is not None and len(order):
        key_m, count_k = np.unique([str(keys[member]) for member in order], return_inverse=True, return_counts=True)[1:]
        order = order[np.argsort(key_m, kind="stable")]  # dealt out in turn, problems of one key go to different packs
        fewest = max(fewest, int(count_k.max()))
    return [order[start::fewest].tolist() for start in range(fewest)]


def pack_rows_by_plan(rows: Sequence[Row], plan: PackPlan, seed: int | Sequence[int]) -> list[dict[str, Any]]:
    """Pack single-problem rows as the plan says. The row of a problem that is asked alone keeps its own prompt.

    Args:
        rows: single problems, see :func:`verl_efficiency.data.problems.read_problems`.
        plan: how many problems share a prompt.
        seed: determines the packs.

    Returns:
        Rows as :func:`verl_efficiency.data.packing.pack_rows` returns them. ``batched_accuracy`` grades them all.

    Raises:
        SettingsError: see ``read_problems``; or the plan's column is missing or holds something that is not a number.
    """
    problem_set = read_problems(rows, plan.packing)
    packs = packs_by_plan(expected_lengths(rows, problem_set, plan.by), plan, seed, problem_set.keys)
    return packed_rows(problem_set, packs, plan.packing)


def expected_lengths(rows: Sequence[Row], problem_set: ProblemSet, by: str) -> np.ndarray:
    """A number per problem that says how long its answer will be: the column ``by``, or the characters of the problem.

    Raises:
        SettingsError: the column is missing, or holds something that is not a finite number.
    """
    if by == CHARACTERS:
        return np.array([float(len(problem.question)) for problem in problem_set.problems])
    try:
        values = column(rows, by, "--by")
    except SettingsError as error:
        raise SettingsError(f"{error}; --by {CHARACTERS} takes the length of the problem's text") from None
    expected = []
    for number, value in enumerate(values):
        try:
            expected.append(float(value))
        except (TypeError, ValueError):
            expected.append(math.nan)
        require(math.isfinite(expected[-1]), f"--by: '{by}' of row {number}", value, "a finite number")
    return np.array(expected)


def plan_to_json(plan: PackPlan) -> dict[str, Any]:
    """The plan as JSON can hold it, for :func:`load_plan`."""
    return {"by": plan.by, "bands": [asdict(band) for band in plan.bands], "packing": asdict(plan.packing)}


def load_plan(path: str | Path) -> PackPlan:
    """The plan in a result of ``verl-efficiency evaluate task-scaling --problems auto``.

    Raises:
        SettingsError: it is another kind of file.
    """
    path = Path(path)
    require_file(path, "--problems", (".json",))
    what = f"--problems: {path} is not a result of `verl-efficiency evaluate task-scaling --problems auto`"
    try:
        plan = json.loads(path.read_text(encoding="utf-8-sig"))["auto"]["plan"]
        bands = tuple(Band(float(band["up_to"]), int(band["problems"])) for band in plan["bands"])
        by, packing = str(plan["by"]), plan["packing"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{what} ({error!r})") from None
    return PackPlan(by, bands, build_settings(PackingSettings, packing, f"--problems {path}: packing"))
