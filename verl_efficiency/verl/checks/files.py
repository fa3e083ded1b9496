"""The files of a data set as verl's configuration names them: local paths, ``~``, patterns with ``*``, remote addresses."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://")


def named(files: Any) -> list[str]:
    """The names in ``data.train_files`` or ``data.val_files``."""
    if files is None:
        return []
    return [files] if isinstance(files, str) else [str(file) for file in files]


def is_local(file: str) -> bool:
    """Whether a name is a local file, not an address such as ``hdfs://…``."""
    return not _REMOTE.match(file) or file.startswith("file://")


def resolved(file: str) -> list[Path]:
    """The paths that a local name stands for: ``~`` and ``*`` expanded, or the name itself if nothing matches."""
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


def many_machines(config: Any) -> bool:
    """Whether the run may read files on other machines than this one."""
    return (config.trainer.get("nnodes") or 1) > 1 or "RAY_ADDRESS" in os.environ
