"""The command ``verl-efficiency grade``."""

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verl_efficiency.commands.options import AnswerAfter, AnswerInBox, UseRay

if TYPE_CHECKING:
    from verl_efficiency.grading import Verdict

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
        typer.Option(
            help="The answer follows the last such text on its line or the next, not in \\boxed{}; or <a>…</a>."
        ),
    ] = None,
    strip_thinking: Annotated[bool, typer.Option(help="Leave <think> blocks out.")] = False,
    extracted: Annotated[bool, typer.Option("--extracted", help="The responses are bare answers already.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes for math-verify. Default: 2. With --ray: one a core.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that one comparison may take.")] = 3.0,
    ray: UseRay = False,
) -> None:
    """Grade responses against answers: a verdict for every row, and how many there are of each."""
    from rich.console import Console
    from rich.progress import Progress

    from verl_efficiency.data.columns import column
    from verl_efficiency.data.files import read_sample, require_ending, require_other_file, write_lines
    from verl_efficiency.data.parquet import answer_texts
    from verl_efficiency.evaluation.chunks import Rows, map_chunks
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
    from verl_efficiency.rewards.ground_truth import sentences
    from verl_efficiency.settings import SettingsError, require

    require(deadline > 0, "--deadline", deadline, "above 0 seconds")
    require_marker(marker, "--marker")
    require(workers is None or not ray, "--workers", workers, "left out with --ray, which grades on every core")
    if out:
        require_ending(out, "--out", (".jsonl",))
        require_other_file(out, "--out", source)
    configure(PoolSettings(workers=2 if workers is None else workers))

    def texts(rows: Rows) -> tuple[list[str], list[str]]:
        """The responses and the right answers."""
        responses = column(rows.rows, response, "--response", rows.place)
        for number, text in enumerate(responses):
            if not isinstance(text, str):
                raise SettingsError(f"--response: {response} of {rows.place(number)} must be a text, got {text!r}")
        golds = column(rows.rows, answer, "--answer", rows.place)
        return responses, answer_texts(golds, rows.place, answer_after, answer_in_box)

    def check(rows: Rows) -> tuple[int, int, str]:
        """The number of rows, how many of their answers are sentences, and the beginning of the first of these."""
        golds = texts(rows)[1]
        found = sentences(golds)
        return len(golds), len(found), golds[found[0]][:80] if found else ""

    def grade(rows: Rows) -> "list[tuple[Verdict, str]]":
        responses, golds = texts(rows)
        answers = [
            text if extracted else extract_answer(text, strip_thinking=strip_thinking, marker=marker)
            for text in map(without_end_tokens, responses)
        ]
        return list(zip(grade_batch(answers, golds, deadline=deadline), golds, strict=True))

    sample = read_sample(source, "source", PROBED)  # it refuses a file without rows
    checked = list(map_chunks(check, source, "source", ray=ray))  # so that a wrong row stops before hours of grading
    total = sum(rows for rows, _, _ in checked)
    counts: Counter[Status] = Counter()

    def lines() -> Iterator[dict[str, Any]]:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("grading", total=total)
            for graded in map_chunks(grade, source, "source", ray=ray):
                for number, (verdict, gold) in enumerate(graded, start=counts.total()):
                    status = {"correct": verdict.correct, "status": verdict.status.value}
                    yield {"row": number} | status | {"answer": verdict.answer, "gold": gold}
                counts.update(verdict.status for verdict, _ in graded)
                progress.advance(task, len(graded))

    if out:
        write_lines(out, lines())
    else:
        deque(lines(), maxlen=0)
    table = new_table("status", "rows", "share")
    for status in Status:
        table.add_row(status.value, str(counts[status]), f"{counts[status] / total:.1%}")
    table.add_row("all", str(total), "")
    Console().print(explained(table, *MEANING))
    note: str | None
    found = [(count, example) for _, count, example in checked if count]
    if 2 * sum(count for count, _ in found) > total:
        note = f"{sum(count for count, _ in found)} of {total} answers are sentences, for example {found[0][1]!r}"
    else:
        note = _unreadable(texts(Rows(source, 0, sample.rows, sample.places))[1], deadline)
    if note:
        fix = "name the column of the answer with --answer, or where it stands in it with --answer-after or --answer-in-box"
        Console(stderr=True).print(f"warning: {note}; {fix}", markup=False, style="yellow", soft_wrap=True)


def _unreadable(golds: list[str], deadline: float) -> str | None:
    """The warning if most of these references cannot be read as mathematics; None if they can."""
    from verl_efficiency.grading import Status, grade_batch

    # PROBE can be read, so a pair with it is unparsable only because of the reference. No reference has its digits.
    verdicts = grade_batch([PROBE] * len(golds), golds, deadline=deadline)
    unread = [gold for gold, verdict in zip(golds, verdicts, strict=True) if verdict.status is Status.unparsable]
    if 2 * len(unread) > len(golds):
        return (f"{len(unread)} of {len(golds)} answers looked at cannot be read as mathematics, for example "
                f"{unread[0][:80]!r}, so that only a copy of them is correct")  # fmt: skip
    return None
