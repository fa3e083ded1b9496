"""One picture of an evaluation: what was saved at which accuracy, and how training came there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_efficiency.data.files import replacing
from verl_efficiency.evaluation.training_log import TrainingLog, read_metric
from verl_efficiency.settings import SettingsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE = "#555555"
AFTER = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, told apart by every eye
PICTURES = (".png", ".pdf", ".svg")
MARKERS = "osD^vP"
MINUS = "\N{MINUS SIGN}"
LIMIT_LINE: dict[str, Any] = {"color": "black", "ls": "--", "lw": 1.2}
LEAST_RANGE = 17  # points of accuracy below the lowest: a difference of one point must not look like a cliff


def blank_figure(size: tuple[float, float]) -> "Figure":
    """An empty picture of ``size`` inches that needs no screen.

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


def save(figure: "Figure", out: Path) -> None:
    """Write a picture, whole or not at all, in the format that its name ends in."""
    with replacing(out) as beside:
        figure.savefig(beside, format=out.suffix[1:])


def plot(
    evaluations: Sequence[dict[str, Any]],
    changes: Sequence[dict[str, Any]],
    training_logs: Sequence[TrainingLog],
    out: Path,
) -> None:
    """Write a PNG: accuracy against tokens per problem, and beside it the training curves if there are logs.

    Args:
        evaluations: results of ``evaluate`` on the same problems; the first is "before".
        changes: :func:`compare` of the first with each further one.
        training_logs: phases of training; one with the label of an evaluation gets its colour.
        out: where the picture goes.

    Raises:
        SettingsError: matplotlib is not installed, or a log has no lengths.
    """
    curves = [(log, read_metric(log.path)) for log in training_logs]
    figure = blank_figure((10, 4.6) if curves else (6, 4.6))
    left, *right = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
    colours = {evaluation["label"]: AFTER[i % len(AFTER)] for i, evaluation in enumerate(evaluations[1:])}
    _trade_off(left, evaluations, changes, colours)
    for axes in right:
        _training(axes, curves, colours, evaluations[0]["summary"])
    for axes in (left, *right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    save(figure, out)


def _trade_off(
    axes: "Axes", evaluations: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]], colours: dict[str, str]
) -> None:
    summaries = [evaluation["summary"] for evaluation in evaluations]
    places = [(summary["tokens_per_problem"], 100 * summary["accuracy"]) for summary in summaries]
    _point(axes, summaries[0], places[0], BEFORE, "o", evaluations[0]["label"])
    for i, change in enumerate(changes, start=1):
        colour = colours[change["label"]]
        saved = f"{100 * (change['tokens_ratio'] - 1):+.0f} % tokens, {100 * change['accuracy_change']:+.1f} points"
        label = f"{change['label']}:  {saved.replace('-', MINUS)}"
        _point(axes, summaries[i], places[i], colour, MARKERS[i % len(MARKERS)], label)
        bend = f"arc3,rad={0.12 * (-1) ** i * ((i + 1) // 2)}"  # alternately to either side: ends often lie together
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "connectionstyle": bend, "shrinkA": 7, "shrinkB": 7}
        axes.annotate("", places[i], xytext=places[0], arrowprops=arrow)
    limit = summaries[0]["shortest_tokens_per_problem"]
    if limit is not None:
        axes.axvline(limit, label=f"shortest correct trace: {limit:.1f}", **LIMIT_LINE)
        axes.axvspan(0, limit, color="black", alpha=0.06, lw=0)
    high, low = max(place[1] for place in places) + 3, min(place[1] for place in places)
    axes.set_ylim(max(0.0, low - max(LEAST_RANGE, high - low)), high)  # the lower half stays free for the legend
    axes.set_xlim(0, 1.15 * max(place[0] for place in places))
    axes.set_xlabel("tokens per problem  (\N{LEFTWARDS ARROW} better)")
    axes.set_ylabel("accuracy, %  (\N{UPWARDS ARROW} better)")
    axes.set_title(f"{summaries[0]['problems']} held-out problems")
    axes.legend(loc="lower right", framealpha=1, edgecolor="none")


def _point(
    axes: "Axes", summary: dict[str, Any], place: tuple[float, float], colour: str, marker: str, label: str
) -> None:
    x_error, y_error = summary["tokens_per_problem_se"], summary["accuracy_se"]
    axes.errorbar(
        *place,
        xerr=x_error,
        yerr=None if y_error is None else 100 * y_error,
        fmt=marker,
        color=colour,
        markersize=9,
        capsize=3,
        zorder=3,
        label=label,
    )


def _training(
    axes: "Axes",
    curves: Sequence[tuple[TrainingLog, list[tuple[int, float]]]],
    colours: dict[str, str],
    before: dict[str, Any],
) -> None:
    for i, (log, points) in enumerate(curves, start=len(colours)):
        steps, lengths = zip(*points, strict=True)
        colour = colours.get(log.label, AFTER[i % len(AFTER)])
        name = log.label if log.problems == 1 else f"{log.label} ({log.problems} problems a prompt)"
        axes.plot(steps, [length / log.problems for length in lengths], color=colour, lw=2, label=name)
    limit = before["shortest_tokens_per_problem"]
    if limit is not None:
        axes.axhline(limit, label=f"shortest correct trace, held-out mean: {limit:.1f}", **LIMIT_LINE)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training step")
    axes.set_ylabel("tokens per problem in the batch")
    axes.set_title("Training")
    axes.legend(framealpha=1, edgecolor="none")
