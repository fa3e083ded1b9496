"""Test-time strategies as plans: how many samples each draws, when it has its answer, and what it takes from them.

A plan is named as on the command line, ``short-3@8`` for example. :mod:`verl_efficiency.evaluation.live` runs it on a server.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verl_efficiency.evaluation.strategies import answer_vote, decided
from verl_efficiency.grading import extract_answer
from verl_efficiency.settings import SettingsError

KINDS = "plain, cap@TOKENS, think@TOKENS, first-finish@K, short-M@K, majority@K, early-stop@K"


@dataclass(frozen=True)
class Plan:
    """A strategy: of ``k`` samples it waits for ``first`` to finish, or draws one after the other (``early_stop``)."""

    name: str
    k: int = 1
    first: int = 1
    cap: int | None = None  # token limit of a sample
    think: int | None = None  # token limit after which the thought is closed and the answer asked for
    early_stop: bool = False


def parse_plan(text: str) -> Plan:
    """``short-3@8`` and its like.

    >>> parse_plan("short-3@8"), parse_plan("cap@512").cap
    (Plan(name='short-3', k=8, first=3, cap=None, think=None, early_stop=False), 512)

    Raises:
        SettingsError: it is another text.
    """
    name, at, count = text.strip().partition("@")
    number = int(count) if count.isdecimal() else 0
    if name == "plain" and not at:
        return Plan("plain")
    if name == "cap" and number >= 1:
        return Plan(f"cap {number:,}", cap=number)
    if name == "think" and number >= 1:
        return Plan(f"think {number:,}", think=number)
    if name == "first-finish" and number >= 2:
        return Plan("first finish", number)
    if name == "majority" and number >= 2:
        return Plan("majority", number, number)
    if name == "early-stop" and number >= 2:
        return Plan("early stop", number, early_stop=True)
    kind, _, first = name.partition("-")
    if kind == "short" and first.isdecimal() and 1 <= int(first) <= number:
        return Plan(name, number, int(first))
    raise SettingsError(f"--strategies: must be of {KINDS} (K at least 2, M at most K), got {text!r}")


Vote = Callable[[str], str | None]  # a response → its answer, or None without one


@dataclass(frozen=True)
class Stream:
    """One line of the store: a stream that ended, and what it cost."""

    strategy: str
    k: int
    key: str
    seed: int
    # finished; thought: cut off by a thinking budget, one more goes on; cancelled: its strategy had the answer; failed: it
    # broke, or the run was interrupted
    ended: str
    tokens: int | None  # None: finished or thought, but the server gave no usage
    text: str = ""  # of these two
    reasoning: str = ""  # of these two, where the server gives it apart
    truncated: bool = False  # whether the token limit cut it off


def cuts_without_thought(streams: Sequence[Stream]) -> bool:
    """Whether the budget cut responses off, but no response has a thought."""
    cut = any(one.ended == "thought" for one in streams)
    return cut and not any(one.reasoning or "think>" in one.text for one in streams)


def cost(streams: Sequence[Stream]) -> int:
    """Tokens of all streams."""
    return sum(one.tokens or 0 for one in streams)


def finished(plan: Plan, streams: Sequence[Stream]) -> list[str]:
    """Texts of the samples that the strategy takes, the first to finish first."""
    thoughts = {one.seed: one for one in streams if one.ended == "thought"}
    texts = []
    for one in streams:
        if one.ended == "finished" and (thought := thoughts.get(one.seed)):
            # What follows a closed thought is the answer, wherever the server puts it.
            texts.append((thought.text if thought.reasoning else closed(thought)) + one.reasoning + one.text)
        elif one.ended == "finished":
            texts.append(one.text)
    return texts if plan.early_stop else texts[: plan.first]


def closed(thought: Stream) -> str:
    r"""The assistant's turn so far, with its thought closed. Blanks at its edges are as chat templates leave them.

    >>> closed(Stream("think 3", 1, "key", 0, "thought", 3, text="<think>one two"))
    '<think>\none two\n</think>\n\n'
    """
    if thought.reasoning:
        inside, answer = thought.reasoning, thought.text
    else:
        inside, _, answer = thought.text.partition("</think>")
    inside = inside.strip().removeprefix("<think>").strip()
    return f"<think>\n{inside}\n</think>\n\n{answer.lstrip()}"


def has_answer(plan: Plan, streams: Sequence[Stream], vote: Vote) -> bool:
    """Whether the strategy needs no further sample."""
    texts = finished(plan, streams)
    if not plan.early_stop:
        return len(texts) == plan.first
    votes = Counter(found for found in map(vote, texts) if found)
    return len(texts) == plan.k or decided(votes, plan.k - len(texts))


def elect(texts: Sequence[str], vote: Vote) -> str:
    """The first response with the most frequent answer; the first one if none has an answer."""
    votes: dict[str, list[str]] = {}
    for text in texts:
        if answer := vote(text):
            votes.setdefault(answer, []).append(text)
    return max(votes.values(), key=len)[0] if votes else texts[0]


def vote_of(text: str, marker: str | None, strip_thinking: bool) -> str | None:
    return answer_vote(extract_answer(text, marker=marker, strip_thinking=strip_thinking))
