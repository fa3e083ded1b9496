"""The streaming of one sample: what arrived of a response, whether it is whole, and what it cost."""

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from verl_efficiency.evaluation.client import one_line

Count = Callable[[list[str]], list[int]]  # tokens of texts


@dataclass
class Sample:
    """A response while it streams."""

    pieces: list[str] = field(default_factory=list)  # of the answer
    reasoning: list[str] = field(default_factory=list)
    usage: int | None = None
    finish: str | None = None  # why the server ended it

    def tokens(self, count: Count | None) -> int:
        """Tokens that arrived so far."""
        if self.usage is not None:
            return self.usage
        if count is not None:
            return sum(count(["".join(self.reasoning), "".join(self.pieces)]))
        return len(self.pieces) + len(self.reasoning)


class Broken(Exception):
    """A stream ended before its response did."""


async def whole(start: Callable[[], Awaitable[Any]], tries: int, lost: Callable[[Sample], None]) -> Sample:
    """A sample whose stream came to its end, in at most ``tries`` tries. Those that do not are given to ``lost``.

    Raises:
        Broken: no try came to its end.
        openai.APIError: no stream began. The client has tried that again itself.
    """
    failed = 0
    while True:
        sample = Sample()
        try:
            async with await start() as stream:  # which closes the connection if this task is cancelled
                await _read(stream, sample)
            return sample
        except asyncio.CancelledError:
            lost(sample)
            raise
        except Broken:
            lost(sample)
            failed += 1
            if failed == tries:
                raise
        await asyncio.sleep(min(8.0, 0.25 * 2**failed))  # as long as the client waits


async def _read(stream: Any, sample: Sample) -> None:
    """Add what the stream brings to the sample.

    Raises:
        Broken: it ends before the response does.
    """
    has_choices = False
    try:
        async for chunk in stream:
            usage = getattr(chunk, "usage", None)
            if usage is not None and usage.completion_tokens:
                sample.usage = usage.completion_tokens
            for choice in getattr(chunk, "choices", None) or ():
                has_choices = True
                delta = getattr(choice, "delta", None)
                thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
                if thought:
                    sample.reasoning.append(thought)
                if content := getattr(delta, "content", None):
                    sample.pieces.append(content)
                sample.finish = getattr(choice, "finish_reason", None) or sample.finish
    except ValueError as error:  # not JSON, not UTF-8
        raise Broken(f"the stream holds broken JSON: {error}") from None
    except _stream_errors() as error:
        raise Broken(f"the stream broke: {one_line(error)}") from None
    if not has_choices:
        raise Broken("the stream has no choices")
    if sample.finish is None:
        raise Broken("the stream ended before the response did")


def _stream_errors() -> tuple[type[Exception], ...]:
    """Errors of a stream. The client lets those of httpx through before its version 3, which does not install httpx."""
    import openai

    if importlib.util.find_spec("httpx") is None:
        return (openai.APIError,)
    import httpx

    return (openai.APIError, httpx.HTTPError)
