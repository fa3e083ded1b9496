"""The picture of :mod:`verl_efficiency.evaluation.calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from verl_efficiency.evaluation.plot import AFTER, BEFORE, blank_figure, save

if TYPE_CHECKING:
    from verl_efficiency.evaluation.calibrate import CorrectAnswers

MAX_BOXES = 12


def plot_fit(
    answers: "CorrectAnswers", fit: tuple[float, float], fits_R2: np.ndarray, quantile: float, out: Path
) -> None:
    """Write a PNG: lengths of correct answers against difficulty, the fitted budget, and what an unset budget follows.

    Raises:
        SettingsError: matplotlib is not installed.
    """
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
    grid = np.linspace(0, 1, 51)
    lines_RX = fits_R2[:, :1] + (fits_R2[:, 1:] - fits_R2[:, :1]) * grid
    band = np.quantile(lines_RX, [0.025, 0.975], axis=0)
    axes.fill_between(grid, *band, color=AFTER[0], alpha=0.2, lw=0, label="95 % of the fits to redrawn problems")
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
    axes.set_xlabel(f"difficulty ({answers.source})")
    axes.set_ylabel("tokens of a correct answer")
    axes.set_title(f"{len(lengths_C)} correct of {answers.rollouts} rollouts")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    save(figure, out)
