"""Columns of the data set that a method or a reward reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_efficiency.adapter.checks import check_shares
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.checks.files import local_files


def check_column(files: Any, path: str, where: str) -> Iterator[str]:
    """Every local file has the column with a value in every row. Values of a difficulty lie in [0, 1].

    Of a parquet file only a difficulty is read; its statistics say whether other values are missing.
    """
    from verl_efficiency.data.columns import column  # heavy: a run that uses nothing of ours must not load it
    from verl_efficiency.data.files import read_sample

    difficulty = where.endswith("difficulty_column")
    for file in local_files(files):
        if file.suffix == ".parquet":
            yield from _check_parquet(file, path, where, difficulty)
            continue
        try:
            values = column(read_sample(file, where).rows, path, where)
        except SettingsError as error:
            yield f"{error} (in {file})"
            continue
        if difficulty:
            yield from check_shares(values, path, where, file)


def _check_parquet(file: Path, path: str, where: str, difficulty: bool) -> Iterator[str]:
    from verl_efficiency.data.columns import unknown_column
    from verl_efficiency.data.files import open_parquet

    parquet = open_parquet(file, where)
    columns = [leaf for field in parquet.schema_arrow for leaf in _leaves(field)]
    if path not in columns:
        yield f"{where}: {unknown_column(path, columns)} (in {file})"
    elif difficulty:
        yield from _check_difficulty(parquet, path, where, file)
    elif not where.endswith("reference_column") and (empty := missing_values(file, path)):
        yield f"{where}: {empty} rows of {file} have no {path} (null); fill it, or leave them out"


def _check_difficulty(parquet: Any, path: str, where: str, file: Path) -> Iterator[str]:
    import pyarrow.compute as pc

    empty = 0
    wrong: list[str] = []
    for batch in parquet.iter_batches(columns=[path]):
        values = batch.column(0)
        for part in path.split(".")[1:]:
            values = pc.struct_field(values, part)
        empty += values.null_count
        wrong = wrong or list(check_shares(values.drop_null().to_pylist(), path, where, file))
    if empty:
        yield f"{where}: {empty} rows of {file} have no {path}"
    yield from wrong


def missing_values(file: Path, path: str) -> int:
    """How many rows have no value, by the statistics of a parquet file. 0 for lists and for other files."""
    from verl_efficiency.data.files import open_parquet

    if file.suffix != ".parquet":
        return 0
    parquet = open_parquet(file, path)
    total = 0
    for group in range(parquet.num_row_groups):
        row_group = parquet.metadata.row_group(group)
        for number in range(row_group.num_columns):
            chunk = row_group.column(number)
            if chunk.path_in_schema == path and chunk.statistics is not None and chunk.statistics.has_null_count:
                total += chunk.statistics.null_count
    return total


def _leaves(field: Any, prefix: str = "") -> list[str]:
    import pyarrow as pa

    name = prefix + field.name
    if pa.types.is_struct(field.type):
        return [leaf for child in field.type for leaf in _leaves(child, name + ".")]
    return [name]
