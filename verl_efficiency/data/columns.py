"""Values of a nested column of rows in verl's format, by its dotted path."""

from collections.abc import Mapping, Sequence
from typing import Any

from verl_efficiency.settings import SettingsError, unknown

Row = Mapping[str, Any]


def has_column(rows: Sequence[Row], path: str) -> bool:
    """Whether every row has a value at ``path``; a ``None`` is no value."""
    return all(value_at(row, path) is not None for row in rows)


def column(rows: Sequence[Row], path: str, setting: str) -> list[Any]:
    """The value at ``path`` of every row.

    Args:
        rows: mappings, nested ones inside.
        path: keys joined by dots, such as ``extra_info.difficulty``.
        setting: name of the setting that holds the path, for the error.

    Raises:
        SettingsError: a row has no such column, or ``None`` in it; the message names the nearest column.

    >>> column([{"extra_info": {"level": 3}}], "extra_info.level", "difficulty")
    [3]
    >>> column([{"extra_info": {"level": 3}}], "extra_info.lvel", "difficulty")
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: difficulty: unknown column 'extra_info.lvel'; did you mean 'extra_info.level'? \
Known: extra_info.level (row 0)
    """
    values = [value_at(row, path) for row in rows]
    for number, value in enumerate(values):
        if value is None:
            raise SettingsError(f"{setting}: {unknown('column', path, _paths(rows[number]))} (row {number})")
    return values


def value_at(row: Row, path: str) -> Any:
    """The value at a dotted ``path`` of one row, ``None`` where there is none."""
    value: Any = row
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _paths(row: Row, prefix: str = "") -> list[str]:
    paths = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            paths += _paths(value, f"{prefix}{key}.")
        elif value is not None:
            paths.append(f"{prefix}{key}")
    return paths
