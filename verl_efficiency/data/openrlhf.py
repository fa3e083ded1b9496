"""Rows for OpenRLHF: a prompt, and one text beside it, the label, which carries everything else of a row.

OpenRLHF hands a reward function and a trainer the prompt as text and the label, nothing more. So the label is the row itself,
in verl's form, as JSON; columns keep the paths that they have there (``extra_info.difficulty``).

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
from verl_efficiency.settings import require


def to_openrlhf(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with ``input``, ``label`` and ``datasource``, for ``--data.input_key input --data.label_key label``.

    ``input`` is the question's text where every prompt is one user message, else the list of messages; both want
    ``--data.apply_chat_template``.
    """
    single = all([message["role"] for message in row["prompt"]] == ["user"] for row in rows)
    return [
        {
            "input": row["prompt"][0]["content"] if single else [dict(message) for message in row["prompt"]],
            "label": json.dumps(row, ensure_ascii=False),
            "datasource": str(row["data_source"]),
        }
        for row in rows
    ]


def write_openrlhf(path: str | Path, rows: Sequence[Row]) -> None:
    """Write :func:`to_openrlhf` to a .jsonl file; its folder is made where missing."""
    path = Path(path)
    require(path.suffix == ".jsonl", "target", str(path), "a .jsonl file for OpenRLHF")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in to_openrlhf(rows)), encoding="utf-8")


def read_label(label: Any) -> dict[str, Any]:
    """The row behind a label; a label that is no row is the answer itself.

    Raises:
        ValueError: the label is no text.
    """
    if not isinstance(label, str):
        raise ValueError(f"a label must be a text, got {label!r} ({type(label).__name__}); see --data.label_key")
    try:
        row = json.loads(label)
    except ValueError:  # most plain answers are no JSON
        row = None
    if isinstance(row, dict) and isinstance(row.get("reward_model"), dict):
        return row
    return {"data_source": "", "prompt": None, "reward_model": {"ground_truth": label}, "extra_info": {}}
