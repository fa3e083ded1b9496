"""The options of the commands that read stored generations, and the reading that they share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from verl_efficiency.data.files import require_ending, require_file, require_other_file
from verl_efficiency.evaluation.generations import Generations, read_generations
from verl_efficiency.settings import SettingsError, require

Problem = Annotated[str | None, typer.Option(help="Column that names the problem; dots lead inside.")]
Response = Annotated[str | None, typer.Option(help="Column of the response's text.")]
Correct = Annotated[str | None, typer.Option(help="Column of the correctness, in [0, 1].")]
Answer = Annotated[str | None, typer.Option(help="Column of the right answer: the responses are graded.")]
AnswerAfter = Annotated[
    str | None, typer.Option(help="The right answer is what follows this mark in its column (GSM8K: ####).")
]
AnswerInBox = Annotated[bool, typer.Option(help=r"The right answer is what the last \boxed{} of its column holds.")]
Marker = Annotated[
    str | None, typer.Option(help="A response's answer is what follows the last such text, not \\boxed{}.")
]
StripThinking = Annotated[bool, typer.Option(help="Read answers outside <think> blocks only.")]
Tokens = Annotated[str | None, typer.Option(help="Column of the response's tokens.")]
Tokenizer = Annotated[str | None, typer.Option(help="Model whose tokenizer counts the response's tokens.")]
Out = Annotated[Path | None, typer.Option(help="Write all numbers, as JSON.")]


def label_and_path(text: str) -> tuple[str, Path]:
    """Parse ``FILE`` or ``LABEL=FILE``.

    >>> label_and_path("before=rollouts/0.jsonl")[0], label_and_path("rollouts/0.jsonl")[0]
    ('before', '0')
    """
    label, equals, path = text.partition("=")
    if not equals or Path(text).is_file():
        label, path = Path(text).stem, text
    require(bool(label and path), "files", text, "FILE or LABEL=FILE")
    return label, Path(path)


def read_files(
    files: Sequence[str],
    chosen: dict[str, str | None],
    *,
    answer: str | None,
    answer_after: str | None,
    answer_in_box: bool,
    marker: str | None,
    strip_thinking: bool,
    out: Path | None,
    votes: bool = False,
    **reading: Any,
) -> list[Generations]:
    """Read every file with a line of progress; see :func:`read_generations` for ``chosen`` and ``reading``.

    ``out`` is the file that will be written; it is checked before anything is read.
    """
    named = [label_and_path(text) for text in files]
    labels = [label for label, _ in named]
    require(len(set(labels)) == len(labels), "files", labels, "named differently (LABEL=FILE)")
    require(answer_after is None or answer is not None, "--answer-after", answer_after, "used together with --answer")
    require(not answer_in_box or answer is not None, "--answer-in-box", True, "used together with --answer")
    for option, value, role in (("--answer", answer, "correct"), ("--tokenizer", reading["tokenizer"], "tokens")):
        if value is not None and chosen[role] is not None:
            raise SettingsError(f"--{role}: would be ignored, since {option} is given; leave one of the two out")
    if out is not None:
        require_ending(out, "--out", (".json",))
        require_other_file(out, "--out", *(path for _, path in named))
    for _, path in named:
        require_file(path, "files")
    reads_answers = answer is not None or votes
    require(marker is None or reads_answers, "--marker", marker, "used together with --answer")
    extract = _extractor(marker, strip_thinking) if reads_answers else None
    grade = _grader(extract, answer_after, answer_in_box) if extract and answer is not None else None
    shown = (TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    read = []
    with Progress(*shown, console=Console(stderr=True)) as progress:
        for label, path in named:
            task = progress.add_task(label, total=None, visible=False)
            read.append(
                read_generations(
                    path,
                    label,
                    chosen,
                    grade=grade,
                    answer=answer,
                    votes=_voter(extract) if votes and extract else None,
                    progress=lambda rows, task=task: progress.update(task, advance=rows, visible=True),  # type: ignore[misc]
                    **reading,
                )
            )
    for generations in read:
        columns = ", ".join(f"{role}={name}" for role, name in generations.columns.items())
        print(f"{generations.label}: columns {columns}")
    return read


Extract = Callable[[str], str | None]


def _extractor(marker: str | None, strip_thinking: bool) -> Extract:
    from verl_efficiency.grading import extract_answer, require_marker

    require_marker(marker, "--marker")
    return lambda text: extract_answer(text, strip_thinking=strip_thinking, marker=marker)


def _grader(
    extract: Extract, answer_after: str | None, answer_in_box: bool
) -> Callable[[list[str], list[Any]], list[float]]:
    from verl_efficiency.data.parquet import answer_texts
    from verl_efficiency.grading import grade_batch

    def grade(texts: list[str], answers: list[Any]) -> list[float]:
        golds = answer_texts(answers, answer_after=answer_after, answer_in_box=answer_in_box)
        return [float(verdict.correct) for verdict in grade_batch([extract(text) for text in texts], golds)]

    return grade


def _voter(extract: Extract) -> Callable[[list[str]], list[str | None]]:
    from verl_efficiency.grading.quick import read_number

    def vote(text: str) -> str | None:
        answer = extract(text)
        if answer is None:
            return None
        number = read_number(answer)
        if number is not None:  # 0.5 and 1/2 are one answer, 50 and 50% are not
            return f"{number.value}{'%' if number.percent else ''}"
        return " ".join(answer.split())

    return lambda texts: [vote(text) for text in texts]
