r"""Reads what a training run logged, of verl or OpenRLHF: metrics by step, and lines that name a fault.

Four kinds of files are known, by name and content:

* JSON lines of verl's file logger (``trainer.logger=[console,file]``): ``{"step": 1, "data": {name: value}}``;
* console output: verl's ``step:1 - name:value - …``, OpenRLHF's ``Global step 1: {…}``, and our ``[method] name=value …`` of
  the step that is printed next;
* TensorBoard event files, if ``tensorboard`` is installed. OpenRLHF's prefix ``train/`` is left out;
* verl's rollout dumps (``trainer.rollout_data_dir``), one file per step: shares over the rollouts or groups of a step.

A folder stands for all such files in it and in its subfolders, without checkpoints, and for the ``.log`` beside it of the same
name.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import require_file
from verl_efficiency.settings import SettingsError

VERL_STEP = re.compile(r"(?<![\w/])step:(\d+) - (.*)")
VERL_PAIR = re.compile(r"([\w/@.+-]+):(?:np\.\w+\()?([-+.\deE]+)\)?")
OPENRLHF_STEP = re.compile(r"Global step (\d+): (\{.*)")
OPENRLHF_PAIR = re.compile(r"'([^']+)': (?:np\.\w+\()?([-+.\deE]+)")
METHOD_LINE = re.compile(r"\[(\w+)\] ((?:\w+=[-+.\deE]+\s?)+)$")
LIMIT = re.compile(r"'max_response_length': (\d+)")
FAULTS = {
    "reward error": re.compile(r"REWARD ERROR: |Failed to fetch reward"),
    "grader time-out": re.compile(r"grading: .* timed out after "),
}
CONSOLE_ENDINGS = (".log", ".txt", ".out")
EVENTS = "events.out.tfevents"
NOT_SEARCHED = ("global_step", "hydra", "checkpoints")  # beginnings of the names of folders without logs
DEPTH = 3  # folders below the one that is named


@dataclass
class RunLog:
    """What a run logged so far."""

    steps: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))  # finite numbers only
    faults: Counter[str] = field(default_factory=Counter)  # lines of the console, by kind of FAULTS
    console: bool = False  # whether console output was read
    limit: int | None = None  # of the tokens of a response, if the console shows it
    scores: tuple[float, float] = (0.0, 1.0)  # of a wrong and of a correct answer

    def series(self, *patterns: str) -> list[tuple[int, float]]:
        """``[(step, value), …]`` of the first pattern (a regular expression for the whole name) that a step has.

        Empty if there is none.
        """
        names = {name for metrics in self.steps.values() for name in metrics}
        for pattern in patterns:
            matching = sorted(filter(re.compile(pattern).fullmatch, names))
            found = [
                (step, next(metrics[name] for name in matching if name in metrics))
                for step, metrics in sorted(self.steps.items())
                if any(name in metrics for name in matching)
            ]
            if found:
                return found
        return []

    def add(self, step: int, metrics: dict[str, Any]) -> None:
        """Add the numbers of a step. A later value replaces an earlier one, as in a resumed run."""
        kept = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
        self.steps[step] |= {name: value for name, value in kept.items() if math.isfinite(value)}


@dataclass
class Source:
    """A file of a run, read up to ``offset``."""

    path: Path
    read: "Callable[[Source, Iterable[str], RunLog], None]"
    offset: int = 0
    line: int = 0  # number of the last line read
    pending: dict[str, float] = field(default_factory=dict)  # metrics of a method before the line of their step

    def update(self, log: RunLog, follow: bool = False) -> None:
        """Add what was written since the last call; with ``follow``, leave a line that is not yet whole for the next call."""
        if EVENTS in self.path.name:
            size = self.path.stat().st_size
            if size > self.offset:
                _read_events(self.path, log)
            self.offset = size
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        end = text.rfind(b"\n") + 1 if follow else len(text)
        self.offset += end
        # Not splitlines(), which also splits at signs that a text in a dump may contain.
        self.read(self, text[:end].decode("utf-8-sig", errors="replace").split("\n"), log)


def read_run(paths: Sequence[Path], scores: tuple[float, float] = (0.0, 1.0)) -> RunLog:
    """Read files and folders of one run.

    Args:
        paths: files and folders.
        scores: those of a wrong and of a correct answer.

    Raises:
        SettingsError: a file is missing, a folder holds no log, or a line cannot be read. Also if a log is a TensorBoard event
            file and ``tensorboard`` is not installed.
    """
    log = RunLog(scores=scores)
    for source in find_sources(paths):
        source.update(log)
    return log


def find_sources(paths: Sequence[Path], dumps: bool = True) -> list[Source]:
    """The files of ``paths`` that hold a run's log, see the module; without rollout dumps if ``dumps`` is False.

    Raises:
        SettingsError: a path is missing, a folder holds no log, or only dumps are there and ``dumps`` is False.
    """
    sources: list[Source] = []
    for path in paths:
        if not path.is_dir():
            if not path.is_file():
                require_file(path, "RUN", (".jsonl", *CONSOLE_ENDINGS))  # raises, and names a similar file
            sources.append(
                _source(path) or Source(path, _read_file_logger if path.suffix == ".jsonl" else _read_console)
            )
            continue
        beside = path.with_name(path.name + ".log")
        candidates = [*_files_below(path, DEPTH), *[beside] * beside.is_file()]
        found = [source for file in candidates if (source := _source(file))]
        if not found:
            raise SettingsError(
                f"RUN: {path} holds no log. Known are .jsonl files of verl's file logger (trainer.logger=[console,file]), "
                f"console output in {', '.join(CONSOLE_ENDINGS)}, and TensorBoard event files; name the file if it is elsewhere"
            )
        sources += found
    kept = [source for source in sources if dumps or source.read is not _read_dump]
    if not kept:
        raise SettingsError(
            f"RUN: {', '.join(map(str, paths))} holds only rollout dumps; `verl-efficiency diagnose` and `calibrate` read them"
        )
    return kept


def _files_below(folder: Path, depth: int) -> list[Path]:
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if entry.is_file()]
    folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(NOT_SEARCHED)]
    return files + [file for inner in folders if depth for file in _files_below(inner, depth - 1)]


def _source(path: Path) -> Source | None:
    """The file as a source; None if it holds no log."""
    if EVENTS in path.name or path.suffix in CONSOLE_ENDINGS:
        return Source(path, _read_console)
    if path.suffix != ".jsonl":
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    if path.stem.isdecimal() and '"score"' in first:
        return Source(path, _read_dump)
    return Source(path, _read_file_logger) if '"data"' in first and '"step"' in first else None


def _read_file_logger(source: Source, lines: Iterable[str], log: RunLog) -> None:
    for line in lines:
        source.line += 1
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            log.add(int(entry["step"]), entry["data"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise SettingsError(
                f"RUN: {source.path} line {source.line} is not of verl's file logger ({error!r}); logs of a training are "
                "read here, and stored responses by `verl-efficiency evaluate offline`"
            ) from None


def _read_console(source: Source, lines: Iterable[str], log: RunLog) -> None:
    log.console = True
    for line in lines:
        for step, pair in ((VERL_STEP, VERL_PAIR), (OPENRLHF_STEP, OPENRLHF_PAIR)):
            found = step.search(line)
            if found:
                numbers = {name: _number(value) for name, value in pair.findall(found[2])}
                log.add(int(found[1]), source.pending | numbers)
                source.pending = {}
        method = METHOD_LINE.search(line.rstrip())
        if method:
            pieces = (piece.split("=") for piece in method[2].split())
            source.pending |= {f"{method[1]}/{name}": _number(value) for name, value in pieces}
        for kind, fault in FAULTS.items():
            log.faults[kind] += bool(fault.search(line))
        if limit := LIMIT.search(line):
            log.limit = int(limit[1])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_dump(source: Source, lines: Iterable[str], log: RunLog) -> None:
    """Shares of a step: groups whose scores are all equal, gradings that timed out, rewards that raised."""
    scores: dict[str, set[float]] = defaultdict(set)
    try:
        rows = [json.loads(line) for line in lines if line.strip()]
        for row in rows:
            group = group_of(row["uid"]) if "uid" in row else row["input"]
            scores[group].add(row["score"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"RUN: {source.path} is not a rollout dump of verl ({error!r})") from None
    if not rows:
        return
    shares = {"rollouts/equal_groups": sum(len(values) == 1 for values in scores.values()) / len(scores)}
    if any("status" in row for row in rows):  # rewards of several data sources may give different columns
        shares["rollouts/timed_out"] = sum(row.get("status") == "timed_out" for row in rows) / len(rows)
    if any("reward_error" in row for row in rows):
        shares["rollouts/reward_error"] = sum(bool(row.get("reward_error")) for row in rows) / len(rows)
    log.add(int(source.path.stem), shares)


def group_of(uid: str) -> str:
    """The group in the uid of a dumped rollout, ``group_rollout_output``."""
    return uid.rsplit("_", 2)[0]


def _read_events(path: Path, log: RunLog) -> None:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ModuleNotFoundError:
        raise SettingsError(
            f"RUN: {path} is a TensorBoard file; pip install tensorboard, or name another log"
        ) from None
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            log.add(event.step, {tag.removeprefix("train/"): event.value})
