"""Stored rollouts: what a run has written down of its responses, read for :mod:`verl_efficiency.evaluation.calibrate`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import iter_json
from verl_efficiency.evaluation.generations import token_counter
from verl_efficiency.settings import SettingsError, nearest, require

EVALUATED = ("key", "acc", "tokens")  # columns of `evaluate --rows`: problem, score, tokens
DUMPED = ("input", "score", "output")  # columns of verl's rollout dumps: problem, score, text
UID_SUFFIX = re.compile(r"_\d+_\d+$")  # V1 writes "{uid}_{session}_{index}"; V0 no uid: one prompt, one group


@dataclass(frozen=True)
class StoredRollout:
    """One stored response: the group it was drawn in, its problem's text or key, its tokens (None where it is wrong)."""

    group: tuple[str, str]
    problem: str
    correct: bool
    tokens: int | None
    difficulty: Any


def find_files(files: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named; each once."""
    found: list[Path] = []
    for path in files:
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        require(
            bool(inside) and all(file.is_file() for file in inside),
            "files",
            str(path),
            "JSON lines, or a folder of them",
        )
        found += inside
    return list(dict.fromkeys(found))


def read_rollouts(
    path: Path, threshold: float, tokenizer: str | None, max_response_length: int | None
) -> list[StoredRollout]:
    """Read one file of either kind, told apart by its columns.

    A dump holds texts without special tokens. Its lengths are the tokens of the text, and one more for EOS unless that
    would exceed ``max_response_length``; where the model wrote special tokens, or spelled a text in an unusual way, the
    count is a few tokens off.

    Raises:
        SettingsError: the file is not JSON lines, lacks a column, has a score outside [0, 1], or needs a tokenizer.
    """
    rows: list[dict[str, Any]] = []
    columns = EVALUATED
    for number, (place, row) in enumerate(iter_json(path, "files")):
        if number == 0:
            columns = max(EVALUATED, DUMPED, key=lambda names: len(row.keys() & set(names)))
        for name in columns:
            if name not in row:
                raise SettingsError(
                    f"files: {path} {place} has no column {name!r}{nearest(name, row) or '.'} "
                    f"`evaluate --rows` writes {', '.join(EVALUATED)}; trainer.rollout_data_dir {', '.join(DUMPED)}"
                )
        score = row[columns[1]]
        if not (isinstance(score, int | float) and 0 <= score <= 1):
            raise SettingsError(
                f"files: {path} {place}: {columns[1]} must be in [0, 1], got {score!r}; give rollouts that were scored by "
                "accuracy alone"
            )
        if not isinstance(row[columns[2]], str if columns is DUMPED else int):
            raise SettingsError(f"files: {path} {place}: {columns[2]} is {row[columns[2]]!r}")
        if score < threshold:
            row[columns[2]] = None  # texts of wrong answers are not needed, and are most of the memory
        rows.append(row)
    correct = [row for row in rows if row[columns[2]] is not None]
    if correct and columns is DUMPED:
        if tokenizer is None:
            raise SettingsError(f"tokenizer: {path} has texts only; give --tokenizer MODEL_FOLDER to count tokens")
        counts = token_counter(tokenizer)([row["output"] for row in correct])
        for row, count in zip(correct, counts, strict=True):
            row["output"] = count + 1 if max_response_length is None else min(count + 1, max_response_length)
    problem, score, tokens = columns
    return [
        StoredRollout(
            group=(str(path), UID_SUFFIX.sub("", row["uid"]) if "uid" in row else str(row.get("prompt", row[problem]))),
            problem=row[problem],
            correct=row[score] >= threshold,
            tokens=row[tokens],
            difficulty=row.get("difficulty"),
        )
        for row in rows
    ]
