"""Which problems share a prompt: stratified, random or easy-hard packs, each problem once, from a seed."""

from collections.abc import Sequence

import numpy as np

from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.settings import SettingsError

MATCHED_PACKS = (
    16  # stratified: packs among which the last problems are matched; a smaller number is more random and less even
)


def plan_packs(
    difficulties: Sequence[float] | np.ndarray | None,
    settings: PackingSettings,
    seed: int | Sequence[int],
    keys: Sequence[object] | None = None,
    count: int | None = None,
) -> list[list[int]]:
    """Plan packs of ``settings.problems`` problems; each problem is used exactly once, except as ``remainder`` says.

    First the share ``settings.singles`` of the problems is drawn: each is a pack of its own.

    ``stratified`` sorts the problems by difficulty into N strata of equal size and gives every pack one random problem of each
    stratum. The last stratum is matched: among every 16 packs, the easier ones get its harder problems. Packs, and the problems
    in each, are shuffled. Time: n log n.

    Args:
        difficulties: one real number per problem; only ``random`` grouping accepts ``None`` (then give ``count``).
        settings: ``problems``, ``grouping``, ``remainder`` and ``singles`` are read.
        seed: determines the plan; ``[seed, epoch]`` gives every epoch its own plan.
        keys: one hashable value per problem; the problems of a pack have different keys.
        count: number of problems, if ``difficulties`` is ``None``.

    Returns:
        Packs of problem numbers, in random order.

    Raises:
        SettingsError: too few problems, a difficulty that is not finite, or keys that no grouping can separate.

    >>> packs = plan_packs([1, 2, 3, 4, 5, 6], PackingSettings(problems=2, grouping="easy_hard"), seed=0)
    >>> sorted(sorted(number >= 3 for number in pack) for pack in packs)
    [[False, True], [False, True], [False, True]]
    """
    rng = np.random.default_rng(seed)
    difficulty_n = None if settings.grouping == "random" else _checked(difficulties, settings.grouping)
    n_problems = len(difficulties) if difficulties is not None else (count or 0)
    key_n = None if keys is None else np.unique(np.asarray([str(key) for key in keys]), return_inverse=True)[1]
    if not settings.singles:
        return _full_packs(np.arange(n_problems), difficulty_n, key_n, settings, rng)
    order = rng.permutation(n_problems)
    n_singles = round(settings.singles * n_problems)
    packs = _full_packs(np.sort(order[n_singles:]), difficulty_n, key_n, settings, rng)
    packs += [[number] for number in order[:n_singles].tolist()]
    return [packs[number] for number in rng.permutation(len(packs))]


def _full_packs(
    numbers: np.ndarray,
    difficulty_n: np.ndarray | None,
    key_n: np.ndarray | None,
    settings: PackingSettings,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Packs of the problems with these numbers."""
    if difficulty_n is not None:
        difficulty_n = difficulty_n[numbers]
    if key_n is not None:
        key_n = np.unique(key_n[numbers], return_inverse=True)[1]
    n_problems, size = len(numbers), settings.problems
    n_packs, n_left = divmod(n_problems, size)
    if n_packs == 0 and not (settings.remainder == "smaller" and n_problems):
        raise SettingsError(
            f"problems: {n_problems} problems do not fill one pack of {size}; lower it, or set remainder=smaller"
        )

    rest = _choose_rest(key_n, n_problems, n_packs, n_left, settings, rng)
    used = np.setdiff1d(np.arange(n_problems), rest, assume_unique=True)
    grid_PN = _group(used, difficulty_n, settings, rng)
    if key_n is not None:
        _separate(grid_PN, key_n, rng)

    packs = rng.permuted(grid_PN, axis=1).tolist()
    if settings.remainder != "drop" and n_left:
        extra = rest.tolist()
        if settings.remainder == "wrap":
            extra += _others(extra, used, key_n, size - n_left, rng)
        packs.append(rng.permutation(extra).tolist())
    return [numbers[packs[place]].tolist() for place in rng.permutation(len(packs))]


def _checked(difficulties: Sequence[float] | np.ndarray | None, grouping: str) -> np.ndarray:
    if difficulties is None:
        raise SettingsError(
            f"grouping: {grouping} needs a difficulty for every problem; give one, or set grouping=random"
        )
    difficulty_n = np.asarray(difficulties, dtype=float)
    bad = np.flatnonzero(~np.isfinite(difficulty_n))
    if bad.size:
        raise SettingsError(
            f"difficulty: {difficulty_n[bad[0]]} of problem {bad[0]} is not a finite number ({bad.size} such)"
        )
    return difficulty_n


def _group(
    used: np.ndarray, difficulty_n: np.ndarray | None, settings: PackingSettings, rng: np.random.Generator
) -> np.ndarray:
    """A (packs, N) grid of problem numbers; its columns are the strata of the grouping."""
    size = settings.problems
    n_packs = len(used) // size
    ordered = rng.permutation(used)  # random among equal difficulties
    if difficulty_n is None:
        return ordered.reshape(n_packs, size)
    ordered = ordered[np.argsort(difficulty_n[ordered], kind="stable")]
    if settings.grouping == "easy_hard":
        n_easy = (size + 1) // 2
        easy_PK = rng.permutation(ordered[: n_packs * n_easy]).reshape(n_packs, n_easy)
        hard_PK = rng.permutation(ordered[n_packs * n_easy :]).reshape(n_packs, size - n_easy)
        return np.concatenate([easy_PK, hard_PK], axis=1)
    grid_PN = rng.permuted(ordered.reshape(size, n_packs), axis=1).T.copy()
    if size > 1:
        block_P = np.arange(n_packs) // MATCHED_PACKS
        ascending = np.lexsort((difficulty_n[grid_PN[:, :-1]].sum(axis=1), block_P))
        descending = np.lexsort((-difficulty_n[grid_PN[:, -1]], block_P))
        grid_PN[ascending, -1] = grid_PN[descending, -1]
    return grid_PN


def _choose_rest(
    key_n: np.ndarray | None,
    n_problems: int,
    n_packs: int,
    n_left: int,
    settings: PackingSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """The ``n_left`` problems outside the full packs: first those whose key the full packs cannot hold, then random ones."""
    order = rng.permutation(n_problems)
    if key_n is None:
        return order[:n_left]
    by_key = order[np.argsort(key_n[order], kind="stable")]
    first_of_key = np.searchsorted(key_n[by_key], key_n[by_key])
    rank_n = np.empty(n_problems, dtype=int)  # earlier problems of the same key, in the random order
    rank_n[by_key] = np.arange(n_problems) - first_of_key
    surplus = order[rank_n[order] >= n_packs]
    if settings.remainder == "drop":
        room = n_left
        rest = np.concatenate([surplus, order[rank_n[order] < n_packs]])[:n_left]
    else:  # the last pack also holds each key once
        room = min(n_left, len(np.unique(key_n[surplus])))
        candidates = np.concatenate([surplus, order[rank_n[order] < n_packs]])
        rest = candidates[np.sort(np.unique(key_n[candidates], return_index=True)[1])][:n_left]
    if len(surplus) > room or len(rest) < n_left:
        counts = np.bincount(key_n)
        raise SettingsError(
            f"distinct_by: cannot be satisfied: one value has {counts.max()} of the {n_problems} problems, but each of the "
            f"{n_packs} packs can take one problem of a value ({len(counts)} values, packs of {settings.problems}). Lower "
            "problems, or choose another column"
        )
    return rest


def _others(
    taken: list[int], used: np.ndarray, key_n: np.ndarray | None, wanted: int, rng: np.random.Generator
) -> list[int]:
    """``wanted`` of the ``used`` problems, with keys that differ from each other and from the taken ones."""
    order = rng.permutation(used)
    if key_n is not None:
        order = order[~np.isin(key_n[order], key_n[taken])]
        order = order[np.sort(np.unique(key_n[order], return_index=True)[1])]
    if len(order) < wanted:
        raise SettingsError(
            "distinct_by: too few values to fill the last pack; set remainder=drop or remainder=smaller"
        )
    return order[:wanted].tolist()


def _separate(grid_PN: np.ndarray, key_n: np.ndarray, rng: np.random.Generator) -> None:
    """Swap problems between packs, in place, until the keys in every pack differ.

    A swap stays in its column (its difficulty stratum) where possible. No key has more problems than there are packs. So a pack
    with a repeated key always finds a pack without it, and a swap that lowers the number of repeated pairs.
    """
    key_PN = key_n[grid_PN]
    sorted_PN = np.sort(key_PN, axis=1)
    for pack in np.flatnonzero((sorted_PN[:, 1:] == sorted_PN[:, :-1]).any(axis=1)).tolist():
        while (column := _repeated(key_PN[pack])) is not None:
            other, other_column = _partner(key_PN, pack, column, rng)
            for values_PN in (grid_PN, key_PN):
                values_PN[pack, column], values_PN[other, other_column] = (
                    values_PN[other, other_column],
                    values_PN[pack, column],
                )


def _repeated(key_N: np.ndarray) -> int | None:
    """The column of a key that an earlier column already has, or None."""
    first = np.unique(key_N, return_index=True)[1]
    columns = np.setdiff1d(np.arange(len(key_N)), first)
    return int(columns[0]) if columns.size else None


def _partner(key_PN: np.ndarray, pack: int, column: int, rng: np.random.Generator) -> tuple[int, int]:
    """A place to swap with the repeated key at (pack, column), so that fewer repeated pairs remain."""
    n_packs, size = key_PN.shape
    kept = np.delete(key_PN[pack], column)
    for attempt in ("few packs, own column", "all packs, own column", "all packs and columns"):
        packs = rng.integers(n_packs, size=64) if attempt.startswith("few") else rng.permutation(n_packs)
        columns = np.array([column]) if attempt.endswith("own column") else rng.permutation(size)
        offered_QC = key_PN[packs][:, columns]
        lacks_key_Q = (key_PN[packs] != key_PN[pack, column]).all(axis=1)
        # Taking a key that the pack already has pays only if it was repeated in the other pack; see _separate.
        repeats_there_QC = (key_PN[packs][:, None, :] == offered_QC[:, :, None]).sum(axis=2) - 1
        repeats_here_QC = (offered_QC[:, :, None] == kept[None, None, :]).sum(axis=2)
        gain_QC = (kept == key_PN[pack, column]).sum() + repeats_there_QC - repeats_here_QC
        good = np.argwhere(lacks_key_Q[:, None] & (gain_QC > 0))
        if good.size:
            return int(packs[good[0, 0]]), int(columns[good[0, 1]])
    raise AssertionError("no swap separates the keys although their counts allow it")
