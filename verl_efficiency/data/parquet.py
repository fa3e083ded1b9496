"""Packing from file to file: parquet in verl's format or JSON lines in, parquet in verl's format out."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from verl_efficiency.data.columns import Row, column
from verl_efficiency.data.packing import packed_row, plan
from verl_efficiency.data.problems import read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class PackingReport:
    """What packing made of a file: counts, prompt lengths in characters, how evenly difficulty is spread."""

    problems: int
    packs: int
    left_out: int
    mean_characters: float
    longest_characters: int
    spread_of_problems: float | None
    spread_of_packs: float | None

    def __str__(self) -> str:
        lines = [
            f"{self.problems} problems -> {self.packs} packs ({self.left_out} problems left out)",
            f"prompt: {self.mean_characters:.0f} characters on average, {self.longest_characters} at most",
        ]
        if self.spread_of_packs is not None:
            lines.append(
                f"difficulty: standard deviation {self.spread_of_problems:.3g} of problems, "
                f"{self.spread_of_packs:.3g} of pack means"
            )
        return "\n".join(lines)


def load_problems(
    path: str | Path,
    question: str = "question",
    answer: str = "answer",
    answer_after: str | None = None,
    data_source: str | None = None,
    split: str = "train",
    keep: Iterable[str] = (),
) -> list[dict[str, Any]]:
    r"""Read single problems from a .jsonl file into rows of verl's format.

    Args:
        path: one JSON object in each line.
        question: column of the problem's text.
        answer: column of the answer; numbers become text, whole ones without ``.0``.
        answer_after: take what follows its last occurrence in the answer: ``####`` for GSM8K, whose answer column holds
            the solution too.
        data_source: written into the rows; ``None`` takes the file's name without suffix.
        split: written to ``extra_info.split``.
        keep: columns to copy into ``extra_info`` (a difficulty, a topic).

    Raises:
        SettingsError: a column or the ``answer_after`` mark is missing, or an answer is neither text nor number.
    """
    path = Path(path)
    records = read_rows(path)
    questions = column(records, question, "question")
    answers = [
        answer_text(value, answer_after, number) for number, value in enumerate(column(records, answer, "answer"))
    ]
    extras = {name: column(records, name, "keep") for name in keep}
    return [
        {
            "data_source": data_source or path.stem,
            "prompt": [{"role": "user", "content": str(questions[number])}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": answers[number]},
            "extra_info": {"index": number, "split": split} | {name: values[number] for name, values in extras.items()},
        }
        for number in range(len(records))
    ]


def answer_text(value: Any, answer_after: str | None, number: int) -> str:
    """The answer in a cell of row ``number``: numbers become text; what follows the last ``answer_after``, where given."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SettingsError(f"answer: row {number} holds {value!r} ({type(value).__name__}), not a text or a number")
    if answer_after is None:
        return str(value)
    _, mark, text = str(value).rpartition(answer_after)
    require(bool(mark), "answer_after", answer_after, f"in every answer, but row {number} has none")
    return text.strip()


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """All rows of a parquet file, or of a .jsonl file that is in verl's format already."""
    path = Path(path)
    if path.suffix == ".jsonl":
        # Not splitlines(): it also splits at U+2028, which JSON allows inside a text.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    require(path.suffix == ".parquet", "path", str(path), "a .parquet or .jsonl file")
    return pq.read_table(path).to_pylist()


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows to a parquet file; its folder is made where missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def pack_parquet(
    source: str | Path | Sequence[Row],
    target: str | Path,
    settings: PackingSettings,
    seed: int,
    write: Callable[[str | Path, Sequence[Row]], None] = write_rows,
) -> PackingReport:
    """Pack the single problems of ``source`` and write them to the parquet file ``target``.

    Args:
        source: a file for :func:`read_rows`, or rows, for example from :func:`load_problems`.
        target: the parquet file to write.
        settings: how to pack.
        seed: the packs are a function of it.
        write: another form of file, see :func:`verl_efficiency.data.openrlhf.write_openrlhf`.
    """
    rows = read_rows(source) if isinstance(source, str | Path) else source
    problem_set = read_problems(rows, settings)
    packs = plan(problem_set, settings, seed)
    packed = [packed_row(problem_set, pack, number, settings) for number, pack in enumerate(packs)]
    write(target, packed)
    characters = [sum(len(message["content"]) for message in row["prompt"]) for row in packed]
    difficulties = [problem.difficulty for problem in problem_set.problems if problem.difficulty is not None]
    pack_means = [row["extra_info"]["difficulty"] for row in packed if "difficulty" in row["extra_info"]]
    return PackingReport(
        problems=len(rows),
        packs=len(packs),
        left_out=len(rows) - len({number for pack in packs for number in pack}),
        mean_characters=float(np.mean(characters)),
        longest_characters=max(characters),
        spread_of_problems=float(np.std(difficulties)) if difficulties else None,
        spread_of_packs=float(np.std(pack_means)) if pack_means else None,
    )
