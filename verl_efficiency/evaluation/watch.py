"""Shows the progress of a training: ``python -m verl_efficiency.evaluation.watch FILE --steps 25 --pid 123``.

It reads verl's metrics file (``trainer.logger=[console,file]``, ``VERL_FILE_LOGGER_PATH``). It ends after the last step, or
when the process ends. The exit code says nothing about the training.
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from verl_efficiency.settings import SettingsError

POLL_SECONDS = 0.5
LINES = 5  # lines of progress if the output is a file or a pipe


def watch(
    metrics: Annotated[Path, typer.Argument(help="The metrics file; it may not exist yet.")],
    steps: Annotated[int, typer.Option(help="Steps of the training.")],
    pid: Annotated[int, typer.Option(help="Process of the training.")],
) -> None:
    """Show a progress bar with score and response length."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("starting (Ray, model, rollout server)", total=steps)
        printed = 0
        while True:
            alive = _alive(pid)  # before reading, so that the last lines of an ending process are read
            done = metrics.read_text().split("\n")[:-1] if metrics.exists() else []  # whole lines only
            if done:
                text = _described(metrics, len(done), done[-1])
                progress.update(bar, completed=len(done), description=text)
                if not progress.console.is_terminal and len(done) >= printed + max(steps // LINES, 1):
                    printed = len(done)
                    print(f"step {printed} of {steps}: {text}", flush=True)
            if len(done) >= steps or not alive:
                return
            time.sleep(POLL_SECONDS)


def _described(metrics: Path, number: int, line: str) -> str:
    """Score and length of the step in a line of the metrics file."""
    try:
        data = json.loads(line)["data"]
        return f"score {data['critic/score/mean']:.2f}, {data['response_length/mean']:.0f} tokens a response"
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"metrics: {metrics} line {number} is not of verl's file logger ({error!r})") from None


def _alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


if __name__ == "__main__":
    typer.run(watch)
