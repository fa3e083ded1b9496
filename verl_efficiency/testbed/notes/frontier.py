"""What the best policy with a model's skill could reach: ``python -m verl_efficiency.testbed.notes.frontier``.

The model answers the test problems in each style of notes, without sampling: that is what remains once training has removed the
noise. A policy may use another style at each level. The frontier is the highest mean accuracy of such policies for a number of
tokens; between two of them a policy may mix. ``frontier.json`` in this folder is the frontier of the committed warm start.

Training may also improve the skill itself, so a trained model can get below its warm start's frontier.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from verl_efficiency.settings import SettingsError

STORED = Path(__file__).parent / "frontier.json"
STYLES: dict[str, int | None] = {"no note": 0, "every third": 3, "every second": 2, "every": 1, "after zeros too": None}

Point = tuple[float, float]  # tokens, accuracy


def upper_hull(points: Sequence[Point]) -> list[Point]:
    """The concave upper hull, from the cheapest point to the most accurate one.

    >>> upper_hull([(16, 0.5), (23, 0.4), (30, 0.9), (44, 0.95), (37, 0.91)])
    [(16, 0.5), (30, 0.9), (44, 0.95)]
    """
    hull: list[Point] = []
    for tokens, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if hull and accuracy <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], (tokens, accuracy)):
            hull.pop()
        hull.append((tokens, accuracy))
    return hull


def mean_frontier(levels: Sequence[Sequence[Point]]) -> list[Point]:
    """The frontier of the means over the levels: it buys accuracy where it costs least, level by level.

    >>> mean_frontier([[(16, 0.5), (20, 0.9)], [(16, 0.2), (26, 0.4)]])
    [(16.0, 0.35), (18.0, 0.55), (23.0, 0.65)]
    """
    hulls = [upper_hull(points) for points in levels]
    steps = [pair for hull in hulls for pair in itertools.pairwise(hull)]
    steps.sort(key=lambda step: -_slope(*step))
    tokens = sum(hull[0][0] for hull in hulls)
    accuracy = sum(hull[0][1] for hull in hulls)
    frontier = [(tokens, accuracy)]
    for start, end in steps:
        tokens, accuracy = tokens + end[0] - start[0], accuracy + end[1] - start[1]
        frontier.append((tokens, accuracy))
    return [(round(tokens / len(levels), 4), round(accuracy / len(levels), 4)) for tokens, accuracy in frontier]


def tokens_at(frontier: Sequence[Point], accuracy: float) -> float:
    """Tokens of the frontier at an accuracy; its ends where the accuracy is below or above it.

    >>> tokens_at([(16, 0.5), (26, 1.0)], 0.75)
    21.0
    """
    return float(np.interp(accuracy, [point[1] for point in frontier], [point[0] for point in frontier]))


def load(path: Path = STORED) -> list[Point]:
    """The stored frontier, ``[(tokens, accuracy), …]``.

    Raises:
        SettingsError: the file is not there.
    """
    if not path.is_file():
        raise SettingsError(f"frontier: no file {path}; python -m verl_efficiency.testbed.notes.frontier writes it")
    return [tuple(point) for point in json.loads(path.read_text())["frontier"]]


def points_by_level(measured: Mapping[str, Mapping[str, Sequence[float]]], levels: int) -> list[list[Point]]:
    """Tokens and accuracy of each style, one list per level."""
    return [
        [(style["tokens"][level], style["accuracy"][level]) for style in measured.values()] for level in range(levels)
    ]


def _slope(start: Point, end: Point) -> float:
    return (end[1] - start[1]) / (end[0] - start[0]) if end[0] > start[0] else float("inf")


def main(
    model: Annotated[Path | None, typer.Option(help="a model folder; the committed warm start unless given")] = None,
    out: Annotated[Path, typer.Option(help="JSON file to write")] = STORED,
    samples: Annotated[int, typer.Option(help="test problems, a multiple of 6 for a balance over the levels")] = 960,
) -> None:
    """Measure the frontier of a model."""
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    from verl_efficiency.testbed.notes.styles import answer_in_style
    from verl_efficiency.testbed.prepare import problems
    from verl_efficiency.testbed.tasks import task_named

    torch.set_num_threads(1)
    task = task_named("notes")
    folder = model or task.warm_start
    network = Qwen2ForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    drawn = problems(task, "test", samples, seed=0)
    levels = np.array([task.level(problem) for problem in drawn])
    counts = np.bincount(levels, minlength=len(task.levels))
    measured: dict[str, dict[str, dict[str, list[float]]]] = {}
    for drawing in (False, True):
        torch.manual_seed(0)
        of_style = {}
        for name, every in STYLES.items():
            answers = answer_in_style(network, tokenizer, drawn, every, sample=drawing)
            correct, tokens = (np.bincount(levels, np.asarray(column, float)) / counts for column in answers)
            of_style[name] = {"accuracy": correct.round(4).tolist(), "tokens": tokens.round(3).tolist()}
        measured["temperature 1" if drawing else "greedy"] = of_style
    frontier = mean_frontier(points_by_level(measured["greedy"], len(task.levels)))
    result = {"problems": samples, "split": "test", "frontier": frontier, "styles_by_level": measured}
    out.write_text(json.dumps(result, indent=1) + "\n")
    for tokens, accuracy in frontier:
        print(f"{accuracy:.3f} @ {tokens:.1f} tokens")


if __name__ == "__main__":
    typer.run(main)
