"""Values of a nested column of rows in verl's format, by its dotted path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from verl_efficiency.settings import SettingsError, unknown

Row = Mapping[str, Any]


def row_place(number: int) -> str:
    """How an error calls row ``number``, counted from 0."""
    return f"row {number}"


def has_column(rows: Sequence[Row], path: str) -> bool:
    """Whether every row has a value at ``path``; a ``None`` is no value."""
    return all(value_at(row, path) is not None for row in rows)


def column(rows: Sequence[Row], path: str, setting: str, place: Callable[[int], str] = row_place) -> list[Any]:
    """The value at ``path`` of every row.

    Args:
        rows: mappings, nested ones inside.
        path: keys joined by dots, such as ``extra_info.difficulty``.
        setting: name of the setting that holds the path, for the error.
        place: how an error calls a row, by its number.

    Raises:
        SettingsError: no row has such a column, and the message names the nearest; or some rows have no value in it.

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
        raise SettingsError(f"{setting}: {unknown('column', path, _paths(rows[empty[0]]))} ({first})")
    if len(empty) == len(values):
        raise SettingsError(
            f"{setting}: '{path}' is empty (null) in every row ({first}{more}); fill it, or name another"
        )
    them = "the row" if len(empty) == 1 else "these rows"
    raise SettingsError(f"{setting}: '{path}' is empty (null) in {first}{more}; fill it, or leave {them} out")


def value_at(row: Row, path: str) -> Any:
    """The value at a dotted ``path`` of one row, ``None`` where there is none."""
    value: Any = row
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def has_key(row: Row, path: str) -> bool:
    """Whether the row has the column at a dotted ``path``, be its value ``None`` or not."""
    above, dot, key = path.rpartition(".")
    inside = value_at(row, above) if dot else row
    return isinstance(inside, Mapping) and key in inside


def _paths(row: Row, prefix: str = "") -> list[str]:
    paths = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            paths += _paths(value, f"{prefix}{key}.")
        else:
            paths.append(f"{prefix}{key}")
    return paths
