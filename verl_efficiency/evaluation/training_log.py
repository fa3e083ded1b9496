"""One metric over the steps of a training run, for reports."""

import re
from dataclasses import dataclass
from pathlib import Path

from verl_efficiency.evaluation.run_log import read_run
from verl_efficiency.settings import SettingsError, nearest, require

RESPONSE_LENGTH = "response_length/mean"


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
    """``[(step, value), …]`` of a metric, from any log that :func:`~verl_efficiency.evaluation.run_log.read_run` reads.

    If a step was logged twice (in a resumed run), its last value counts.

    Raises:
        SettingsError: there is no such file, or no step has the metric; the message gives the nearest name.
    """
    require(path.exists(), "training log", str(path), "a file written by trainer.logger=[console,file]")
    log = read_run([path])
    values = log.series(re.escape(name))
    if not values:
        seen = {seen for metrics in log.steps.values() for seen in metrics}
        raise SettingsError(f"training log: {path} has no step with {name}{nearest(name, seen) or '.'}")
    return values
