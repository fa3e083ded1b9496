"""What an engine takes and returns: requests, sampling settings, and answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from verl_efficiency.settings import require


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn: ``temperature`` 0 is greedy, ``max_new_tokens`` counts the end-of-sequence token."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 1024
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "temperature", self.temperature, "at least 0 (0 is greedy)")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.seed >= 0, "seed", self.seed, "at least 0")


@dataclass(frozen=True)
class Request:
    """Asks for one response."""

    key: str  # names the content of the prompt
    sample: int  # number of the response among those to the same prompt
    messages: list[dict[str, Any]]  # the chat
    row: int  # number of its row in the data, for errors
    chat_template: dict[str, Any] = field(default_factory=dict)  # further arguments of the chat template


@dataclass(frozen=True)
class Answer:
    """One response."""

    text: str  # what is graded, without special tokens
    tokens: int  # number of generated tokens, with the reasoning and the end-of-sequence token
    truncated: bool  # whether the token limit cut the response off
    reasoning_tokens: int | None = None  # those of `tokens` that are reasoning, 0 without any; None if not known
    prompt_tokens: int | None = None  # number of tokens of the prompt; None if the engine does not know it


@dataclass(frozen=True)
class Engine:
    """Answers requests: a model in this process, or a server."""

    model: str  # the model's name or path, for results
    facts: dict[str, Any]  # further entries for a result (device, dtype, server, versions)
    answer: Callable[[Sequence[Request], Sampling], list[Answer]]  # returns a response to every request, in order
