r"""Repetition penalty: minus the share of a response's n-grams that repeat an earlier one.

::

    score = −(1 − distinct n-grams / n-grams)        in (−1, 0]; 0 for a text of fewer than n + 1 pieces

A term for ``composition`` (``{name: repetition, weight: 0.1}``). It does not look at the answer, returns no ``acc``, and scores
the empty response best, so the start-up checks refuse it as the only reward.

Paper: Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373 (n = 40). The paper gives −0.05 to each token of a
repeated n-gram, which needs a reward per token. Its code also has our form, one score per response, for wrong answers only and
with words separated by blanks. Our choice: it holds for correct answers too, and a piece is a run of up to 16 letters or
digits, or one other character. So a formula that repeats without blanks counts, and so does a language that writes none.

>>> repetition("sums", "so 2 + 2 so 2 + 2 so 2 + 2", "4", n=4)["score"]
-0.5555555555555556
>>> repetition("sums", "four", "4", n=4)["score"]
0.0
"""

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verl_efficiency.rewards.base import Response, Result, RewardSettings, reward
from verl_efficiency.settings import require

_PIECE = re.compile(r"\w{1,16}|[^\w\s]")
_MAX_CHARS = 200_000  # of the end of a response: about twice the longest responses of today


@dataclass(frozen=True)
class RepetitionSettings(RewardSettings):
    """Settings of ``repetition``.

    Args:
        n: pieces in an n-gram, 1 to 100. Small n counts ordinary language as repetition; large n only loops.
    """

    only_as_term: ClassVar[str] = "would teach the empty response"
    extras: ClassVar[Mapping[str, float | str]] = {**RewardSettings.extras, "repeated": 0.0}

    n: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.n <= 100, "n", self.n, "a whole number from 1 to 100")


@reward(RepetitionSettings)
def repetition(response: Response, settings: RepetitionSettings) -> Result:
    """Returns ``score`` in (−1, 0]; ``repeated``, the share of repeated n-grams, −score. Reads the last 200,000 characters."""
    repeated = repeated_share(response.text[-_MAX_CHARS:], settings.n)
    return {"score": 0.0 - repeated, "repeated": repeated}


compute_score = repetition


def repeated_share(text: str, n: int) -> float:
    """The share of ``text``'s n-grams that repeat an earlier one, in [0, 1); 0 where there is no n-gram.

    >>> repeated_share("a b A B", 2)  # a b, b a, a b
    0.33333333333333337
    """
    pieces = _PIECE.findall(text.lower())
    count = len(pieces) - n + 1
    if count < 2:
        return 0.0
    # Pieces as numbers make an n-gram a slice of bytes. Only hashes are kept: the n-grams of a long response take megabytes.
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    row = array("I", map(numbers.__getitem__, pieces))
    size, coded = row.itemsize, row.tobytes()
    distinct = {hash(coded[start : start + n * size]) for start in range(0, count * size, size)}
    return 1 - len(distinct) / count
