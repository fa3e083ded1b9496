r"""Prompts that state a length, for ``lcpo_exact``, ``lcpo_max`` and ``length_levels``.

Each row gets a random target or level: a sentence at the end of its prompt, and the column that the reward reads.

>>> row = {"prompt": [{"role": "user", "content": "1+1?"}], "extra_info": {"index": 7}}
>>> asked = add_targets([row], "exact", 512, 512, seed=0)[0]
>>> asked["prompt"][0]["content"], asked["extra_info"]
('1+1? Think for 512 tokens.', {'index': 7, 'target_tokens': 512})
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from verl_efficiency.data.columns import Row
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.rewards.length_levels import LEVELS
from verl_efficiency.settings import SettingsError, require

# The words of L1's training data (arXiv 2503.04697).
TARGETS = {"exact": "Think for {} tokens.", "max": "Think for maximum {} tokens."}
# Our words: the paper behind the levels (arXiv 2505.07961) publishes none.
LEVEL_TEXTS = dict(
    zip(LEVELS, ("Keep the reasoning short.", "Reason at medium length.", "Reason at length."), strict=True)
)


def add_targets(rows: Sequence[Row], form: str, low: int, high: int, seed: int) -> list[dict[str, Any]]:
    """Ask for a number of tokens, uniform from ``low`` to ``high``, and write it to ``extra_info.target_tokens``.

    Args:
        rows: single problems in verl's format.
        form: ``exact`` (as many tokens) or ``max`` (no more tokens).
        low, high: smallest and largest number of tokens, above 0.
        seed: determines the targets.

    Raises:
        SettingsError: a wrong form or range, or see :func:`ask`.
    """
    require(form in TARGETS, "lcpo", form, "exact or max")
    require(0 < low <= high, "tokens", f"{low}:{high}", "LOW:HIGH with 0 < LOW <= HIGH")
    targets = np.random.default_rng(seed).integers(low, high, size=len(rows), endpoint=True).tolist()
    return [
        ask(row, TARGETS[form].format(target), number, target_tokens=target)
        for number, (row, target) in enumerate(zip(rows, targets, strict=True))
    ]


def add_levels(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Ask a random third of the rows each for short, medium and long reasoning; write ``extra_info.length_level``."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    levels = [LEVELS[place % len(LEVELS)] for place in order]
    return [
        ask(row, LEVEL_TEXTS[level], number, length_level=level)
        for number, (row, level) in enumerate(zip(rows, levels, strict=True))
    ]


def ask(row: Row, text: str, number: int, **columns: Any) -> dict[str, Any]:
    """A copy of row ``number`` with ``text`` at the end of its prompt and ``columns`` in ``extra_info``.

    Raises:
        SettingsError: the prompt does not end in a user message of text, or the row already has the column.
    """
    if problem := prompt_problem(row.get("prompt")):
        raise SettingsError(f"rows: the prompt of row {number} {problem}")
    prompt = [dict(message) for message in row["prompt"]]
    if not prompt or prompt[-1]["role"] != "user" or not isinstance(prompt[-1]["content"], str):
        raise SettingsError(f"rows: the prompt of row {number} does not end in a user message of text")
    extra_info = dict(row.get("extra_info") or {})
    taken = [key for key in columns if extra_info.get(key) is not None]
    if taken:
        raise SettingsError(f"rows: row {number} already has extra_info.{taken[0]}: {extra_info[taken[0]]!r}")
    prompt[-1]["content"] = f"{prompt[-1]['content'].rstrip()} {text}"
    return {**row, "prompt": prompt, "extra_info": extra_info | columns}
