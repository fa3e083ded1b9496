"""The commands ``evaluate offline`` and ``evaluate strategies``, which read stored responses."""

from pathlib import Path
from typing import Annotated

import typer

from verl_efficiency.commands.options import Stored, whole_numbers, with_options
from verl_efficiency.settings import SettingsError, require


@with_options
def offline_command(
    files: Annotated[
        list[str],
        typer.Argument(
            help="FILE or LABEL=FILE: .jsonl or .parquet, a row per response. The first is the base of AES."
        ),
    ],
    stored: Stored,
    prompt_tokens: Annotated[str | None, typer.Option(help="Column of the prompt's tokens, for --price-in.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="Column of the difficulty, a number.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit of the run: responses that long were cut off.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="Tokens up to which the accuracy curve goes. Default: the longest response.")
    ] = None,
    price_out: Annotated[float, typer.Option(help="Money for a million tokens of the responses.")] = 0.0,
    price_in: Annotated[float, typer.Option(help="Money for a million tokens of the prompts.")] = 0.0,
    png: Annotated[Path | None, typer.Option(help="Draw accuracy over the token limit; needs matplotlib.")] = None,
) -> None:
    """Measure stored generations: accuracy at a budget, what a cap would do, tokens and money per correct answer."""
    from rich.console import Console

    from verl_efficiency.data.files import require_ending
    from verl_efficiency.evaluation.efficiency import Prices, against, measure, paired
    from verl_efficiency.evaluation.plot import PICTURES, plot_budget
    from verl_efficiency.evaluation.report import write_result
    from verl_efficiency.evaluation.stored import read_files
    from verl_efficiency.evaluation.tables import efficiency_table

    prices = Prices(price_out, price_in)
    require(max_tokens is None or max_tokens >= 1, "--max-tokens", max_tokens, "at least 1")
    require(budget is None or budget >= 1, "--budget", budget, "at least 1 token")
    if png is not None:
        require_ending(png, "--png", PICTURES)
    columns = {"prompt_tokens": prompt_tokens, "difficulty": difficulty}
    read = read_files(files, stored, columns, max_tokens=max_tokens)
    for generations in read:
        if prices.prompt and generations.prompt_tokens_N is None:
            raise SettingsError(f"--price-in: {generations.label} needs --prompt-tokens COLUMN")
    if budget is None:
        budget = max(1, *(int(generations.tokens_N.max()) for generations in read))
    results = [measure(generations, budget, prices) | {"columns": generations.columns} for generations in read]
    for generations, result in zip(read[1:], results[1:], strict=True):
        result["against"] = against(results[0], result) | {"paired": paired(read[0], generations)}
    Console().print(efficiency_table(results))
    if stored.out is not None:
        write_result(stored.out, results)
    if png is not None:
        plot_budget(results, png)
        print(f"picture: {png}")


@with_options
def strategies_command(
    file: Annotated[str, typer.Argument(help="FILE: .jsonl or .parquet, a row per response, several a problem.")],
    stored: Stored,
    weight: Annotated[str | None, typer.Option(help="Column of a verifier's score, for the weighted vote.")] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Samples to draw of a problem, numbers with commas. Default: those of 2,4,8 that there are."),
    ] = None,
    caps: Annotated[
        str | None, typer.Option(help="Token limits to try; by default four quantiles of the lengths.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Replay test-time strategies on stored samples: caps, first finish, short-m@k, majority, early stop."""
    from rich.console import Console

    from verl_efficiency.evaluation.report import write_result
    from verl_efficiency.evaluation.stored import read_files
    from verl_efficiency.evaluation.strategies import replay
    from verl_efficiency.evaluation.tables import strategies_table

    sizes = None if samples is None else whole_numbers(samples, "--samples")
    limits = None if caps is None else [float(limit) for limit in whole_numbers(caps, "--caps")]
    (read,) = read_files([file], stored, {"weight": weight}, votes=True)
    results = replay(read, sizes, limits, seed)
    Console().print(strategies_table(results))
    if stored.out is not None:
        write_result(stored.out, results)
