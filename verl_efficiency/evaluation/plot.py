"""The pictures of the evaluation. matplotlib is imported only when one is drawn."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_efficiency.data.files import replacing
from verl_efficiency.evaluation.training_log import TrainingLog, read_metric
from verl_efficiency.settings import SettingsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from verl_efficiency.evaluation.calibrate import CorrectAnswers

BEFORE = "#555555"
AFTER = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)  # Okabe and Ito; safe for colour-blind readers
PICTURES = (".png", ".pdf", ".svg")
Panel = Callable[["Axes"], None]  # draws into one pair of axes
MARKERS = "osD^vPX"  # one more than the colours, so that results of one colour differ in their marker
MARKS = 8  # markers on a line of many points
MINUS = "\N{MINUS SIGN}"
LIMIT_LINE: dict[str, Any] = {"color": "black", "ls": "--", "lw": 1.2}
MAX_BOXES = 12
LEAST_RANGE = 20  # points of accuracy that the axis shows, so that one point does not look like a cliff
LEGEND_SIGNS, LINE_INCHES = 48, 0.24  # of a line of a legend


def blank_figure(size: tuple[float, float]) -> "Figure":
    """An empty picture of ``size`` inches; no display is needed.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise SettingsError(f"picture: {error.name} is missing; pip install 'verl-efficiency[evaluation]'") from None

    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(figure: "Figure") -> None:
    """A light grid, and no lines above and on the right."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)


def save(figure: "Figure", out: Path) -> None:
    """Write a picture in the format that its name ends in, whole or not at all."""
    style(figure)
    with replacing(out) as beside:
        figure.savefig(beside, format=out.suffix[1:])


def draw(*panels: Panel, size: tuple[float, float] = (5.2, 4.0)) -> "Figure":
    """A picture of one or more panels side by side, each of ``size`` inches, with its legend below, where it covers nothing.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    figure = blank_figure((size[0] * len(panels), size[1]))
    lines = 0
    for panel, part in zip(panels, figure.subfigures(1, len(panels), squeeze=False)[0], strict=True):
        axes = part.subplots()
        panel(axes)
        handles, names = axes.get_legend_handles_labels()
        labels = [textwrap.fill(name, LEGEND_SIGNS) for name in names]
        part.legend(handles, labels, loc="outside lower center", frameon=False)
        lines = max(lines, sum(label.count("\n") + 1 for label in labels))
    figure.set_figheight(size[1] + LINE_INCHES * lines)
    return figure


def report_panels(
    evaluations: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]], training_logs: Sequence[TrainingLog]
) -> list[Panel]:
    """Accuracy against tokens per problem, and beside it the training curves if there are logs.

    Args:
        evaluations: results of ``evaluate`` on the same problems; the first is "before".
        changes: :func:`compare` of the first with each further one.
        training_logs: phases of training; one with the label of an evaluation gets its colour.

    Raises:
        SettingsError: a log has no lengths.
    """
    panels: list[Panel] = [partial(trade_off, evaluations=evaluations, changes=changes)]
    if training_logs:
        curves = [(log, read_metric(log.path)) for log in training_logs]
        limit = evaluations[0]["summary"]["shortest_tokens_per_problem"]
        panels.append(partial(lengths, curves=curves, looks=looks_of(evaluations), limit=limit))
    return panels


def look(number: int) -> dict[str, Any]:
    """Colour and marker of a result by its number; 0 is "before". No two of the first 43 are alike."""
    return {
        "color": AFTER[(number - 1) % len(AFTER)] if number else BEFORE,
        "marker": MARKERS[number % len(MARKERS)],
    }


def looks_of(evaluations: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The look of each evaluation, by its label."""
    return {evaluation["label"]: look(i) for i, evaluation in enumerate(evaluations)}


def _percent_axis(axes: "Axes") -> None:
    """End the axis of an accuracy at 100 %, also where an error bar goes further."""
    low, high = axes.get_ylim()
    axes.set_ylim(top=min(high, 100 + 0.03 * (100 - low)))  # room for half a marker, not for a further tick


def trade_off(axes: "Axes", evaluations: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> None:
    """Accuracy against tokens per problem, with an arrow from the first evaluation to each other one."""
    looks = looks_of(evaluations)
    summaries = [evaluation["summary"] for evaluation in evaluations]
    places = [(summary["tokens_per_problem"], 100 * summary["accuracy"]) for summary in summaries]
    _point(axes, summaries[0], places[0], look(0), evaluations[0]["label"])
    for i, change in enumerate(changes, start=1):
        of_this = looks[change["label"]]
        saved = f"{100 * (change['tokens_ratio'] - 1):+.0f} % tokens, {100 * change['accuracy_change']:+.1f} points"
        label = f"{change['label']}:  {saved.replace('-', MINUS)}"
        _point(axes, summaries[i], places[i], of_this, label)
        bend = f"arc3,rad={0.12 * (-1) ** i * ((i + 1) // 2)}"  # to either side in turn, since ends often lie together
        arrow = {"arrowstyle": "-|>", "lw": 1.8, "connectionstyle": bend, "shrinkA": 7, "shrinkB": 7}
        arrow["color"] = of_this["color"]
        axes.annotate("", places[i], xytext=places[0], arrowprops=arrow)
    limit = summaries[0]["shortest_tokens_per_problem"]
    if limit is not None:
        axes.axvline(limit, label=f"shortest correct trace: {limit:.1f}", **LIMIT_LINE)
        axes.axvspan(0, limit, color="black", alpha=0.06, lw=0)
    errors = [(summary["tokens_per_problem_se"] or 0.0, 100 * (summary["accuracy_se"] or 0.0)) for summary in summaries]
    high = max(place[1] + max(3, error[1] + 1) for place, error in zip(places, errors, strict=True))
    low = min(place[1] - error[1] for place, error in zip(places, errors, strict=True))
    axes.set_ylim(max(0.0, min(low - 2, high - LEAST_RANGE)), high)
    _percent_axis(axes)
    axes.set_xlim(
        0, 1.05 * max(place[0] + max(0.1 * place[0], error[0]) for place, error in zip(places, errors, strict=True))
    )
    axes.set_xlabel("tokens per problem  (\N{LEFTWARDS ARROW} better)")
    axes.set_ylabel("accuracy, %  (\N{UPWARDS ARROW} better)")
    axes.set_title(f"{summaries[0]['problems']} held-out problems")


def _point(
    axes: "Axes", summary: dict[str, Any], place: tuple[float, float], of_this: dict[str, Any], label: str
) -> None:
    x_error, y_error = summary["tokens_per_problem_se"], summary["accuracy_se"]
    axes.errorbar(
        *place,
        xerr=x_error,
        yerr=None if y_error is None else 100 * y_error,
        ls="",
        color=of_this["color"],
        capsize=3,
        zorder=3,
    )
    axes.plot(*place, ls="", **of_this, markersize=9, zorder=3, label=label)


def lengths(
    axes: "Axes",
    curves: Sequence[tuple[TrainingLog, list[tuple[int, float]]]],
    looks: Mapping[str, dict[str, Any]],
    limit: float | None = None,
) -> None:
    """Tokens per problem over the steps of each log; ``limit`` is the mean of the shortest correct responses."""
    for i, (log, points) in enumerate(curves, start=len(looks)):
        name = log.label if log.problems == 1 else f"{log.label} ({log.problems:.3g} problems a prompt)"
        _curve(axes, [(step, length / log.problems) for step, length in points], looks.get(log.label, look(i)), name)
    if limit is not None:
        axes.axhline(limit, label=f"shortest correct trace, held-out mean: {limit:.1f}", **LIMIT_LINE)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training step")
    axes.set_ylabel("tokens per problem in the batch")
    axes.set_title("Training")


def accuracy_at_budget(axes: "Axes", results: Sequence[dict[str, Any]]) -> None:
    """``evaluate offline``: the accuracy that a token limit leaves, and a mark at the cap that costs one point."""
    for i, result in enumerate(results):
        budgets, accuracies = zip(*result["accuracy_at"], strict=True)
        of_this = look(i)
        axes.plot((0, *budgets), [0.0, *(100 * value for value in accuracies)], color=of_this["color"], lw=2)
        kept = 100 * max(0.0, result["accuracy"] - 0.01)
        axes.plot([result["cap"]], [kept], **of_this, markersize=7, lw=2, label=result["label"])
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("limit on the tokens of a response")
    axes.set_ylabel("accuracy, %")
    axes.set_title("Accuracy at a budget (mark: cap for 1 point less)")


def plot_fit(
    answers: "CorrectAnswers", fit: tuple[float, float], fits_R2: np.ndarray, quantile: float, out: Path
) -> None:
    """Draw ``calibrate``: lengths of correct answers over difficulty, the fitted budget, and the budget if none is set."""
    figure = blank_figure((7.5, 5.4))
    axes = figure.subplots()
    lengths_C, difficulty_C = answers.lengths_C, answers.difficulty_C
    levels = np.unique(difficulty_C)
    gap = float(np.diff(levels).min()) if len(levels) <= MAX_BOXES else 0.0
    shift_C = np.random.default_rng(0).uniform(-0.3, 0.3, len(lengths_C)) * min(gap, 0.15)
    alpha = float(np.clip(200 / len(lengths_C), 0.04, 0.5))
    axes.plot(difficulty_C + shift_C, lengths_C, ".", color=BEFORE, alpha=alpha, ms=4, mew=0, zorder=1)
    axes.plot([], [], ".", color=BEFORE, label="a correct answer")
    if gap:
        axes.boxplot(
            [lengths_C[difficulty_C == level] for level in levels],
            positions=levels.tolist(),
            widths=min(gap, 0.15) * 0.6,
            showfliers=False,
            manage_ticks=False,
            boxprops={"color": BEFORE},
            whiskerprops={"color": BEFORE},
            capprops={"color": BEFORE},
            medianprops={"color": AFTER[1], "lw": 2},
        )
        axes.plot([], [], color=AFTER[1], lw=2, label="median, in a box of the quartiles")
    grid = np.linspace(0, 1, 51)
    lines_RX = fits_R2[:, :1] + (fits_R2[:, 1:] - fits_R2[:, :1]) * grid
    band = np.quantile(lines_RX, [0.025, 0.975], axis=0)
    axes.fill_between(grid, *band, color=AFTER[0], alpha=0.2, lw=0, label="95 % interval of the budget")
    label = f"budget, quantile {quantile:g}: {fit[0]:.1f} + {fit[1] - fit[0]:.1f} d"
    axes.plot([0, 1], fit, color=AFTER[0], lw=1.5, ls="--", zorder=5)  # beyond what was seen
    seen = np.array([levels[0], levels[-1]])
    axes.plot(seen, fit[0] + (fit[1] - fit[0]) * seen, color=AFTER[0], lw=2.5, label=label, zorder=5)
    for share, style, name in ((0.1, ":", "b_min"), (0.9, "-.", "b_max")):
        value = float(np.quantile(lengths_C, share))
        label = f"{100 * share:.0f}th percentile: {value:.1f} ({name} if unset)"
        axes.axhline(value, color="black", ls=style, lw=1.2, label=label)
    axes.set_ylim(0, 1.15 * max(float(np.quantile(lengths_C, 0.995)), fit[1]))
    axes.set_xlim(-0.09, 1.09)
    axes.set_xlabel(f"difficulty, from 0 to 1 ({answers.source})")
    axes.set_ylabel("tokens of a correct answer")
    axes.set_title(f"{len(lengths_C)} correct of {answers.rollouts} rollouts")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save(figure, out)


def scaling(
    axes: "Axes",
    results: Sequence[dict[str, Any]],
    name: str = "tokens_per_problem",
    looks: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> None:
    """``evaluate task-scaling``: ``tokens_per_problem`` with the fitted power law, or ``accuracy``, over N.

    A label in ``looks`` has that look, as elsewhere on the page.
    """
    scale = 100 if name == "accuracy" else 1
    for i, result in enumerate(results, start=len(looks)):
        of_this = looks.get(result["label"], look(i))
        size_N = [point["problems"] for point in result["points"]]
        values = [scale * point[name] for point in result["points"]]
        errors = [1.96 * scale * (point[f"{name}_se"] or 0.0) for point in result["points"]]
        axes.errorbar(size_N, values, yerr=errors, **of_this, capsize=3, lw=1.5, label=result["label"])
        if result["law"] and name != "accuracy":
            grid = np.linspace(min(size_N), max(size_N), 50)
            law = result["law"]["a"] * grid ** -result["law"]["b"]
            axes.plot(grid, law, color=of_this["color"], ls="--", lw=1)
    if name == "accuracy":
        _percent_axis(axes)
        axes.set_ylabel("accuracy, %")
        axes.set_title("Accuracy (bars: 95 % intervals)")
    else:
        axes.set_ylim(bottom=0)
        axes.set_ylabel("tokens per problem")
        axes.set_title("Tokens (dashed: fitted power law)")
    axes.set_xlabel("problems in one prompt")
    axes.set_xticks(sorted({point["problems"] for result in results for point in result["points"]}))


def strategies(axes: "Axes", results: Sequence[dict[str, Any]]) -> None:
    """``evaluate strategies``: accuracy against tokens paid, with the strategies that none beats joined by a line."""
    kinds = list(dict.fromkeys(row["strategy"].rstrip("0123456789,- ") for row in results))
    for i, kind in enumerate(kinds):
        rows = [row for row in results if row["strategy"].rstrip("0123456789,- ") == kind]
        places = ([row["tokens"] for row in rows], [100 * row["accuracy"] for row in rows])
        axes.plot(*places, **look(i), ls="", label=kind)
    best = [row for row in results if row["pareto"]]
    axes.plot([row["tokens"] for row in best], [100 * row["accuracy"] for row in best], color=BEFORE, lw=1, zorder=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens paid per problem")
    axes.set_ylabel("accuracy, %")
    axes.set_title("Strategies (line: none is cheaper and better)")


def scores(
    axes: "Axes", curves: Sequence[tuple[str, Sequence[tuple[int, float]]]], looks: Mapping[str, dict[str, Any]]
) -> None:
    """The training score over the steps of each log, by its label."""
    for i, (label, points) in enumerate(curves, start=len(looks)):
        _curve(axes, points, looks.get(label, look(i)), label)
    axes.set_xlabel("training step")
    axes.set_ylabel("mean score of the batch")
    axes.set_title("Score in training")


def _curve(axes: "Axes", points: Sequence[tuple[int, float]], of_this: dict[str, Any], label: str) -> None:
    """A line with few markers, which tell it from others where colours do not."""
    every = max(1, len(points) // MARKS)
    axes.plot(*zip(*points, strict=True), **of_this, markevery=every, markersize=5, lw=2, label=label)
    axes.locator_params(axis="x", integer=True)  # there is no half step
