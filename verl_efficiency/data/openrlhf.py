"""Rows for OpenRLHF: a prompt and a label, the one text that carries everything else.

OpenRLHF gives a reward function and a trainer only the prompt, as text, and the label. So the label is the whole row in verl's
form, as JSON, and columns keep their paths (``extra_info.difficulty``).

>>> row = {"data_source": "sums", "prompt": [{"role": "user", "content": "1+1?"}], "ability": "math",
...        "reward_model": {"style": "rule", "ground_truth": "2"}, "extra_info": {"index": 7}}
>>> written = to_openrlhf([row])[0]
>>> written["input"], written["datasource"]
('1+1?', 'sums')
>>> read_label(written["label"]) == row
True
>>> read_label("2")["reward_model"]["ground_truth"]
'2'
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_efficiency.data.columns import Row
from verl_efficiency.data.files import require_ending, write_lines
from verl_efficiency.settings import SettingsError


def to_openrlhf(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with ``input``, ``label`` and ``datasource``, for ``--data.input_key input --data.label_key label``.

    ``input`` is the question's text if every prompt is one user message, else the list of messages. Both need
    ``--data.apply_chat_template``.
    """
    single = all([message["role"] for message in row["prompt"]] == ["user"] for row in rows)
    return [
        {
            "input": row["prompt"][0]["content"] if single else [dict(message) for message in row["prompt"]],
            "label": _label(row, number),
            "datasource": str(row.get("data_source") or ""),
        }
        for number, row in enumerate(rows)
    ]


def _label(row: Row, number: int) -> str:
    try:
        return json.dumps(row, ensure_ascii=False)
    except TypeError as error:
        raise SettingsError(f"rows: row {number} cannot be written as JSON ({error}); leave the column out") from None


def write_openrlhf(path: str | Path, rows: Sequence[Row]) -> None:
    """Write :func:`to_openrlhf` to a .jsonl file, in full or not at all; creates its folder."""
    write_lines(require_ending(path, "target", (".jsonl",)), to_openrlhf(rows))


def read_label(label: Any) -> dict[str, Any]:
    """The row in a label. A label that is not a row is the answer itself."""
    try:
        row = json.loads(label) if isinstance(label, str) else None
    except ValueError:  # most plain answers are not JSON
        row = None
    if isinstance(row, dict) and isinstance(row.get("reward_model"), dict):
        return row
    return {"data_source": "", "prompt": None, "reward_model": {"ground_truth": label}, "extra_info": {}}
