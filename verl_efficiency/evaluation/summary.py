"""The numbers of an evaluation. Each is a ratio of two sums over prompts; :func:`ratio` gives it with its standard error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl_efficiency.settings import SettingsError

MAX_STRATA = 12


@dataclass(frozen=True)
class Row:
    """One graded response."""

    prompt: int  # number of the row in the data
    key: str  # names the content of that row; matches equal prompts, and the rows of two evaluations
    problems: int  # number of problems in the prompt (1, or N of a pack)
    acc: float  # the share of them answered correctly, in [0, 1]
    score: float  # the reward
    tokens: int  # length of the response with the end-of-sequence token
    truncated: bool  # whether the token limit cut the response off
    shortest_tokens: float | None  # length of the shortest correct response, if known
    difficulty: float | str | None  # the stratum, if known
    response: str  # the text
    by_slot: str | None = None  # for a pack, a `1` or `0` for each problem in the order of the prompt
    reasoning_tokens: int | None = None  # those of `tokens` that are reasoning, 0 without any, if known
    prompt_tokens: int | None = None  # tokens of the prompt, if known


def ratio(above_P: np.ndarray, below_P: np.ndarray) -> tuple[float, float | None]:
    r"""``(R, standard error)`` of R = Σ above / Σ below over P independent prompts.

    The standard error is that of the linearised ratio, ``sqrt(P / (P - 1) · Σ (above - R · below)²) / Σ below``. If ``below``
    is constant, it is the usual standard error of a mean. It is None for a single prompt.

    >>> ratio(np.array([1.0, 0.0, 1.0, 1.0]), np.ones(4))
    (0.75, 0.25)
    """
    total = below_P.sum()
    value = above_P.sum() / total
    count = len(above_P)
    if count < 2:
        return float(value), None
    residuals_P = above_P - value * below_P
    return float(value), float(np.sqrt(count / (count - 1) * (residuals_P**2).sum()) / total)


def per_prompt(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Sums over the responses to each prompt, as columns sorted by key, for :func:`compare`.

    Rows of equal content are one prompt. ``shortest_tokens`` is empty unless every row has it.
    """
    keys, prompt_B = np.unique([row.key for row in rows], return_inverse=True)

    def total(values: list[float]) -> list[float]:
        return np.bincount(prompt_B, weights=values).tolist()

    shortest = [row.shortest_tokens for row in rows if row.shortest_tokens is not None]
    return {
        "key": keys.tolist(),
        "problems": total([row.problems for row in rows]),
        "correct": total([row.acc * row.problems for row in rows]),
        "tokens": total([row.tokens for row in rows]),
        "shortest_tokens": total(shortest) if len(shortest) == len(rows) else [],
    }


def summarise(rows: Sequence[Row]) -> dict[str, float | int | None]:
    """Accuracy, tokens and truncation; standard errors (``…_se``) treat the responses to a prompt as one draw.

    ``prompts`` is the number of different prompts. ``accuracy`` is per problem. Median and 90th percentile are over
    responses, each divided by its number of problems. ``tokens_per_problem`` is the sum of ``reasoning_tokens_per_problem`` and
    ``answer_tokens_per_problem``. These two and ``over_shortest`` (mean tokens / mean shortest tokens) are None unless every
    row has the numbers. A standard error of 0 says only that all prompts agree.
    """
    sums = {name: np.array(column) for name, column in per_prompt(rows).items()}
    accuracy, accuracy_se = ratio(sums["correct"], sums["problems"])
    tokens, tokens_se = ratio(sums["tokens"], sums["problems"])
    lengths_B = np.array([row.tokens / row.problems for row in rows])
    problems = sum({row.prompt: row.problems for row in rows}.values())
    summary: dict[str, float | int | None] = {
        "prompts": len(sums["tokens"]),
        "problems": problems,
        "responses": len(rows),
        "accuracy": accuracy,
        "accuracy_se": accuracy_se,
        "tokens_per_problem": tokens,
        "tokens_per_problem_se": tokens_se,
        "tokens_median": float(np.median(lengths_B)),
        "tokens_p90": float(np.percentile(lengths_B, 90)),
        "reasoning_tokens_per_problem": None,
        "answer_tokens_per_problem": None,
        "truncated_share": float(np.mean([row.truncated for row in rows])),
        "shortest_tokens_per_problem": None,
        "over_shortest": None,
        "over_shortest_se": None,
    }
    if len(sums["shortest_tokens"]):
        summary["shortest_tokens_per_problem"] = ratio(sums["shortest_tokens"], sums["problems"])[0]
        summary["over_shortest"], summary["over_shortest_se"] = ratio(sums["tokens"], sums["shortest_tokens"])
    reasoning = [row.reasoning_tokens for row in rows if row.reasoning_tokens is not None]
    if len(reasoning) == len(rows):
        thought = sum(reasoning) / float(sums["problems"].sum())
        summary["reasoning_tokens_per_problem"], summary["answer_tokens_per_problem"] = thought, tokens - thought
    return summary


def strata(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Split by difficulty: a stratum per value, or quarters if there are more than 12 numbers; empty if a row has none.

    Raises:
        SettingsError: there are more than 12 names.
    """
    values = [row.difficulty for row in rows if row.difficulty is not None]
    if len(values) < len(rows):
        return {}
    numbers = [value for value in values if not isinstance(value, str)]
    if len(set(values)) <= MAX_STRATA:
        ordered = [*sorted(set(numbers)), *sorted({value for value in values if isinstance(value, str)})]
        names = {value: value if isinstance(value, str) else str(value) for value in ordered}
        return {name: [row for row in rows if row.difficulty == value] for value, name in names.items()}
    if len(numbers) < len(rows):
        raise SettingsError(
            f"extra_info.difficulty: more than {MAX_STRATA} different names; give numbers or fewer levels"
        )
    split: dict[str, list[Row]] = {}
    quarter_B = np.searchsorted(np.quantile(numbers, [0.25, 0.5, 0.75]), numbers)
    for quarter in range(4):
        inside = np.flatnonzero(quarter_B == quarter).tolist()
        if inside:
            low, high = min(numbers[i] for i in inside), max(numbers[i] for i in inside)
            split[f"{low:.3g}..{high:.3g}"] = [rows[i] for i in inside]
    return split


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float | int | None]:
    """Compare two results of ``evaluate``, paired by prompt.

    ``accuracy_change`` = accuracy(after) - accuracy(before) and ``tokens_ratio`` = tokens(after) / tokens(before), both
    with the paired standard error.

    Raises:
        SettingsError: the problems differ, or the number of samples does.
    """
    a, b = before["per_prompt"], after["per_prompt"]
    if a["key"] != b["key"] or a["problems"] != b["problems"]:
        shared = len(set(a["key"]) & set(b["key"]))
        raise SettingsError(
            f"compare: {before['label']!r} ({len(a['key'])} prompts) and {after['label']!r} ({len(b['key'])}) are not on the "
            f"same problems with as many samples ({shared} prompts shared); evaluate both on one file"
        )
    change_P = np.array(b["correct"]) - np.array(a["correct"])
    accuracy_change, accuracy_change_se = ratio(change_P, np.array(a["problems"]))
    tokens_ratio, tokens_ratio_se = ratio(np.array(b["tokens"]), np.array(a["tokens"]))
    return {
        "prompts": len(a["key"]),
        "accuracy_change": accuracy_change,
        "accuracy_change_se": accuracy_change_se,
        "tokens_ratio": tokens_ratio,
        "tokens_ratio_se": tokens_ratio_se,
    }
