"""The commands ``evaluate MODEL``, ``evaluate task-scaling`` and ``report``, as typer wants them."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from verl_efficiency.settings import SettingsError, require

if TYPE_CHECKING:
    from verl_efficiency.evaluation.engines import Engine

Model = Annotated[
    str, typer.Argument(help="Model folder, hub name, verl checkpoint or run folder; with --server its name there.")
]
Samples = Annotated[int, typer.Option(help="Responses per prompt.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="Nucleus sampling.")]
BatchSize = Annotated[int, typer.Option(help="Responses generated together.")]
Seed = Annotated[int, typer.Option(help="Of the random draw.")]
Device = Annotated[str, typer.Option(help="auto, cuda, cpu, …")]
Dtype = Annotated[str, typer.Option(help="auto (float32 on the CPU, else bfloat16), float16, …")]
ChatTemplate = Annotated[str, typer.Option(help="Further arguments of the chat template, as JSON.")]
ServerUrl = Annotated[
    str | None, typer.Option(help="Ask this OpenAI-compatible server (http://host:8000/v1); MODEL is its name there.")
]
Store = Annotated[
    Path | None, typer.Option(help="Where a server's responses are kept. Default: OUT with .responses.jsonl.")
]
Concurrency = Annotated[int, typer.Option(help="Requests to the server at a time.")]
Retries = Annotated[int, typer.Option(help="Further tries of a request that fails (429, 5xx, time-out).")]
Timeout = Annotated[float, typer.Option(help="Seconds for one response of the server.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="Model whose tokenizer counts where the server does not, and checks it.")
]


def evaluate_command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Problems in verl's form: .parquet, .jsonl or .json.")],
    out: Annotated[Path, typer.Option(help="Where to write the result.")] = Path("evaluation.json"),
    rows: Annotated[Path | None, typer.Option(help="Also write every response, as JSON lines.")] = None,
    label: Annotated[str | None, typer.Option(help="Name in reports; by default the model as given.")] = None,
    reward: Annotated[str, typer.Option(help="accuracy, or batched_accuracy for packed prompts.")] = "accuracy",
    samples: Samples = 1,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a response.")] = 1024,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    chat_template: ChatTemplate = "{}",
    server: ServerUrl = None,
    store: Store = None,
    concurrency: Concurrency = 32,
    retries: Retries = 4,
    timeout: Timeout = 1800.0,
    tokenizer: Tokenizer = None,
) -> None:
    """Evaluate a model on held-out problems: accuracy, tokens per problem, tokens over the shortest."""
    # Here, so that the other commands start without torch, transformers and math-verify.
    from verl_efficiency.data.files import require_ending, require_other_file, write_text
    from verl_efficiency.evaluation.engines import Sampling
    from verl_efficiency.evaluation.evaluate import evaluate
    from verl_efficiency.evaluation.report import evaluation_table

    template = _chat_template(chat_template)
    require_ending(out, "--out", (".json",))
    if rows is not None:
        require_ending(rows, "--rows", (".jsonl",))
    store = _store(server, store, out)
    require_other_file(out, "--out", data)
    require_other_file(rows, "--rows", data)
    require_other_file(store, "--store", data, out, rows)
    result = evaluate(
        model,
        data,
        sampling=Sampling(temperature, top_p, max_new_tokens, batch_size, seed),
        reward=reward,
        samples=samples,
        limit=limit,
        device=device,
        dtype=dtype,
        chat_template=template,
        label=label,
        rows_file=rows,
        engine=_server_engine(model, server, store, concurrency, retries, timeout, tokenizer),
    )
    write_text(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    Console().print(evaluation_table(result))
    print(f"result: {out}")


def task_scaling_command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Single problems: parquet file in verl's form.")],
    problems: Annotated[
        str | None,
        typer.Option(help="Problems in a prompt, numbers with commas. Default: those of 1,2,3,4,6 that there are."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the result.")] = Path("task_scaling.json"),
    png: Annotated[Path | None, typer.Option(help="Draw tokens and accuracy over N; needs matplotlib.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="A result of another model, to compare with.")] = None,
    label: Annotated[str | None, typer.Option(help="Name in reports; by default the model as given.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A packing setting, name=value; see `pack`. May be repeated.")
    ] = None,
    samples: Samples = 1,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a response, whatever the number of problems.")] = 4096,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    chat_template: ChatTemplate = "{}",
    server: ServerUrl = None,
    store: Store = None,
    concurrency: Concurrency = 32,
    retries: Retries = 4,
    timeout: Timeout = 1800.0,
    tokenizer: Tokenizer = None,
) -> None:
    """Ask N problems in one prompt, for several N: accuracy, tokens per problem, and the law that they follow."""
    from verl_efficiency.data.cli import packing_settings
    from verl_efficiency.data.files import require_ending, require_other_file, write_text
    from verl_efficiency.evaluation.engines import Sampling
    from verl_efficiency.evaluation.plot import PICTURES
    from verl_efficiency.evaluation.task_scaling import load_scaling, plot_scaling, scaling_table, task_scaling

    sizes = None if problems is None else _sizes(problems)
    require_ending(out, "--out", (".json",))
    if png is not None:
        require_ending(png, "--png", PICTURES)
    store = _store(server, store, out)
    require_other_file(out, "--out", data, baseline)
    require_other_file(store, "--store", data, out, baseline)
    other = None if baseline is None else load_scaling(baseline)
    settings = {"grouping": "random"} | packing_settings(setting)
    template = _chat_template(chat_template)
    engine = _server_engine(model, server, store, concurrency, retries, timeout, tokenizer)
    if engine is None:
        from verl_efficiency.evaluation.generate import transformers_engine

        engine = transformers_engine(model, device, dtype)
    result = task_scaling(
        engine,
        data,
        sizes,
        settings,
        sampling=Sampling(temperature, top_p, max_new_tokens, batch_size, seed),
        samples=samples,
        limit=limit,
        chat_template=template,
        label=label or model,
    )
    write_text(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    results = [result] if other is None else [other, result]
    for one in results:
        Console().print(scaling_table(one))
    if png is not None:
        plot_scaling(results, png)
        print(f"picture: {png}")
    print(f"result: {out}")


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    fine = all(part.isdecimal() and int(part) for part in parts)
    require(fine, "--problems", text, "whole numbers of at least 1, with commas")
    return sorted({int(part) for part in parts})


def _chat_template(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"chat_template: must be JSON, got {text!r} ({error})") from None


def _store(url: str | None, store: Path | None, out: Path) -> Path | None:
    """The file of a server's responses, None without a server."""
    require(url is not None or store is None, "--store", store, "used with --server")
    return None if url is None else store or out.with_suffix(".responses.jsonl")


def _server_engine(
    model: str,
    url: str | None,
    store: Path | None,
    concurrency: int,
    retries: int,
    timeout: float,
    tokenizer: str | None,
) -> "Engine | None":
    """The engine of ``--server``, None without it."""
    from verl_efficiency.evaluation.server import Server, server_engine

    if url is None or store is None:
        require(tokenizer is None, "--tokenizer", tokenizer, "used with --server")
        return None
    server = Server(
        url=url,
        model=model,
        store=store,
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        tokenizer=tokenizer,
    )
    return server_engine(server)


def report_command(
    results: Annotated[
        list[Path], typer.Argument(help="Results of evaluate on the same problems; the first is 'before'.")
    ],
    log: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=FILE or LABEL=FILE:PROBLEMS_PER_PROMPT, a log of verl's file or console logger."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture (PNG) to draw; needs matplotlib.")] = None,
) -> None:
    """Print accuracy and tokens before and after, and draw the picture."""
    from verl_efficiency.evaluation.report import report
    from verl_efficiency.evaluation.training_log import parse_training_log

    report(results, [parse_training_log(text) for text in log or []], out)
