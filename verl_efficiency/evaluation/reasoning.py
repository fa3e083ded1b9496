"""Finds the reasoning in responses, so that its tokens and those of the answer are counted apart."""

from collections.abc import Sequence

OPEN, CLOSE = "<think>", "</think>"


def find_reasoning(texts: Sequence[str], truncated: Sequence[bool]) -> list[str]:
    """The reasoning in each response, without its tags; empty where a response did not reason.

    Reasoning begins at ``<think>``, or at the start if ``</think>`` comes first. It ends at ``</think>``, or at the end of the
    response. A response without a tag is an answer, with one exception: the chat template opens the reasoning in the prompt
    (another response has a ``</think>`` without ``<think>``), and the token limit cut this one off. It is reasoning as a
    whole.

    Args:
        texts: responses of one model with one chat template.
        truncated: whether the token limit cut each response off.

    >>> find_reasoning(["1+1</think>2", "2", "1+"], [False, False, True])
    ['1+1', '', '1+']
    >>> find_reasoning(["<think>1+1</think>2", "2", "1+", "<think>1"], [False, False, True, True])
    ['1+1', '', '', '1']
    """
    opened = any(CLOSE in text and OPEN not in text.partition(CLOSE)[0] for text in texts)
    return [_reasoning(text, opened and cut) for text, cut in zip(texts, truncated, strict=True)]


def _reasoning(text: str, inside: bool) -> str:
    """The reasoning of one response; ``inside``: one without a tag is all reasoning."""
    *closed, rest = text.split(CLOSE)
    parts = [part.partition(OPEN)[2] if OPEN in part else part for part in closed]
    parts.append(rest if inside and not closed and OPEN not in rest else rest.partition(OPEN)[2])
    found = "".join(parts)
    return found if found.strip() else ""
