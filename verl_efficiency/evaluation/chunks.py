"""Work on a large file, a chunk of rows at a time: in this process, or in the workers of Ray Data (``--ray``).

The work is a function of one chunk. Its results come in the order of the file. So both ways give the same results, and the
same error if several rows are wrong. Only results travel: a worker reads the rows of its piece by itself.
"""

import codecs
import contextlib
import functools
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from verl_efficiency.data.files import iter_json, open_parquet, parse_line, require_file
from verl_efficiency.grading import GradingError, PoolSettings, configure
from verl_efficiency.settings import SettingsError

ROWS = 1024  # of a chunk: so many are in memory with their texts
PIECE_ROWS = 16 * ROWS  # of a JSON lines file, for one task of Ray
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file."""

    path: Path
    start: int  # rows of the file before these
    rows: list[dict[str, Any]]
    places: list[str]  # of each row: ``line 8``, or ``row 7`` counted from 0

    def place(self, number: int) -> str:
        """How an error names row ``number`` of these: ``sums.jsonl line 8``."""
        return f"{self.path} {self.places[number]}"


@dataclass(frozen=True)
class Piece:
    """The part of a file that one worker reads: some lines of a JSON lines file, or a row group of a parquet file."""

    start: int  # rows of the file before it
    lines: int = 0  # number of its lines; 0 for parquet
    byte: int = 0  # where its first line begins
    line: int = 1  # number of its first line
    group: int = 0  # number of its row group


def map_chunks(work: Callable[[Rows], Result], path: Path, setting: str, *, ray: bool = False) -> Iterator[Result]:
    """``work(rows)`` for every ``ROWS`` rows of a file, in order.

    Args:
        work: reads nothing but its argument. With ``ray`` it runs in other processes, and both it and its result are pickled.
        path: JSON lines, JSON or parquet.
        setting: the setting that names the file, for errors.
        ray: run on Ray Data. It uses the running Ray, the cluster that ``RAY_ADDRESS`` names, or starts one here. Every node
            must see ``path``.

    Raises:
        SettingsError: the file is missing or broken, ``work`` raises it, or Ray Data is not installed.
    """
    require_file(path, setting)
    pieces = split(path, setting) if ray else []
    if pieces:
        yield from _map_with_ray(work, path, setting, pieces)
    else:  # also a file that cannot be divided
        yield from map(work, read(path, setting))


def read(path: Path, setting: str, piece: Piece | None = None) -> Iterator[Rows]:
    """The rows of a file, or of a piece of it, ``ROWS`` at a time.

    Raises:
        SettingsError: a row cannot be read; the message names file and line.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path, setting, piece)
        return
    numbered = iter_json(path, setting) if piece is None else _read_lines(path, setting, piece)
    start = piece.start if piece else 0
    while part := list(islice(numbered, ROWS)):
        yield Rows(path, start, [row for _, row in part], [place for place, _ in part])
        start += len(part)


def _read_lines(path: Path, setting: str, piece: Piece) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        file.seek(piece.byte)
        for number, line in enumerate(islice(file, piece.lines), start=piece.line):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield f"line {number}", parse_line(text, f"{setting}: {path} line {number}")


def _read_parquet(path: Path, setting: str, piece: Piece | None) -> Iterator[Rows]:
    import pyarrow as pa

    file = open_parquet(path, setting)
    start = piece.start if piece else 0
    try:
        for batch in file.iter_batches(batch_size=ROWS, row_groups=None if piece is None else [piece.group]):
            if rows := batch.to_pylist():
                yield Rows(path, start, rows, [f"row {start + number}" for number in range(len(rows))])
            start += len(rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: {path} is broken: {str(error).splitlines()[0]}") from None


def split(path: Path, setting: str) -> list[Piece]:
    """The pieces of a file, in order; none if it is empty, or JSON that does not have one object per line."""
    pieces = []
    start = 0
    if path.suffix == ".parquet":
        metadata = open_parquet(path, setting).metadata
        for group in range(metadata.num_row_groups):
            pieces.append(Piece(start, group=group))
            start += metadata.row_group(group).num_rows
        return pieces
    first_place, _ = next(iter_json(path, setting), ("row 0", {}))
    if first_place.startswith("row"):
        return []
    byte, line = 0, 1
    with path.open("rb") as file:
        while part := list(islice(file, PIECE_ROWS)):
            pieces.append(Piece(start, lines=len(part), byte=byte, line=line))
            start += sum(1 for text in part if text.removeprefix(codecs.BOM_UTF8).strip())
            byte, line = byte + sum(map(len, part)), line + len(part)
    return pieces


def _map_with_ray(work: Callable[[Rows], Result], path: Path, setting: str, pieces: list[Piece]) -> Iterator[Result]:
    """A task for each piece. A row of the dataset is one result, pickled, so that it arrives as it was."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SettingsError(f"--ray: Ray Data cannot be imported ({error}); pip install 'ray[data]'") from None

    path = path.absolute()  # a worker runs in another folder

    def run(batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        _grade_with_one_child()
        for number in batch["id"]:
            try:
                for rows in read(path, setting, pieces[number]):
                    yield {"result": [pickle.dumps(work(rows))]}
            except FileNotFoundError:
                error = SettingsError(
                    f"{setting}: {path} is not on every node of the Ray cluster; put it on a shared disk"
                )
                yield {"result": [pickle.dumps(error)]}
            except (SettingsError, GradingError) as error:
                yield {"result": [pickle.dumps(error)]}

    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING)  # and Ray ends with this process
    dataset = ray.data.range(len(pieces), override_num_blocks=len(pieces)).map_batches(run, batch_size=None)
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    found: Any = iter(dataset.iter_rows())  # a generator
    with contextlib.closing(found) as rows:  # an error ends Ray's work too
        for row in rows:
            result = pickle.loads(row["result"])
            if isinstance(result, Exception):
                raise result
            yield result


@functools.cache
def _grade_with_one_child() -> None:
    """In a worker of Ray, which has one core."""
    configure(PoolSettings(workers=1))
