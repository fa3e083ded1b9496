"""The best that a policy can reach with a model's skill: ``python -m verl_efficiency.testbed.notes.frontier``.

The model answers problems in every style of notes. It takes the most likely token each time, since training removes the noise
of sampling. A policy has a style for each level, or mixes two. The frontier is the highest mean accuracy of such policies for a
number of tokens. Problems of the train split, which the warm start has never seen, select the styles; test problems measure
them. ``frontier.json`` in this folder is the frontier of the committed warm start.

Training can also improve the skill itself, so a trained model can need fewer tokens than its warm start's frontier.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track

from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.notes.task import LEVELS, styles

STORED = Path(__file__).parent / "frontier.json"
Point = tuple[float, float]  # tokens, accuracy


def upper_hull(points: Sequence[Point]) -> list[Point]:
    """The concave upper hull, from the cheapest point to the most accurate.

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
    """The frontier of the means over the levels: each step buys accuracy at the level where it is cheapest.

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
    """Tokens of the frontier at an accuracy; beyond its ends, the tokens of that end.

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
        raise SettingsError(
            f"frontier: there is no file {path}; python -m verl_efficiency.testbed.notes.frontier writes it"
        )
    return [tuple(point) for point in json.loads(path.read_text())["frontier"]]


def chosen_styles(points: Mapping[str, Point]) -> list[str]:
    """The styles on the hull of a level, the cheapest first."""
    hull = upper_hull(list(points.values()))
    return [next(style for style, point in points.items() if point == corner) for corner in hull]


def _slope(start: Point, end: Point) -> float:
    return (end[1] - start[1]) / (end[0] - start[0]) if end[0] > start[0] else float("inf")


def main(
    model: Annotated[Path | None, typer.Option(help="a model folder; the committed warm start unless given")] = None,
    out: Annotated[Path, typer.Option(help="JSON file to write")] = STORED,
    samples: Annotated[int, typer.Option(help="problems per level and split")] = 160,
) -> None:
    """Measure the frontier of a model; about a minute on an idle core."""
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    from verl_efficiency.testbed.notes.styles import answer_in_style
    from verl_efficiency.testbed.prepare import problems
    from verl_efficiency.testbed.tasks import task_named

    torch.set_num_threads(1)
    task = task_named("notes")
    folder = model or task.warm_start
    network = Qwen2ForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def measure(level: int, split: str, style: str) -> Point:
        drawn: list[Any] = list(problems(task, split, samples * LEVELS, seed=0))
        of_level = [problem for problem in drawn if problem.level == level]
        correct, tokens = answer_in_style(network, tokenizer, of_level, style)
        return round(float(np.mean(tokens)), 3), round(float(np.mean(correct)), 4)

    levels = []
    for level in track(range(LEVELS), description="levels"):
        tried = {style: measure(level, "train", style) for style in styles(level)}
        levels.append({style: measure(level, "test", style) for style in chosen_styles(tried)})
    frontier = mean_frontier([list(level.values()) for level in levels])
    result = {"problems_per_level": samples, "frontier": frontier, "styles_by_level": levels}
    out.write_text(json.dumps(result, indent=1) + "\n")
    for tokens, accuracy in frontier:
        print(f"{accuracy:.3f} @ {tokens:.1f} tokens")


if __name__ == "__main__":
    typer.run(main)
