"""The command ``verl-efficiency grade``, as typer wants it."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

CHUNK = 256  # rows between two moves of the progress bar


def grade_command(
    source: Annotated[Path, typer.Argument(help="Responses and answers: .jsonl or .parquet.")],
    response: Annotated[str, typer.Option(help="Column of the response; dots lead inside.")] = "response",
    answer: Annotated[str, typer.Option(help="Column of the right answer.")] = "answer",
    answer_after: Annotated[
        str | None, typer.Option(help="The answer is what follows this mark in its column (GSM8K: ####).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write status and extracted answer of every row, as JSON lines.")
    ] = None,
    marker: Annotated[
        str | None, typer.Option(help="Read what follows the last such text on its line, not \\boxed{}; or <a>…</a>.")
    ] = None,
    strip_thinking: Annotated[bool, typer.Option(help="Leave <think> blocks out.")] = False,
    extracted: Annotated[bool, typer.Option("--extracted", help="The responses are bare answers already.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that run math-verify.")] = 2,
    deadline: Annotated[float, typer.Option(help="Seconds that one comparison may take.")] = 3.0,
) -> None:
    """Grade responses against answers: a verdict for every row, and how many there are of each."""
    # Here, so that the other commands start without numpy and pyarrow.
    from verl_efficiency.data.columns import column
    from verl_efficiency.data.parquet import answer_text, read_rows
    from verl_efficiency.grading import (
        PoolSettings,
        Status,
        configure,
        extract_answer,
        grade_batch,
        without_end_tokens,
    )
    from verl_efficiency.settings import require

    require(deadline > 0, "--deadline", deadline, "above 0 seconds")
    require(source.is_file(), "source", str(source), "a file")
    configure(PoolSettings(workers=workers))
    rows = read_rows(source)
    require(len(rows) > 0, "source", str(source), "a file with rows in it")
    responses = column(rows, response, "--response")
    golds = [answer_text(value, answer_after, number) for number, value in enumerate(column(rows, answer, "--answer"))]
    for number, (text, gold) in enumerate(zip(responses, golds, strict=True)):
        require(isinstance(text, str), f"{response} of row {number}", text, "a text")
        require(bool(gold.strip()), f"{answer} of row {number}", gold, "a text with something in it")
    verdicts = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("grading", total=len(rows))
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            answers = [
                text if extracted else extract_answer(text, strip_thinking=strip_thinking, marker=marker)
                for text in map(without_end_tokens, responses[part])
            ]
            verdicts += grade_batch(answers, golds[part], deadline=deadline)
            progress.advance(task, len(answers))
    if out:
        lines = [
            {
                "row": number,
                "correct": verdict.correct,
                "status": verdict.status.value,
                "answer": verdict.answer,
                "gold": gold,
            }
            for number, (verdict, gold) in enumerate(zip(verdicts, golds, strict=True))
        ]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    counts = Counter(verdict.status for verdict in verdicts)
    table = Table("status", "rows", "share")
    for status in Status:
        table.add_row(status.value, str(counts[status]), f"{counts[status] / len(rows):.1%}")
    table.add_row("all", str(len(rows)), "")
    Console().print(table)
