"""The engine that asks an OpenAI-compatible server (vLLM, SGLang, ``transformers serve``).

Each response is appended to a store, a file of JSON lines, as it arrives. An interrupted run resumes: stored responses are
not requested again.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.progress import track

from verl_efficiency.evaluation.client import (
    REFUSES_ALL,
    Health,
    Server,
    asking,
    one_line,
    open_store,
    refusals,
    refused_rows,
)
from verl_efficiency.evaluation.engines import Answer, Engine, Request, Sampling
from verl_efficiency.evaluation.generations import token_counter
from verl_efficiency.evaluation.reasoning import find_reasoning
from verl_efficiency.settings import SettingsError

# A relative difference between the counts of server and tokenizer that gets a warning
COUNTS_DIFFER = 0.02


@dataclass(frozen=True)
class Stored:
    """One line of the store: the answer, and the key and sample of its request."""

    key: str
    sample: int
    text: str
    reasoning: str | None
    tokens: int | None  # these three by the server's usage, None where it has no such number
    prompt_tokens: int | None
    reasoning_tokens: int | None
    truncated: bool


@dataclass
class Trouble:
    """Why responses are missing."""

    # Reasons of requests that failed after all tries or were not sent
    failures: list[str] = field(default_factory=list)
    # Requests that the server refused, with its reasons
    refused: list[tuple[Request, str]] = field(default_factory=list)


def server_engine(server: Server) -> Engine:
    """The engine that asks ``server``."""
    try:
        facts = {"server": server.url, "versions": {"openai": version("openai")}}
    except PackageNotFoundError:
        raise SettingsError("--server: openai is missing; pip install 'verl-efficiency[evaluation]'") from None
    return Engine(server.model, facts, lambda requests, sampling: ask(requests, sampling, server))


def ask(requests: Sequence[Request], sampling: Sampling, server: Server) -> list[Answer]:
    """A response to every request, in order; stored ones are not requested again.

    The message's content is graded. Reasoning in a separate field (``reasoning_content``) is counted and stored.

    Raises:
        SettingsError: nothing answers, the server has another model or refuses every request, the store has other settings,
            responses are missing after all tries, or their tokens cannot be counted. All responses that arrived are in the
            store.
    """
    count = None if server.tokenizer is None else token_counter(server.tokenizer)  # a wrong name asks nothing
    drawn = {name: value for name, value in asdict(sampling).items() if name != "batch_size"}
    header = {"model": server.model, "sampling": drawn, "chat_template": requests[0].chat_template}
    stored = {(entry.key, entry.sample): entry for entry in open_store(server.store, header, Stored)}
    missing = [request for request in requests if (request.key, request.sample) not in stored]
    if missing:
        trouble = asyncio.run(_ask_all(missing, sampling, server, stored))
        if trouble.failures or trouble.refused:
            raise SettingsError(_what_is_missing(trouble, len(requests), server))
    return count_tokens([stored[request.key, request.sample] for request in requests], server, count)


def count_tokens(
    responses: Sequence[Stored], server: Server, count: Callable[[list[str]], list[int]] | None
) -> list[Answer]:
    """The answers in these responses, with their tokens: by the server's usage, else by the tokenizer.

    It prints a line where usage and tokenizer differ, and one where reasoning cannot be counted.

    Raises:
        SettingsError: there is neither a usage nor a tokenizer.
    """
    in_texts = find_reasoning([one.text for one in responses], [one.truncated for one in responses])
    differ: dict[str, list[str]] = {"tokens": [], "reasoning tokens": []}

    def check(what: str, by_usage: int | None, own: int) -> None:
        if by_usage is not None and abs(by_usage - own) > max(4, COUNTS_DIFFER * by_usage):
            differ[what].append(f"{by_usage} and {own} {what}")

    answers = []
    shown = track(responses, "count", console=Console(stderr=True), disable=count is None)
    for one, in_text in zip(shown, in_texts, strict=True):
        reasoning = (one.reasoning or "").strip() or in_text
        tokens, reasoning_tokens = one.tokens, one.reasoning_tokens or 0
        known = not reasoning or reasoning_tokens > 0  # SGLang says 0 where it does not count
        if count is not None:
            hidden = 0 if reasoning else reasoning_tokens  # reasoning that the server counts and does not show
            own_reasoning = sum(count([reasoning])) + hidden
            ends = not one.truncated  # with the end-of-sequence token
            own = sum(count([one.reasoning or "", one.text])) + hidden + ends
            check("tokens", tokens, own)
            tokens = own if tokens is None else tokens
            if known:
                check("reasoning tokens", reasoning_tokens, own_reasoning)
            else:
                reasoning_tokens, known = min(own_reasoning, tokens), True
        if tokens is None:
            missing = sum(other.tokens is None for other in responses)
            raise SettingsError(
                f"--server: {missing} of {len(responses)} responses have no usage; give --tokenizer MODEL to count their "
                f"tokens. All are in {server.store}, and the same command requests none again"
            )
        answers.append(Answer(one.text, tokens, one.truncated, reasoning_tokens if known else None, one.prompt_tokens))
    for what, found in differ.items():
        if found:
            print(f"warning: server and tokenizer {server.tokenizer} count the {what} of {len(found)} responses "
                  f"differently: {found[0]}")  # fmt: skip
    missing = sum(answer.reasoning_tokens is None for answer in answers)
    if missing:
        print(f"warning: {missing} of {len(answers)} responses reason, and the server does not count it; give --tokenizer "
              "MODEL and run again, which requests nothing")  # fmt: skip
    return answers


async def _ask_all(
    requests: Sequence[Request], sampling: Sampling, server: Server, stored: dict[tuple[str, int], Stored]
) -> Trouble:
    """Send all requests, ``concurrency`` at a time; returns what went wrong.

    Raises:
        SettingsError: the server refuses every request. Those in flight are finished and stored before.
    """
    import openai

    trouble = Trouble()
    refused = refusals()
    refuses_all: list[str] = []
    succeeded = 0
    health = Health(server.concurrency)
    async with asking(server, len(requests)) as (client, keep):
        queue = iter(requests)

        async def work() -> None:
            nonlocal succeeded
            for request in queue:  # shared by the workers
                try:
                    reply = await client.chat.completions.create(
                        model=server.model,
                        messages=request.messages,
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        max_tokens=sampling.max_new_tokens,
                        seed=sampling.seed + request.sample,
                        extra_body={"chat_template_kwargs": request.chat_template} if request.chat_template else None,
                    )
                    entry = _read(reply, request)
                except refused as error:
                    health.answered()
                    if error.status_code in REFUSES_ALL:
                        refuses_all.append(f"{one_line(error)}; {REFUSES_ALL[error.status_code]}")
                    else:
                        trouble.refused.append((request, one_line(error)))
                except json.JSONDecodeError as error:
                    health.fail()
                    trouble.failures.append(f"the reply is not whole JSON: {one_line(error)}")
                except (openai.APIError, NoAnswer) as error:
                    health.fail()
                    trouble.failures.append(one_line(error))
                else:
                    succeeded += 1
                    health.answered()
                    stored[request.key, request.sample] = entry
                    keep(entry)
                if refuses_all or health.gave_up:
                    return

        await asyncio.gather(*(work() for _ in range(min(server.concurrency, len(requests)))))
    if refuses_all:
        raise SettingsError(
            f"--server: {server.url} refuses every request: {refuses_all[0]}. Responses in {server.store}: {len(stored)}; "
            "the same command requests only the others"
        )
    not_sent = len(requests) - succeeded - len(trouble.failures) - len(trouble.refused)
    trouble.failures += ["not asked"] * not_sent
    return trouble


def _what_is_missing(trouble: Trouble, total: int, server: Server) -> str:
    """The message about responses that did not come: why, and how to go on."""
    refused = trouble.refused
    missing = len(trouble.failures) + len(refused)
    reasons = "; ".join(trouble.failures[:1] + [reason for _, reason in refused[:1]])
    said = f"--server: {missing} of {total} responses are missing ({reasons}). "
    said += refused_rows({request.row: (request.key, request.messages) for request, _ in refused})
    return f"{said}The others are in {server.store}; run the same command again to request the missing ones only"


class NoAnswer(Exception):
    """The server's reply holds no response."""


def _read(reply: Any, request: Request) -> Stored:
    """The line of the store for a reply."""
    choices = getattr(reply, "choices", None)  # the client returns a reply that is not JSON as a text
    if not choices or getattr(choices[0], "message", None) is None:
        raise NoAnswer("the reply has no choices")
    message, usage = choices[0].message, reply.usage
    details = getattr(usage, "completion_tokens_details", None)
    reasoning_tokens = getattr(details, "reasoning_tokens", None)
    if reasoning_tokens is None:
        reasoning_tokens = getattr(usage, "reasoning_tokens", None)  # SGLang
    return Stored(
        key=request.key,
        sample=request.sample,
        text=message.content or "",
        reasoning=getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None),
        tokens=getattr(usage, "completion_tokens", None),
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        reasoning_tokens=reasoning_tokens,
        truncated=choices[0].finish_reason == "length",
    )
