"""Evaluates a model on problems with known answers: accuracy, tokens per problem, tokens over the shortest."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from verl_efficiency.data.files import write_lines
from verl_efficiency.evaluation.engines import Answer, Engine, Request, Sampling
from verl_efficiency.evaluation.prompts import Prompt, load_prompts
from verl_efficiency.evaluation.results import versions
from verl_efficiency.evaluation.summary import Row, per_prompt, strata, summarise
from verl_efficiency.grading import require_marker
from verl_efficiency.rewards.accuracy import accuracy
from verl_efficiency.rewards.batched_accuracy import batched_accuracy
from verl_efficiency.settings import SettingsError, nearest, require

REWARDS: dict[str, Callable[..., dict[str, Any]]] = {
    "accuracy": accuracy,
    "batched_accuracy": batched_accuracy,
}


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    sampling: Sampling | None = None,
    reward: str = "accuracy",
    samples: int = 1,
    limit: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    chat_template: dict[str, Any] | None = None,
    label: str | None = None,
    rows_file: str | Path | None = None,
    engine: Engine | None = None,
    marker: str | None = None,
    strip_thinking: bool = False,
) -> dict[str, Any]:
    """Generate ``samples`` responses to every prompt, grade them and sum up.

    Args:
        model: a model folder, a hub name, a verl checkpoint, or the folder of a run (its latest step).
        data: file in verl's form (.parquet, .jsonl or .json). ``extra_info.shortest_tokens`` (of the whole response) and
            ``extra_info.difficulty`` are used if every row has them.
        sampling: how responses are drawn.
        reward: the reward function that grades: ``accuracy``, or ``batched_accuracy`` for packed prompts.
        samples: responses per prompt.
        limit: only the first so many prompts.
        device: a torch device or ``auto``, see :func:`load_model`.
        dtype: a torch dtype by name or ``auto``, see :func:`load_model`.
        chat_template: further arguments of the chat template, for example ``{"enable_thinking": False}``.
        label: the name in reports; by default the model as given.
        rows_file: a file for one JSON line per response, with its text.
        engine: answers instead of ``model``.
        marker: of the reward: the answer follows this text, instead of standing in a box.
        strip_thinking: of the reward: an answer inside ``<think>…</think>`` does not count.

    Returns:
        Settings, versions and numbers, all of which JSON can hold.

    Raises:
        SettingsError: a path, a column or a setting is wrong. All checks but those of the model come before it is loaded.
    """
    sampling = sampling or Sampling()
    require(samples >= 1, "samples", samples, "at least 1")
    if reward not in REWARDS:
        raise SettingsError(f"reward: unknown {reward!r}{nearest(reward, REWARDS) or '.'} Known: {', '.join(REWARDS)}")
    require_marker(marker, "--marker")
    grading = {"marker": marker, "strip_thinking": strip_thinking}
    prompts = load_prompts(data, limit)
    # Grading an empty response finds a bad ground truth before anything is generated.
    try:
        problems = [int(_grade(reward, grading, prompt, "", extra={}).get("problems", 1)) for prompt in prompts]
    except ValueError as error:
        raise SettingsError(f"data: {data}: {error}") from None
    label = str(model) if label is None else label
    drawn = [index for index in range(len(prompts)) for _ in range(samples)]
    repeats = Counter[str]()  # equal rows are further samples of one prompt
    requests = []
    for index in drawn:
        key = prompts[index].key
        requests.append(Request(key, repeats[key], prompts[index].messages, index, chat_template or {}))
        repeats[key] += 1
    if engine is None:
        from verl_efficiency.evaluation.generate import transformers_engine  # torch and transformers

        engine = transformers_engine(model, device, dtype)
    start = time.perf_counter()
    responses = engine.answer(requests, sampling)
    generated = time.perf_counter()
    with ThreadPoolExecutor() as threads:  # which wait for the processes of the grading pool
        jobs = threads.map(
            lambda index, response: _grade_row(reward, grading, prompts[index], index, problems[index], response),
            drawn,
            responses,
        )
        rows = list(track(jobs, "grade", total=len(drawn), console=Console(stderr=True)))
    graded = time.perf_counter()

    if rows_file is not None:
        write_lines(rows_file, ({"label": label, **asdict(row)} for row in rows))
    return {
        "label": label,
        "model": engine.model,
        "data": str(data),
        "reward": reward,
        **grading,
        "samples": samples,
        "limit": limit,
        "sampling": asdict(sampling),
        "chat_template": chat_template or {},
        **engine.facts,
        "versions": versions() | engine.facts.get("versions", {}),
        "seconds": {"generate": round(generated - start, 3), "grade": round(graded - generated, 3)},
        "summary": summarise(rows),
        "by_difficulty": {name: summarise(stratum) for name, stratum in strata(rows).items()},
        "per_prompt": per_prompt(rows),
    }


def _grade(reward: str, grading: dict[str, Any], prompt: Prompt, text: str, extra: dict[str, Any]) -> dict[str, Any]:
    count = prompt.extra_info.get("n") or 1
    if reward == "accuracy" and count > 1:
        raise SettingsError(f"reward: accuracy grades one answer, but a prompt packs {count}; use batched_accuracy")
    return REWARDS[reward](
        data_source=prompt.data_source,
        solution_str=text,
        ground_truth=prompt.ground_truth,
        extra_info=prompt.extra_info | extra,
        **grading,
    )


def grade_text(prompt: Prompt, text: str, marker: str | None = None, strip_thinking: bool = False) -> float:
    """Correctness of a response to a single problem, in [0, 1]; for ``marker`` and ``strip_thinking`` see :func:`evaluate`.

    Raises:
        SettingsError: the prompt packs several problems.
    """
    grading = {"marker": marker, "strip_thinking": strip_thinking}
    return float(_grade("accuracy", grading, prompt, text, extra={})["acc"])


def _grade_row(reward: str, grading: dict[str, Any], prompt: Prompt, index: int, problems: int, answer: Answer) -> Row:
    extra = {"response_tokens": answer.tokens, "truncated": answer.truncated}
    grade = _grade(reward, grading, prompt, answer.text, extra=extra)
    return Row(
        prompt=index,
        key=prompt.key,
        problems=problems,
        acc=grade["acc"],
        score=grade["score"],
        tokens=answer.tokens,
        truncated=answer.truncated,
        shortest_tokens=prompt.extra_info.get("shortest_tokens"),
        difficulty=prompt.extra_info.get("difficulty"),
        response=answer.text,
        by_slot=grade.get("correct_by_problem"),
        reasoning_tokens=answer.reasoning_tokens,
        prompt_tokens=answer.prompt_tokens,
    )
