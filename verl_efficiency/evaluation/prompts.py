"""Reads the prompts of a file in verl's form."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import read_sample
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.settings import SettingsError, nearest, require

COLUMNS = ("prompt", "reward_model")


@dataclass(frozen=True)
class Prompt:
    """One row: chat messages, the grader's inputs, and a key made of messages and ground truth."""

    messages: list[dict[str, Any]]
    data_source: str
    ground_truth: Any
    extra_info: dict[str, Any]
    key: str


def load_prompts(path: str | Path, limit: int | None = None) -> list[Prompt]:
    """Read the first ``limit`` rows of a file (all by default).

    Columns: ``prompt`` (a list of messages), ``reward_model.ground_truth``, optionally ``data_source`` and ``extra_info``.

    Raises:
        SettingsError: there is no such file or no row, or a column is missing or has another form.
    """
    require(limit is None or limit >= 1, "limit", limit, "at least 1")
    sample = read_sample(path, "data", limit=None)
    for column in COLUMNS:
        if column not in sample.columns:
            hint = nearest(column, sample.columns)
            raise SettingsError(
                f"data: {path} has no column {column!r}{hint or '.'} Columns: {', '.join(sample.columns)}; `verl-efficiency "
                f"pack {path} NEW.parquet --problems 1` writes raw problems in verl's form"
            )
    return [
        _prompt(row, f"data: {path} {place}")
        for row, place in zip(sample.rows[:limit], sample.places[:limit], strict=True)
    ]


def _prompt(row: dict[str, Any], where: str) -> Prompt:
    messages, reward_model = row["prompt"], row["reward_model"]
    if problem := prompt_problem(messages):
        raise SettingsError(f"{where}: prompt {problem}; `verl-efficiency pack OLD NEW.parquet --problems 1` rewrites texts "
                            "and from/value conversations")  # fmt: skip
    has_truth = isinstance(reward_model, dict) and reward_model.get("ground_truth") is not None
    require(has_truth, f"{where}: reward_model", reward_model, "a struct with the answer as ground_truth")
    extra_info = row.get("extra_info")
    require(isinstance(extra_info, dict | None), f"{where}: extra_info", extra_info, "a mapping")
    content = json.dumps([messages, reward_model["ground_truth"]], sort_keys=True, ensure_ascii=False, default=str)
    return Prompt(
        messages=messages,
        data_source=row.get("data_source") or "",
        ground_truth=reward_model["ground_truth"],
        extra_info=extra_info or {},
        key=hashlib.sha256(content.encode()).hexdigest()[:16],
    )
