"""Tokens and accuracy per problem, over the number N of problems in one prompt.

Batched Contextual Reinforcement (arXiv 2604.02322) reports that a trained model spends fewer tokens per problem the more
problems share its prompt. Two lines are fitted to the measured points::

    tokens per problem = a · N^(−b)      least squares in logarithms; b = 0: packing saves nothing
    accuracy = c + d · N                 least squares; d in points for each further problem

N = 1 is the prompt of the data set, graded by ``accuracy``. Packs are made as by ``verl-efficiency pack`` and graded by
``batched_accuracy``. Problems left over after the last full pack are not asked.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verl_efficiency.data.packing import pack_rows
from verl_efficiency.data.parquet import load_verl_rows, write_rows
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.evaluation.engines import Engine, Sampling
from verl_efficiency.evaluation.evaluate import evaluate
from verl_efficiency.settings import build_settings, require

SIZES = (1, 2, 3, 4, 6)  # N by default
ROUNDING = 1e-9


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
    max_loss: float | None = None,
) -> dict[str, Any]:
    """Evaluate the same problems in packs of every size.

    Args:
        engine: answers the prompts.
        data: single problems, parquet in verl's form.
        sizes: the N to try, each at least 1; by default those of :data:`SIZES` for which there are enough problems.
        settings: of :class:`PackingSettings`, without ``problems``.
        sampling: how responses are drawn; the token limit is that of a response, whatever N.
        samples: responses to every prompt.
        limit: only the first so many problems.
        chat_template: further arguments of the chat template.
        label: the name in reports.
        max_loss: stop after the first N that loses more accuracy than this against the first N, in [0, 1); ``None``: ask all.

    Returns:
        ``points``, one for each N: ``problems`` (N), ``accuracy``, ``tokens_per_problem`` (both with ``_se``), ``finished``
        (share of responses that were not cut off), ``by_slot`` (accuracy of the first … last problem of a pack); and
        ``law`` (``a``, ``b``, ``points_per_problem``), None for a single N. With ``max_loss`` also ``auto``: the ``problems``
        to pack (the largest N before one that lost too much) and their ``tokens_ratio`` to the first N.

    Raises:
        SettingsError: N exceeds the number of problems, or :func:`evaluate` refuses the data.
    """
    require(limit is None or limit >= 1, "--limit", limit, "at least 1")
    rows = load_verl_rows(data)[:limit]
    if sizes is None:
        sizes = [size for size in SIZES if size <= len(rows)]
    limited = "" if limit is None else f" (--limit {limit})"
    fine = 0 < max(sizes) <= len(rows)
    require(fine, "--problems", max(sizes), f"at most {len(rows)}, the number of problems{limited}")
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            file, responses = Path(folder, f"{size}.parquet"), Path(folder, f"{size}.jsonl")
            packing = build_settings(PackingSettings, dict(settings) | {"problems": size}, "--set")
            write_rows(file, rows if size == 1 else pack_rows(rows, packing, sampling.seed))
            result = evaluate(
                engine.model,
                file,
                sampling=sampling,
                reward="accuracy" if size == 1 else "batched_accuracy",
                samples=samples,
                chat_template=chat_template,
                rows_file=responses,
                engine=engine,
            )
            names = ("accuracy", "accuracy_se", "tokens_per_problem", "tokens_per_problem_se")
            summary = result["summary"]
            slots = [json.loads(line)["by_slot"] or "" for line in responses.read_text(encoding="utf-8").splitlines()]
            by_slot = (
                [float(np.mean([slot[place] == "1" for slot in slots])) for place in range(size)] if size > 1 else []
            )
            points.append(
                {"problems": size}
                | {name: summary[name] for name in names}
                | {"finished": 1 - summary["truncated_share"], "by_slot": by_slot or [summary["accuracy"]]}
            )
            if max_loss is not None and points[0]["accuracy"] - points[-1]["accuracy"] > max_loss + ROUNDING:
                break
    return {
        "label": label,
        "model": engine.model,
        "data": str(data),
        "max_new_tokens": sampling.max_new_tokens,
        "samples": samples,
        "points": points,
        "law": fit_law(points),
        **({} if max_loss is None else {"auto": best_size(points, max_loss)}),
    } | engine.facts


def best_size(points: Sequence[Mapping[str, Any]], max_loss: float) -> dict[str, float]:
    """The largest measured N that loses at most ``max_loss`` of accuracy against the first, if no smaller N loses more.

    >>> points = [{"problems": n, "tokens_per_problem": 80 / n, "accuracy": 1 - 0.01 * n} for n in (1, 2, 4)]
    >>> best_size(points, 0.01)
    {'max_loss': 0.01, 'problems': 2, 'tokens_ratio': 0.5}
    """
    best = points[0]
    for point in points:
        if points[0]["accuracy"] - point["accuracy"] > max_loss + ROUNDING:
            break
        best = point
    ratio = best["tokens_per_problem"] / points[0]["tokens_per_problem"]
    return {"max_loss": max_loss, "problems": best["problems"], "tokens_ratio": ratio}


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
