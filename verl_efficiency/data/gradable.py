"""Can this reward grade the rows of this file? Calls the reward with an empty response before a run starts."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from verl_efficiency.data.files import Sample
from verl_efficiency.methods.catalog import Method
from verl_efficiency.rewards.ground_truth import read_answers, sentences

logger = logging.getLogger("verl_efficiency")
# What a reward manager tells a reward, here for a response of one token.
_COST = {"response_tokens": 1, "response_limit": 1024, "truncated": False, "thinking_opened": False, "prompt_id": ""}


def check_gradable(sample: Sample, method: Method, settings: Mapping[str, Any], where: str) -> Iterator[str]:
    """Why one of our rewards cannot grade rows in verl's form; at most one line per file.

    A user's own functions in a composition are not called. Answers of many words are a problem if most rows of the sample have
    one, else a warning.

    Args:
        sample: rows of the file.
        method: the reward's row of the catalog.
        settings: its keyword arguments, already checked.
        where: the setting and the file, for the beginning of each line.
    """
    functions = _functions(method, settings)
    wrong: list[str] = []
    answers: list[str] = []
    for row, place in zip(sample.rows, sample.places, strict=True):
        try:
            answers += _graded(row, functions)
        except ValueError as error:
            wrong.append(f"{place}: {error}")
    if wrong:
        more = f" ({len(wrong)} of the {len(sample.rows)} rows looked at have such a fault)" if len(wrong) > 1 else ""
        yield f"{where} {wrong[0]}{more}"
        return
    found = sentences(answers)
    if found:
        text = (f"{where}: {len(found)} of the {len(answers)} answers looked at are sentences, and only an exact copy would "
                f"be correct, for example {answers[found[0]][:80]!r}")  # fmt: skip
        if 2 * len(found) > len(answers):
            yield f"{text}; write the bare answers into reward_model.ground_truth"
        else:
            logger.warning("%s", text)


def _graded(row: Mapping[str, Any], functions: list[tuple[Callable[..., Any], dict[str, Any]]]) -> list[str]:
    """The answers of a row that every function accepts."""
    reward_model, extra_info = row.get("reward_model"), row.get("extra_info") or {}
    if not isinstance(reward_model, Mapping) or "ground_truth" not in reward_model:
        raise ValueError(
            f"reward_model must be a mapping with the answer as ground_truth, got {str(reward_model)[:60]}"
        )
    if not isinstance(extra_info, Mapping):
        raise ValueError(f"extra_info must be a mapping, got {str(extra_info)[:60]}")
    truth = reward_model["ground_truth"]
    for function, settings in functions:
        function(row.get("data_source"), "", truth, {**extra_info, **_COST}, **settings)
    return read_answers(truth, extra_info.get("n"))


def _functions(method: Method, settings: Mapping[str, Any]) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    if method.name != "composition":
        return [(method.function(), dict(settings))]
    terms = method.build_settings(settings, method.name).read()  # type: ignore[attr-defined]
    return [(term.function, term.given) for term in terms if term.settings is not None]
