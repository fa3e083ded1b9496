"""Values of a nested column of rows in verl's format, by its dotted path."""

from collections.abc import Mapping, Sequence
from typing import Any

from verl_efficiency.settings import SettingsError, nearest

Row = Mapping[str, Any]


def has_column(rows: Sequence[Row], path: str) -> bool:
    """Whether every row has a value at ``path``; a ``None`` is no value."""
    return all(_value(row, path) is not None for row in rows)


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
    verl_efficiency.settings.SettingsError: difficulty: column 'extra_info.lvel' is missing in row 0; did you mean \
'extra_info.level'? Columns: extra_info.level
    """
    values = [_value(row, path) for row in rows]
    for number, value in enumerate(values):
        if value is None:
            columns = _paths(rows[number])
            hint = nearest(path, columns) or "."
            raise SettingsError(
                f"{setting}: column '{path}' is missing in row {number}{hint} Columns: {', '.join(sorted(columns))}"
            )
    return values


def _value(row: Row, path: str) -> Any:
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
