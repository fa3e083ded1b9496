"""What the tasks share: the form of prompts and responses, the splits, and the count of right answers."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

PROBLEM_TEMPLATE = "### Problem {index}:{problem}"
SEPARATOR = "\n"
SINGLE_ANSWER = r"\boxed{{{answer}}}"
PACKED_ANSWER = r"Answer{index}::\boxed{{{answer}}}"


class Problem(Protocol):
    """A problem of a task."""

    @property
    def text(self) -> str:
        """The problem in the prompt."""

    @property
    def answer(self) -> int:
        """The right answer."""

    @property
    def operands_by_label(self) -> list[str]:
        """Each label with its digit, in order: ``["c4", "d2"]``."""

    @property
    def split(self) -> str:
        """The split, a fixed property of the text."""


def prompt(problems: Sequence[Problem]) -> str:
    """The prompt: the text of one problem, or a pack with one numbered problem per line."""
    if len(problems) == 1:
        return problems[0].text
    return SEPARATOR.join(PROBLEM_TEMPLATE.format(index=i, problem=p.text) for i, p in enumerate(problems, start=1))


def response(problems: Sequence[Problem], workings: Sequence[str]) -> str:
    """A response: the working of each problem, then its answer. In a pack, each line starts with the problem's number."""
    pairs = list(zip(problems, workings, strict=True))
    if len(pairs) == 1:
        return workings[0] + SINGLE_ANSWER.format(answer=problems[0].answer)
    return SEPARATOR.join(
        f"{i}:{working}" + PACKED_ANSWER.format(index=i, answer=problem.answer)
        for i, (problem, working) in enumerate(pairs, start=1)
    )


def tokens(problems: int, working: int) -> int:
    """Tokens of a response with the end-of-sequence token; ``working`` is the tokens of all workings together.

    An answer has 3 tokens. A pack has 5 more per problem for ``i:`` and ``Answeri::``, and one per line break.
    """
    return working + 4 if problems == 1 else working + 9 * problems


def count_correct(problems: Sequence[Problem], response: str) -> int:
    """Number of problems whose answer is in the response, in the form of a single answer or of a pack."""
    template = SINGLE_ANSWER if len(problems) == 1 else PACKED_ANSWER
    return sum(template.format(index=i, answer=p.answer) in response for i, p in enumerate(problems, start=1))


def split(text: str, shares: Mapping[str, int]) -> str:
    """The split of a problem, a fixed property of its text. ``shares`` are the splits and their shares of 256."""
    place = hashlib.sha256(text.encode()).digest()[0]
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    raise AssertionError("the shares add up to 256")
