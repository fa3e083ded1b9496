"""Read the prompts of a parquet file as verl writes and reads it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from verl_efficiency.settings import SettingsError, nearest, require

COLUMNS = ("prompt", "reward_model")


@dataclass(frozen=True)
class Prompt:
    """One row: chat messages, what the grader needs, and a key made of messages and ground truth."""

    messages: list[dict[str, Any]]
    data_source: str
    ground_truth: str
    extra_info: dict[str, Any]
    key: str


def load_prompts(path: str | Path, limit: int | None = None) -> list[Prompt]:
    """Read the first ``limit`` rows of a parquet file (all by default).

    Columns: ``prompt`` (a list of messages), ``reward_model.ground_truth``, and if there are any ``data_source`` and
    ``extra_info``.

    Raises:
        SettingsError: no such file, a column is missing or of another form, or there is no row.
    """
    require(Path(path).is_file(), "data", str(path), "a parquet file")
    require(limit is None or limit >= 1, "limit", limit, "at least 1")
    table = pq.read_table(path)
    for column in COLUMNS:
        if column not in table.column_names:
            hint = nearest(column, table.column_names)
            raise SettingsError(
                f"data: {path} has no column {column!r}{hint or '.'} Columns: {', '.join(table.column_names)}"
            )
    rows = (table if limit is None else table.slice(0, limit)).to_pylist()
    require(len(rows) > 0, "data", str(path), "a parquet file with at least one row")
    return [_prompt(row, f"data: {path} row {index}") for index, row in enumerate(rows)]


def _prompt(row: dict[str, Any], where: str) -> Prompt:
    messages, reward_model = row["prompt"], row["reward_model"]
    is_chat = isinstance(messages, list) and all(isinstance(message, dict) for message in messages)
    require(
        is_chat and bool(messages), f"{where}: prompt", messages, "a list of messages such as {role: user, content: …}"
    )
    has_truth = isinstance(reward_model, dict) and isinstance(reward_model.get("ground_truth"), str)
    require(has_truth, f"{where}: reward_model", reward_model, "a struct whose ground_truth is a string")
    content = json.dumps([messages, reward_model["ground_truth"]], sort_keys=True, ensure_ascii=False)
    return Prompt(
        messages=messages,
        data_source=row.get("data_source") or "",
        ground_truth=reward_model["ground_truth"],
        extra_info=row.get("extra_info") or {},
        key=hashlib.sha256(content.encode()).hexdigest()[:16],
    )
