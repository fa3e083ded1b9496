"""``verl-efficiency evaluate offline``: what stored generations of any tool cost and are worth, without a model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from verl_efficiency.data.files import require_ending, write_text
from verl_efficiency.evaluation import stored_options as options
from verl_efficiency.evaluation.efficiency import Prices, against, measure, paired
from verl_efficiency.evaluation.plot import PICTURES
from verl_efficiency.evaluation.plot_budget import plot_budget
from verl_efficiency.settings import SettingsError, require


def offline_command(
    files: Annotated[
        list[str],
        typer.Argument(
            help="FILE or LABEL=FILE: .jsonl or .parquet, a row per response. The first is the base of AES."
        ),
    ],
    problem: options.Problem = None,
    response: options.Response = None,
    correct: options.Correct = None,
    answer: options.Answer = None,
    answer_after: options.AnswerAfter = None,
    answer_in_box: options.AnswerInBox = False,
    marker: options.Marker = None,
    strip_thinking: options.StripThinking = False,
    tokens: options.Tokens = None,
    tokenizer: options.Tokenizer = None,
    prompt_tokens: Annotated[str | None, typer.Option(help="Column of the prompt's tokens, for --price-in.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="Column of the difficulty, a number.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit of the run: responses that long were cut off.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="Tokens up to which the accuracy curve goes. Default: the longest response.")
    ] = None,
    price_out: Annotated[float, typer.Option(help="Money for a million tokens of the responses.")] = 0.0,
    price_in: Annotated[float, typer.Option(help="Money for a million tokens of the prompts.")] = 0.0,
    out: options.Out = None,
    png: Annotated[Path | None, typer.Option(help="Draw accuracy over the token limit; needs matplotlib.")] = None,
) -> None:
    """Measure stored generations: accuracy at a budget, what a cap would do, tokens and money per correct answer."""
    prices = Prices(price_out, price_in)
    require(max_tokens is None or max_tokens >= 1, "--max-tokens", max_tokens, "at least 1")
    require(budget is None or budget >= 1, "--budget", budget, "at least 1 token")
    if png is not None:
        require_ending(png, "--png", PICTURES)
    chosen = {
        "problem": problem,
        "response": response,
        "correct": correct,
        "tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "difficulty": difficulty,
    }
    read = options.read_files(
        files,
        chosen,
        answer=answer,
        answer_after=answer_after,
        answer_in_box=answer_in_box,
        marker=marker,
        strip_thinking=strip_thinking,
        out=out,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
    )
    for generations in read:
        if prices.prompt and generations.prompt_tokens_N is None:
            raise SettingsError(f"--price-in: {generations.label} needs --prompt-tokens COLUMN")
    if budget is None:
        budget = max(1, *(int(generations.tokens_N.max()) for generations in read))
    results = [measure(generations, budget, prices) for generations in read]
    for generations, result in zip(read, results, strict=True):
        result["columns"] = generations.columns
    for generations, result in zip(read[1:], results[1:], strict=True):
        result["against"] = against(results[0], result) | {"paired": paired(read[0], generations)}
    Console().print(table(results))
    if out is not None:
        write_text(out, json.dumps(results, indent=1) + "\n")
        print(f"numbers: {out}")
    if png is not None:
        plot_budget(results, png)
        print(f"picture: {png}")


def table(results: Sequence[dict[str, Any]]) -> Table:
    """A row per number, a column per file; rows that no file has are left out."""
    shown = Table(
        box=box.SIMPLE,
        pad_edge=False,
        caption="± one standard error, responses to one problem counted as one draw; change and ratio are paired by problem. "
        "Budget C: the accuracy under a limit of b tokens, averaged over b from 0 to C. Doubts and checks: words such as "
        "'wait' and 'let me verify', a response. AES: weights 1 (length), 3 (gain), "
        "5 (loss), against the first file. OckScore: 100 · accuracy − 10 · log10(tokens/10,000 + 1).",
        caption_justify="left",
    )
    shown.add_column("", no_wrap=True)
    for result in results:
        shown.add_column(result["label"], justify="right", overflow="fold")
    for name, cell in _LINES:
        cells = [cell(result) for result in results]
        if any(cells):
            shown.add_row(name, *cells)
    return shown


def _value(name: str, scale: float = 1, digits: int = 1) -> Any:
    def cell(result: dict[str, Any]) -> str:
        return _text(result.get(name), result.get(f"{name}_se"), scale, digits)

    return cell


def _text(value: float | None, error: float | None = None, scale: float = 1, digits: int = 1, sign: str = "") -> str:
    if value is None:
        return ""
    text = f"{value * scale:{sign},.{digits}f}"
    return text if error is None else f"{text} ± {error * scale:,.{digits}f}"


def _inside(*path: str, scale: float = 1, digits: int = 1, sign: str = "") -> Any:
    def cell(result: dict[str, Any]) -> str:
        value: Any = result
        for name in path[:-1]:
            value = value.get(name) or {}
        return _text(value.get(path[-1]), value.get(f"{path[-1]}_se"), scale, digits, sign)

    return cell


def _pass_at(result: dict[str, Any]) -> str:
    return "  ".join(f"@{k} {100 * value:.1f}" for k, value in result["pass_at"].items() if k != "1")


def _line(result: dict[str, Any]) -> str:
    fit = result["by_difficulty"]
    if fit is None:
        return ""
    explained = "" if fit["r2"] is None else f", r² {fit['r2']:.2f}"
    return f"{fit['easiest']:,.0f} to {fit['hardest']:,.0f}{explained}"


_LINES = (
    ("responses", _value("responses", digits=0)),
    ("problems", _value("problems", digits=0)),
    ("accuracy, %", _value("accuracy", 100)),
    ("  change, points", _inside("against", "paired", "accuracy_change", scale=100, sign="+")),
    ("pass, %", _pass_at),
    ("tokens", _value("tokens")),
    ("  ratio", _inside("against", "paired", "tokens_ratio", digits=3)),
    ("  median", _value("tokens_median", digits=0)),
    ("  90th percentile", _value("tokens_p90", digits=0)),
    ("  when correct", _value("tokens_correct")),
    ("  when wrong", _value("tokens_wrong")),
    ("  easiest to hardest", _line),
    ("cut off, %", _value("truncated", 100)),
    ("tokens per correct", _value("tokens_per_correct")),
    ("money per correct", _value("money_per_correct", digits=6)),
    ("budget C, tokens", _value("budget", digits=0)),
    ("accuracy, mean to C", _value("area", 100)),
    ("normalised regret", _value("normalised_regret", digits=3)),
    ("cap for 1 point less", _value("cap", digits=0)),
    ("  tokens under it", _value("tokens_under_cap")),
    ("AES", _inside("against", "aes", digits=3, sign="+")),
    ("OckScore", _value("ock_score", digits=2)),
    ("looping, %", _value("looping", 100)),
    ("doubts when correct", _value("hedging_correct", digits=2)),
    ("doubts when wrong", _value("hedging_wrong", digits=2)),
    ("checks when correct", _value("checking_correct", digits=2)),
    ("checks when wrong", _value("checking_wrong", digits=2)),
)
