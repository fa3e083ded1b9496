"""Single problems, read from rows in verl's parquet format: what packing needs to know about each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verl_efficiency.data.columns import Row, column, has_column
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.rewards.ground_truth import one_answer
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class Problem:
    """One problem: its text, its answer and where it came from. ``prompt`` is what it is asked with when it comes alone."""

    identity: Any
    question: str
    answer: str
    data_source: str
    ability: str
    difficulty: float | None
    shortest_tokens: int | None
    prompt: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ProblemSet:
    """Problems that may share a prompt: one system message and one split for all of them."""

    problems: list[Problem]
    keys: list[Any] | None
    system: str | None
    split: str


def read_problems(rows: Sequence[Row], settings: PackingSettings) -> ProblemSet:
    """Read single problems from rows in verl's format.

    The identity is ``extra_info.index`` if every row has one, else the row number. ``shortest_tokens`` and the difficulty are
    read if every row has them. Every grouping except ``random`` requires the difficulty.

    Args:
        rows: ``prompt`` (messages), ``reward_model.ground_truth`` (one answer) and ``data_source``; optionally ``ability``
            and ``extra_info``.
        settings: the column paths ``question``, ``difficulty`` and ``distinct_by``.

    Raises:
        SettingsError: no rows, a missing column, packed rows, an unusable answer, or different system messages or splits.
    """
    require(len(rows) > 0, "rows", 0, "at least one problem")
    for number, row in enumerate(rows):
        if ((row.get("extra_info") or {}).get("n") or 1) > 1:
            raise SettingsError(f"row {number} is already packed (extra_info.n > 1): pack the file of single problems")

    if settings.question is not None:
        questions = [str(value) for value in column(rows, settings.question, "question")]
    else:
        questions = [_last_user_text(prompt, number) for number, prompt in enumerate(column(rows, "prompt", "rows"))]
    answers = [_answer(truth, number) for number, truth in enumerate(column(rows, "reward_model.ground_truth", "rows"))]
    reads_difficulty = settings.grouping != "random" or has_column(rows, settings.difficulty)
    difficulties = _difficulties(rows, settings) if reads_difficulty else [None] * len(rows)
    shortest = [None] * len(rows)
    if has_column(rows, "extra_info.shortest_tokens"):
        shortest = column(rows, "extra_info.shortest_tokens", "rows")
    identities: list[Any] = list(range(len(rows)))
    if has_column(rows, "extra_info.index"):
        identities = column(rows, "extra_info.index", "rows")

    problems = [
        Problem(
            identity=identity,
            question=question,
            answer=answer,
            data_source=str(row.get("data_source") or ""),
            ability=str(row.get("ability") or ""),
            difficulty=None if difficulty is None else _number(difficulty, settings.difficulty, identity),
            shortest_tokens=None if tokens is None else int(_number(tokens, "extra_info.shortest_tokens", identity)),
            prompt=_own_prompt(row, question),
        )
        for row, identity, question, answer, difficulty, tokens in zip(
            rows, identities, questions, answers, difficulties, shortest, strict=True
        )
    ]
    return ProblemSet(
        problems=problems,
        keys=column(rows, settings.distinct_by, "distinct_by") if settings.distinct_by else None,
        system=_only({_system_text(row) for row in rows}, "system messages"),
        split=_only({str((row.get("extra_info") or {}).get("split") or "") for row in rows}, "extra_info.split values"),
    )


def _own_prompt(row: Row, question: str) -> tuple[dict[str, Any], ...]:
    """The row's messages; with a column of questions, prompts may have any form."""
    if prompt_problem(row.get("prompt")):
        return ({"role": "user", "content": question},)
    return tuple(row["prompt"])


def _difficulties(rows: Sequence[Row], settings: PackingSettings) -> list[Any]:
    try:
        return column(rows, settings.difficulty, "difficulty")
    except SettingsError as error:
        raise SettingsError(f"{error}; {needs_difficulty(settings)}") from None


def needs_difficulty(settings: PackingSettings) -> str:
    """The end of an error about a missing difficulty: the possible fixes."""
    return (
        f"grouping={settings.grouping} needs a difficulty column; write --grouping random (+data.efficiency.grouping=random), "
        "or keep your difficulty column with --keep"
    )


def _number(value: Any, path: str, identity: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SettingsError(f"rows: '{path}' of problem {identity!r} is not a number: {value!r}")
    return number


def _answer(truth: Any, number: int) -> str:
    try:
        return one_answer(truth)
    except ValueError as error:
        raise SettingsError(f"rows: reward_model.ground_truth of row {number} {error}") from None


def _last_user_text(prompt: Any, number: int) -> str:
    if problem := prompt_problem(prompt):
        raise SettingsError(f"rows: the prompt of row {number} {problem}")
    users = [message["content"] for message in prompt if message["role"] == "user"]
    if not users or not isinstance(users[-1], str):
        raise SettingsError(f"rows: the prompt of row {number} has no user message with text; set question to a column")
    return users[-1]


def _system_text(row: Row) -> str | None:
    if prompt_problem(row.get("prompt")):  # with a column of questions, prompts may have any form
        return None
    systems = [message["content"] for message in row["prompt"] if message["role"] == "system"]
    return systems[0] if systems else None


def _only(values: set[Any], what: str) -> Any:
    if len(values) > 1:
        shown = ", ".join(sorted(repr(value)[:60] for value in values)[:3])
        raise SettingsError(
            f"rows: {len(values)} different {what} cannot share a prompt ({shown}): pack them separately"
        )
    return next(iter(values))
