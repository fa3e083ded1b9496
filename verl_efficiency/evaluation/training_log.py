"""One metric over the steps of a training run, for reports."""

import re
from dataclasses import dataclass
from pathlib import Path

from verl_efficiency.evaluation.diagnose import SERIES
from verl_efficiency.evaluation.run_log import read_run
from verl_efficiency.settings import SettingsError, nearest, require


@dataclass(frozen=True)
class TrainingLog:
    """The log of one phase of training, of verl or OpenRLHF: any file or folder that ``diagnose`` reads.

    With ``trainer.logger=[console,file]`` verl writes the file ``VERL_FILE_LOGGER_PATH``, or else
    ``$VERL_FILE_LOGGER_ROOT/<project>/<experiment>.jsonl``.
    """

    label: str  # the name in reports
    path: Path
    problems: float = 1  # in a prompt, on average; lengths are divided by it
    scores: tuple[float, float] = (0.0, 1.0)  # of a wrong and of a correct answer


def parse_training_log(text: str, scores: tuple[float, float] = (0.0, 1.0)) -> TrainingLog:
    """Parse ``LABEL=FILE`` or ``LABEL=FILE:N``, where N is the mean number of problems per prompt.

    >>> parse_training_log("BCR=logs/bcr.jsonl:3").problems, parse_training_log("BCR=logs/bcr.jsonl:1.54").problems
    (3.0, 1.54)
    """
    label, _, rest = text.partition("=")
    path, _, count = rest.rpartition(":")
    if not (path and re.fullmatch(r"[0-9]+(\.[0-9]+)?", count)):
        path, count = rest, "1"
    require(bool(label and path) and float(count) >= 1, "--log", text, "LABEL=FILE or LABEL=FILE:PROBLEMS_PER_PROMPT")
    return TrainingLog(label, Path(path), float(count), scores)


def read_metric(path: Path, name: str | None = None) -> list[tuple[int, float]]:
    """``[(step, value), …]`` of a metric, from any log that :func:`~verl_efficiency.evaluation.run_log.read_run` reads.

    If a step was logged twice (in a resumed run), its last value counts. Without a ``name``, the metric is the mean length of
    the responses, which verl and OpenRLHF call differently.

    Raises:
        SettingsError: there is no such file, or no step has the metric; the message gives the nearest name.
    """
    require(
        path.exists(),
        "training log",
        str(path),
        "a log of verl (trainer.logger=[console,file]) or OpenRLHF (its console output, or --logger.tensorboard_dir)",
    )
    log = read_run([path])
    values = log.series(*(SERIES["tokens"] if name is None else (re.escape(name),)))
    if not values:
        seen = {seen for metrics in log.steps.values() for seen in metrics}
        named = name or " or ".join((f"{SERIES['tokens'][0]} (verl)", f"{SERIES['tokens'][1]} (OpenRLHF)"))
        raise SettingsError(
            f"training log: {path} has no step with {named}{nearest(name or SERIES['tokens'][0], seen) or '.'}"
        )
    return values
