"""Nested columns of rows in verl's format, by their dotted paths."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from verl_efficiency.settings import SettingsError

Row = Mapping[str, Any]


def row_place(number: int) -> str:
    """How an error names row ``number``, counted from 0."""
    return f"row {number}"


def has_column(rows: Sequence[Row], path: str) -> bool:
    """Whether every row has a value other than ``None`` at ``path``."""
    return all(value_at(row, path) is not None for row in rows)


def column(rows: Sequence[Row], path: str, setting: str, place: Callable[[int], str] = row_place) -> list[Any]:
    """The value at ``path`` of every row.

    Args:
        rows: nested mappings.
        path: keys joined by dots, such as ``extra_info.difficulty``.
        setting: name of the setting that holds the path, for the error.
        place: row number → how an error names the row.

    Raises:
        SettingsError: no row has the column, and the message names the nearest; or some rows have no value in it.

    >>> column([{"extra_info": {"level": 3}}], "extra_info.level", "difficulty")
    [3]
    >>> column([{"extra_info": {"level": 3}}], "extra_info.lvel", "difficulty")
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: difficulty: unknown column 'extra_info.lvel'; did you mean 'extra_info.level'? \
Known: extra_info.level (row 0)
    >>> column([{"level": 3}, {"level": None}], "level", "difficulty")
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: difficulty: 'level' is empty (null) in row 1; fill it, or leave the row out
    """
    values = [value_at(row, path) for row in rows]
    empty = [number for number, value in enumerate(values) if value is None]
    if not empty:
        return values
    first, more = place(empty[0]), f" and {len(empty) - 1} more rows" if len(empty) > 1 else ""
    if len(empty) == len(values) and not any(has_key(row, path) for row in rows):
        raise SettingsError(f"{setting}: {unknown_column(path, paths_of(rows[empty[0]]))} ({first})")
    if len(empty) == len(values):
        raise SettingsError(
            f"{setting}: '{path}' is empty (null) in every row ({first}{more}); fill it, or name another"
        )
    them = "the row" if len(empty) == 1 else "these rows"
    raise SettingsError(f"{setting}: '{path}' is empty (null) in {first}{more}; fill it, or leave {them} out")


def value_at(row: Row, path: str) -> Any:
    """The value at a dotted ``path`` of one row, or ``None``."""
    value: Any = row
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def unknown_column(path: str, known: Iterable[str]) -> str:
    """The message for a column that does not exist: the nearest name, and all names.

    Only the last parts are compared: ``extra_info.split`` is not close to ``extra_info.difficulty``.

    >>> unknown_column("extra_info.difficulty", ["extra_info.split"])
    "unknown column 'extra_info.difficulty'. Known: extra_info.split"
    >>> unknown_column("difficulty", ["extra_info.difficulty"])
    "unknown column 'difficulty'; did you mean 'extra_info.difficulty'? Known: extra_info.difficulty"
    """
    names = sorted(known)
    parts = [name.rpartition(".")[2] for name in names]
    close = difflib.get_close_matches(path.rpartition(".")[2], parts, n=1, cutoff=0.6)
    similar = [name for name, part in zip(names, parts, strict=True) if part in close]
    meant = max(similar, key=lambda name: difflib.SequenceMatcher(None, path, name).ratio(), default=None)
    hint = f"; did you mean {meant!r}?" if meant else "."
    return f"unknown column {path!r}{hint} Known: {', '.join(names)}"


def has_key(row: Row, path: str) -> bool:
    """Whether the row has the column at a dotted ``path``; its value may be ``None``."""
    above, dot, key = path.rpartition(".")
    inside = value_at(row, above) if dot else row
    return isinstance(inside, Mapping) and key in inside


def paths_of(row: Row, prefix: str = "") -> list[str]:
    """The dotted paths of all columns of a row."""
    paths = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            paths += paths_of(value, f"{prefix}{key}.")
        else:
            paths.append(f"{prefix}{key}")
    return paths
