"""``verl-efficiency calibrate``: fit the budget of ``token_budget`` to stored rollouts, and show what budgets cost and save.

A correct rollout shows what a problem can be solved in, and the shortest one of a group shows what is needed. The lengths L of
the shortest correct rollouts are regressed on the difficulty d of their problems, at one quantile q::

    b_min, b_max = argmin  Σ ρ_q(L − b_min − (b_max − b_min) · d)     over b_max ≥ b_min ≥ 1
    ρ_q(r) = q · r  for r ≥ 0,  (q − 1) · r  for r < 0                tokens

so that the model has already solved about a share q of the problems within budget, at every difficulty. The shortest and the
median are our choice: all correct rollouts (``--of all``) fit the model's habit, which is what the budget is to change. The
intervals come from a bootstrap over problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from verl_efficiency.data.files import require_ending
from verl_efficiency.evaluation.plot import PICTURES
from verl_efficiency.evaluation.plot_fit import plot_fit
from verl_efficiency.evaluation.stored_rollouts import StoredRollout, find_files, read_rollouts
from verl_efficiency.settings import SettingsError, require, unknown

SOURCES = ("auto", "data", "group")
SMOOTHING = 1.0  # token_budget's default, see TokenBudgetSettings
LEAST_BUDGET = 1.0  # tokens
TOLERANCE = 1e-3  # tokens
RESAMPLES = 200
FITTED = ("shortest", "all")
SHOWN_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class CorrectAnswers:
    """The ``C`` correct answers of all files.

    Attributes:
        lengths_C: tokens, at least 1.
        difficulty_C: in [0, 1].
        problems_C: number of the problem, equal for equal ones in different groups and files.
        groups_C: number of the group that the rollout was drawn in.
        source: where the difficulty comes from, ``data`` or ``group``.
        group_sizes: smallest and largest number of rollouts in a group.
        rollouts: how many there are with the wrong ones.
    """

    lengths_C: np.ndarray
    difficulty_C: np.ndarray
    problems_C: np.ndarray
    groups_C: np.ndarray
    source: str
    group_sizes: tuple[int, int]
    rollouts: int


def calibrate_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="Rows of `evaluate --rows`, dumps of verl's trainer.rollout_data_dir, or folders of them."),
    ],
    quantile: Annotated[
        float, typer.Option(help="Share of the problems that the model has already solved within budget.")
    ] = 0.5,
    of: Annotated[
        str,
        typer.Option(help="Fit the shortest correct rollout of each group, or all correct ones (the model's habit)."),
    ] = "shortest",
    threshold: Annotated[float, typer.Option(help="A score (acc) of at least this is correct.")] = 0.5,
    difficulty: Annotated[
        str,
        typer.Option(help="data (the rows' own), group (1 - smoothed solve rate of the group), auto (data if there)."),
    ] = "auto",
    tokenizer: Annotated[
        str | None, typer.Option(help="Model folder whose tokenizer counts the tokens of a dump, which has texts only.")
    ] = None,
    max_response_length: Annotated[
        int | None, typer.Option(help="The limit of the dumped run: a response of that length has no EOS to count.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture (PNG) to draw; needs matplotlib.")] = Path("calibration.png"),
) -> None:
    """Fit b_min and b_max of token_budget to stored rollouts, and show what tighter and looser budgets cost and save."""
    require(0 < quantile < 1, "quantile", quantile, "between 0 and 1")
    require(0 < threshold <= 1, "threshold", threshold, "above 0 and at most 1")
    if difficulty not in SOURCES:
        raise SettingsError(f"difficulty: {unknown('source', difficulty, SOURCES)}")
    if of not in FITTED:
        raise SettingsError(f"of: {unknown('choice', of, FITTED)}")
    require(max_response_length is None or max_response_length >= 1, "max_response_length", max_response_length, "≥ 1")
    require_ending(out, "--out", PICTURES)
    rollouts = [
        rollout
        for path in find_files(files)
        for rollout in read_rollouts(path, threshold, tokenizer, max_response_length)
    ]
    answers = correct_answers(rollouts, difficulty)
    fitted = shortest(answers) if of == "shortest" else answers
    lengths_C, difficulty_C = fitted.lengths_C, fitted.difficulty_C
    if np.ptp(difficulty_C) < 1e-9:
        flat = max(LEAST_BUDGET, float(np.quantile(lengths_C, quantile)))
        raise SettingsError(
            f"difficulty: every correct answer has {difficulty_C[0]:.3g} ({answers.source}) and a line needs two; use one "
            f"flat budget: +algorithm.efficiency.b_min={flat:.1f} +algorithm.efficiency.b_max={flat:.1f}"
        )
    b_min, b_max = fit_budget(lengths_C, difficulty_C, quantile)
    fits_R2 = bootstrap(fitted, quantile)
    plot_fit(answers, (b_min, b_max), fits_R2, quantile, out)
    _print_fit(answers, fitted, (b_min, b_max), fits_R2, quantile, of)
    Console().print(_table(answers, fitted))
    _print_settings(answers, fitted, (b_min, b_max), quantile, threshold)
    print(f"picture: {out}")


def correct_answers(rollouts: Sequence[StoredRollout], source: str) -> CorrectAnswers:
    """Keep the correct rollouts, with the difficulty from ``source``: ``data``, ``group`` or ``auto``.

    ``group`` is d = 1 − (k + ½) / (n + 1) for k correct of the n rollouts of a group, as in ``token_budget``.

    Raises:
        SettingsError: nothing is correct, or ``data`` and a difficulty is missing or outside [0, 1].
    """
    correct = [rollout for rollout in rollouts if rollout.correct]
    if not correct:
        raise SettingsError(f"files: none of {len(rollouts)} rollouts is correct; nothing to fit (see --threshold)")
    if source == "auto":
        source = "data" if all(rollout.difficulty is not None for rollout in rollouts) else "group"
    groups = {group: number for number, group in enumerate(dict.fromkeys(rollout.group for rollout in rollouts))}
    problems = {text: number for number, text in enumerate(dict.fromkeys(rollout.problem for rollout in correct))}
    group_B = np.array([groups[rollout.group] for rollout in rollouts])
    correct_B = np.array([rollout.correct for rollout in rollouts])
    size_G, solved_G = np.bincount(group_B), np.bincount(group_B, weights=correct_B)
    if source == "group":
        difficulty_C = (1 - (solved_G + SMOOTHING / 2) / (size_G + SMOOTHING))[group_B[correct_B]]
    else:
        for rollout in correct:
            value = rollout.difficulty
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise SettingsError(
                    f"difficulty: must be a number in [0, 1] in every row, as token_budget needs it, got {value!r} in "
                    f"{rollout.group[0]}; fix the column, or use --difficulty group"
                )
        difficulty_C = np.array([rollout.difficulty for rollout in correct], dtype=float)
    return CorrectAnswers(
        lengths_C=np.array([rollout.tokens for rollout in correct], dtype=float).clip(min=1),
        difficulty_C=difficulty_C,
        problems_C=np.array([problems[rollout.problem] for rollout in correct]),
        groups_C=group_B[correct_B],
        source=source,
        group_sizes=(int(size_G.min()), int(size_G.max())),
        rollouts=len(rollouts),
    )


def shortest(answers: CorrectAnswers) -> CorrectAnswers:
    """The shortest correct answer of each group alone."""
    order_C = np.lexsort((answers.lengths_C, answers.groups_C))
    first_C = np.flatnonzero(np.diff(answers.groups_C[order_C], prepend=-1))
    kept = order_C[first_C]
    problems_C = np.unique(answers.problems_C[kept], return_inverse=True)[1]
    return replace(
        answers,
        lengths_C=answers.lengths_C[kept],
        difficulty_C=answers.difficulty_C[kept],
        problems_C=problems_C,
        groups_C=answers.groups_C[kept],
    )


@dataclass(frozen=True)
class TradeOff:
    """What a budget asks of the stored rollouts.

    Attributes:
        over: share of the correct rollouts that are over budget and so lose reward.
        lost: share of the solved groups whose correct rollouts are all over budget: what a hard cap there would lose.
        saved: share of the tokens of correct rollouts beyond the budget: what is saved when they come down to it.
    """

    over: float
    lost: float
    saved: float


def trade_off(answers: CorrectAnswers, b_min: float, b_max: float) -> TradeOff:
    """What the budget ``b_min + (b_max − b_min) · d`` costs and saves on all correct ``answers``."""
    budget_C = b_min + (b_max - b_min) * answers.difficulty_C + TOLERANCE
    over_C = answers.lengths_C > budget_C
    within = len(np.unique(answers.groups_C[~over_C]))
    beyond_C = np.maximum(0.0, answers.lengths_C - budget_C)
    return TradeOff(
        over=float(over_C.mean()),
        lost=1 - within / len(np.unique(answers.groups_C)),
        saved=float(beyond_C.sum() / answers.lengths_C.sum()),
    )


def fit_budget(lengths_C: np.ndarray, difficulty_C: np.ndarray, quantile: float) -> tuple[float, float]:
    """``(b_min, b_max)`` of the quantile regression above, to within 0.001 tokens; where it has several, one of them.

    For a given slope the best b_min is a quantile of L − slope · d, which leaves a convex function of the slope alone; its
    minimum is found by halving on the sign of a subgradient. 100 000 rows take some 50 ms, a linear programme (HiGHS) 4 to 9 s.

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
        # An answer above the line pulls it up by q, one below down by 1 − q. One on the line may do anything between; what it
        # does is chosen so that all pulls on b_min add up to 0, as they do at its optimum.
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
    difficulty_C = fitted.difficulty_C
    problems = int(answers.problems_C.max()) + 1
    smallest, largest = answers.group_sizes
    sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    source = "extra_info.difficulty" if answers.source == "data" else f"1 - smoothed solve rate, groups of {sizes}"
    print(f"answers:    {len(answers.lengths_C)} correct of {answers.rollouts} rollouts, {problems} problems")
    easiest, hardest = difficulty_C.min(), difficulty_C.max()
    beyond = "; beyond, the line is extrapolated" if easiest > 0 or hardest < 1 else ""
    print(f"difficulty: {answers.source} ({source}), seen from {easiest:.3g} to {hardest:.3g}{beyond}")
    what = "all correct rollouts" if of == "all" else "the shortest correct rollout of each group"
    print(f"fit:        quantile {quantile:g} of the lengths of {what}")
    bounds_22 = np.quantile(fits_R2, [0.025, 0.975], axis=0)
    for name, value, (lower, upper) in zip(("b_min", "b_max"), fit, bounds_22.T, strict=True):
        interval = f"95 % interval {lower:.1f} to {upper:.1f}" if problems > 1 else "no interval from one problem"
        print(f"  {name} = {value:.1f} tokens, {interval}")
    if of == "shortest" and largest == 1:
        print("note: one rollout a problem shows the model's habit, not what it can do; sample 8 or more a problem")
    if fit[0] == fit[1]:
        print("note: correct answers do not become longer with this difficulty; the best budget is flat")
    if fit[0] == LEAST_BUDGET:
        print(f"note: b_min is at its bound of {LEAST_BUDGET:g} token; a straight line fits these lengths badly")


def _table(answers: CorrectAnswers, fitted: CorrectAnswers) -> Table:
    """Budgets from tight to loose, and the two that unset settings start with."""
    table = Table(
        box=box.SIMPLE,
        pad_edge=False,
        title="what a budget costs and saves, on these rollouts",
        caption="over: correct rollouts that lose reward. lost: solved groups with no correct rollout within budget. "
        "saved: tokens of correct rollouts beyond the budget.",
    )
    table.add_column("quantile")
    for name in ("b_min", "b_max", "over, %", "lost, %", "saved, %"):
        table.add_column(name, justify="right")
    rows = {f"{q:g}": fit_budget(fitted.lengths_C, fitted.difficulty_C, q) for q in SHOWN_QUANTILES}
    low, high = np.quantile(answers.lengths_C, [0.1, 0.9])
    rows["unset (10th, 90th percentile)"] = (float(low), float(high))
    for name, (b_min, b_max) in rows.items():
        made = trade_off(answers, b_min, b_max)
        shares = [f"{100 * share:.1f}" for share in (made.over, made.lost, made.saved)]
        table.add_row(name, f"{b_min:.1f}", f"{b_max:.1f}", *shares)
    return table


def _print_settings(
    answers: CorrectAnswers, fitted: CorrectAnswers, fit: tuple[float, float], quantile: float, threshold: float
) -> None:
    """What to paste, for ``token_budget`` and for the methods that take one target for all problems."""
    settings = {"difficulty": answers.source, "b_min": f"{fit[0]:.1f}", "b_max": f"{fit[1]:.1f}"}
    if threshold != 0.5:
        settings["correct_threshold"] = f"{threshold:g}"
    print("overrides:  " + " ".join(f"+algorithm.efficiency.{name}={value}" for name, value in settings.items()))
    flat = float(np.quantile(fitted.lengths_C, quantile))
    yaml = [f"    {name}: {value}" for name, value in settings.items()]
    print("as YAML:", "algorithm:", "  adv_estimator: token_budget", "  efficiency:", *yaml, sep="\n")
    print(f"one target for all problems (laser, leash): +algorithm.efficiency.target_length={flat:.0f}")
