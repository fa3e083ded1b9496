"""The commands ``watch`` and ``diagnose``, which read the logs of a training run."""

from pathlib import Path
from typing import Annotated

import typer

from verl_efficiency.commands.options import ScoreCorrect, ScoreWrong, score_range

Run = Annotated[
    list[Path],
    typer.Argument(
        help="Logs of one run, of verl or OpenRLHF: its folder, verl's .jsonl, console output, TensorBoard events."
    ),
]


def watch_command(
    run: Run,
    steps: Annotated[int | None, typer.Option(help="Steps of the training; ends after the last.")] = None,
    pid: Annotated[int | None, typer.Option(help="Process of the training; ends with it.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Show what is there, and do not wait for more.")] = False,
) -> None:
    """Follow a training: score, validation, tokens, responses cut off, entropy. Ctrl-C ends it, and the training goes on."""
    from verl_efficiency.evaluation.watch import watch
    from verl_efficiency.settings import require

    require(steps is None or steps >= 1, "--steps", steps, "at least 1")
    try:
        watch(run, steps, pid, once)
    except KeyboardInterrupt:
        raise typer.Exit from None


def diagnose_command(run: Run, score_correct: ScoreCorrect = 1.0, score_wrong: ScoreWrong = 0.0) -> None:
    """Look for known faults in a run's log: each with its numbers and what to change.

    Exits with 1 if there is one, and with 2 if nothing could be checked.
    """
    from rich.console import Console

    from verl_efficiency.evaluation.diagnose import RULES, diagnose
    from verl_efficiency.evaluation.run_log import read_run
    from verl_efficiency.settings import require

    log = read_run(run, score_range(score_wrong, score_correct))
    require(bool(log.steps), "RUN", [str(path) for path in run], "a log with at least one step")
    diagnosis = diagnose(log)
    console = Console()
    for finding in diagnosis.findings:
        console.print(f"[red]{finding.name}[/]: ", end="")
        console.print(finding.evidence, markup=False, highlight=False, soft_wrap=True)
        console.print(f"  {finding.fix}", markup=False, highlight=False, soft_wrap=True)
    first, last = min(log.steps), max(log.steps)
    nothing = len(diagnosis.unchecked) == len(RULES)
    none = "nothing could be checked" if nothing else "no fault found"
    checked = f"{len(diagnosis.findings)} found" if diagnosis.findings else none
    console.print(f"steps {first} to {last}: {checked}", markup=False, highlight=False)
    for name, needed in diagnosis.unchecked.items():
        console.print(f"not checked: {name} (not logged: {needed})", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if diagnosis.findings else 2 * nothing)
