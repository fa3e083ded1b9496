"""Answers of two models to the same problems, side by side: the longest, the shortest, and those whose correctness changed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import iter_json, require_file
from verl_efficiency.evaluation.page import Answer, Sample, Section, shortened
from verl_efficiency.settings import SettingsError, require

NEEDED = ("label", "key", "prompt", "acc", "tokens", "response")
Row = dict[str, Any]
Pair = tuple[Row, ...]  # the rows of one problem, one of each model; the first is "before"


def answers_section(files: Sequence[Path]) -> list[Section]:
    """The section of the page; empty without files.

    Args:
        files: written by ``evaluate --rows``, one for each model. Of several responses to a problem the first is shown.

    Raises:
        SettingsError: a file is of another kind, or two files share no problem.
    """
    if not files:
        return []
    models = [first_rows(file) for file in files]
    keys = [key for key in models[0] if all(key in rows for rows in models)]
    require(bool(keys), "--rows", [str(file) for file in files], "files with answers to the same problems")
    pairs = [tuple(rows[key] for rows in models) for key in keys]
    return [Section("Answers side by side", samples=chosen(pairs))]


def first_rows(file: Path) -> dict[str, Row]:
    """The first row of each problem, by key."""
    require_file(file, "--rows", (".jsonl", ".json"))
    rows: dict[str, Row] = {}
    for place, row in iter_json(file, "--rows"):
        missing = [name for name in NEEDED if name not in row]
        if missing:
            raise SettingsError(
                f"--rows: {file} {place} lacks {', '.join(missing)}; `verl-efficiency evaluate --rows` writes such rows"
            )
        rows.setdefault(row["key"], row)
    return rows


def chosen(pairs: Sequence[Pair]) -> list[Sample]:
    """The samples to show. One problem can be several of them.

    *Longest* and *shortest* are those of the first model. *Flipped* are the first problem that a later model
    loses, and the first that it gains.
    """
    samples = [
        _sample("Longest before", max(pairs, key=lambda pair: pair[0]["tokens"])),
        _sample("Shortest before", min(pairs, key=lambda pair: pair[0]["tokens"])),
    ]
    if len(pairs[0]) > 1:
        samples.append(_sample("Shortened most", max(pairs, key=lambda pair: pair[0]["tokens"] - pair[-1]["tokens"])))
    changed: dict[str, Callable[[Row, Row], bool]] = {
        "Flipped from right to wrong": lambda before, after: after["acc"] < before["acc"],
        "Flipped from wrong to right": lambda before, after: after["acc"] > before["acc"],
    }
    for title, flipped in changed.items():
        found = next((pair for pair in pairs if any(flipped(pair[0], after) for after in pair[1:])), None)
        if found is not None:
            samples.append(_sample(title, found))
    return samples


def _sample(title: str, pair: Pair) -> Sample:
    verdicts = {0.0: "wrong", 1.0: "right"}
    answers = [
        Answer(
            f"{row['label']}: {row['tokens']:,} tokens, {verdicts.get(row['acc'], format(row['acc'], '.0%') + ' right')}",
            shortened(row["response"]),
        )
        for row in pair
    ]
    return Sample(f"{title} (row {pair[0]['prompt']} of the data)", answers)
