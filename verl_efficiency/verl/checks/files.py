"""Files of a data set, as verl's configuration names them: one or several, local ones with ``~`` or patterns, or far ones."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FAR = re.compile(r"[a-z][a-z0-9+.-]*://")


def named(files: Any) -> list[str]:
    """The names in ``data.train_files`` or ``data.val_files``, one or a list."""
    if files is None:
        return []
    return [files] if isinstance(files, str) else [str(file) for file in files]


def is_local(file: str) -> bool:
    """Whether a name is that of a local file, and not ``hdfs://…`` or another address."""
    return not _FAR.match(file) or file.startswith("file://")


def resolved(file: str) -> list[Path]:
    """The paths behind a local name, with ``~`` and patterns (``*``) replaced; the name itself where nothing fits."""
    path = str(Path(file.removeprefix("file://")).expanduser())
    if not glob.has_magic(path) or Path(path).exists():
        return [Path(path)]
    return [Path(found) for found in sorted(glob.glob(path))] or [Path(path)]


def local_files(files: Any) -> Iterator[Path]:
    """The local files that exist and, if they are parquet, can be opened. ``checks/data.py`` reports the others."""
    from verl_efficiency.data.files import ENDINGS, open_parquet
    from verl_efficiency.settings import SettingsError

    for file in named(files):
        for path in resolved(file) if is_local(file) else []:
            if path.suffix not in ENDINGS or not path.is_file():
                continue
            if path.suffix == ".parquet":
                try:
                    open_parquet(path, "")
                except SettingsError:
                    continue
            yield path
