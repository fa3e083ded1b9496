"""Files of rows: read in full or as a bounded sample, with one line per fault; written in full or not at all.

Formats: ``.parquet``, ``.jsonl`` (one JSON object per line) and ``.json`` (the same, or one array of objects). A ``.jsonl``
file that holds an array, or objects over several lines, is read as such.
"""

import codecs
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verl_efficiency.settings import SettingsError

ENDINGS = (".parquet", ".jsonl", ".json")
ROWS_LOOKED_AT = 1024
ROW_GROUPS_LOOKED_AT = 16
_BYTES_LOOKED_AT = 64 * 2**20
_BLANKS = re.compile(r"\s*")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Sample(NamedTuple):
    """Rows of a file, the place of each (``row 7`` or ``line 8``), and the columns of the file."""

    rows: list[dict[str, Any]]
    places: list[str]
    columns: list[str]


def require_file(path: str | Path, setting: str, endings: Sequence[str] = ENDINGS) -> Path:
    """``path``, if it is a file with one of these endings.

    Raises:
        SettingsError: it does not exist, is a folder, or has another ending; ``setting`` is the setting that names it.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in endings)
        hint = f", for example {path / inside[0]}" if inside else ""
        raise SettingsError(f"{setting}: {path} is a folder; name a file in it{hint}")
    if not path.is_file():
        raise SettingsError(f"{setting}: there is no file {path}{_neighbour(path)}")
    if path.suffix not in endings:
        raise SettingsError(f"{setting}: {path} is not a {_either(endings)} file")
    return path


def require_ending(path: str | Path, setting: str, endings: Sequence[str]) -> Path:
    """``path``, if a file with one of these endings can be written there.

    Raises:
        SettingsError: it has another ending, is a folder, or lies below a file or in a folder without permission.
    """
    path = Path(path)
    if path.suffix not in endings:
        raise SettingsError(f"{setting}: must end in {_either(endings)}, got {path}")
    if path.is_dir():
        raise SettingsError(f"{setting}: {path} is a folder; name a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise SettingsError(f"{setting}: {path} cannot be written, since {above} is a file")
    if not os.access(above, os.W_OK):
        raise SettingsError(f"{setting}: {path} cannot be written: no permission in {above}")
    return path


def require_other_file(target: str | Path | None, setting: str, *others: str | Path | None) -> None:
    """Refuse to write ``target`` over one of ``others``, by any path; ``None`` stands for no file.

    Raises:
        SettingsError: it is the same file; ``setting`` is the setting that names ``target``.
    """
    for other in others:
        if target is not None and other is not None and Path(target).resolve() == Path(other).resolve():
            raise SettingsError(f"{setting}: {target} is also {other}, which this would overwrite; name another file")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to: it replaces ``path`` on success and is deleted on failure.

    Creates the folder of ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in full or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_lines(path: str | Path, rows: Iterable[Any]) -> None:
    """Write rows as JSON lines, in full or not at all."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: str | Path, setting: str = "path") -> list[dict[str, Any]]:
    """All rows of a file.

    Raises:
        SettingsError: the file does not exist, cannot be read, or has no rows; the message names file and line.
    """
    return read_sample(path, setting, limit=None).rows


def place_of(path: str | Path, number: int) -> str:
    """The place of row ``number`` of :func:`read_rows`, for an error: ``sums.jsonl line 8``."""
    path = Path(path)
    if path.suffix != ".parquet":
        with contextlib.suppress(SettingsError):
            return f"{path} {read_sample(path, '', limit=None).places[number]}"
    return f"{path} row {number}"


def read_sample(
    path: str | Path, setting: str = "path", limit: int | None = ROWS_LOOKED_AT, columns: Sequence[str] | None = None
) -> Sample:
    """At most ``limit`` rows (None: all), spread over the file, in bounded time and memory.

    From a parquet file, the first rows of at most 16 row groups; from JSON lines, evenly spaced lines. ``columns`` limits what
    is read from a parquet file (None: all columns).

    Raises:
        SettingsError: see :func:`read_rows`.
    """
    path = require_file(path, setting)
    if not path.stat().st_size:
        raise SettingsError(f"{setting}: {path} is empty")
    if path.suffix == ".parquet":
        sample = _read_parquet(path, setting, limit, columns)
    else:
        rows, places = _read_json(path, setting, limit)
        sample = Sample(rows, places, list(dict.fromkeys(name for row in rows for name in row)))
    if not sample.rows:
        raise SettingsError(f"{setting}: {path} has no rows")
    return sample


def open_parquet(path: str | Path, setting: str) -> Any:
    """A ``pyarrow.parquet.ParquetFile`` that reads in small pieces.

    Raises:
        SettingsError: the file is broken or not parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**16)
    except (pa.ArrowException, OSError) as error:
        raise SettingsError(f"{setting}: {path} cannot be read as parquet ({_first_line(error)})") from None


def _read_parquet(path: Path, setting: str, limit: int | None, columns: Sequence[str] | None) -> Sample:
    import pyarrow as pa

    file = open_parquet(path, setting)
    wanted = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
    starts, total = [], 0
    for group in range(file.num_row_groups):
        starts.append(total)
        total += file.metadata.row_group(group).num_rows
    groups = spread(file.num_row_groups, file.num_row_groups if limit is None else min(limit, ROW_GROUPS_LOOKED_AT))
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    try:
        if limit is None:
            rows = file.read(columns=wanted).to_pylist()
            return Sample(rows, [f"row {number}" for number in range(len(rows))], file.schema_arrow.names)
        for group in groups:
            size = max(1, limit // len(groups))
            batch = next(file.iter_batches(batch_size=size, row_groups=[group], columns=wanted), None)
            read = [] if batch is None else batch.slice(0, size).to_pylist()
            places += [f"row {starts[group] + number}" for number in range(len(read))]
            rows += read
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: {path} is broken: {_first_line(error)}") from None
    return Sample(rows, places, file.schema_arrow.names)


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` evenly spaced numbers below ``total``, from the first to the last.

    >>> spread(100, 4), spread(3, 5)
    ([0, 33, 66, 99], [0, 1, 2])
    """
    if total <= count:
        return list(range(total))
    return [number * (total - 1) // (count - 1) for number in range(count)] if count > 1 else [0]


def iter_json(path: str | Path, setting: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of a JSON file with its place. A file with one object per line is read line by line.

    Raises:
        SettingsError: see :func:`read_rows`; but any ending is accepted, and so is a file without rows.
    """
    path, where = Path(path), f"{setting}: {path}"
    with path.open("rb") as file:
        _refuse_utf_16(file.read(4), path, where)
        file.seek(0)
        first = True
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            if first and not _is_object(line):
                yield from ((f"row {row}", value) for row, value in enumerate(_read_whole(path, where)))
                return
            first = False
            yield f"line {number}", parse_line(line, f"{where} line {number}")


def _refuse_utf_16(head: bytes, path: Path, where: str) -> None:
    if head.startswith(_UTF_16) or b"\0" in head:
        raise SettingsError(f"{where} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {path} > new{path.suffix}")


def _read_json(path: Path, setting: str, limit: int | None) -> tuple[list[dict[str, Any]], list[str]]:
    where = f"{setting}: {path}"
    if limit is None:
        found = list(iter_json(path, setting))
        return [row for _, row in found], [place for place, _ in found]
    with path.open("rb") as file:
        _refuse_utf_16(file.read(4), path, where)
    lines = list(_lines(path, limit))
    if lines and not _is_object(lines[0][1]):
        whole = _read_whole(path, where)
        numbers = spread(len(whole), limit)
        return [whole[number] for number in numbers], [f"row {number}" for number in numbers]
    return [parse_line(line, f"{where} {place}") for place, line in lines], [place for place, _ in lines]


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """The object in a line of a JSON lines file.

    Raises:
        SettingsError: it is not UTF-8, not JSON, or not an object; ``where`` begins the message.
    """
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{where} {_not_utf_8(line[error.start])}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        cut = "; it is cut off" if line[-1:] not in (b"\n", b"}") else ""
        raise SettingsError(f"{where} is not JSON ({error}){cut}") from None
    if not isinstance(row, dict):
        raise SettingsError(f"{where} must be an object with columns, got {type(row).__name__}: {str(row)[:60]}")
    return row


def _not_utf_8(byte: int) -> str:
    return f"is not UTF-8 (byte {byte:#04x}); if the file is Latin-1, convert it: iconv -f LATIN1 -t UTF-8 OLD > NEW"


def _lines(path: Path, limit: int) -> Iterator[tuple[str, bytes]]:
    """At most ``limit`` evenly spaced lines that are not blank, with their places."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _BYTES_LOOKED_AT:
            kept = []
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if line.strip():
                    kept.append((f"line {number}", line))
            yield from (kept[number] for number in spread(len(kept), limit))
            return
        yield "line 1", file.readline(_BYTES_LOOKED_AT).removeprefix(codecs.BOM_UTF8)
        seen = file.tell()
        for number in range(1, limit):
            file.seek(max(seen, number * size // limit))
            if number * size // limit > seen:
                file.readline(_BYTES_LOOKED_AT)  # the rest of a line
            start = file.tell()
            line = file.readline(_BYTES_LOOKED_AT)
            seen = max(seen, file.tell())
            if line.strip():
                yield f"byte {start}", line


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):  # the caller reports it with its place
        return False


def _read_whole(path: Path, where: str) -> list[dict[str, Any]]:
    """The objects of a file that is one array, or a sequence of objects over several lines."""
    if path.stat().st_size > _BYTES_LOOKED_AT * 16:
        raise SettingsError(
            f"{where} is not in JSON lines, and too large for any other form; write one object per line"
        )
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode("utf-8").rstrip()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{where} line {line} {_not_utf_8(content[error.start])}") from None
    decoder, values, end = json.JSONDecoder(), [], 0
    try:
        while end < len(text):
            value, end = decoder.raw_decode(text, _BLANKS.match(text, end).end())  # type: ignore[union-attr]
            values.append(value)
    except json.JSONDecodeError as error:
        cut = "; it is cut off" if error.pos >= len(text) or error.msg.startswith("Unterminated") else ""
        raise SettingsError(f"{where} line {error.lineno} is not JSON ({error.msg}){cut}") from None
    except RecursionError:
        raise SettingsError(f"{where} is nested too deeply") from None
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise SettingsError(f"{where} row {number} must be an object with columns, got {type(value).__name__}: "
                                f"{str(value)[:60]}")  # fmt: skip
    return values


def _neighbour(path: Path) -> str:
    """A hint at the file in the same folder whose name is closest."""
    from verl_efficiency.settings import nearest

    with contextlib.suppress(OSError):
        if path.parent.is_dir():
            return nearest(path.name, [file.name for file in path.parent.iterdir()][:1000])
    return ""


def _either(endings: Sequence[str]) -> str:
    return f"{', '.join(endings[:-1])} or {endings[-1]}" if len(endings) > 1 else endings[0]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
