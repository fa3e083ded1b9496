"""Reads the stored responses of any tool into columns of numbers. Texts become counts and do not stay in memory.

The tokens of a response include its end-of-sequence token, as those of ``evaluate`` and of a server's usage do. A text does not
show that token. So a count of a text is raised by one, unless that exceeds the token limit of the run.

Shapes: ``N`` responses, ``P`` different problems. A million responses take about 100 MB.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from verl_efficiency.data.columns import has_key, paths_of, unknown_column, value_at
from verl_efficiency.data.files import require_file
from verl_efficiency.evaluation.chunks import Rows, map_chunks, read
from verl_efficiency.grading import without_end_tokens
from verl_efficiency.rewards.repetition import repeated_share
from verl_efficiency.settings import SettingsError, nearest

LARGEST = 2.0**53  # numbers up to here are exact in a float64; infinity and NaN are above
REPEATED_PIECES = 20  # length of an n-gram whose repetition counts as a loop, in words or signs
# Role -> usual names of its column: those of `evaluate --rows`, verl's rollout dumps and common tools.
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
TRUTHS = (
    "answer",
    "ground_truth",
    "reward_model.ground_truth",
    "gts",
    "gold",
    "target",
    "label",
)  # offered, never guessed
OPTIONAL: dict[str, type] = {
    "weight": np.float64,
    "prompt_tokens": np.int64,
    "truncated": np.bool_,
    "difficulty": np.float64,
}
RANGES: dict[str, tuple[float, float]] = {
    "weight": (0.0, math.inf),
    "prompt_tokens": (0.0, math.inf),
    "truncated": (0.0, 1.0),
}
COUNTS = ("tokens", "prompt_tokens")  # whole numbers
SAID = {
    "correct": "correctness",
    "prompt_tokens": "tokens of the prompt",
}  # how errors name a role, if not by its own name
FIXES = {
    "problem": "Give --problem COLUMN",
    "response": "Give --response COLUMN",
    "correct": "Give --correct COLUMN, or --answer COLUMN to have the responses graded",
    "tokens": "Give --tokens COLUMN, or --tokenizer MODEL to have the responses counted",
}
HEDGING = re.compile(r"\b(?:wait|hmm+|maybe|perhaps|not sure|alternatively|actually|hold on|on second thought)\b", re.I)
CHECKING = re.compile(
    r"\b(?:double[- ]?check|re-?check|verify|let me (?:check|think|see)|check (?:again|my|this|that))\b", re.I
)


Scores = tuple[float, float]  # of a wrong and of a correct answer
USUAL_SCORES = (0.0, 1.0)
SCORES_FIX = "If a wrong answer has another score, give it: --score-wrong -1"

Grade = Callable[[list[str], list[Any], Callable[[int], str]], list[float]]


@dataclass(frozen=True)
class Generations:
    """The responses of one file, or of several that count as one. A column that they lack is ``None``."""

    label: str  # the name in reports
    problem_N: np.ndarray  # int64, number of the problem
    keys_P: tuple[bytes, ...]  # a digest of each problem's text, so that problems of two files can be matched
    correct_N: np.ndarray  # float64 in [0, 1]
    tokens_N: np.ndarray  # int64, tokens of the response with the end-of-sequence token
    columns: dict[str, str]  # the column that was read for each role
    prompt_tokens_N: np.ndarray | None = None  # int64, tokens of the prompt
    truncated_N: np.ndarray | None = None  # bool, whether the response was cut off
    difficulty_N: np.ndarray | None = None  # float64
    repeated_N: np.ndarray | None = None  # float64 in [0, 1), share of n-grams of 20 words that repeat an earlier one
    hedging_N: np.ndarray | None = None  # int64, words of doubt ("wait", "maybe", …)
    checking_N: np.ndarray | None = None  # int64, announcements of a check ("let me verify", …)
    vote_N: np.ndarray | None = None  # int64, equal for equal answers; −1 for a response without an answer
    weight_N: np.ndarray | None = None  # float64, a verifier's score
    left_out: Mapping[str, str] = field(
        default_factory=dict
    )  # optional roles whose guessed column cannot be used, and why


def find_files(files: Sequence[Path]) -> list[Path]:
    """The named files, and the JSON lines in the named folders, each once."""
    found: list[Path] = []
    for path in files:
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise SettingsError(f"files: there is no .jsonl file in the folder {path}")
        found += inside
    return list(dict.fromkeys(found))


def read_generations(
    paths: Sequence[Path],
    label: str,
    chosen: Mapping[str, str | None] | None = None,
    *,
    tokenizer: str | None = None,
    max_tokens: int | None = None,
    grade: Grade | None = None,
    votes: Callable[[list[str]], list[str | None]] | None = None,
    scores: Scores = USUAL_SCORES,
    progress: Callable[[int], None] = lambda rows: None,
    ray: bool = False,
) -> Generations:
    """Read files of JSON lines or parquet files as one, a chunk of rows at a time.

    Args:
        paths: the files, such as those of a run's steps.
        label: the name in reports.
        chosen: the column for each role of :data:`ROLES` whose column has an unusual name; a dot reaches a nested field.
        tokenizer: a model whose tokenizer counts the tokens, instead of reading a column.
        max_tokens: the token limit of the run. A count by ``tokenizer`` ends there. Without a column for truncation, a response
            of that length is truncated.
        grade: a function of the responses, the right answers (role ``answer``), and how an error names a row. It returns 1
            or 0 for each response, instead of reading a column.
        votes: a function from responses to their answers, which gives equal answers the same spelling. Makes ``vote_N``.
        scores: what the column of the correctness holds for a wrong and for a correct answer.
        progress: called with the number of rows of each chunk.
        ray: read in the workers of Ray Data, see :func:`map_chunks`.

    Raises:
        SettingsError: a column is missing or has a wrong value, and the message names file and row; or the files have
            different columns.
    """
    instead = [role for role, given in (("correct", grade), ("tokens", tokenizer)) if given is not None]
    needed = [role for role in ("problem", "correct", "tokens") if role not in instead]
    needed += ["response"] * bool(instead or votes)
    columns, *others = (
        find_columns(path, chosen or {}, {role: FIXES[role] for role in needed}, instead) for path in paths
    )
    for path, other in zip(paths[1:], others, strict=True):
        for role in (role for role in (*ROLES, "answer") if columns.get(role) != other.get(role)):
            here, there = (repr(given[role]) if role in given else "no column" for given in (columns, other))
            raise SettingsError(
                f"files: {paths[0]} and {path} differ in the column of the {SAID.get(role, role)}: {here} and {there}. Name a "
                "column that both have, or read the files one by one"
            )

    guessed = frozenset(role for role in OPTIONAL if role in columns and (chosen or {}).get(role) is None)

    def work(rows: Rows) -> dict[str, Any]:
        return numbers_of(Chunk(**vars(rows), columns=columns), tokenizer, max_tokens, grade, votes, scores, guessed)

    numbers: dict[bytes, int] = {}
    answers: dict[str | None, int] = {None: -1}
    parts: dict[str, list[np.ndarray]] = {}
    left_out: dict[str, str] = {}
    for part in itertools.chain.from_iterable(map_chunks(work, path, "files", ray=ray) for path in paths):
        left_out |= part.pop("left_out")
        part["problem"] = np.array([numbers.setdefault(key, len(numbers)) for key in part["problem"]], dtype=np.int64)
        if "vote" in part:
            part["vote"] = np.array([answers.setdefault(given, len(answers)) for given in part["vote"]], dtype=np.int64)
        for name, values in part.items():
            parts.setdefault(name, []).append(values)
        progress(len(part["problem"]))
    whole = {name: np.concatenate(pieces) for name, pieces in parts.items() if name not in left_out}
    columns = {role: name for role, name in columns.items() if role not in left_out}
    if "truncated" not in whole and max_tokens is not None:
        whole["truncated"] = whole["tokens"] >= max_tokens
    found = {f"{name}_N": values for name, values in whole.items()}
    return Generations(label, keys_P=tuple(numbers), columns=columns, left_out=left_out, **found)


def numbers_of(
    chunk: "Chunk",
    tokenizer: str | None,
    max_tokens: int | None,
    grade: Grade | None,
    votes: Callable[[list[str]], list[str | None]] | None,
    scores: Scores,
    guessed: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The columns of :class:`Generations` for one chunk. ``problem`` holds digests, and ``vote`` the answers as texts.

    ``left_out`` tells why a column of ``guessed`` cannot be used.
    """
    count = None if tokenizer is None else token_counter(tokenizer)
    texts = chunk.texts("response") if "response" in chunk.columns else []
    found: dict[str, Any] = {"problem": [_digest(key) for key in chunk.column("problem")]}
    if texts:
        found["repeated"] = np.array([repeated_share(text, REPEATED_PIECES) for text in texts])
        found["hedging"] = np.array([len(HEDGING.findall(text)) for text in texts], dtype=np.int64)
        found["checking"] = np.array([len(CHECKING.findall(text)) for text in texts], dtype=np.int64)
    if grade is None:
        wrong, correct = scores
        fix = (
            f". {SCORES_FIX}; or {FIXES['correct'][0].lower()}{FIXES['correct'][1:]}{_example_of_truth(chunk.rows[0])}"
        )
        right = [(score - wrong) / (correct - wrong) for score in chunk.numbers("correct", *scores, fix)]
    else:
        right = grade(texts, chunk.column("answer"), chunk.place)
    found["correct"] = np.array(right, dtype=np.float64)
    if count is None:
        spent = chunk.numbers("tokens", 0.0, whole=True)
    else:
        spent = [min(tokens + 1, max_tokens or math.inf) for tokens in count(texts)]
    found["tokens"] = np.array(spent, dtype=np.int64)
    if votes is not None:
        found["vote"] = votes(texts)
    found["left_out"] = {}
    for role, kind in OPTIONAL.items():
        if role not in chunk.columns:
            continue
        try:
            values = chunk.numbers(role, *RANGES.get(role, (-math.inf, math.inf)), whole=role in COUNTS)
        except SettingsError as error:
            if role not in guessed:
                raise
            found["left_out"][role] = str(error).removeprefix("files: ")
        else:
            found[role] = np.array(values, dtype=kind)
    return found


def _digest(key: Any) -> bytes:
    return blake2b(str(key).encode(), digest_size=16).digest()


def read_chunks(path: Path, needed: Mapping[str, str]) -> "Iterator[Chunk]":
    """The rows of a file, a chunk at a time, with the column of each role.

    Args:
        path: JSON lines or parquet.
        needed: roles that must have a column, and for each the fix if there is none.

    Raises:
        SettingsError: the file has no rows, or a needed role has no column.
    """
    columns = find_columns(path, {}, needed)
    for rows in read(path, "files"):
        yield Chunk(**vars(rows), columns=columns)


def find_columns(
    path: Path, chosen: Mapping[str, str | None], needed: Mapping[str, str], instead: Sequence[str] = ()
) -> dict[str, str]:
    """The column of each role: the chosen one, else the first usual name with a value in the first row.

    Args:
        path: JSON lines or parquet.
        chosen: the column of each role that has an unusual name.
        needed: roles that must have a column, and for each the fix if there is none.
        instead: roles whose columns are not read, because the caller computes their values.

    Raises:
        SettingsError: the file has no rows, a needed role has no column, or the rows are packed prompts.
    """
    require_file(path, "files")
    first = next(read(path, "files"), None)
    if first is None:
        raise SettingsError(f"files: {path} has no rows")
    row = first.rows[0]
    columns: dict[str, str] = {}
    for role in (*ROLES, "answer"):
        name = chosen.get(role)
        if name is not None:
            _require_value(first, name, f"--{role.replace('_', '-')}")
        found = name or next((name for name in ROLES.get(role, ()) if value_at(row, name) is not None), None)
        if found is not None and role not in instead:
            columns[role] = found
    for role, fix in needed.items():
        if role not in columns:
            for name in ROLES[role]:
                if has_key(row, name):
                    _require_value(first, name, "files")
            what = SAID.get(role, role) + " (0 to 1)" * (role == "correct")
            unread = [name for name in row if name not in columns.values()]
            close = next((hint for name in ROLES[role] if (hint := nearest(name, unread))), ".")
            example = _example_of_truth(row) if "--answer" in fix else ""
            raise SettingsError(
                f"files: {path} has no column for the {what}, such as {', '.join(ROLES[role])}{close} {fix}{example}. "
                f"Its columns: {', '.join(row)}"
            )
    if value_at(row, "problems") not in (None, 1):
        raise SettingsError(
            f"files: {path} holds packed prompts (problems > 1); `verl-efficiency report` compares those"
        )
    return columns


def _example_of_truth(row: Mapping[str, Any]) -> str:
    """The end of an error that offers ``--answer``, if the row has a right answer."""
    truth = next((name for name in TRUTHS if value_at(row, name) is not None), None)
    return f", for example --answer {truth}" if truth else ""


def _require_value(first: Rows, name: str, setting: str) -> None:
    """Refuse a column that the first row lacks, or has empty."""
    row = first.rows[0]
    if not has_key(row, name):
        raise SettingsError(f"{setting}: {first.path} has {unknown_column(name, paths_of(row))}")
    if value_at(row, name) is None:
        raise SettingsError(f"{setting}: {name!r} is empty (null) in {first.place(0)}; fill it, or leave the row out")


@dataclass(frozen=True)
class Chunk(Rows):
    """Rows of a file, and the column of each role."""

    columns: dict[str, str]

    def name_of(self, role: str) -> str:
        """The column of a role, and the role if it has another name."""
        column, role = self.columns[role], SAID.get(role, role)
        return column if column == role else f"{column} (the {role})"

    def column(self, role: str) -> list[Any]:
        """The values of a role. An empty value is an error."""
        values = [value_at(row, self.columns[role]) for row in self.rows]
        for number, (row, value) in enumerate(zip(self.rows, values, strict=True)):
            if value is None:
                fault = "is empty (null)" if has_key(row, self.columns[role]) else "is missing"
                raise SettingsError(f"files: {self.place(number)}: {self.name_of(role)} {fault}")
        return values

    def texts(self, role: str) -> list[str]:
        """The values of a role. A value that is not a text is an error."""
        values = self.column(role)
        for number, value in enumerate(values):
            if not isinstance(value, str):
                raise SettingsError(f"files: {self.place(number)}: {self.columns[role]} must be a text, got {value!r}")
        return values

    def numbers(
        self, role: str, least: float = -math.inf, most: float = math.inf, fix: str = "", whole: bool = False
    ) -> list[float]:
        """The values of a role.

        A value that is not a finite number from ``least`` to ``most`` is an error, which ends in ``fix``. With ``whole``, so is
        a fraction.
        """
        values = self.column(role)
        kind = "a whole number" if whole else "a number"
        bound = f" of at least {least:g}" if least > -math.inf else ""
        wanted = kind + (f" in [{least:g}, {most:g}]" if most < math.inf else bound)
        wanted += ", not a shaped score" * (role == "correct")
        for number, value in enumerate(values):
            fine = isinstance(value, int | float) and abs(value) < LARGEST and least <= value <= most
            if not fine or (whole and value != int(value)):
                raise SettingsError(
                    f"files: {self.place(number)}: {self.name_of(role)} must be {wanted}, got {value!r}{fix}"
                )
        return values


@functools.cache
def token_counter(tokenizer: str) -> Callable[[list[str]], list[int]]:
    """A function that counts the tokens of texts, without the special tokens at their ends.

    Raises:
        SettingsError: the tokenizer cannot be loaded.
    """
    from transformers import AutoTokenizer  # seconds to load, and needed only if no column has the tokens

    try:
        encode = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--tokenizer: cannot load {tokenizer!r}: {str(error).splitlines()[0]}") from None

    def count(texts: list[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in encode([*map(without_end_tokens, texts)], add_special_tokens=False)["input_ids"]]

    return count
