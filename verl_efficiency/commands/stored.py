"""The commands ``evaluate offline`` and ``evaluate strategies``, which read stored responses."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verl_efficiency.commands.options import Stored, UseRay, score_range, whole_numbers, with_options
from verl_efficiency.settings import SettingsError, require

if TYPE_CHECKING:
    from verl_efficiency.evaluation.generations import Generations


@with_options
def offline_command(
    files: Annotated[
        list[str],
        typer.Argument(
            help="FILE or LABEL=FILE: .jsonl or .parquet, a row per response; or a folder of .jsonl files, read as one. The "
            "first is the base of AES."
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
    label: Annotated[
        str | None, typer.Option(help="Name of the result in reports. Default: the name of --out, without .json.")
    ] = None,
    ray: UseRay = False,
) -> None:
    """Measure stored generations: accuracy at a budget, what a cap would do, tokens and money per correct answer."""
    from rich.console import Console

    from verl_efficiency.data.files import require_ending
    from verl_efficiency.evaluation.efficiency import Prices, against, measure, paired
    from verl_efficiency.evaluation.plot import PICTURES, accuracy_at_budget, draw, save
    from verl_efficiency.evaluation.results import result_of_rows, write_result
    from verl_efficiency.evaluation.tables import efficiency_table

    prices = Prices(price_out, price_in)
    require(budget is None or budget >= 1, "--budget", budget, "at least 1 token")
    require(label is None or stored.out is not None, "--label", label, "used with --out")
    if png is not None:
        require_ending(png, "--png", PICTURES)
    columns = {"prompt_tokens": prompt_tokens, "difficulty": difficulty}
    read = read_files(files, stored, columns, max_tokens=max_tokens, ray=ray)
    for generations in read:
        if prices.prompt and generations.prompt_tokens_N is None:
            raise SettingsError(f"--price-in: {generations.label} needs --prompt-tokens COLUMN")
    if budget is None:
        budget = max(1, *(int(generations.tokens_N.max()) for generations in read))
    results = [measure(generations, budget, prices) for generations in read]
    for generations, result in zip(read[1:], results[1:], strict=True):
        result["against"] = against(results[0], result) | {"paired": paired(read[0], generations)}
    Console().print(efficiency_table(results))
    for result in results[1:]:
        shared, most = result["against"]["paired"]["problems"], max(result["problems"], results[0]["problems"])
        if shared < most:
            print(
                f"{result['label']}: only {shared} of {most} problems are in {results[0]['label']} too. The change and the "
                "ratio are of these, AES compares all."
            )
    if stored.out is not None:
        result = result_of_rows(
            "evaluate offline",
            label or stored.out.stem,
            results,
            data={name: str(path) for name, path in map(label_and_path, files)},
            columns={generations.label: generations.columns for generations in read},
            reading=how_read(stored),
            budget=budget,
            max_tokens=max_tokens,
            prices={"out": price_out, "in": price_in},
        )
        write_result(stored.out, result)
    if png is not None:
        save(draw(partial(accuracy_at_budget, results=results), size=(6.5, 4.4)), png)
        print(f"picture: {png}")


@with_options
def strategies_command(
    file: Annotated[
        str,
        typer.Argument(
            help="FILE or LABEL=FILE: .jsonl or .parquet, a row per response, several a problem; or a folder of .jsonl files, "
            "read as one."
        ),
    ],
    stored: Stored,
    weight: Annotated[str | None, typer.Option(help="Column of a verifier's score, for the weighted vote.")] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Samples to draw of a problem, numbers with commas. Default: those of 2,4,8 that there are."),
    ] = None,
    caps: Annotated[
        str | None, typer.Option(help="Token limits to try, hard cuts; by default four quantiles of the lengths.")
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(help="Name the cheapest strategy that reaches this accuracy, in (0, 1].")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Limit of the run: a response that long has no end token to count (--tokenizer).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Replay test-time strategies on stored samples: caps, first finish, short-m@k, majority, early stop.

    A thinking budget cannot be replayed, `evaluate live --strategies think@TOKENS` asks a server.
    """
    from rich.console import Console

    from verl_efficiency.evaluation.results import result_of_rows, write_result
    from verl_efficiency.evaluation.strategies import replay
    from verl_efficiency.evaluation.tables import strategies_table

    require(accuracy is None or 0 < accuracy <= 1, "--accuracy", accuracy, "in (0, 1]")
    require(seed >= 0, "--seed", seed, "a whole number of at least 0")
    sizes = None if samples is None else whole_numbers(samples, "--samples")
    limits = None if caps is None else [float(limit) for limit in whole_numbers(caps, "--caps")]
    (read,) = read_files([file], stored, {"weight": weight}, votes=True, max_tokens=max_tokens)
    results = replay(read, sizes, limits, seed)
    Console().print(strategies_table(results, accuracy))
    if stored.out is not None:
        result = result_of_rows(
            "evaluate strategies",
            read.label,
            results,
            data=str(label_and_path(file)[1]),
            columns=read.columns,
            reading=how_read(stored),
            samples=sizes,
            caps=limits,
            max_tokens=max_tokens,
            seed=seed,
        )
        write_result(stored.out, result)


def label_and_path(text: str) -> tuple[str, Path]:
    """Parse ``FILE`` or ``LABEL=FILE``; a folder counts as a file.

    >>> label_and_path("before=rollouts/0.jsonl")[0], label_and_path("rollouts/0.jsonl")[0]
    ('before', '0')
    """
    label, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        label, path = Path(text).stem, text
    require(bool(label and path), "files", text, "FILE or LABEL=FILE")
    return label, Path(path)


def how_read(options: Stored) -> dict[str, Any]:
    """The options that say how a response is read and graded, without those left at their default."""
    named = ("answer_after", "answer_in_box", "marker", "strip_thinking", "tokenizer", "score_correct", "score_wrong")
    return {name: value for name in named if (value := getattr(options, name)) != getattr(Stored, name)}


def read_files(
    files: Sequence[str],
    options: Stored,
    columns: Mapping[str, str | None],
    *,
    votes: bool = False,
    max_tokens: int | None = None,
    ray: bool = False,
) -> "list[Generations]":
    """Read every file with a line of progress; see :func:`read_generations`.

    Args:
        files: each ``FILE`` or ``LABEL=FILE``; a folder stands for its JSON lines.
        options: which columns to read, and how to grade. ``options.out`` is checked before anything is read.
        columns: columns of further roles.
        votes: whether the responses' answers are needed.
        max_tokens: the limit that the run had.
        ray: read in the workers of Ray Data.

    Raises:
        SettingsError: options contradict each other, two labels are equal, or a file is wrong.
    """
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from verl_efficiency.data.files import require_ending, require_file, require_other_file
    from verl_efficiency.data.parquet import answer_texts
    from verl_efficiency.evaluation.generations import find_files, read_generations
    from verl_efficiency.evaluation.strategies import answer_vote
    from verl_efficiency.grading import extract_answer, grade_batch, require_marker, without_end_tokens

    require(max_tokens is None or max_tokens >= 1, "--max-tokens", max_tokens, "at least 1")
    scores = score_range(options.score_wrong, options.score_correct)
    named = [(label, find_files([path])) for label, path in map(label_and_path, files)]
    labels = [label for label, _ in named]
    require(len(set(labels)) == len(labels), "files", labels, "named differently (LABEL=FILE)")
    graded = options.answer is not None
    for option, given, wanted in (
        ("--answer-after", options.answer_after, graded),
        ("--answer-in-box", options.answer_in_box or None, graded),
        ("--marker", options.marker, graded or votes),
        ("--score-correct", None if options.score_correct == 1 else options.score_correct, not graded),
        ("--score-wrong", options.score_wrong or None, not graded),
    ):
        fix = "left out with --answer" if option.startswith("--score") else "used together with --answer"
        require(given is None or wanted, option, given, fix)
    for option, other in (("answer", "correct"), ("tokenizer", "tokens")):
        if getattr(options, option) is not None and getattr(options, other) is not None:
            raise SettingsError(f"--{other}: would be ignored, since --{option} is given; leave one of the two out")
    if options.out is not None:
        require_ending(options.out, "--out", (".json",))
        require_other_file(options.out, "--out", *(path for _, paths in named for path in paths))
    for path in (path for _, paths in named for path in paths):
        require_file(path, "files")
    require_marker(options.marker, "--marker")

    def extract(text: str) -> str | None:
        return extract_answer(without_end_tokens(text), strip_thinking=options.strip_thinking, marker=options.marker)

    def grade(texts: list[str], answers: list[Any], place: Callable[[int], str]) -> list[float]:
        golds = answer_texts(answers, place, options.answer_after, options.answer_in_box)
        return [float(verdict.correct) for verdict in grade_batch([extract(text) for text in texts], golds)]

    def vote(texts: list[str]) -> list[str | None]:
        return [answer_vote(extract(text)) for text in texts]

    chosen = {role: getattr(options, role) for role in ("problem", "response", "correct", "answer", "tokens")}
    shown = (TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    read = []
    with Progress(*shown, console=Console(stderr=True)) as progress:
        for label, paths in named:
            task = progress.add_task(label, total=None, visible=False)
            read.append(
                read_generations(
                    paths,
                    label,
                    chosen | dict(columns),
                    tokenizer=options.tokenizer,
                    max_tokens=max_tokens,
                    grade=grade if graded else None,
                    votes=vote if votes else None,
                    scores=scores,
                    ray=ray,
                    progress=lambda rows, task=task: progress.update(task, advance=rows, visible=True),  # type: ignore[misc]
                )
            )
    for generations, (_, paths) in zip(read, named, strict=True):
        found = ", ".join(f"{role} from {name!r}" for role, name in generations.columns.items())
        print(f"{generations.label}: read {found}{f', of {len(paths)} files' if len(paths) > 1 else ''}")
        for role, fault in generations.left_out.items():
            print(f"{generations.label}: the {role} is left out: {fault}")
    return read
