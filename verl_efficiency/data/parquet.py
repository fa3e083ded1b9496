"""Packing from file to file: reads raw problems or rows in verl's format, writes parquet in verl's format."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from verl_efficiency.data.columns import Row, column, row_place
from verl_efficiency.data.files import place_of, read_rows, replacing, require_ending
from verl_efficiency.data.messages import to_messages
from verl_efficiency.data.packing import packed_rows, plan
from verl_efficiency.data.problems import read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.grading import extract_answer
from verl_efficiency.rewards.ground_truth import PACK_DOES, one_answer, read_all_answers
from verl_efficiency.settings import SettingsError, require

QUESTION, ANSWER = "question", "answer"
TRUTH = "reward_model.ground_truth"


@dataclass(frozen=True)
class PackingReport:
    """The result of packing a file: counts, prompt lengths (characters), and how evenly difficulty is spread."""

    problems: int
    packs: int
    singles: int
    left_out: int
    mean_characters: float
    longest_characters: int
    spread_of_problems: float | None
    spread_of_packs: float | None

    def __str__(self) -> str:
        alone = f" and {self.singles} prompts of one problem" if self.singles else ""
        lines = [
            f"{self.problems} problems -> {self.packs} packs{alone} ({self.left_out} problems left out)",
            f"prompt: {self.mean_characters:.0f} characters on average, {self.longest_characters} at most",
        ]
        if self.spread_of_packs is not None:
            lines.append(
                f"difficulty: standard deviation {self.spread_of_problems:.3g} over problems, {self.spread_of_packs:.3g} over "
                "the means of packs (0 if all packs are equally hard)"
            )
        return "\n".join(lines)


def load_problems(
    path: str | Path,
    question: str = QUESTION,
    answer: str = ANSWER,
    answer_after: str | None = None,
    data_source: str | None = None,
    split: str = "train",
    keep: Iterable[str] = (),
    answer_in_box: bool = False,
) -> list[dict[str, Any]]:
    r"""Read single problems from a file with a question column and an answer column into rows of verl's format.

    Args:
        path: a file for :func:`verl_efficiency.data.files.read_rows`.
        question: column of the problem's text.
        answer: column of the answer; numbers become text, whole ones without ``.0``.
        answer_after: the answer is what follows the last such text in its cell: ``####`` for GSM8K, whose cells hold solutions.
        data_source: written into the rows; ``None``: the file's name without suffix.
        split: written to ``extra_info.split``.
        keep: columns to copy into ``extra_info`` (a difficulty, a topic).
        answer_in_box: the answer is what the last ``\boxed{…}`` of its cell holds, for solutions as in MATH.

    Raises:
        SettingsError: a column, the ``answer_after`` text or the box is missing, or a cell holds no answer (see
            :mod:`verl_efficiency.rewards.ground_truth`); the message names file and line.
    """
    path = Path(path)
    records, place = read_rows(path, "source"), partial(place_of, path)
    questions = column(records, question, "question", place)
    answers = answer_texts(column(records, answer, "answer", place), place, answer_after, answer_in_box)
    extras = {name: column(records, name, "keep", place) for name in keep}
    for number, text in enumerate(questions):
        if not isinstance(text, str) or not text.strip():
            raise SettingsError(f"question: {place(number)} must hold a text that is not empty, got {text!r}")
    return [
        {
            "data_source": data_source or path.stem,
            "prompt": [{"role": "user", "content": questions[number]}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": answers[number]},
            "extra_info": {"index": number, "split": split} | {name: values[number] for name, values in extras.items()},
        }
        for number in range(len(records))
    ]


def is_in_verls_form(rows: Sequence[Row]) -> bool:
    """Whether rows have the columns ``prompt`` and ``reward_model``, not one each for question and answer."""
    return {"prompt", "reward_model"} <= rows[0].keys()


def load_verl_rows(
    path: str | Path, answer_after: str | None = None, answer_in_box: bool = False
) -> list[dict[str, Any]]:
    """Read rows of verl's format: prompts become messages, ground truths texts, and what verl's managers need is added.

    A missing ``data_source`` becomes the file's name without suffix, a missing ``extra_info`` holds the row number as
    ``index``.

    Args:
        path: a file for :func:`verl_efficiency.data.files.read_rows`.
        answer_after: as for :func:`load_problems`, in ``reward_model.ground_truth``.
        answer_in_box: as for :func:`load_problems`, in ``reward_model.ground_truth``.

    Raises:
        SettingsError: a prompt or a ground truth is missing or unusable; the message names file and line.
    """
    rows, place = read_rows(path, "source"), partial(place_of, path)
    truths = column(rows, TRUTH, "source", place)
    read = []
    for number, (row, truth) in enumerate(zip(rows, truths, strict=True)):
        extra_info = row.get("extra_info") or {"index": number}
        if not isinstance(extra_info, Mapping):
            raise SettingsError(
                f"source: extra_info of {place(number)} must be a mapping, got {str(extra_info)[:60]!r}"
            )
        try:
            prompt = to_messages(row["prompt"])
        except ValueError as error:
            raise SettingsError(f"source: the prompt of {place(number)} {error}") from None
        count = extra_info.get("n") or 1
        try:
            if count == 1:
                truth = answer_text(truth, answer_after, answer_in_box)
            else:
                read_all_answers(truth, count)
        except ValueError as error:
            raise SettingsError(f"source: {TRUTH} of {place(number)} {error}") from None
        read.append(
            {
                **row,
                "data_source": row.get("data_source") or Path(path).stem,
                "prompt": prompt,
                "reward_model": {**row["reward_model"], "ground_truth": truth},
                "extra_info": extra_info,
            }
        )
    return read


def answer_text(value: Any, answer_after: str | None = None, answer_in_box: bool = False) -> str:
    r"""The answer in a cell as a text: what follows the last ``answer_after``, or what the last ``\boxed{…}`` holds.

    Raises:
        ValueError: no such text or box, or no answer that a reward can grade; the message continues "row 3 …".
    """
    if answer_after:
        _, mark, value = str(value).rpartition(answer_after)
        if not mark:
            raise ValueError(f"has no {answer_after!r} (--answer-after) in it: {value[:80]!r}")
        value = value.strip()
    elif answer_in_box:
        text = str(value)
        value = extract_answer(text)
        if value is None:
            raise ValueError(f"has no whole \\boxed{{…}} (--answer-in-box) in it: {text[-80:]!r}")
    try:
        return one_answer(value)
    except ValueError as error:  # the commands that come here have these options
        raise ValueError(str(error).replace(PACK_DOES, "add")) from None


def answer_texts(
    values: Sequence[Any],
    place: Callable[[int], str] = row_place,
    answer_after: str | None = None,
    answer_in_box: bool = False,
) -> list[str]:
    """:func:`answer_text` for the cells of a column.

    Raises:
        SettingsError: a cell without an answer; ``place`` turns its number into a name for the error.
    """
    require(not (answer_after and answer_in_box), "--answer-in-box", True, "left out where --answer-after is given")
    texts = []
    for number, value in enumerate(values):
        try:
            texts.append(answer_text(value, answer_after, answer_in_box))
        except ValueError as error:
            raise SettingsError(f"answer: {place(number)} {error}") from None
    return texts


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows to a parquet file, in full or not at all; creates its folder.

    Raises:
        SettingsError: the name does not end in .parquet, a column holds values of different types, or the file cannot be
            written.
    """
    path = require_ending(path, "target", (".parquet",))
    names = dict.fromkeys(name for row in rows for name in row)  # pyarrow reads only those of the first row
    try:
        table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
        with replacing(path) as beside:
            pq.write_table(table, beside)
    except pa.ArrowException as error:
        raise SettingsError(
            f"target: {path} cannot be written, since a column must hold values of one type in all rows "
            f"({str(error).splitlines()[0]})"
        ) from None
    except OSError as error:  # pyarrow's names no file
        raise SettingsError(f"target: {path} cannot be written: {error.strerror or error}") from None


def pack_parquet(
    source: str | Path | Sequence[Row],
    target: str | Path,
    settings: PackingSettings,
    seed: int,
    write: Callable[[str | Path, Sequence[Row]], None] = write_rows,
) -> PackingReport:
    """Pack the single problems of ``source`` and write them to the parquet file ``target``.

    Args:
        source: a file in verl's format for :func:`load_verl_rows`, or rows, for example from :func:`load_problems`.
        target: the parquet file to write.
        settings: how to pack.
        seed: determines the packs.
        write: how to write, for example :func:`verl_efficiency.data.openrlhf.write_openrlhf`.
    """
    rows = load_verl_rows(source) if isinstance(source, str | Path) else source
    problem_set = read_problems(rows, settings)
    packs = plan(problem_set, settings, seed)
    packed = packed_rows(problem_set, packs, settings)
    write(target, packed)
    characters = [sum(len(message["content"]) for message in row["prompt"]) for row in packed]
    difficulties = [problem.difficulty for problem in problem_set.problems if problem.difficulty is not None]
    together = [row["extra_info"] for row in packed if "n" in row["extra_info"]]
    pack_means = [info["difficulty"] for info in together if "difficulty" in info]
    return PackingReport(
        problems=len(rows),
        packs=len(together),
        singles=len(packed) - len(together),
        left_out=len(rows) - len({number for pack in packs for number in pack}),
        mean_characters=float(np.mean(characters)),
        longest_characters=max(characters),
        spread_of_problems=float(np.std(difficulties)) if difficulties else None,
        spread_of_packs=float(np.std(pack_means)) if pack_means else None,
    )
