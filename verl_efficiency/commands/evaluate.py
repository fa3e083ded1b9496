"""The commands ``evaluate MODEL``, ``evaluate task-scaling`` and ``report``."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from verl_efficiency.commands.options import Generating, Marker, StripThinking, score_range, whole_numbers, with_options

Model = Annotated[
    str, typer.Argument(help="Model folder, hub name, verl checkpoint or run folder; with --server its name there.")
]


# Defaults of `task-scaling --problems auto`
MAX_LOSS = 0.03
BY = "extra_info.difficulty"
BANDS = 3


@with_options
def evaluate_command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Problems in verl's form: .parquet, .jsonl or .json.")],
    generating: Generating,
    out: Annotated[Path, typer.Option(help="Where to write the result.")] = Path("evaluation.json"),
    rows: Annotated[Path | None, typer.Option(help="Also write every response, as JSON lines.")] = None,
    label: Annotated[str | None, typer.Option(help="Name in reports; by default the model as given.")] = None,
    reward: Annotated[str, typer.Option(help="accuracy, or batched_accuracy for packed prompts.")] = "accuracy",
    marker: Marker = None,
    strip_thinking: StripThinking = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a response, in tokens.")] = 1024,
) -> None:
    """Evaluate a model on held-out problems: accuracy, tokens per problem, tokens over the shortest."""
    from rich.console import Console

    from verl_efficiency.data.files import require_ending, require_other_file
    from verl_efficiency.evaluation.evaluate import evaluate
    from verl_efficiency.evaluation.results import write_result
    from verl_efficiency.evaluation.tables import evaluation_table

    template = generating.template()
    require_ending(out, "--out", (".json",))
    if rows is not None:
        require_ending(rows, "--rows", (".jsonl",))
    require_other_file(out, "--out", data)
    require_other_file(rows, "--rows", data)
    require_other_file(generating.store_file(out), "--store", data, out, rows)
    with generating.engine(model, out) as engine:
        result = evaluate(
            model,
            data,
            sampling=generating.sampling(max_new_tokens),
            reward=reward,
            samples=generating.samples,
            limit=limit,
            device=generating.device,
            dtype=generating.dtype,
            chat_template=template,
            label=label,
            rows_file=rows,
            engine=engine,
            marker=marker,
            strip_thinking=strip_thinking,
        )
    Console().print(evaluation_table(result))
    write_result(out, result)


@with_options
def task_scaling_command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Single problems in verl's form: .parquet, .jsonl or .json.")],
    generating: Generating,
    problems: Annotated[
        str | None,
        typer.Option(
            help="Problems in a prompt, numbers with commas; auto: chosen by the expected length of the answer. Default: those "
            "of 1,2,3,4,6 that there are."
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help=f"With auto: accuracy that packing may cost, in (0, 1). Default: {MAX_LOSS:g}, {100 * MAX_LOSS:g} points."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help=f"With auto: column of a number that says how long an answer will be, or `characters` of the problem. "
            f"Default: {BY}."
        ),
    ] = None,
    bands: Annotated[
        int | None, typer.Option(help=f"With auto: bands of expected length, each with its own N. Default: {BANDS}.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the result.")] = Path("task_scaling.json"),
    png: Annotated[Path | None, typer.Option(help="Draw tokens and accuracy over N; needs matplotlib.")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="A result of another model on the same data and N, to compare with; not with --problems auto."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name in reports; by default the model as given.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A packing setting, name=value; see `pack`. May be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Limit of a response in tokens, whatever the number of problems.")
    ] = 4096,
) -> None:
    """Ask N problems in one prompt, for several N: accuracy, tokens per problem, and the law that they follow."""
    from rich.console import Console

    from verl_efficiency.commands.pack import packing_settings
    from verl_efficiency.data.files import read_sample, require_ending, require_other_file
    from verl_efficiency.data.parquet import is_in_verls_form, load_verl_rows
    from verl_efficiency.evaluation.choose_plan import choose_plan
    from verl_efficiency.evaluation.plot import PICTURES, draw, save, scaling
    from verl_efficiency.evaluation.results import load_scaling, write_result
    from verl_efficiency.evaluation.tables import scaling_tables
    from verl_efficiency.evaluation.task_scaling import task_scaling
    from verl_efficiency.settings import SettingsError, require

    auto = problems == "auto"
    for option, value in (("--max-loss", max_loss), ("--by", by), ("--bands", bands)):
        require(auto or value is None, option, value, "used with --problems auto")
    sizes = None if problems is None or auto else sorted(set(whole_numbers(problems, "--problems")))
    require_ending(out, "--out", (".json",))
    if png is not None:
        require_ending(png, "--png", PICTURES)
    require_other_file(out, "--out", data, baseline)
    require_other_file(generating.store_file(out), "--store", data, out, baseline)
    require(not auto or baseline is None, "--baseline", str(baseline), "left out with --problems auto")
    before = None if baseline is None else load_scaling(baseline)
    others = [] if before is None else [before]
    settings = packing_settings(setting)
    template = generating.template()
    if not is_in_verls_form(read_sample(data, "data", 1).rows):
        raise SettingsError(
            f"data: {data} is not in verl's form, with columns prompt and reward_model; `verl-efficiency pack {data} "
            "NEW.parquet --problems 1` writes raw problems so"
        )
    load_verl_rows(data)  # a wrong row is refused before a model is loaded
    with generating.engine(model, out) as engine:
        if engine is None:
            from verl_efficiency.evaluation.generate import transformers_engine

            engine = transformers_engine(model, generating.device, generating.dtype)
        asking: dict[str, Any] = {
            "sampling": generating.sampling(max_new_tokens),
            "samples": generating.samples,
            "limit": limit,
            "chat_template": template,
            "label": label or model,
        }
        if auto:
            result = choose_plan(
                engine,
                data,
                settings,
                by=by or BY,
                bands=BANDS if bands is None else bands,
                max_loss=MAX_LOSS if max_loss is None else max_loss,
                **asking,
            )
        else:
            result = task_scaling(engine, data, sizes, {"grouping": "random"} | settings, baseline=before, **asking)
    for one in (*others, result):
        Console().print(*scaling_tables(one))
    if png is not None:
        both = [*others, result]
        save(draw(partial(scaling, results=both), partial(scaling, results=both, name="accuracy")), png)
        print(f"picture: {png}")
    write_result(out, result)


@with_options
def live_command(
    model: Annotated[str, typer.Argument(help="The model's name on the server.")],
    data: Annotated[Path, typer.Argument(help="Single problems in verl's form: .parquet, .jsonl or .json.")],
    generating: Generating,
    strategies: Annotated[
        str,
        typer.Option(
            help="With commas: plain, cap@TOKENS (a hard cut), think@TOKENS (then the thought is closed and the answer asked "
            "for), first-finish@K, short-M@K, majority@K, early-stop@K."
        ),
    ] = "plain,first-finish@4,short-3@8,majority@8,early-stop@8",
    accuracy: Annotated[
        float | None, typer.Option(help="Name the cheapest strategy that reaches this accuracy, in (0, 1].")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the result.")] = Path("strategies.json"),
    marker: Marker = None,
    strip_thinking: StripThinking = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a response, in tokens.")] = 1024,
    label: Annotated[str | None, typer.Option(help="Name in reports; by default the model as given.")] = None,
) -> None:
    """Run test-time strategies on a server. A request is cancelled when its strategy has the answer; its cost counts."""
    from dataclasses import asdict
    from importlib.metadata import version

    from rich.console import Console

    from verl_efficiency.data.files import require_ending, require_other_file
    from verl_efficiency.evaluation.evaluate import grade_text
    from verl_efficiency.evaluation.live import run_live
    from verl_efficiency.evaluation.plans import parse_plan
    from verl_efficiency.evaluation.prompts import load_prompts
    from verl_efficiency.evaluation.results import result_of_rows, write_result
    from verl_efficiency.evaluation.tables import strategies_table
    from verl_efficiency.grading import require_marker
    from verl_efficiency.settings import require

    require(generating.samples == 1, "--samples", generating.samples, "left out; each strategy says how many it takes")
    require_ending(out, "--out", (".json",))
    require_other_file(out, "--out", data)
    require_other_file(generating.store_file(out), "--store", data, out)
    require(accuracy is None or 0 < accuracy <= 1, "--accuracy", accuracy, "in (0, 1]")
    plans = [parse_plan(text) for text in strategies.split(",")]
    require_marker(marker, "--marker")
    grade = partial(grade_text, marker=marker, strip_thinking=strip_thinking)
    prompts = load_prompts(data, limit)
    for prompt in prompts:  # an empty response finds a bad ground truth before anything is asked
        grade(prompt, "")
    sampling, template = generating.sampling(max_new_tokens), generating.template()
    with generating.server_for(model, out) as server:
        results = run_live(
            prompts, plans, sampling, server, grade, template, marker=marker, strip_thinking=strip_thinking
        )
    Console().print(strategies_table(results, accuracy))
    result = result_of_rows(
        "evaluate live",
        label or model,
        results,
        model=model,
        data=str(data),
        limit=limit,
        sampling={name: value for name, value in asdict(sampling).items() if name != "batch_size"},
        chat_template=template,
        server=server.url,
        marker=marker,
        strip_thinking=strip_thinking,
    )
    result["versions"]["openai"] = version("openai")
    write_result(out, result)


def report_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Results of evaluate on the same problems, the first is 'before'; of its other commands too."
        ),
    ],
    log: Annotated[
        list[str] | None,
        typer.Option(
            help="LABEL=RUN or LABEL=RUN:PROBLEMS_PER_PROMPT; RUN is a log or a run's folder, see `diagnose`."
        ),
    ] = None,
    score_correct: Annotated[float, typer.Option(help="Score of a correct answer in the --log runs.")] = 1.0,
    score_wrong: Annotated[float, typer.Option(help="Score of a wrong answer in the --log runs, such as -1.")] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Page (.html) or picture (.png, .pdf, .svg) to write; needs matplotlib.")
    ] = None,
    rows: Annotated[
        list[Path] | None,
        typer.Option(help="Rows of `evaluate --rows`, whose answers the page shows. May be repeated."),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for the page's pictures as PNG files.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Also log the results with verl's Tracking: wandb, tensorboard, mlflow, … May be repeated."),
    ] = None,
    project: Annotated[str, typer.Option(help="Project name for --track.")] = "verl_efficiency",
) -> None:
    """Print the tables of results, evaluations before and after; write a page that opens without a network, or a picture."""
    from verl_efficiency.evaluation.report import report
    from verl_efficiency.evaluation.results import load_result
    from verl_efficiency.evaluation.training_log import parse_training_log
    from verl_efficiency.settings import require

    scores = score_range(score_wrong, score_correct)
    given = None if scores == (0, 1) or log else scores
    require(given is None, "--score-wrong, --score-correct", given, "used with --log, whose runs have these scores")
    report(results, [parse_training_log(text, scores) for text in log or []], out, rows or [], png)
    if track:
        from verl_efficiency.verl.tracking import track_results

        track_results(track, project, [load_result(path) for path in results])
