"""Reads one metric over the steps of a training run, from verl's own logs."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from verl_efficiency.settings import SettingsError, nearest, require

RESPONSE_LENGTH = "response_length/mean"
STEP = re.compile(r"step:(\d+) - (.*)")
NUMBER = re.compile(r"^([\w/@.+-]+):(?:np\.\w+\()?([-+.\deE]+)\)?$")


@dataclass(frozen=True)
class TrainingLog:
    """The log of one phase of training: the file of verl's ``trainer.logger=[console,file]``, or saved console output.

    verl writes the file to ``VERL_FILE_LOGGER_PATH``, or to ``$VERL_FILE_LOGGER_ROOT/<project>/<experiment>.jsonl``.
    """

    label: str  # the name in reports
    path: Path
    problems: int = 1  # number of problems in a prompt; lengths are divided by it


def parse_training_log(text: str) -> TrainingLog:
    """Parse ``LABEL=FILE`` or ``LABEL=FILE:N``, where N is the number of problems per prompt.

    >>> parse_training_log("BCR=logs/bcr.jsonl:3").problems
    3
    """
    label, _, rest = text.partition("=")
    path, _, count = rest.rpartition(":")
    if not (path and count.isdigit()):
        path, count = rest, "1"
    require(
        bool(label and path) and int(count) >= 1, "training log", text, "LABEL=FILE or LABEL=FILE:PROBLEMS_PER_PROMPT"
    )
    return TrainingLog(label, Path(path), int(count))


def read_metric(path: Path, name: str = RESPONSE_LENGTH) -> list[tuple[int, float]]:
    """``[(step, value), …]`` of a metric, from a ``.jsonl`` of verl's file logger or from console output.

    A step that was logged twice (a resumed run) counts with its last value.

    Raises:
        SettingsError: there is no such file, or no step has the metric; the message gives the nearest name.
    """
    require(path.is_file(), "training log", str(path), "a file written by trainer.logger=[console,file]")
    read = _file_logger if path.suffix == ".jsonl" else _console
    values: dict[int, float] = {}
    seen: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            step, metrics = read(line)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"training log: {path} line {number} is not of verl's file logger ({error})") from None
        seen |= metrics.keys()
        if name in metrics and math.isfinite(metrics[name]):
            values[step] = metrics[name]
    if not values:
        raise SettingsError(f"training log: {path} has no step with {name}{nearest(name, seen) or '.'}")
    return sorted(values.items())


def _file_logger(line: str) -> tuple[int, dict[str, float]]:
    entry = json.loads(line)
    return entry["step"], {key: value for key, value in entry["data"].items() if isinstance(value, int | float)}


def _console(line: str) -> tuple[int, dict[str, float]]:
    found = STEP.search(line)
    if found is None:
        return 0, {}
    pairs = (NUMBER.match(piece) for piece in found[2].split(" - "))
    return int(found[1]), {pair[1]: float(pair[2]) for pair in pairs if pair}
