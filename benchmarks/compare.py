"""Answers a question by training runs: methods × seeds × settings, each run with verl's trainer on the CPU.

    python benchmarks/compare.py list pareto                        all runs, and which have a result
    python benchmarks/compare.py run pareto [--only 'kimi.*']       run what is missing; it can be interrupted and started again
    python benchmarks/compare.py report pareto                      table, JSON and plot of the results
    python benchmarks/compare.py agree                              the same runs in one process and by main_ppo

A question is a table of arms, ``benchmarks/questions/NAME.yaml``. A run is done if ``results/compare.jsonl`` has a line with
exactly its settings. A table names its task of the testbed. Most take ``notes``, where short answers are often wrong, and whose
frontier is the best that a policy can reach.
"""

import importlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Printed

HERE = Path(__file__).parent
sys.path.insert(0, f"{HERE.parent}")
from benchmarks.comparison.launch import RunFailed, launch  # noqa: E402
from benchmarks.comparison.report import write_report  # noqa: E402
from benchmarks.comparison.table import Run, Table, missing_runs, read_table  # noqa: E402
from verl_efficiency.data.parquet import write_rows  # noqa: E402
from verl_efficiency.settings import SettingsError, unknown  # noqa: E402
from verl_efficiency.testbed.notes import frontier  # noqa: E402
from verl_efficiency.testbed.prepare import prepare, problems, row  # noqa: E402
from verl_efficiency.testbed.tasks import Task, task_named  # noqa: E402

QUESTIONS = HERE / "questions"
RESULTS = HERE / "results" / "compare.jsonl"
STOCK_RESULTS = HERE / "results" / "compare_main_ppo.jsonl"
COUNTS = {"train": 2048, "validation": 240, "test": 960}

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Results = Annotated[Path, typer.Option(help="JSON lines, one per run")]
Question = Annotated[str, typer.Argument(help="a table of benchmarks/questions", show_default=False)]
Steps = Annotated[int, typer.Option(help="training steps, instead of the table's")]
Only = Annotated[str, typer.Option(help="only runs with such a name, for example 'kimi.*' or '*.published.seed0'")]


@app.command("list")
def list_runs(question: Question, results: Results = RESULTS, only: Only = "*", steps: Steps = 0) -> None:
    """Show all runs so far, and which have a result."""
    plan, lines = table_of(question, steps), read_lines(results)
    runs = [run for run in plan.runs(lines, frontier.load()) if fnmatch(run.name, only)]
    missing = missing_runs(runs, lines)
    printed = Printed("run", "done", "own settings")
    for run in runs:
        printed.add_row(run.name, "" if run in missing else "✓", " ".join(run.settings[len(plan.common) :]))
    Console().print(printed)
    print(
        f"{len(runs) - len(missing)} of {len(runs)} done; {plan.total} with all tuned runs, {estimate(missing, lines, jobs=1)}"
    )


@app.command()
def run(
    question: Question,
    results: Results = RESULTS,
    only: Only = "*",
    steps: Steps = 0,
    jobs: Annotated[int, typer.Option(help="parallel runs; each needs a core and 1 GB; 4 GB with --stock")] = 1,
    timeout: Annotated[float, typer.Option(help="seconds after which a run is ended")] = 1800.0,
    folder: Annotated[Path, typer.Option(help="logs and models of the runs")] = Path("runs/compare"),
    stock: Annotated[
        bool, typer.Option(help="train with main_ppo on Ray, not in one process; four times slower")
    ] = False,
) -> None:
    """Run what has no result yet. Tuned runs follow when the trials of their arm are done."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # like an interrupt, which also ends the current runs
    plan, bound = table_of(question, steps), frontier.load()
    data = folder / "data" / plan.task
    prepare_data(task_named(plan.task), data)
    failed: list[Run] = []
    while todo := [
        run
        for run in missing_runs(plan.runs(read_lines(results), bound), read_lines(results))
        if fnmatch(run.name, only) and run not in failed
    ]:
        failed += run_all(todo, results, data.resolve(), folder.resolve(), jobs, timeout, stock)
    for one in failed:
        print(f"failed: {one.name}")
    if failed:
        raise typer.Exit(1)


@app.command()
def report(
    question: Question,
    results: Results = RESULTS,
    steps: Steps = 0,
    out: Annotated[Path, typer.Option(help="folder for NAME.json and NAME.png")] = HERE / "results",
) -> None:
    """Print the answer; write JSON and a plot."""
    answer_of(question)(table_of(question, steps), read_lines(results), out / question)


@app.command()
def agree(
    results: Results = RESULTS,
    stock: Annotated[Path, typer.Option(help="results of runs with --stock")] = STOCK_RESULTS,
    out: Annotated[Path, typer.Option(help="JSON file to write")] = HERE / "results" / "agree.json",
) -> None:
    """Compare each run of main_ppo with the same run in one process, step by step."""
    lines = read_lines(results)
    same = [(ours, theirs) for theirs in read_lines(stock) for ours in lines if ours["run"] == theirs["run"]]
    pairs = [agreement(ours, theirs) for ours, theirs in same]
    out.write_text(json.dumps(pairs, indent=1) + "\n")
    for pair in pairs:
        print(json.dumps(pair))


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """How far a run in one process is from the same run of main_ppo: largest differences over the steps, and seconds."""
    curves = {}
    for name in ("score", "response_tokens"):
        pairs = list(zip(ours["training"][name], theirs["training"][name], strict=True))
        curves[f"{name}_difference"] = max(abs(a - b) for a, b in pairs)
        curves[f"{name}_equal_steps"] = next((step for step, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return {
        **{"run": f"{ours['run']['arm']}.seed{ours['run']['seed']}", "steps": ours["run"]["steps"], **curves},
        "test_accuracy": [line["test"]["accuracy"] for line in (ours, theirs)],
        "test_tokens": [line["test"]["tokens"] for line in (ours, theirs)],
        "seconds_per_step": [line["seconds"]["step"] for line in (ours, theirs)],
        "seconds": [line["seconds"]["whole"] for line in (ours, theirs)],
    }


def table_of(question: str, steps: int = 0) -> Table:
    """The table of a question.

    Raises:
        SettingsError: the question is unknown, or its table is wrong.
    """
    known = [file.stem for file in sorted(QUESTIONS.glob("*.yaml"))]
    if question not in known:
        raise SettingsError(unknown("question", question, known))
    return read_table(QUESTIONS / f"{question}.yaml", steps)


def answer_of(question: str) -> Callable[[Table, Sequence[dict[str, Any]], Path], None]:
    """``write_report`` of ``questions/NAME.py``; without that file the answer is a row per arm."""
    if not (QUESTIONS / f"{question}.py").exists():
        return write_report
    return importlib.import_module(f"benchmarks.questions.{question}").write_report


def prepare_data(task: Task, data: Path) -> None:
    """Write the warm start and the problems of a task.

    ``checks`` has no validation split: its validation problems are of the train split, and only show curves.
    """
    prepare(task, data, seed=0, counts={split: COUNTS[split] for split in task.splits})
    if "validation" not in task.splits:
        drawn = problems(task, "train", COUNTS["validation"], seed=1)
        # Rows of the split `train` would be packed for `batched_accuracy`.
        write_rows(data / "validation.parquet", [row(task, one, "validation", at) for at, one in enumerate(drawn)])


def run_all(
    todo: Sequence[Run], results: Path, data: Path, folder: Path, jobs: int, timeout: float, stock: bool
) -> list[Run]:
    """Run ``todo``, ``jobs`` at a time, and append a line to ``results`` for each; returns the failed runs."""
    failed: list[Run] = []
    done = 0
    one_at_a_time = threading.Lock()
    stop = threading.Event()

    def go(run: Run) -> None:
        nonlocal done
        start = time.monotonic()
        try:
            line = launch(run, data, folder / run.name, timeout, stop, stock)
        except RunFailed as error:
            with one_at_a_time:
                failed.append(run)
                done += 1
                print(error, flush=True)
            return
        with one_at_a_time:
            append_line(results, line)
            done += 1
            score = line.get("test") or line["validation"][-1]
            left = todo[done:]
            print(
                f"[{done}/{len(todo)}] {run.name}: {score['accuracy']:.3f} @ {score['tokens']:.1f} tokens, "
                f"{time.monotonic() - start:.0f} s; {estimate(left, read_lines(results), jobs)}",
                flush=True,
            )

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for finished in [pool.submit(go, run) for run in todo]:
                finished.result()
        except BaseException:  # also an interrupt: end the current runs, which the next call starts again
            pool.shutdown(wait=False, cancel_futures=True)
            stop.set()
            raise
    return failed


def estimate(left: Sequence[Run], lines: Sequence[dict[str, Any]], jobs: int) -> str:
    """The remaining time, from the seconds per step of the runs so far."""
    if not left or not lines:
        return f"{len(left)} left"
    pace = sum(line["seconds"]["whole"] for line in lines) / sum(line["run"]["steps"] for line in lines)
    hours = pace * sum(run.steps for run in left) / jobs / 3600
    return f"{len(left)} left, about {hours:.1f} h"


def read_lines(results: Path) -> list[dict[str, Any]]:
    """The result lines so far.

    Raises:
        SettingsError: a line is not JSON.
    """
    lines = []
    for number, text in enumerate(results.read_text().splitlines() if results.exists() else [], start=1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise SettingsError(f"{results} line {number}: {error}; delete the line to run its run again") from None
    return lines


def append_line(results: Path, line: dict[str, Any]) -> None:
    """Append a line in one write, so that an interruption leaves a whole line or none."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    try:
        app()
    except SettingsError as error:
        sys.exit(str(error))
