"""Tokens and accuracy per problem, over the number N of problems in one prompt.

Batched Contextual Reinforcement (arXiv 2604.02322) reports that a trained model spends fewer tokens per problem the more
problems share its prompt. Two lines are fitted to the measured points::

    tokens per problem = a · N^(−b)      least squares in logarithms; b = 0: packing saves nothing
    accuracy = c + d · N                 least squares; d in points for each further problem

N = 1 is the prompt of the data set. Packs are made as by ``verl-efficiency pack``. ``batched_accuracy`` grades both, and single
problems as ``accuracy`` does. Problems left over after the last full pack are not asked.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verl_efficiency.data.columns import Row
from verl_efficiency.data.files import iter_json
from verl_efficiency.data.packing import pack_rows
from verl_efficiency.data.parquet import load_verl_rows, write_rows
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.evaluation.engines import Engine, Sampling
from verl_efficiency.evaluation.evaluate import evaluate
from verl_efficiency.evaluation.summary import compare
from verl_efficiency.settings import SettingsError, build_settings, require

SIZES = (1, 2, 3, 4, 6)  # N by default


def task_scaling(
    engine: Engine,
    data: Path,
    sizes: Sequence[int] | None,
    settings: Mapping[str, Any],
    *,
    sampling: Sampling,
    samples: int = 1,
    limit: int | None = None,
    chat_template: dict[str, Any] | None = None,
    label: str,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate the same problems in packs of every size.

    Args:
        engine: answers the prompts.
        data: single problems, a file in verl's form.
        sizes: the N to try, each at least 1; by default those of :data:`SIZES` for which there are enough problems.
        settings: of :class:`PackingSettings`, without ``problems``.
        sampling: how responses are drawn; the token limit is that of a response, whatever N.
        samples: responses to every prompt.
        limit: only the first so many problems.
        chat_template: further arguments of the chat template.
        label: the name in reports.
        baseline: a result of another model on the same packs, to compare with.

    Returns:
        ``points``, one for each N: ``problems`` (N), ``accuracy``, ``tokens_per_problem`` (both with ``_se``), ``finished``
        (share of responses that were not cut off), ``by_slot`` (accuracy of the first … last problem of a pack), ``packs``
        (a digest of what was asked), ``per_prompt``; ``law`` (``a``, ``b``, ``points_per_problem``), None for a single N; and
        with a baseline ``against`` (its ``label``, and in ``points`` for each N its ``problems`` and the numbers of
        :func:`compare`).

    Raises:
        SettingsError: N exceeds the number of problems, the baseline is not of the same packs, or :func:`evaluate` refuses the
            data. All before the model is asked.
    """
    require(limit is None or limit >= 1, "--limit", limit, "at least 1")
    require("problems" not in settings, "--set problems", settings.get("problems"), "left out; use --problems")
    require("singles" not in settings, "--set singles", settings.get("singles"), "left out: all packs hold N problems")
    rows = load_verl_rows(data)[:limit]
    if sizes is None:
        sizes = [size for size in SIZES if size <= len(rows)]
    limited = "" if limit is None else f" (--limit {limit})"
    fine = 0 < max(sizes) <= len(rows)
    require(fine, "--problems", max(sizes), f"at most {len(rows)}, the number of problems{limited}")
    packed: dict[int, Sequence[Row]] = {}
    for size in sizes:
        packing = build_settings(PackingSettings, dict(settings) | {"problems": size}, "--set")
        packed[size] = rows if size == 1 else pack_rows(rows, packing, sampling.seed)
    packs = {size: digest(packs) for size, packs in packed.items()}
    if baseline is not None:
        asking = {"samples": samples, "max_new_tokens": sampling.max_new_tokens}
        require_same_packs(baseline, packs, asking)
    points: list[dict[str, Any]] = []
    for size in sizes:
        result, responses = ask(engine, packed[size], sampling, samples=samples, chat_template=chat_template)
        summary = result["summary"]
        names = ("accuracy", "accuracy_se", "tokens_per_problem", "tokens_per_problem_se")
        marks = [row["by_slot"] for row in responses]  # a smaller pack has fewer places
        by_slot = [float(np.mean([mark[place] == "1" for mark in marks if place < len(mark)])) for place in range(size)]
        points.append(
            {"problems": size}
            | {name: summary[name] for name in names}
            | {"finished": 1 - summary["truncated_share"], "by_slot": by_slot, "packs": packs[size]}
            | {"per_prompt": {name: result["per_prompt"][name] for name in ("key", "problems", "correct", "tokens")}}
        )
    against = {} if baseline is None else {"against": changes(baseline, points, label)}
    return result_of(points, engine, data, sampling, samples, label) | {"limit": limit} | against


def digest(rows: Sequence[Row]) -> str:
    """Names the prompts and right answers of ``rows``, in their order."""
    content = json.dumps([[row["prompt"], row["reward_model"]] for row in rows], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def require_same_packs(baseline: Mapping[str, Any], packs: Mapping[int, str], asking: Mapping[str, int]) -> None:
    """Refuse a baseline that did not ask the same.

    Args:
        baseline: a result of :func:`task_scaling`.
        packs: the digest of the packs of each N.
        asking: ``samples`` and ``max_new_tokens``.

    Raises:
        SettingsError: its N, packs or settings differ, or it does not say what it asked.
    """
    named = f"--baseline: {baseline['label']!r}"
    own = {point["problems"]: point.get("packs") for point in baseline["points"]}
    if None in own.values():
        raise SettingsError(
            f"{named} does not say what it asked, since it is of --problems auto or of an earlier version; measure it again "
            "with the same --problems as this"
        )
    if own.keys() != packs.keys():
        sizes = ",".join(map(str, own))
        raise SettingsError(f"{named} has other N than this run ({','.join(map(str, packs))}); give --problems {sizes}")
    for name, value in asking.items():
        if baseline[name] != value:
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(
                f"{named} was measured with {option} {baseline[name]}, this run has {value}; give both the same"
            )
    for size in packs:
        if own[size] != packs[size]:
            raise SettingsError(
                f"{named} asked other problems or packs at N = {size}; give both the same data, --limit, --seed and --set"
            )


def changes(baseline: Mapping[str, Any], points: Sequence[Mapping[str, Any]], label: str) -> dict[str, Any]:
    """What changed against the baseline at each N, paired by prompt."""
    pairs = zip(baseline["points"], points, strict=True)
    compared = [
        {"problems": after["problems"]} | compare({"label": baseline["label"], **before}, {"label": label, **after})
        for before, after in pairs
    ]
    return {"label": baseline["label"], "points": compared}


def result_of(
    points: Sequence[Mapping[str, Any]], engine: Engine, data: Path, sampling: Sampling, samples: int, label: str
) -> dict[str, Any]:
    """The result of these points, with their law and how they were measured."""
    return {
        "label": label,
        "model": engine.model,
        "data": str(data),
        "max_new_tokens": sampling.max_new_tokens,
        "samples": samples,
        "points": points,
        "law": fit_law(points),
    } | engine.facts


def ask(
    engine: Engine,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    samples: int,
    chat_template: dict[str, Any] | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ask and grade packs and single problems: the result of :func:`evaluate`, and its row for each response."""
    with tempfile.TemporaryDirectory() as folder:
        file, responses = Path(folder, "prompts.parquet"), Path(folder, "responses.jsonl")
        write_rows(file, rows)
        result = evaluate(
            engine.model,
            file,
            sampling=sampling,
            reward="batched_accuracy",
            samples=samples,
            chat_template=chat_template,
            rows_file=responses,
            engine=engine,
        )
        return result, [row for _, row in iter_json(responses, "responses")]


def fit_law(points: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """The two lines of the module's docstring.

    >>> points = [{"problems": n, "tokens_per_problem": 80 / n, "accuracy": 1 - 0.01 * n} for n in (1, 2, 4)]
    >>> {name: round(value, 6) for name, value in fit_law(points).items()}
    {'a': 80.0, 'b': 1.0, 'points_per_problem': -1.0}
    """
    if len(points) < 2:
        return None
    size_N = np.array([point["problems"] for point in points], dtype=float)
    slope, level = np.polyfit(np.log(size_N), np.log([point["tokens_per_problem"] for point in points]), 1)
    per_problem = np.polyfit(size_N, [point["accuracy"] for point in points], 1)[0]
    return {"a": float(np.exp(level)), "b": float(-slope), "points_per_problem": float(100 * per_problem)}
