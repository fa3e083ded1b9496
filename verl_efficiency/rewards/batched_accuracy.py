r"""Reward of batched contextual reinforcement: how many of the N problems of a prompt are answered right.

    score = accuracy_weight · (1/N) Σ_i 1[answer_i = truth_i] + format_weight · format

Answer i is the content of ``Answer{i}::\boxed{…}``. There is no length term: the pressure comes from the token limit that
the problems share (``data.max_response_length``). A response cut off by it keeps the credit of the answers it finished.

Paper: arXiv 2604.02322. It publishes neither the weights nor what the format asks for: both are our choice.

>>> result = batched_accuracy("sums", r"1+1=2. Answer1::\boxed{2} 2+2=", '["2", "4"]')
>>> result["score"], result["finished"], result["correct_by_problem"]
(0.5, 0.5, '10')
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from verl_efficiency.grading import drop_thinking, extract_answer, extract_boxed, grade_batch
from verl_efficiency.settings import MethodSettings, build_settings, require

_TAG = re.compile(r"Answer\s*([0-9]{1,4})\s*::[\s$*]*$")  # `$` and `**` are how models dress a box up
_LOOK_BACK = 40  # characters before a box in which its tag must stand; keeps the search linear in the text


@dataclass(frozen=True)
class BatchedAccuracySettings(MethodSettings):
    r"""Settings of ``batched_accuracy``.

    Args:
        accuracy_weight: weight of the mean correctness, above 0.
        format_weight: weight of the format (1 or 0), at least 0. Small beside a problem's share accuracy_weight / N, so
            that the format is learnt early and is never worth an answer.
        duplicates: which answer counts when an index is answered more than once: ``last``, ``first`` or ``none``.
        strip_thinking: whether answers inside ``<think>…</think>`` do not count.
    """

    accuracy_weight: float = 1.0
    format_weight: float = 0.1
    duplicates: Literal["last", "first", "none"] = "last"
    strip_thinking: bool = False

    def __post_init__(self) -> None:
        require(self.accuracy_weight > 0, "accuracy_weight", self.accuracy_weight, "a number above 0")
        require(self.format_weight >= 0, "format_weight", self.format_weight, "a number of at least 0")


def batched_accuracy(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **settings: Any,
) -> dict[str, float | str]:
    r"""Score one response, as verl calls it.

    Args:
        data_source: named in errors.
        solution_str: the decoded response.
        ground_truth: a JSON list of N answers (a row of ``pack_rows``), or one plain answer: then N = 1 and the last
            ``\boxed{…}`` is the answer, so that single problems validate with the same function.
        extra_info: ``n`` (N, from ``pack_rows``), ``response_tokens`` and ``truncated`` (from our reward manager) are read
            where given.
        reward_router_address: given by verl where a reward model is served, not used.
        reward_model_tokenizer: given by verl where a reward model is served, not used.
        settings: see :class:`BatchedAccuracySettings`.

    Returns:
        ``score``, from 0 to accuracy_weight + format_weight; ``acc``, the share of problems answered right, 0..1;
        ``format``, 1 if each of the N answers stands there exactly once, in order and without others, and the response is not
        known to be truncated, else 0 (N = 1 with a plain answer: if there is an answer); ``finished``, the share of problems
        with an answer; ``problems``, N; ``tokens_per_problem``, response tokens / N, or -1 where the token count is not known
        (verl's own reward managers do not give it); ``correct_by_problem``, one ``1`` or ``0`` for each problem;
        ``answers``, a JSON list with null for a missing answer.

    Raises:
        SettingsError: an unknown or wrong setting.
        ValueError: a ground truth that is not a text, or not a list of N answers.
    """
    chosen = build_settings(BatchedAccuracySettings, settings, where="reward.custom_reward_function.reward_kwargs")
    extra_info = extra_info or {}
    truths = read_truths(ground_truth, extra_info, data_source)
    text = drop_thinking(solution_str) if chosen.strip_thinking else solution_str
    answers: list[str | None]
    if truths is None:
        truths = [ground_truth]
        answers = [extract_answer(text)]
        complete = answers != [None]
    else:
        found = find_answers(text)
        answers = pick_answers(found, len(truths), chosen.duplicates)
        complete = [index for index, _ in found] == list(range(1, len(truths) + 1))
    correct = [verdict.correct for verdict in grade_batch(answers, truths)]
    accuracy = sum(correct) / len(truths)
    in_format = float(complete and not extra_info.get("truncated", False))
    tokens = extra_info.get("response_tokens")
    return {
        "score": chosen.accuracy_weight * accuracy + chosen.format_weight * in_format,
        "acc": accuracy,
        "format": in_format,
        "finished": sum(answer is not None for answer in answers) / len(truths),
        "problems": float(len(truths)),
        "tokens_per_problem": -1.0 if tokens is None else tokens / len(truths),
        "correct_by_problem": "".join("1" if right else "0" for right in correct),
        "answers": json.dumps(answers, ensure_ascii=False),
    }


compute_score = batched_accuracy


def read_truths(ground_truth: Any, extra_info: Mapping[str, Any], data_source: str) -> list[str] | None:
    """The N answers of a packed row, or None for the plain answer of a single problem.

    >>> read_truths('["4", "5"]', {"n": 2}, "sums")
    ['4', '5']
    >>> read_truths("[4, 5]", {}, "intervals") is None
    True
    """
    row = f"reward_model.ground_truth of data source {data_source!r}, index {extra_info.get('index')!r}"
    if not isinstance(ground_truth, str):
        raise ValueError(
            f"{row}: must be a text (for a packed row a JSON list, as verl-efficiency pack writes it), "
            f"got {type(ground_truth).__name__}: {ground_truth!r}"
        )
    count = extra_info.get("n")
    truths = _texts(ground_truth)
    if truths and count in (None, len(truths)):
        return truths
    if count in (None, 1):
        return None
    raise ValueError(f"{row}: must be a JSON list of {count} texts (extra_info.n), got {ground_truth!r}")


def _texts(text: str) -> list[str] | None:
    try:
        values = json.loads(text)
    except ValueError:  # most plain answers are no JSON
        return None
    return values if isinstance(values, list) and all(isinstance(value, str) for value in values) else None


def find_answers(text: str) -> list[tuple[int, str]]:
    r"""Every ``Answer{i}::\boxed{…}`` with balanced braces and some content, as (i, content) in order of appearance.

    >>> find_answers(r"Answer1::\boxed{\frac{1}{2}} Answer2::$\boxed{3}$ \boxed{9} Answer3::\boxed{4")
    [(1, '\\frac{1}{2}'), (2, '3')]
    """
    found = []
    for box in extract_boxed(text):
        tag = _TAG.search(text[max(0, box.start - _LOOK_BACK) : box.start])
        if tag and box.content.strip():
            found.append((int(tag[1]), box.content.strip()))
    return found


def pick_answers(found: list[tuple[int, str]], count: int, duplicates: str) -> list[str | None]:
    """One answer, or None, for each of the problems 1..count.

    >>> found = [(1, "3"), (1, "4"), (3, "5")]
    >>> pick_answers(found, 2, "last"), pick_answers(found, 2, "first"), pick_answers(found, 2, "none")
    (['4', None], ['3', None], [None, None])
    """
    by_index: dict[int, list[str]] = {}
    for index, answer in found:
        by_index.setdefault(index, []).append(answer)
    picked: list[str | None] = []
    for index in range(1, count + 1):
        given = by_index.get(index, [])
        if not given or (duplicates == "none" and len(given) > 1):
            picked.append(None)
        else:
            picked.append(given[0 if duplicates == "first" else -1])
    return picked
