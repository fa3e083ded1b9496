"""Columns that a method or a reward reads of the data set."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_efficiency.settings import unknown

logger = logging.getLogger("verl_efficiency")


def check_column(files: Any, path: str, where: str) -> Iterator[str]:
    """Every local training file has the column; a difficulty lies in [0, 1] everywhere."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for file in [files] if isinstance(files, str) else list(files):
        if Path(file).suffix != ".parquet" or not Path(file).exists():
            logger.warning(
                "%s: %s is not a local parquet file; its column %s is not checked at start-up.", where, file, path
            )
            continue
        columns = [leaf for field in pq.read_schema(file) for leaf in _leaves(field)]
        if path not in columns:
            yield f"{where}: {unknown('column', path, columns)} (in {file})"
        elif where.endswith("difficulty_column"):
            root, *rest = path.split(".")
            values = pq.read_table(file, columns=[root]).column(root).combine_chunks()
            for part in rest:
                values = pc.struct_field(values, part)
            if values.null_count:
                yield f"{where}: {values.null_count} rows of {file} have no {path}"
            number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
            bad = (
                values.filter(pc.invert(pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, 1))))
                if number
                else values
            )
            if len(bad):
                yield f"{where}: {path} must be a number in [0, 1] in every row, but {file} has {bad[0].as_py()!r}"


def _leaves(field: Any, prefix: str = "") -> list[str]:
    import pyarrow as pa

    name = prefix + field.name
    if pa.types.is_struct(field.type):
        return [leaf for child in field.type for leaf in _leaves(child, name + ".")]
    return [name]
