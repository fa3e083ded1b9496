"""Copies of our files beside verl's checkpoints in ``trainer.default_hdfs_dir``. verl resumes from the local folder only."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from verl_efficiency.adapter.checks import has_teacher
from verl_efficiency.methods.row import Estimator

KEY = "trainer.default_hdfs_dir"


def check_remote(method: Estimator, settings: Any, trainer: Any) -> Iterator[str]:
    """A line if our files in the checkpoints must be copied to HDFS, and this machine lacks the command for it."""
    remote = str(trainer.get("default_hdfs_dir") or "")
    averages = has_teacher(method, settings) and settings.teacher_regularization == "ema"
    if remote.startswith("hdfs://") and (settings.keeps_state or averages) and shutil.which("hdfs") is None:
        yield (f"{KEY}: what {method.name} saves beside the checkpoints cannot be copied to {remote}, since the command `hdfs` "
               f"is not in PATH; install the Hadoop client, or set {KEY}=null")  # fmt: skip


def upload(files: Sequence[Path], folder: str | Path, remote: str | None) -> None:
    """Copy ``files`` of the checkpoint in ``folder`` to the same places below ``remote``. With ``remote=None``, do nothing.

    Raises:
        RuntimeError: a copy failed.
    """
    if remote is None:
        return
    from verl.utils import hdfs_io

    for file in files:
        target = f"{remote}/{file.relative_to(folder)}"
        hdfs_io.makedirs(target.rpartition("/")[0], exist_ok=True)
        if not hdfs_io.copy(str(file), target):
            raise RuntimeError(
                f"{file} could not be copied to {target}; the output of `hdfs dfs` above says why. Launch again when it works, "
                f"or with {KEY}=null, which keeps checkpoints on the local disk only; the run resumes from {folder}"
            )
