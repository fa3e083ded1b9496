r"""Repetition penalty: minus the share of a response's n-grams that stood there before.

::

    score = −(1 − distinct n-grams / n-grams)        in (−1, 0]; 0 for a text of fewer than n + 1 pieces

A term for ``composition`` (``{name: repetition, weight: 0.1}``): it does not look at the answer, returns no ``acc``, and is
best for the empty response, so training on it alone is refused at start-up.

Paper: Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373 (n = 40). The paper's own form gives −0.05 to
each token of a repeated n-gram, which needs a reward per token; its code also has this form, for a whole response, with words
separated by blanks and wrong answers only. Ours holds for correct answers too, and pieces are runs of up to 16 letters or
digits, or one other character: a formula repeated without blanks counts, and so does a language that writes none.

>>> repetition("sums", "so 2 + 2 so 2 + 2 so 2 + 2", "4", n=4)["score"]
-0.5555555555555556
>>> repetition("sums", "four", "4", n=4)["score"]
0.0
"""

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verl_efficiency.rewards.inputs import RewardSettings, read_settings, require_text, row_name
from verl_efficiency.settings import require

_PIECE = re.compile(r"\w{1,16}|[^\w\s]")
_MAX_CHARS = 200_000  # at the end of the response; about twice what the longest responses of today hold


@dataclass(frozen=True)
class RepetitionSettings(RewardSettings):
    """Settings of ``repetition``.

    Args:
        n: pieces in an n-gram, 1 to 100. Small n counts ordinary language as repetition; large n only loops.
    """

    extras: ClassVar[Mapping[str, float | str]] = {**RewardSettings.extras, "repeated": 0.0}

    n: int = 40

    def __post_init__(self) -> None:
        require(1 <= self.n <= 100, "n", self.n, "a whole number from 1 to 100")


def repetition(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float]:
    """Score one response, as verl calls it; only ``solution_str`` is read, its last 200,000 characters.

    Args:
        data_source: named in errors.
        solution_str: the decoded response.
        ground_truth: not used.
        extra_info: not used.
        settings: see :class:`RepetitionSettings`.

    Returns:
        ``score``, in (−1, 0]; ``repeated``, the share of repeated n-grams, −score.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: a response that is no text.
    """
    chosen = read_settings(RepetitionSettings, settings)
    require_text(solution_str, row_name(data_source, extra_info))
    repeated = repeated_share(solution_str[-_MAX_CHARS:], chosen.n)
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
    # Numbers, so that an n-gram is a slice of bytes. Hashes, not the n-grams: those of a long response take tens of megabytes.
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    row = array("I", map(numbers.__getitem__, pieces))
    size, coded = row.itemsize, row.tobytes()
    distinct = {hash(coded[start : start + n * size]) for start in range(0, count * size, size)}
    return 1 - len(distinct) / count
