"""The commands ``verl-efficiency evaluate`` and ``verl-efficiency report``, as typer wants them."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_efficiency.settings import SettingsError


def evaluate_command(
    model: Annotated[str, typer.Argument(help="Model folder, hub name, verl checkpoint, or run folder (latest step).")],
    data: Annotated[Path, typer.Argument(help="Problems in verl's form: .parquet, .jsonl or .json.")],
    out: Annotated[Path, typer.Option(help="Where to write the result.")] = Path("evaluation.json"),
    rows: Annotated[Path | None, typer.Option(help="Also write every response, as JSON lines.")] = None,
    label: Annotated[str | None, typer.Option(help="Name in reports; by default the model as given.")] = None,
    reward: Annotated[str, typer.Option(help="accuracy, or batched_accuracy for packed prompts.")] = "accuracy",
    samples: Annotated[int, typer.Option(help="Responses per prompt.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a response.")] = 1024,
    batch_size: Annotated[int, typer.Option(help="Responses generated together.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the random draw.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, cpu, …")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (float32 on the CPU, else bfloat16), float16, …")] = "auto",
    chat_template: Annotated[str, typer.Option(help="Further arguments of the chat template, as JSON.")] = "{}",
) -> None:
    """Evaluate a model on held-out problems: accuracy, tokens per problem, tokens over the shortest."""
    # Here, so that the other commands start without torch, transformers and math-verify.
    from verl_efficiency.data.files import require_ending, write_text
    from verl_efficiency.evaluation.evaluate import evaluate
    from verl_efficiency.evaluation.generate import Sampling
    from verl_efficiency.evaluation.report import evaluation_table

    try:
        template = json.loads(chat_template)
    except json.JSONDecodeError as error:
        raise SettingsError(f"chat_template: must be JSON, got {chat_template!r} ({error})") from None
    if not isinstance(template, dict):
        raise SettingsError(f"chat_template: must be a JSON object, got {chat_template!r}")
    require_ending(out, "--out", (".json",))
    if rows is not None:
        require_ending(rows, "--rows", (".jsonl",))
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
    )
    write_text(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    Console().print(evaluation_table(result))
    print(f"result: {out}")


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
