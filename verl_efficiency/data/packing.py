r"""Data of batched contextual reinforcement: N problems in one prompt, in verl's parquet format.

Paper: arXiv 2604.02322. One response answers the problems in order under one token limit, and ``batched_accuracy`` counts each
answer: fewer tokens for one problem leave more for the next.

>>> rows = [
...     {"data_source": "sums", "prompt": [{"role": "user", "content": f"{k}+{k}?"}], "ability": "math",
...      "reward_model": {"style": "rule", "ground_truth": str(2 * k)}, "extra_info": {"index": k, "split": "train"}}
...     for k in (1, 2)
... ]
>>> row = pack_rows(rows, PackingSettings(problems=2, grouping="random"), seed=0)[0]
>>> sorted(zip(json.loads(row["extra_info"]["problem_ids"]), json.loads(row["reward_model"]["ground_truth"])))
[(1, '2'), (2, '4')]
"""

import json
from collections.abc import Sequence
from typing import Any

from verl_efficiency.data.columns import Row
from verl_efficiency.data.grouping import plan_packs
from verl_efficiency.data.problems import ProblemSet, read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.rewards.answer_form import PAPER_FORM


def pack_rows(rows: Sequence[Row], settings: PackingSettings, seed: int | Sequence[int]) -> list[dict[str, Any]]:
    """Pack single-problem rows into rows of N problems, both in verl's parquet format.

    Lists are written as JSON texts, because parquet, numpy and TransferQueue change lists of texts, and OpenRLHF's labels are
    texts. Other columns of the source rows are dropped.

    Args:
        rows: single problems, see :func:`verl_efficiency.data.problems.read_problems`.
        settings: how to pack.
        seed: determines the packs.

    Returns:
        Rows with ``data_source`` (the common one, or ``packed``), ``prompt``, ``ability``, ``reward_model`` (its
        ``ground_truth`` is a JSON list of answers in the order of the prompt) and ``extra_info``: ``index``, ``split``, ``n``,
        ``problem_ids`` (JSON), ``answer_template`` (unless it is the paper's) and, if known, ``difficulty`` (mean),
        ``difficulties`` (JSON), ``shortest_tokens`` (sum).

    Raises:
        SettingsError: see ``read_problems`` and ``plan_packs``.
    """
    problem_set = read_problems(rows, settings)
    packs = plan(problem_set, settings, seed)
    return packed_rows(problem_set, packs, settings)


def plan(problem_set: ProblemSet, settings: PackingSettings, seed: int | Sequence[int]) -> list[list[int]]:
    """:func:`plan_packs` for a set of problems."""
    problems = problem_set.problems
    difficulties = None if settings.grouping == "random" else [problem.difficulty for problem in problems]
    return plan_packs(difficulties, settings, seed, keys=problem_set.keys, count=len(problems))  # type: ignore[arg-type]


def packed_rows(
    problem_set: ProblemSet, packs: Sequence[Sequence[int]], settings: PackingSettings
) -> list[dict[str, Any]]:
    """The rows of these packs; see :func:`packed_row`."""
    return [packed_row(problem_set, pack, number, settings) for number, pack in enumerate(packs)]


def packed_row(problem_set: ProblemSet, pack: Sequence[int], number: int, settings: PackingSettings) -> dict[str, Any]:
    """The row of one pack; ``number`` becomes its ``extra_info.index``.

    A problem that is alone among packs of several keeps its own prompt, and its answer as a text, without ``n``.
    """
    problems = [problem_set.problems[place] for place in pack]
    alone = len(problems) == 1 and settings.problems > 1
    if alone:
        prompt = [dict(message) for message in problems[0].prompt]
    else:
        prompt = [{"role": "user", "content": prompt_text([problem.question for problem in problems], settings)}]
        if problem_set.system is not None:
            prompt.insert(0, {"role": "system", "content": problem_set.system})
    extra_info: dict[str, Any] = {
        "index": number,
        "split": problem_set.split,
        "problem_ids": json.dumps([_plain(problem.identity) for problem in problems]),
    }
    if not alone:
        extra_info["n"] = len(problems)
        if settings.answer_template != PAPER_FORM:
            extra_info["answer_template"] = settings.answer_template
    difficulties = [problem.difficulty for problem in problems if problem.difficulty is not None]
    if difficulties:
        extra_info["difficulty"] = sum(difficulties) / len(difficulties)
        extra_info["difficulties"] = json.dumps(difficulties)
    shortest_tokens = [problem.shortest_tokens for problem in problems if problem.shortest_tokens is not None]
    if shortest_tokens:
        extra_info["shortest_tokens"] = sum(shortest_tokens)
    return {
        "data_source": _common([problem.data_source for problem in problems]),
        "prompt": prompt,
        "ability": _common([problem.ability for problem in problems]),
        "reward_model": {
            "style": "rule",
            "ground_truth": problems[0].answer
            if alone
            else json.dumps([problem.answer for problem in problems], ensure_ascii=False),
        },
        "extra_info": extra_info,
    }


def prompt_text(questions: Sequence[str], settings: PackingSettings) -> str:
    """The user message with all of these questions."""
    numbers = range(1, len(questions) + 1)
    answers = ", ".join(settings.answer_template.format(index=index) for index in numbers)
    parts = [settings.instruction.format(n=len(questions), answers=answers)] if settings.instruction else []
    parts += [
        settings.problem_template.format(index=index, problem=question)
        for index, question in zip(numbers, questions, strict=True)
    ]
    return settings.separator.join(parts)


def _common(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else "packed"


def _plain(identity: Any) -> Any:
    """A NumPy number as a Python number, for JSON."""
    return identity.item() if hasattr(identity, "item") else identity
