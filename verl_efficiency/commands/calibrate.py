"""The command ``calibrate``."""

from pathlib import Path
from typing import Annotated

import typer

from verl_efficiency.commands.options import ScoreCorrect, ScoreWrong, score_range


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
    score_correct: ScoreCorrect = 1.0,
    score_wrong: ScoreWrong = 0.0,
    difficulty: Annotated[
        str,
        typer.Option(help="data (the rows' own), group (1 - smoothed solve rate of the group), auto (data if there)."),
    ] = "auto",
    tokenizer: Annotated[
        str | None, typer.Option(help="Model folder whose tokenizer counts the tokens of a dump, which has texts only.")
    ] = None,
    max_response_length: Annotated[
        int | None,
        typer.Option(
            help="Limit of a response: one of that length in a dump has no EOS to count. Also for laser_d's grid."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture (PNG) to draw; needs matplotlib.")] = Path("calibration.png"),
) -> None:
    """Fit a budget to stored rollouts, show what tighter and looser ones cost and save, and print settings to paste."""
    from verl_efficiency.evaluation.calibrate import calibrate

    scores = score_range(score_wrong, score_correct)
    calibrate(files, quantile, of, threshold, scores, difficulty, tokenizer, max_response_length, out)
