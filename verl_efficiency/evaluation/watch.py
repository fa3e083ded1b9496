"""Shows the progress of a training while it runs: a line per step, and a bar if the number of steps is known."""

import os
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from verl_efficiency.evaluation.diagnose import SERIES, truncated
from verl_efficiency.evaluation.run_log import RunLog, Source, find_sources
from verl_efficiency.settings import SettingsError

POLL_SECONDS = 0.5
SHOWN = {
    "score": "score {:.3f}",
    "validation": "validation {:.3f}",
    "tokens": "{:.0f} tokens",
    "truncated": "{:.0%} cut off",
    "entropy": "entropy {:.3g}",
}
NAMES = {
    "score": [name for name in SERIES["accuracy"] if not name.startswith("val-")],
    "validation": [name for name in SERIES["accuracy"] if name.startswith("val-")],
    "tokens": SERIES["tokens"],
    "entropy": SERIES["entropy"],
}


def watch(run: list[Path], steps: int | None = None, pid: int | None = None, once: bool = False) -> RunLog:
    """Print a line for each step: score, validation accuracy, tokens of a response, responses cut off, entropy.

    Ends after the last step, when the process ends, or after what is there now.

    Args:
        run: files and folders of the run; they may not exist yet.
        steps: number of the last step.
        pid: the process of the training.
        once: do not wait for more.

    Returns:
        The log.

    Raises:
        SettingsError: see :func:`find_sources`.
    """
    log = RunLog()
    sources: dict[Path, Source] = {}
    shown, told = -1, False  # step 0 is the validation before the training
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, disable=once or not Console().is_terminal) as progress:
        bar = progress.add_task("starting", total=steps)
        while True:
            last = once or (pid is not None and not _alive(pid))  # before reading: an ending process may still write
            for path in run:
                if last or path.exists():
                    for source in _sources(path, strict=last and not log.steps):
                        sources.setdefault(source.path, source)
            for source in sources.values():
                source.update(log, follow=not last)
            new = sorted(step for step in log.steps if step > shown)
            cut = dict(truncated(log)) if new else {}
            for step in new:
                shown = step
                text = described(log, step, cut.get(step))
                if text:
                    progress.update(bar, completed=step, description=text)
                    progress.console.print(f"step {step}{f' of {steps}' if steps else ''}: {text}", highlight=False)
            if last or (steps is not None and shown >= steps):
                return log
            if not told:
                missing = [str(path) for path in run if not path.exists()]
                until = f"{', '.join(missing)} to appear" if missing else "more steps"
                progress.console.print(f"waiting for {until} (Ctrl-C ends, --once does not wait)", markup=False)
                told = True
            time.sleep(POLL_SECONDS)


def described(log: RunLog, step: int, cut: float | None = None) -> str:
    """The numbers of one step, as a text; empty if it has none of them. ``cut`` is the share of responses cut off, if known.

    >>> log = RunLog()
    >>> log.add(3, {"critic/score/mean": 0.5, "response_length/mean": 81.4})
    >>> described(log, 3, 0.25)
    'score 0.500, 81 tokens, 25% cut off'
    """
    one = RunLog(steps={step: log.steps[step]})
    values = {name: found[0][1] for name, patterns in NAMES.items() if (found := one.series(*patterns))}
    if cut is not None:
        values["truncated"] = cut
    return ", ".join(form.format(values[name]) for name, form in SHOWN.items() if name in values)


def _sources(path: Path, strict: bool) -> list[Source]:
    """The logs at ``path``; without ``strict``, none is fine."""
    try:
        return find_sources([path], dumps=False)
    except SettingsError:
        if strict:
            raise
        return []


def _alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
