"""Stored generations of any tool, read into columns of numbers. Texts are reduced to counts and not kept in memory.

Shapes: ``N`` responses, ``P`` different problems. A file of a million responses takes about 100 bytes a row in memory.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from verl_efficiency.data.columns import has_key, value_at
from verl_efficiency.data.files import iter_json, open_parquet, require_file
from verl_efficiency.rewards.repetition import repeated_share
from verl_efficiency.settings import SettingsError, require, unknown

CHUNK = 1024  # rows that are in memory with their texts
REPEATED_PIECES = 20  # length of an n-gram whose repetition counts as a loop, in words or signs
# The columns that hold what we need, under the names that `evaluate --rows`, verl's dumps and common tools give them.
ROLES: dict[str, tuple[str, ...]] = {
    "problem": ("key", "problem", "question", "input", "prompt"),
    "response": ("response", "output", "completion", "generation", "solution"),
    "correct": ("acc", "correct", "is_correct", "score"),
    "tokens": ("tokens", "response_tokens", "completion_tokens"),
    "prompt_tokens": ("prompt_tokens",),
    "truncated": ("truncated",),
    "difficulty": ("difficulty", "extra_info.difficulty"),
    "weight": (),
}
OPTIONAL_NUMBERS: dict[str, type] = {
    "weight": np.float64,
    "prompt_tokens": np.int64,
    "truncated": np.bool_,
    "difficulty": np.float64,
}
HEDGING = re.compile(r"\b(?:wait|hmm+|maybe|perhaps|not sure|alternatively|actually|hold on|on second thought)\b", re.I)
CHECKING = re.compile(
    r"\b(?:double[- ]?check|re-?check|verify|let me (?:check|think|see)|check (?:again|my|this|that))\b", re.I
)


@dataclass(frozen=True)
class Generations:
    """The responses of one file; a column that the file cannot give is ``None``.

    Attributes:
        label: the name in reports.
        problem_N: int64, number of the problem.
        keys_P: a digest of each problem's text, so that problems of two files can be matched.
        correct_N: float64 in [0, 1].
        tokens_N: int64, tokens of the response.
        prompt_tokens_N: int64, tokens of the prompt.
        truncated_N: bool, the response was cut off.
        difficulty_N: float64.
        repeated_N: float64 in [0, 1), share of the n-grams of 20 words or signs that repeat an earlier one.
        hedging_N: int64, words of doubt ("wait", "maybe", …).
        checking_N: int64, announcements of a check ("let me verify", …).
        columns: the column that was read for each role.
        vote_N: int64, number of the answer that the response gives, the same for equal answers, −1 for none.
        weight_N: float64, what a verifier says of the response.
    """

    label: str
    problem_N: np.ndarray
    keys_P: tuple[bytes, ...]
    correct_N: np.ndarray
    tokens_N: np.ndarray
    prompt_tokens_N: np.ndarray | None
    truncated_N: np.ndarray | None
    difficulty_N: np.ndarray | None
    repeated_N: np.ndarray | None
    hedging_N: np.ndarray | None
    checking_N: np.ndarray | None
    columns: dict[str, str]
    vote_N: np.ndarray | None = None
    weight_N: np.ndarray | None = None


def read_generations(
    path: Path,
    label: str,
    chosen: Mapping[str, str | None],
    *,
    tokenizer: str | None = None,
    max_tokens: int | None = None,
    grade: Callable[[list[str], list[Any]], list[float]] | None = None,
    answer: str | None = None,
    votes: Callable[[list[str]], list[str | None]] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Generations:
    """Read a file of JSON lines or a parquet file, ``CHUNK`` rows at a time.

    Args:
        path: the file.
        label: the name in reports.
        chosen: role → column, for the roles of :data:`ROLES` that are not found by their usual names; dots lead inside.
        tokenizer: a model whose tokenizer counts the tokens where no column has them.
        max_tokens: the limit that the run had; a response of that length counts as truncated where no column says so.
        grade: from responses and right answers to 1 or 0 each; used where ``answer`` is given.
        answer: column of the right answer.
        votes: from responses to the answers that they give, spelt alike where they are equal; makes ``vote_N``.
        progress: called with the number of rows of each chunk.

    Raises:
        SettingsError: a column is missing or holds something else than it should; the message names file and row.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise SettingsError(f"files: {path} has no rows")
    columns = find_columns(
        path, first, chosen, graded=answer is not None, counted=tokenizer is not None, voted=votes is not None
    )
    if answer is not None:
        _require_value(path, first, answer, "--answer")
        columns["answer"] = answer
    count = token_counter(tokenizer) if tokenizer is not None else None
    numbers: dict[bytes, int] = {}
    answers: dict[str | None, int] = {None: -1}
    parts: dict[str, list[np.ndarray]] = {}

    def keep(name: str, values: list[Any], kind: type) -> None:
        parts.setdefault(name, []).append(np.array(values, dtype=kind))

    done, chunk = 0, [first, *islice(rows, CHUNK - 1)]
    while chunk:
        read = _Chunk(path, done, chunk, columns)
        digests = [blake2b(str(key).encode(), digest_size=16).digest() for key in read.column("problem")]
        keep("problem", [numbers.setdefault(digest, len(numbers)) for digest in digests], np.int64)
        texts = read.texts("response") if "response" in columns else None
        if texts is not None:
            keep("repeated", [repeated_share(text, REPEATED_PIECES) for text in texts], np.float64)
            keep("hedging", [len(HEDGING.findall(text)) for text in texts], np.int64)
            keep("checking", [len(CHECKING.findall(text)) for text in texts], np.int64)
        if answer is not None and grade is not None and texts is not None:
            keep("correct", grade(texts, read.column("answer")), np.float64)
        else:
            keep("correct", read.numbers("correct", 0.0, 1.0), np.float64)
        if count is not None and texts is not None:
            keep("tokens", count(texts), np.int64)
        else:
            keep("tokens", read.numbers("tokens", 0.0), np.int64)
        if votes is not None and texts is not None:
            keep("vote", [answers.setdefault(given, len(answers)) for given in votes(texts)], np.int64)
        for role, kind in (
            ("weight", np.float64),
            ("prompt_tokens", np.int64),
            ("truncated", np.bool_),
            ("difficulty", np.float64),
        ):
            if role in columns:
                keep(role, read.numbers(role), kind)
        done += len(chunk)
        progress(len(chunk))
        chunk = list(islice(rows, CHUNK))

    whole = {name: np.concatenate(pieces) for name, pieces in parts.items()}
    if "truncated" not in whole and max_tokens is not None:
        whole["truncated"] = whole["tokens"] >= max_tokens
    optional = ("vote", "weight", "prompt_tokens", "truncated", "difficulty", "repeated", "hedging", "checking")
    return Generations(
        label=label,
        problem_N=whole["problem"],
        keys_P=tuple(numbers),
        correct_N=whole["correct"],
        tokens_N=whole["tokens"],
        columns=columns,
        **{f"{name}_N": whole.get(name) for name in optional},
    )


def find_columns(
    path: Path,
    row: Mapping[str, Any],
    chosen: Mapping[str, str | None],
    *,
    graded: bool = False,
    counted: bool = False,
    voted: bool = False,
) -> dict[str, str]:
    """The column of each role: the one that was chosen, else the first usual name that ``row`` has.

    Raises:
        SettingsError: a needed role has none.
    """
    columns: dict[str, str] = {}
    for role, usual in ROLES.items():
        name = chosen.get(role)
        if name is not None:
            _require_value(path, row, name, f"--{role.replace('_', '-')}")
        found = name or next((name for name in usual if value_at(row, name) is not None), None)
        if found is not None:
            columns[role] = found
    if graded:
        columns.pop("correct", None)
    if counted:
        columns.pop("tokens", None)
    needed = (
        ["problem"]
        + ["correct"] * (not graded)
        + ["tokens"] * (not counted)
        + ["response"] * (graded or counted or voted)
    )
    fixes = {
        "correct": "--correct COLUMN, or --answer COLUMN to have the responses graded",
        "tokens": "--tokens COLUMN, or --tokenizer MODEL to have the responses counted",
    }
    for role in needed:
        if role not in columns:
            for name in ROLES[role]:
                if has_key(row, name):
                    _require_value(path, row, name, "files")
            what = {"correct": "correctness (0 to 1)"}.get(role, role)
            raise SettingsError(
                f"files: {path} has no column for the {what}; give {fixes.get(role, f'--{role} COLUMN')}. "
                f"Columns: {', '.join(row)}"
            )
    if value_at(row, "problems") not in (None, 1):
        raise SettingsError(
            f"files: {path} holds packed prompts (problems > 1); `verl-efficiency report` compares those"
        )
    return columns


def _require_value(path: Path, row: Mapping[str, Any], name: str, setting: str) -> None:
    """Refuse a column that the first row does not have, or has with nothing in it."""
    if not has_key(row, name):
        raise SettingsError(f"{setting}: {path} has {unknown('column', name, row)}")
    if value_at(row, name) is None:
        raise SettingsError(f"{setting}: {name!r} is empty (null) in {path} row 1; fill it, or leave the row out")


@dataclass(frozen=True)
class _Chunk:
    """Some rows of a file, from number ``start`` on."""

    path: Path
    start: int
    rows: list[dict[str, Any]]
    columns: dict[str, str]

    def column(self, role: str) -> list[Any]:
        values = [value_at(row, self.columns[role]) for row in self.rows]
        for number, value in enumerate(values, start=self.start + 1):
            if value is None:
                row, name = self.rows[number - 1 - self.start], self.columns[role]
                fault = "is empty (null)" if has_key(row, name) else "is missing"
                raise SettingsError(f"files: {self.path} row {number}: {name} (the {role}) {fault}")
        return values

    def texts(self, role: str) -> list[str]:
        values = self.column(role)
        for number, value in enumerate(values, start=self.start + 1):
            require(isinstance(value, str), f"files: {self.path} row {number}: {self.columns[role]}", value, "a text")
        return values

    def numbers(self, role: str, least: float = -np.inf, most: float = np.inf) -> list[float]:
        values = self.column(role)
        wanted = f"a number in [{least:g}, {most:g}]" if most < np.inf else "a number"
        for number, value in enumerate(values, start=self.start + 1):
            fine = isinstance(value, int | float) and least <= value <= most
            require(fine, f"files: {self.path} row {number}: {self.columns[role]} (the {role})", value, wanted)
        return values


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    require_file(path, "files")
    if path.suffix == ".parquet":
        for batch in open_parquet(path, "files").iter_batches(batch_size=CHUNK):
            yield from batch.to_pylist()
    else:
        yield from (row for _, row in iter_json(path, "files"))


def token_counter(tokenizer: str) -> Callable[[list[str]], list[int]]:
    """Count the tokens of texts, special tokens not added.

    Raises:
        SettingsError: the tokenizer cannot be loaded.
    """
    from transformers import AutoTokenizer  # seconds to load, and needed only where no column has the tokens

    try:
        encode = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--tokenizer: cannot load {tokenizer!r}: {str(error).splitlines()[0]}") from None
    return lambda texts: [len(ids) for ids in encode(texts, add_special_tokens=False)["input_ids"]]
