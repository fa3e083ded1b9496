"""The command ``verl-efficiency grade``."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from verl_efficiency.commands.options import AnswerAfter, AnswerInBox

CHUNK = 256  # rows per move of the progress bar
PROBED = 64  # references whose readability is tried
PROBE = "918273645"
MEANING = (
    "Only 'correct' earns a reward.",
    "no_answer: the response gives no answer.",
    "unparsable: the answer or the right answer cannot be read as mathematics.",
    "timed_out: the comparison took longer than --deadline.",
)


def grade_command(
    source: Annotated[Path, typer.Argument(help="Responses and answers: .jsonl, .json or .parquet.")],
    response: Annotated[str, typer.Option(help="Column of the response; dots lead inside.")] = "response",
    answer: Annotated[str, typer.Option(help="Column of the right answer.")] = "answer",
    answer_after: AnswerAfter = None,
    answer_in_box: AnswerInBox = False,
    out: Annotated[
        Path | None, typer.Option(help="Write status and extracted answer of every row, as JSON lines.")
    ] = None,
    marker: Annotated[
        str | None,
        typer.Option(help="The answer follows the last such text on its line, not in \\boxed{}; or <a>…</a>."),
    ] = None,
    strip_thinking: Annotated[bool, typer.Option(help="Leave <think> blocks out.")] = False,
    extracted: Annotated[bool, typer.Option("--extracted", help="The responses are bare answers already.")] = False,
    workers: Annotated[int, typer.Option(help="Worker processes for math-verify.")] = 2,
    deadline: Annotated[float, typer.Option(help="Seconds that one comparison may take.")] = 3.0,
) -> None:
    """Grade responses against answers: a verdict for every row, and how many there are of each."""
    from rich.console import Console
    from rich.progress import Progress

    from verl_efficiency.data.columns import column
    from verl_efficiency.data.files import place_of, read_rows, require_ending, require_other_file, write_lines
    from verl_efficiency.data.parquet import answer_texts
    from verl_efficiency.evaluation.tables import explained, new_table
    from verl_efficiency.grading import (
        PoolSettings,
        Status,
        configure,
        extract_answer,
        grade_batch,
        require_marker,
        without_end_tokens,
    )
    from verl_efficiency.settings import SettingsError, require

    require(deadline > 0, "--deadline", deadline, "above 0 seconds")
    require_marker(marker, "--marker")
    if out:
        require_ending(out, "--out", (".jsonl",))
        require_other_file(out, "--out", source)
    configure(PoolSettings(workers=workers))
    place = partial(place_of, source)
    rows = read_rows(source, "source")
    responses = column(rows, response, "--response", place)
    for number, text in enumerate(responses):
        if not isinstance(text, str):
            raise SettingsError(f"--response: {response} of {place(number)} must be a text, got {text!r}")
    golds = answer_texts(column(rows, answer, "--answer", place), place, answer_after, answer_in_box)
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
        write_lines(out, lines)
    counts = Counter(verdict.status for verdict in verdicts)
    table = new_table("status", "rows", "share")
    for status in Status:
        table.add_row(status.value, str(counts[status]), f"{counts[status] / len(rows):.1%}")
    table.add_row("all", str(len(rows)), "")
    Console().print(explained(table, *MEANING))
    if note := _unreadable(golds, deadline):
        Console(stderr=True).print(f"warning: {note}", markup=False, style="yellow", soft_wrap=True)


def _unreadable(golds: list[str], deadline: float) -> str | None:
    """The warning if most references cannot be graded, since they are sentences or not mathematics; None if they can."""
    from verl_efficiency.data.files import spread
    from verl_efficiency.grading import Status, grade_batch
    from verl_efficiency.rewards.ground_truth import sentences

    fix = "name the column of the answer with --answer, or where it stands in it with --answer-after or --answer-in-box"
    found = sentences(golds)
    if 2 * len(found) > len(golds):
        return f"{len(found)} of {len(golds)} answers are sentences, for example {golds[found[0]][:80]!r}; {fix}"
    looked_at = [golds[number] for number in spread(len(golds), PROBED)]
    # PROBE can be read, so a pair with it is unparsable only because of the reference. No reference has its digits.
    verdicts = grade_batch([PROBE] * len(looked_at), looked_at, deadline=deadline)
    unread = [gold for gold, verdict in zip(looked_at, verdicts, strict=True) if verdict.status is Status.unparsable]
    if 2 * len(unread) > len(looked_at):
        return (f"{len(unread)} of {len(looked_at)} answers looked at cannot be read as mathematics, for example "
                f"{unread[0][:80]!r}, so that only a copy of them is correct; {fix}")  # fmt: skip
    return None
