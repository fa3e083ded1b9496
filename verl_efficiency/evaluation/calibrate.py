"""Fit the budget of ``token_budget`` to stored rollouts, show what budgets cost and save, and print settings to paste.

A correct rollout shows how many tokens solve a problem, and the shortest one of a group shows how many are needed. The lengths
L of the shortest correct rollouts are regressed on the difficulty d of their problems, at one quantile q::

    b_min, b_max = argmin  Σ ρ_q(L − b_min − (b_max − b_min) · d)     over b_max ≥ b_min ≥ 1
    ρ_q(r) = q · r  for r ≥ 0,  (q − 1) · r  for r < 0                tokens

So at every difficulty, about a share q of the solved problems has a correct rollout within budget. Our choice is the shortest
rollouts and their median. ``--of all`` fits all correct rollouts, and so the model's present habit, which the budget should
change. The intervals come from a bootstrap over problems.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, Group

from verl_efficiency.data.files import require_ending
from verl_efficiency.evaluation.generations import (
    SCORES_FIX,
    USUAL_SCORES,
    Scores,
    find_files,
    read_chunks,
    token_counter,
)
from verl_efficiency.evaluation.plot import PICTURES, plot_fit
from verl_efficiency.evaluation.tables import explained, new_table, number
from verl_efficiency.settings import SettingsError, require, unknown

SOURCES = ("auto", "data", "group")
SMOOTHING = 1.0  # token_budget's default, see TokenBudgetSettings
LEAST_BUDGET = 1.0  # tokens
TOLERANCE = 1e-3  # tokens
RESAMPLES = 200
FITTED = ("shortest", "all")
FIX = "Give rows of `evaluate --rows`, or a dump of trainer.rollout_data_dir"
DEFAULT_GRID = 16  # grid_points of laser_d, see LaserDSettings
GRID_STEPS = 10  # steps of laser_d's grid up to its lowest target
SHOWN_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
UID_SUFFIX = re.compile(r"_\d+_\d+$")  # V1 writes "{uid}_{session}_{index}"; V0 no uid: one prompt, one group


def calibrate(
    files: Sequence[Path],
    quantile: float,
    of: str,
    threshold: float,
    scores: Scores,
    difficulty: str,
    tokenizer: str | None,
    max_response_length: int | None,
    out: Path,
) -> None:
    """The command ``calibrate``: fit, draw, print the fit, a table of budgets, and the settings to paste."""
    require(0 < quantile < 1, "--quantile", quantile, "between 0 and 1")
    wrong, right = scores
    require(wrong < threshold <= right, "--threshold", threshold, f"above {wrong:g} and at most {right:g}")
    if difficulty not in SOURCES:
        raise SettingsError(f"--difficulty: {unknown('source', difficulty, SOURCES)}")
    if of not in FITTED:
        raise SettingsError(f"--of: {unknown('choice', of, FITTED)}")
    limit = max_response_length
    require(limit is None or limit >= 1, "--max-response-length", limit, "at least 1")
    require_ending(out, "--out", PICTURES)
    rollouts = [
        rollout for path in find_files(files) for rollout in read_rollouts(path, threshold, tokenizer, limit, scores)
    ]
    answers = correct_answers(rollouts, difficulty)
    fitted = shortest(answers) if of == "shortest" else answers
    lengths_C, difficulty_C = fitted.lengths_C, fitted.difficulty_C
    if np.ptp(difficulty_C) < 1e-9:
        flat = max(LEAST_BUDGET, float(np.quantile(lengths_C, quantile)))
        raise SettingsError(
            f"--difficulty: every correct answer has {difficulty_C[0]:.3g} ({answers.source}) and a line needs two; use one "
            f"flat budget: +algorithm.efficiency.b_min={flat:.1f} +algorithm.efficiency.b_max={flat:.1f}"
        )
    fit = fit_budget(lengths_C, difficulty_C, quantile)
    fits_R2 = bootstrap(fitted, quantile)
    plot_fit(answers, fit, fits_R2, quantile, out)
    _print_fit(answers, fitted, fit, fits_R2, quantile, of)
    Console().print(_table(answers, fitted, quantile))
    _print_settings(settings_of(answers, fitted, fit, quantile, limit), threshold, scores)
    print(f"picture: {out}")


class Rollout(NamedTuple):
    """One stored response: the group it was drawn in, its problem, and its tokens (None if it is wrong)."""

    group: str
    problem: str
    tokens: float | None
    difficulty: Any


def read_rollouts(
    path: Path,
    threshold: float,
    tokenizer: str | None,
    max_response_length: int | None,
    scores: Scores = USUAL_SCORES,
) -> list[Rollout]:
    """Read rows of ``evaluate --rows``, or a dump of verl's ``trainer.rollout_data_dir``.

    If no column has the tokens, they are counted from the text, with one more for the end-of-sequence token unless that
    exceeds ``max_response_length``. A dump has no special tokens, so the count is a few tokens off if the model wrote any.

    Raises:
        SettingsError: a column is missing or has a wrong value, or a tokenizer is needed.
    """
    rollouts: list[Rollout] = []
    for chunk in read_chunks(path, dict.fromkeys(("problem", "correct"), FIX)):
        correct = [score >= threshold for score in chunk.numbers("correct", *scores, f". {SCORES_FIX}")]
        if "tokens" in chunk.columns:
            tokens: Iterator[float] = itertools.compress(chunk.numbers("tokens", 0.0), correct)
        elif "response" not in chunk.columns:
            raise SettingsError(
                f"files: {path} has neither tokens nor a response. {FIX}. Its columns: {', '.join(chunk.rows[0])}"
            )
        elif tokenizer is None:
            raise SettingsError(f"--tokenizer: {path} has texts only; give --tokenizer MODEL to count their tokens")
        else:
            counts = token_counter(tokenizer)(list(itertools.compress(chunk.texts("response"), correct)))
            tokens = (min(count + 1, max_response_length or math.inf) for count in counts)
        for row, problem, right in zip(chunk.rows, chunk.column("problem"), correct, strict=True):
            uid = row.get("uid")
            group = row.get("prompt", problem) if uid is None else UID_SUFFIX.sub("", str(uid))
            rollouts.append(
                Rollout(f"{path} {group}", str(problem), next(tokens) if right else None, row.get("difficulty"))
            )
    return rollouts


@dataclass(frozen=True)
class CorrectAnswers:
    """The ``C`` correct answers of all files."""

    lengths_C: np.ndarray  # tokens, at least 1
    difficulty_C: np.ndarray  # in [0, 1]
    problems_C: np.ndarray  # number of the problem, the same for equal problems of different groups and files
    groups_C: np.ndarray  # number of the group that the rollout was drawn in
    source: str  # where the difficulty comes from, ``data`` or ``group``
    mean_difficulty: float  # of all rollouts, correct and wrong
    group_sizes: tuple[int, int]  # smallest and largest number of rollouts in a group
    rollouts: int  # number of rollouts, with the wrong ones


def correct_answers(rollouts: Sequence[Rollout], source: str) -> CorrectAnswers:
    """The correct rollouts, with the difficulty from ``source``.

    ``data`` is the difficulty in the rows. ``group`` is d = 1 − (k + ½) / (n + 1) for k correct of the n rollouts of a group,
    as in ``token_budget``. ``auto`` is ``data`` if every row has a difficulty, else ``group``.

    Raises:
        SettingsError: nothing is correct, or ``data`` and a difficulty is missing or outside [0, 1].
    """
    correct = [rollout for rollout in rollouts if rollout.tokens is not None]
    if not correct:
        raise SettingsError(
            f"files: none of {len(rollouts)} rollouts is correct, so there is nothing to fit; see --threshold"
        )
    if source == "auto":
        source = "data" if all(rollout.difficulty is not None for rollout in rollouts) else "group"
    group_B = np.unique([rollout.group for rollout in rollouts], return_inverse=True)[1]
    correct_B = np.array([rollout.tokens is not None for rollout in rollouts])
    size_G, solved_G = np.bincount(group_B), np.bincount(group_B, weights=correct_B)
    groups_C = group_B[correct_B]
    difficulty_B = (1 - (solved_G + SMOOTHING / 2) / (size_G + SMOOTHING))[group_B]
    if source == "data":
        values = [rollout.difficulty for rollout in rollouts]
        for rollout, value in zip(rollouts, values, strict=True):
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise SettingsError(
                    f"--difficulty: must be a number in [0, 1] in every row, as token_budget needs it, got {value!r} in "
                    f"{rollout.group}; fix the column, or use --difficulty group"
                )
        difficulty_B = np.array(values, dtype=float)
    return CorrectAnswers(
        lengths_C=np.array([rollout.tokens for rollout in correct], dtype=float).clip(min=1),
        difficulty_C=difficulty_B[correct_B],
        problems_C=np.unique([rollout.problem for rollout in correct], return_inverse=True)[1],
        groups_C=groups_C,
        source=source,
        mean_difficulty=float(difficulty_B.mean()),
        group_sizes=(int(size_G.min()), int(size_G.max())),
        rollouts=len(rollouts),
    )


def shortest(answers: CorrectAnswers) -> CorrectAnswers:
    """The shortest correct answer of each group."""
    order_C = np.lexsort((answers.lengths_C, answers.groups_C))
    kept = order_C[np.flatnonzero(np.diff(answers.groups_C[order_C], prepend=-1))]
    columns = {name: getattr(answers, name)[kept] for name in ("lengths_C", "difficulty_C", "groups_C")}
    return replace(answers, **columns, problems_C=np.unique(answers.problems_C[kept], return_inverse=True)[1])


class TradeOff(NamedTuple):
    """What a budget would do to the stored rollouts."""

    over: float  # share of the correct rollouts above budget, which lose reward
    lost: float  # share of the solved groups whose correct rollouts are all above budget, so that a hard cap would lose them
    saved: float  # share of the tokens of correct rollouts that lie above the budget


def trade_off(answers: CorrectAnswers, b_min: float, b_max: float) -> TradeOff:
    """What the budget ``b_min + (b_max − b_min) · d`` costs and saves on all correct ``answers``."""
    budget_C = b_min + (b_max - b_min) * answers.difficulty_C + TOLERANCE
    over_C = answers.lengths_C > budget_C
    within, solved = (len(np.unique(groups)) for groups in (answers.groups_C[~over_C], answers.groups_C))
    beyond_C = np.maximum(0.0, answers.lengths_C - budget_C)
    return TradeOff(float(over_C.mean()), 1 - within / solved, float(beyond_C.sum() / answers.lengths_C.sum()))


def fit_budget(lengths_C: np.ndarray, difficulty_C: np.ndarray, quantile: float) -> tuple[float, float]:
    """``(b_min, b_max)`` of the quantile regression above, to within 0.001 tokens; one of them if there are several.

    For a given slope, the best b_min is a quantile of L − slope · d. The loss is then a convex function of the slope, whose
    minimum is bisected by the sign of a subgradient: 50 ms for 100,000 rows, where a linear programme (HiGHS) takes 4 to 9 s.

    >>> [round(b, 1) for b in fit_budget(np.array([8.0, 10, 90, 20, 50, 60]), np.array([0.0, 0, 0, 1, 1, 1]), 0.5)]
    [10.0, 50.0]
    """
    count, total = len(lengths_C), difficulty_C.sum()
    rank = min(count - 1, max(0, int(np.ceil(quantile * count)) - 1))

    def at(slope: float) -> tuple[float, float]:
        """The best b_min for this slope, and a subgradient of the loss with respect to the slope."""
        rest_C = lengths_C - slope * difficulty_C
        b_min = max(LEAST_BUDGET, float(np.partition(rest_C, rank)[rank]))
        above_C, on_C = rest_C > b_min, rest_C == b_min
        # An answer above the line pulls it up by q, one below pulls it down by 1 − q, and one on the line by anything between.
        # The pull of those on the line is chosen so that all pulls on b_min add up to 0, as at its optimum.
        on = float(np.clip(((1 - quantile) * count - above_C.sum()) / max(1, on_C.sum()), 0, 1))
        return b_min, float((1 - quantile) * total - above_C @ difficulty_C - on * (on_C @ difficulty_C))

    rounding = 1e-9 * count
    b_min, gradient = at(0.0)
    if gradient >= -rounding:
        return b_min, b_min
    low, high = 0.0, float(lengths_C.max())
    while at(high)[1] < -rounding:
        low, high = high, 2 * high
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] < 0 else (low, middle)
    b_min = at(high)[0]
    return b_min, b_min + high


def bootstrap(answers: CorrectAnswers, quantile: float, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(R, 2) fits of ``b_min, b_max`` to problems drawn with replacement, each with all of its answers."""
    problems = int(answers.problems_C.max()) + 1
    rng = np.random.default_rng(seed)
    drawn_RP = rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples)
    fits = []
    for drawn_P in drawn_RP:
        times_C = drawn_P[answers.problems_C]
        lengths, difficulty = np.repeat(answers.lengths_C, times_C), np.repeat(answers.difficulty_C, times_C)
        fits.append(fit_budget(lengths, difficulty, quantile))
    return np.array(fits)


def _print_fit(
    answers: CorrectAnswers,
    fitted: CorrectAnswers,
    fit: tuple[float, float],
    fits_R2: np.ndarray,
    quantile: float,
    of: str,
) -> None:
    problems = int(answers.problems_C.max()) + 1
    smallest, largest = answers.group_sizes
    sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    source = "from the rows" if answers.source == "data" else f"1 - smoothed solve rate of a group ({sizes} rollouts)"
    print(f"rollouts:   {answers.rollouts}, of which {len(answers.lengths_C)} are correct, on {problems} problems")
    easiest, hardest = fitted.difficulty_C.min(), fitted.difficulty_C.max()
    beyond = "; outside this range the budget is extrapolated" if easiest > 0 or hardest < 1 else ""
    print(f"difficulty: {source}, between {easiest:.3g} and {hardest:.3g}{beyond}")
    what = "of all correct rollouts" if of == "all" else "of the shortest correct rollout of each group"
    print(f"fit:        budget = b_min + (b_max - b_min) * difficulty, at quantile {quantile:g} of the lengths {what}")
    bounds_22 = np.quantile(fits_R2, [0.025, 0.975], axis=0)
    for name, value, (lower, upper) in zip(("b_min", "b_max"), fit, bounds_22.T, strict=True):
        interval = f"95 % interval {lower:.1f} to {upper:.1f}" if problems > 1 else "no interval from one problem"
        print(f"  {name} = {value:.1f} tokens, {interval}")
    if of == "shortest" and largest == 1:
        print("note: one rollout per problem shows the model's habit, not the tokens it needs; sample 8 or more")
    if fit[0] == fit[1]:
        print("note: harder problems do not have longer correct answers here, so the budget is the same for all")
    if fit[0] == LEAST_BUDGET:
        print(f"note: b_min is at its lower bound, {LEAST_BUDGET:g} token; a straight line fits these lengths badly")


def _table(answers: CorrectAnswers, fitted: CorrectAnswers, quantile: float) -> Group:
    """Budgets from tight to loose, and the one that ``token_budget`` uses if none is set."""
    table = new_table(
        "quantile",
        *("b_min", "b_max", "over, %", "lost, %", "saved, %"),
        title="What a budget would do to these rollouts",
    )
    shown = sorted({*SHOWN_QUANTILES, quantile})
    rows = {f"{q:g}{' (fit)' * (q == quantile)}": fit_budget(fitted.lengths_C, fitted.difficulty_C, q) for q in shown}
    low, high = np.quantile(answers.lengths_C, [0.1, 0.9])
    rows["if unset"] = (float(low), float(high))
    for name, (b_min, b_max) in rows.items():
        made = trade_off(answers, b_min, b_max)
        shares = [number(share, scale=100) for share in (made.over, made.lost, made.saved)]
        table.add_row(name, number(b_min), number(b_max), *shares)
    return explained(
        table,
        "over: correct rollouts above budget. They lose reward, unless budget_floor raises the budget.",
        "lost: solved groups whose correct rollouts are all above budget.",
        "saved: tokens above budget, as a share of all tokens of correct rollouts.",
        "if unset: what token_budget starts from without b_min and b_max, the 10th and 90th percentile of the correct lengths.",
    )


def settings_of(
    answers: CorrectAnswers,
    fitted: CorrectAnswers,
    fit: tuple[float, float],
    quantile: float,
    limit: int | None,
) -> dict[str, tuple[str, dict[str, Any]]]:
    """For each method that has a budget, what its figures mean and the settings that carry the budget.

    With the budget b(d) = b_min + (b_max − b_min) · d of ``fit``:

    * ``laser`` has one target for all problems, the quantile of the fitted lengths;
    * ``laser_d`` and ``laser_de`` choose their targets themselves, from a grid. ``min_target`` keeps them at or above the
      budget of the easiest problem fitted. With the limit known, a step of the grid is at most a tenth of that, since the
      default grid, in steps of a sixteenth of the limit, may have no target as low as the budget;
    * ``leash`` steers the mean length of all rollouts, wrong ones too. Its target is the mean of their budgets;
    * ``toggle`` has a percentile of each problem's correct lengths. It gets the share of the correct rollouts within b(d), so
      that about as many are over the one as over the other.
    """
    low, high = fit
    one = float(np.quantile(fitted.lengths_C, quantile))
    easiest = max(1, round(low + (high - low) * float(fitted.difficulty_C.min())))
    grid: dict[str, Any] = {"min_target": easiest}
    steps = "give --max-response-length for grid_points"
    if limit is not None:
        grid["grid_points"] = min(limit, max(DEFAULT_GRID, math.ceil(GRID_STEPS * limit / easiest)))
        steps = f"grid_points is for a limit of {limit} tokens"
    lowest = f"it chooses its targets; none is below the budget of the easiest problem here; {steps}"
    within = 1 - trade_off(answers, low, high).over
    return {
        "token_budget": (
            "budget of each problem by its difficulty, b_min at 0 and b_max at 1; budget_floor raises a budget that few "
            "correct rollouts of a group meet (null: never)",
            {"difficulty": answers.source, "b_min": round(low, 1), "b_max": round(high, 1)},
        ),
        "laser": (
            "one target for all problems, the same quantile of the same lengths",
            {"target_length": round(one, 1)},
        ),
        "laser_d": (lowest, grid),
        "laser_de": (lowest, grid),
        "leash": (
            "mean length of all responses, wrong ones too: the mean of token_budget's budgets over all rollouts",
            {"target_length": round(low + (high - low) * answers.mean_difficulty, 1)},
        ),
        "toggle": (
            "percentile of the correct lengths of each problem: this share of the correct rollouts is within token_budget's "
            "budgets; groups with a mean score below threshold have no budget",
            {"percentile": round(100 * within, 1)},
        ),
    }


def _print_settings(blocks: dict[str, tuple[str, dict[str, Any]]], threshold: float, scores: Scores) -> None:
    """What to paste, for each method."""
    more = {} if threshold == 0.5 else {"correct_threshold": threshold}
    given = dict(zip(("score_wrong", "score_correct"), scores, strict=True))
    more |= {name: given[name] for name, usual in zip(given, USUAL_SCORES, strict=True) if given[name] != usual}
    overrides = blocks["token_budget"][1] | more
    print("overrides for token_budget: " + " ".join(f"+algorithm.efficiency.{k}={v}" for k, v in overrides.items()))
    print("YAML to paste, for one of these methods:")
    for method, (meaning, settings) in blocks.items():
        lines = [f"    {name}: {value}" for name, value in (settings | more).items()]
        print(f"\n# {method}: {meaning}", "algorithm:", f"  adv_estimator: {method}", "  efficiency:", *lines, sep="\n")
    print()
