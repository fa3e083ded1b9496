"""Reads the files of ``evaluate offline`` and ``evaluate strategies``, with their options."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from verl_efficiency.data.files import require_ending, require_file, require_other_file
from verl_efficiency.data.parquet import answer_texts
from verl_efficiency.evaluation.generations import Generations, read_generations
from verl_efficiency.grading import extract_answer, grade_batch, require_marker
from verl_efficiency.grading.quick import read_number
from verl_efficiency.settings import SettingsError, require

if TYPE_CHECKING:
    from verl_efficiency.commands.options import Stored


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
    options: "Stored",
    columns: Mapping[str, str | None],
    *,
    votes: bool = False,
    max_tokens: int | None = None,
) -> list[Generations]:
    """Read every file with a line of progress; see :func:`read_generations`.

    Args:
        files: each ``FILE`` or ``LABEL=FILE``.
        options: which columns to read, and how to grade. ``options.out`` is checked before anything is read.
        columns: columns of further roles.
        votes: whether the responses' answers are needed.
        max_tokens: the limit that the run had.

    Raises:
        SettingsError: options contradict each other, two labels are equal, or a file is wrong.
    """
    named = [label_and_path(text) for text in files]
    labels = [label for label, _ in named]
    require(len(set(labels)) == len(labels), "files", labels, "named differently (LABEL=FILE)")
    graded = options.answer is not None
    for option, given, wanted in (
        ("--answer-after", options.answer_after, graded),
        ("--answer-in-box", options.answer_in_box or None, graded),
        ("--marker", options.marker, graded or votes),
    ):
        require(given is None or wanted, option, given, "used together with --answer")
    for option, other in (("answer", "correct"), ("tokenizer", "tokens")):
        if getattr(options, option) is not None and getattr(options, other) is not None:
            raise SettingsError(f"--{other}: would be ignored, since --{option} is given; leave one of the two out")
    if options.out is not None:
        require_ending(options.out, "--out", (".json",))
        require_other_file(options.out, "--out", *(path for _, path in named))
    for _, path in named:
        require_file(path, "files")
    require_marker(options.marker, "--marker")

    def extract(text: str) -> str | None:
        return extract_answer(text, strip_thinking=options.strip_thinking, marker=options.marker)

    def grade(texts: list[str], answers: list[Any]) -> list[float]:
        golds = answer_texts(answers, answer_after=options.answer_after, answer_in_box=options.answer_in_box)
        return [float(verdict.correct) for verdict in grade_batch([extract(text) for text in texts], golds)]

    chosen = {role: getattr(options, role) for role in ("problem", "response", "correct", "answer", "tokens")}
    shown = (TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    read = []
    with Progress(*shown, console=Console(stderr=True)) as progress:
        for label, path in named:
            task = progress.add_task(label, total=None, visible=False)
            read.append(
                read_generations(
                    path,
                    label,
                    chosen | dict(columns),
                    tokenizer=options.tokenizer,
                    max_tokens=max_tokens,
                    grade=grade if graded else None,
                    votes=_voter(extract) if votes else None,
                    progress=lambda rows, task=task: progress.update(task, advance=rows, visible=True),  # type: ignore[misc]
                )
            )
    for generations in read:
        found = ", ".join(f"{role} from {name!r}" for role, name in generations.columns.items())
        print(f"{generations.label}: read {found}")
    return read


def _voter(extract: Callable[[str], str | None]) -> Callable[[list[str]], list[str | None]]:
    def vote(text: str) -> str | None:
        answer = extract(text)
        if answer is None:
            return None
        number = read_number(answer)
        if number is not None:  # 0.5 and 1/2 are one answer, 50 and 50% are not
            return f"{number.value}{'%' if number.percent else ''}"
        return " ".join(answer.split())

    return lambda texts: [vote(text) for text in texts]
