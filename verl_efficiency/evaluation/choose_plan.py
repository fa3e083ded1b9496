r"""Chooses how many problems share a prompt, by the length of the answer that is expected (``task-scaling --problems auto``).

The problems form bands of like expected length. Each band is split into two halves.

The first halves choose. N rises as long as packs of N lose at most ``max_loss`` of accuracy against single prompts. The loss
that counts is not the measured one, but the largest that the answers do not exclude: the upper end of a one-sided 95 %
interval over P packs::

    lost_P  = correct answers of the single prompts − correct answers of the pack
    loss    = Σ lost_P / Σ answers_P
    at most = (Σ lost_P + 1.645 · sqrt(P / (P − 1) · Σ (lost_P − loss · answers_P)² + N²)) / (Σ answers_P + 2N)

N² and 2N add one response that loses all its N answers and one that gains N. Agresti and Min (2005) do the same for paired
proportions. Without them, two packs without an error would prove that no pack ever has one. N stops at the first that fails, so
trying several N needs no correction. The confidence is that of one band.

The second halves check. They measure the plan beside fixed N. They must be other problems: a number that was chosen as the best
of several looks too good on the problems that it was chosen by.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from verl_efficiency.data.pack_plan import (
    Band,
    PackPlan,
    even_packs,
    expected_lengths,
    packs_by_plan,
    plan_to_json,
)
from verl_efficiency.data.packing import packed_rows
from verl_efficiency.data.parquet import load_verl_rows
from verl_efficiency.data.problems import ProblemSet, read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.evaluation.engines import Engine, Sampling
from verl_efficiency.evaluation.summary import ratio
from verl_efficiency.evaluation.task_scaling import SIZES, ask, result_of
from verl_efficiency.settings import SettingsError, build_settings, require

Z = 1.645  # 95 % of a normal distribution are below
Packs = list[list[int]]


@dataclass(frozen=True)
class Reply:
    """What came back for one pack, summed over the samples."""

    pack: list[int]  # numbers of the problems
    correct: np.ndarray  # int, correct answers at each place
    tokens: int
    finished: int  # responses that were not cut off


def choose_plan(
    engine: Engine,
    data: Path,
    settings: Mapping[str, Any],
    *,
    by: str,
    bands: int,
    max_loss: float,
    sampling: Sampling,
    samples: int = 1,
    limit: int | None = None,
    chat_template: dict[str, Any] | None = None,
    label: str,
    sizes: Sequence[int] = SIZES,
) -> dict[str, Any]:
    """Choose N for each band of expected length on half of the problems, and measure the plan on the others.

    Args:
        engine: answers the prompts.
        data: single problems, a file in verl's form.
        settings: of :class:`PackingSettings`: the wording, ``question`` and ``distinct_by``.
        by: column path of a number that says how long the answer will be, or ``characters``.
        bands: the number of bands, at least 1. They have about as many problems each; equal values share a band.
        max_loss: accuracy that packing may cost in any band, in (0, 1).
        sampling: how responses are drawn; the token limit is that of a response, whatever N.
        samples: responses to every prompt.
        limit: only the first so many problems.
        chat_template: further arguments of the chat template.
        label: the name in reports.
        sizes: the N to try, ascending; 1 is always there.

    Returns:
        As :func:`task_scaling`, whose ``points`` (fixed N) are those of the second half, up to the largest N of the plan. Each
        has also ``loss`` (accuracy of N = 1 minus its own, paired by problem, with ``loss_se``), ``prompts_per_problem`` and,
        above N = 1, ``loss_by_band``.
        ``auto`` holds ``max_loss``, ``plan`` (see :func:`load_plan`), ``bands`` (what each was chosen by) and ``held_out``
        (the plan's point).

    Raises:
        SettingsError: too few problems to show such a small loss, or a wrong setting. It comes before anything is asked.
    """
    require(0 < max_loss < 1, "--max-loss", max_loss, "between 0 and 1, without both")
    require(bands >= 1, "--bands", bands, "at least 1")
    require(limit is None or limit >= 1, "--limit", limit, "at least 1")
    for name in ("problems", "grouping", "remainder", "difficulty", "singles"):
        require(name not in settings, f"--set {name}", settings.get(name), "left out with --problems auto")
    packing = build_settings(PackingSettings, dict(settings) | {"grouping": "random"}, "--set")
    rows = load_verl_rows(data)[:limit]
    problem_set = read_problems(rows, packing)
    expected_n = expected_lengths(rows, problem_set, by)
    rng = np.random.default_rng(sampling.seed)
    ends = band_ends(expected_n, bands)
    questions = [problem.question for problem in problem_set.problems]
    band_n = np.searchsorted(ends, expected_n)
    halves = [split(np.flatnonzero(band_n == band), questions, rng) for band in range(len(ends))]
    tries = [
        {size: even_packs(first, size, rng, problem_set.keys) for size in sizes if size > 1} for first, _ in halves
    ]
    _check_enough(tries, len(rows), max_loss, samples)
    require(any(second for _, second in halves), "data", str(data), "a file with different problems, not one repeated")
    asked = partial(
        replies,
        engine,
        problem_set,
        packing,
        sampling=sampling,
        samples=samples,
        chat_template=chat_template or {},
    )

    alone = asked([[problem] for first, _ in halves for problem in first])
    tokens = {reply.pack[0]: reply.tokens / samples for reply in alone}
    measured = measure_bands(tries, alone, asked, max_loss, samples)
    chosen = [max((size["problems"] for size in tried if size["kept"]), default=1) for tried in measured]
    plan = PackPlan(by, tuple(Band(end, size) for end, size in zip(ends, chosen, strict=True)), packing)

    second = np.array(sorted(problem for _, half in halves for problem in half))
    keys = None if problem_set.keys is None else [problem_set.keys[number] for number in second]

    def held_out(one: PackPlan) -> Packs:
        packs = packs_by_plan(expected_n[second], one, sampling.seed, keys)
        return [second[pack].tolist() for pack in packs]

    single = asked([[problem] for problem in second.tolist()])
    points = [{"problems": 1} | point(single, single, samples)]
    for size in (size for size in sizes if 1 < size <= max(chosen)):
        own = asked(held_out(PackPlan(by, (Band(math.inf, size),), packing)), single)
        points.append({"problems": size} | point(own, single, samples) | by_band(own, single, band_n, samples))
    own = asked(held_out(plan), single)
    planned = {"problems": len(second)} | point(own, single, samples) | by_band(own, single, band_n, samples)
    return result_of(points, engine, data, sampling, samples, label) | {
        "auto": {
            "max_loss": max_loss,
            "plan": plan_to_json(plan),
            "bands": [
                {
                    "up_to": end,
                    "problems": len(first),
                    "tokens": float(np.mean([tokens[problem] for problem in first])),
                    "sizes": tried,
                }
                for end, (first, _), tried in zip(ends, halves, measured, strict=True)
            ],
            "held_out": planned,
        },
    }


def band_ends(expected_n: np.ndarray, bands: int) -> list[float]:
    """The largest expected length of each band.

    >>> band_ends(np.array([1, 2, 3, 4, 5, 6]), 3), band_ends(np.array([7, 7, 7, 9]), 3)
    ([2.0, 4.0, 6.0], [7.0, 9.0])
    """
    shares = np.arange(1, bands + 1) / bands
    return np.unique(np.quantile(expected_n, shares, method="inverted_cdf")).astype(float).tolist()


def split(members: np.ndarray, questions: Sequence[str], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Two random halves of these problems; problems with the same text are in the same half.

    >>> first, second = split(np.array([0, 1, 3]), ["a", "b", "c", "a"], np.random.default_rng(0))
    >>> sorted([sorted(first), second])
    [[0, 3], [1]]
    """
    texts = np.unique([questions[member] for member in members])
    first = set(rng.permutation(texts)[::2].tolist())
    halves = [[member for member in members.tolist() if (questions[member] in first) == side] for side in (True, False)]
    return halves[0], halves[1]


def replies(
    engine: Engine,
    problem_set: ProblemSet,
    packing: PackingSettings,
    packs: Packs,
    alone: Sequence[Reply] = (),
    *,
    sampling: Sampling,
    samples: int,
    chat_template: dict[str, Any],
) -> list[Reply]:
    """Ask the packs, and grade the answers. A pack of one problem that ``alone`` holds is the same prompt and is not asked."""
    known = {reply.pack[0]: reply for reply in alone}
    asked = [pack for pack in packs if len(pack) > 1 or pack[0] not in known]
    found: dict[int, Reply] = {}
    if asked:
        responses = ask(
            engine, packed_rows(problem_set, asked, packing), sampling, samples=samples, chat_template=chat_template
        )[1]
        for number, pack in enumerate(asked):
            own = responses[number * samples : (number + 1) * samples]
            found[pack[0]] = Reply(
                pack=pack,
                correct=np.sum([[mark == "1" for mark in row["by_slot"]] for row in own], axis=0),
                tokens=sum(row["tokens"] for row in own),
                finished=sum(not row["truncated"] for row in own),
            )
    return [found[pack[0]] if pack[0] in found else known[pack[0]] for pack in packs]


def measure_bands(
    tries: Sequence[Mapping[int, Packs]],
    alone: Sequence[Reply],
    asked: Callable[[Packs], list[Reply]],
    max_loss: float,
    samples: int,
) -> list[list[dict[str, Any]]]:
    """Try the sizes on every band, smallest first, until one loses too much or the band cannot fill a pack of it.

    Args:
        tries: for each band, its packs by size; the sizes are the same for all bands.
        alone: the replies to its single prompts.
        asked: packs → replies.
        max_loss: the bound.
        samples: responses to every prompt.

    Returns:
        For each band, a line per size that was asked: ``problems`` (N), what :func:`point` returns, ``at_most``, and ``kept``
        (``at_most`` is not above ``max_loss``).
    """
    measured: list[list[dict[str, Any]]] = [[] for _ in tries]
    going = list(range(len(tries)))
    for size in sorted(tries[0]):
        going = [band for band in going if is_full(tries[band][size], size)]
        answers = iter(asked([pack for band in going for pack in tries[band][size]]))
        for band in going:
            own = [next(answers) for _ in tries[band][size]]
            at_most = loss_at_most(*lost_and_answers(own, alone, samples), samples)
            kept = at_most <= max_loss
            measured[band].append({"problems": size} | point(own, alone, samples) | {"at_most": at_most, "kept": kept})
        going = [band for band in going if measured[band][-1]["kept"]]
    return measured


def is_full(packs: Packs, size: int) -> bool:
    """Whether there are two packs, and one has ``size`` problems (a band may be too small, or ``distinct_by`` forbid it)."""
    return len(packs) > 1 and max(map(len, packs)) == size


def lost_and_answers(own: Sequence[Reply], alone: Sequence[Reply], samples: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pack: the correct answers that it lost against single prompts (below 0: it gained), and its answers."""
    single = {reply.pack[0]: int(reply.correct[0]) for reply in alone}
    lost_P = [sum(single[problem] for problem in reply.pack) - int(reply.correct.sum()) for reply in own]
    return np.array(lost_P, dtype=float), np.array([float(len(reply.pack) * samples) for reply in own])


def loss_at_most(lost_P: np.ndarray, answers_P: np.ndarray, samples: int) -> float:
    """The loss of accuracy that these packs do not exclude, see the module's docstring.

    >>> round(loss_at_most(np.zeros(50), np.full(50, 3.0), 1), 4)  # 50 packs of 3, no answer lost
    0.0316
    """
    packs, answers = len(lost_P), answers_P.sum()
    if packs < 2:
        return 1.0
    size = answers_P.max() / samples
    spread = packs / (packs - 1) * ((lost_P - lost_P.sum() / answers * answers_P) ** 2).sum()
    at_most = (lost_P.sum() + Z * math.sqrt(spread + size**2)) / (answers + 2 * size)
    return float(max(at_most, lost_P.sum() / answers))


def point(own: Sequence[Reply], alone: Sequence[Reply], samples: int) -> dict[str, Any]:
    """Accuracy, loss, tokens and prompts of these packs; standard errors (``…_se``) treat a pack as one draw."""
    lost_P, answers_P = lost_and_answers(own, alone, samples)
    names = ("accuracy", "loss", "tokens_per_problem")
    above = ([reply.correct.sum() for reply in own], lost_P, [reply.tokens for reply in own])
    numbers: dict[str, Any] = {}
    for name, above_P in zip(names, above, strict=True):
        numbers[name], numbers[f"{name}_se"] = ratio(np.array(above_P, dtype=float), answers_P)
    places = range(max(len(reply.pack) for reply in own))
    by_slot = [[reply.correct[place] / samples for reply in own if place < len(reply.pack)] for place in places]
    return numbers | {
        "finished": sum(reply.finished for reply in own) / (samples * len(own)),
        "prompts_per_problem": len(own) / sum(len(reply.pack) for reply in own),
        "by_slot": [float(np.mean(values)) for values in by_slot],
    }


def by_band(own: Sequence[Reply], alone: Sequence[Reply], band_n: np.ndarray, samples: int) -> dict[str, Any]:
    """``loss_by_band``: the loss of the problems of each band, whatever else was in their packs."""
    single = {reply.pack[0]: int(reply.correct[0]) for reply in alone}
    asked = np.array([problem for reply in own for problem in reply.pack])
    lost = np.array([single[problem] for problem in asked]) - np.concatenate([reply.correct for reply in own])
    return {"loss_by_band": [float(lost[band_n[asked] == band].mean()) / samples for band in np.unique(band_n[asked])]}


def _check_enough(tries: Sequence[Mapping[int, Packs]], problems: int, max_loss: float, samples: int) -> None:
    """Refuse to ask anything if not even packs without an error could show that the loss is small enough."""
    size = min(tries[0])
    no_loss = [
        loss_at_most(np.zeros(len(packs[size])), np.array([len(pack) * samples for pack in packs[size]]), samples)
        for packs in tries
    ]
    if min(no_loss) > max_loss:
        bands = f"{len(tries)} band{'s' * (len(tries) > 1)} of two halves"
        needed = 2 * len(tries) * size * max(2, math.ceil((Z / max_loss - 2) / samples))
        raise SettingsError(
            f"--max-loss {max_loss:g}: {problems} problems are too few to show such a small loss, even if no answer is lost. "
            f"It takes about {needed:,} ({bands}, samples per problem: {samples}): give more problems or more "
            "--samples, fewer --bands, or a larger --max-loss"
        )
