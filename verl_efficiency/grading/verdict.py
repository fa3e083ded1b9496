"""What a grading says."""

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """Why an answer is, or is not, accepted; only ``correct`` earns a reward."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no_answer"  # nothing was given
    unparsable = (
        "unparsable"  # answer or reference cannot be read as mathematics, is too long, or too large to evaluate
    )
    timed_out = "timed_out"  # the comparison overran its deadline


@dataclass(frozen=True)
class Verdict:
    """The outcome of one grading; ``seconds`` is the time spent on it, waiting for a free worker left out."""

    status: Status
    answer: str | None
    seconds: float

    @property
    def correct(self) -> bool:
        return self.status is Status.correct
