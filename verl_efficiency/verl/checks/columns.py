"""Columns that a method or a reward reads of the data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.checks.files import local_files


def check_column(files: Any, path: str, where: str) -> Iterator[str]:
    """Every local file has the column, with a value in every row; a difficulty lies in [0, 1] everywhere.

    Of a parquet file, whether values are missing is read from its statistics, and only a difficulty is read whole.
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
        wrong = [value for value in values if difficulty and not _is_share(value)]
        if wrong:
            yield _out_of_range(where, path, file, wrong[0])


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
    import pyarrow as pa
    import pyarrow.compute as pc

    empty, wrong = 0, None
    for batch in parquet.iter_batches(columns=[path]):
        values = batch.column(0)
        for part in path.split(".")[1:]:
            values = pc.struct_field(values, part)
        empty += values.null_count
        number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
        bad = (
            values.filter(pc.invert(pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, 1))))
            if number
            else values.drop_null()
        )
        if len(bad) and wrong is None:
            wrong = bad[0].as_py()
        if wrong is not None and not number:
            break
    if empty:
        yield f"{where}: {empty} rows of {file} have no {path}"
    if wrong is not None:
        yield _out_of_range(where, path, file, wrong)


def _out_of_range(where: str, path: str, file: Path, value: Any) -> str:
    return f"{where}: {path} must be a number in [0, 1] in every row, but {file} has {value!r}"


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def missing_values(file: Path, path: str) -> int:
    """How many rows have no value, as far as the statistics of a parquet file say; those of lists, and other files, say 0."""
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
