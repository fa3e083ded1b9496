"""The engine that asks an OpenAI-compatible server (vLLM, SGLang, ``transformers serve``).

Each response is appended to a store, a file of JSON lines, as it arrives. An interrupted run resumes: stored responses are
not requested again.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verl_efficiency.evaluation.engines import Answer, Engine, Request, Sampling
from verl_efficiency.evaluation.generations import token_counter
from verl_efficiency.settings import SettingsError, require, unknown

T = TypeVar("T")
GIVE_UP_AFTER = 8  # failed requests before the first success: the server does not recover
COUNTS_DIFFER = (
    0.02  # relative difference between the server's count of tokens and the tokenizer's that needs a warning
)


@dataclass(frozen=True)
class Server:
    """Server address and request limits."""

    url: str  # the address of the API, with its `/v1`
    model: str  # the model's name on the server
    store: Path  # the file of responses
    concurrency: int = 32  # requests at a time, at least 1
    retries: int = 4  # further tries of a request that fails for a passing reason (429, 5xx, time-out, no connection)
    timeout: float = 1800.0  # seconds for one response, above 0
    api_key: str = "none"  # sent to the server; most self-hosted servers ignore it
    tokenizer: str | None = None  # its model's tokenizer checks the server's token counts, and counts without usage

    def __post_init__(self) -> None:
        is_url = self.url.startswith(("http://", "https://"))
        require(is_url, "--server", self.url, "an address such as http://host:8000/v1")
        require(self.concurrency >= 1, "--concurrency", self.concurrency, "at least 1")
        require(self.retries >= 0, "--retries", self.retries, "at least 0")
        require(self.timeout > 0, "--timeout", self.timeout, "above 0 seconds")


@dataclass(frozen=True)
class Stored:
    """One line of the store: the answer, and the key and sample of its request."""

    key: str
    sample: int
    text: str
    reasoning: str | None
    tokens: int
    prompt_tokens: int | None
    reasoning_tokens: int | None
    truncated: bool


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
        SettingsError: nothing answers, the server has another model or refuses a request, the store has other settings, or
            responses are missing after all tries. All responses that arrived are in the store.
    """
    drawn = {name: value for name, value in asdict(sampling).items() if name != "batch_size"}
    header = {"model": server.model, "sampling": drawn, "chat_template": requests[0].chat_template}
    stored = {(entry.key, entry.sample): entry for entry in open_store(server.store, header, Stored)}
    missing = [request for request in requests if (request.key, request.sample) not in stored]
    if missing:
        count = None if server.tokenizer is None else token_counter(server.tokenizer)
        failures = asyncio.run(_ask_all(missing, sampling, server, stored, count))
        if failures:
            raise SettingsError(
                f"--server: {len(failures)} of {len(requests)} responses are missing ({failures[0]}). The others are in "
                f"{server.store}; run the same command again to request the missing ones only"
            )
    found = [stored[request.key, request.sample] for request in requests]
    return [Answer(one.text, one.tokens, one.truncated, one.reasoning_tokens, one.prompt_tokens) for one in found]


def open_store(path: Path, header: dict[str, Any], entry: Callable[..., T]) -> list[T]:
    """The entries in a store, a file of JSON lines. A new store gets its header, and an incomplete last line is dropped.

    Args:
        path: the file.
        header: its first line, the settings with which the entries are made.
        entry: makes an entry from the fields of a line.

    Raises:
        SettingsError: the file is not a store, or has other settings; it stays unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return []
    text = path.read_bytes()
    first, _, rest = text.partition(b"\n")
    whole = rest[: rest.rfind(b"\n") + 1]
    try:
        made_with = json.loads(first)
        if not (isinstance(made_with, dict) and made_with.keys() == header.keys()):
            raise TypeError(f"its first line does not hold {', '.join(header)}")
        entries = [entry(**json.loads(line)) for line in whole.splitlines()]
    except (ValueError, TypeError) as error:  # not JSON, not UTF-8, or other JSON
        raise SettingsError(f"--store: {path} is not a store of responses ({error}); name another file") from None
    if entries and made_with != header:
        raise SettingsError(f"--store: {path} was made with {made_with}, this run has {header}; name another file")
    if not entries:
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
    elif len(whole) < len(rest):  # the last run was killed while writing a line
        with path.open("r+b") as file:
            file.truncate(len(text) - len(rest) + len(whole))
    return entries


def refusals() -> tuple[type[Exception], ...]:
    """Errors that another try cannot fix: a wrong name, a wrong key, a prompt that is too long."""
    import openai

    return (
        openai.BadRequestError,
        openai.AuthenticationError,
        openai.PermissionDeniedError,
        openai.NotFoundError,
        openai.UnprocessableEntityError,
    )


@contextlib.asynccontextmanager
async def asking(server: Server, total: int) -> AsyncIterator[tuple[Any, Callable[..., None]]]:
    """A client of the server, and a function that stores an entry (a dataclass) and moves a bar by ``steps`` of ``total``.

    Raises:
        SettingsError: nothing answers, or the server does not have the model.
    """
    import openai

    columns = (TextColumn("ask"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        server.store.open("a", encoding="utf-8") as store,
    ):
        bar = progress.add_task("ask", total=total)

        def keep(entry: Any, steps: int = 1) -> None:
            store.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            store.flush()
            progress.advance(bar, steps)

        async with openai.AsyncOpenAI(
            base_url=server.url, api_key=server.api_key, max_retries=server.retries, timeout=server.timeout
        ) as client:
            await _check_model(client, server)
            yield client, keep


async def _ask_all(
    requests: Sequence[Request],
    sampling: Sampling,
    server: Server,
    stored: dict[tuple[str, int], Stored],
    count: Callable[[list[str]], list[int]] | None,
) -> list[str]:
    """Send all requests, ``concurrency`` at a time; returns why requests failed after all tries."""
    import openai

    refused = refusals()
    failures: list[str] = []
    differs: list[str] = []
    succeeded = 0
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
                    entry = _read(reply, request, count, differs)
                except refused as error:
                    raise SettingsError(f"--server: {server.url} refuses a request: {one_line(error)}") from None
                except (openai.APIError, json.JSONDecodeError, NoAnswer) as error:
                    failures.append(one_line(error))
                    if not succeeded and len(failures) >= GIVE_UP_AFTER:
                        return
                    continue
                succeeded += 1
                stored[request.key, request.sample] = entry
                keep(entry)

        await asyncio.gather(*(work() for _ in range(min(server.concurrency, len(requests)))))
    if differs:
        print(
            f"warning: server and tokenizer {server.tokenizer} count {len(differs)} responses differently: {differs[0]}"
        )
    return failures + ["not asked"] * (len(requests) - succeeded - len(failures))


class NoAnswer(Exception):
    """The server's reply holds no response, or no way to count its tokens."""


def _read(reply: Any, request: Request, count: Callable[[list[str]], list[int]] | None, differs: list[str]) -> Stored:
    """The line of the store for a reply; differing token counts are added to ``differs``."""
    choices = getattr(reply, "choices", None)  # the client returns a reply that is not JSON as a text
    if not choices or getattr(choices[0], "message", None) is None:
        raise NoAnswer("the reply has no choices")
    message, finish = choices[0].message, choices[0].finish_reason
    text = message.content or ""
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    usage = reply.usage
    details = getattr(usage, "completion_tokens_details", None)
    reasoning_tokens = getattr(details, "reasoning_tokens", None)
    counted = None
    if count is not None:
        thought = reasoning or text.rpartition("</think>")[0]  # in a separate field, or in the text
        if reasoning_tokens is None and thought:
            (reasoning_tokens,) = count([thought])
        counted = sum(count([reasoning or "", text])) + (finish == "stop")  # with the end-of-sequence token
    tokens = getattr(usage, "completion_tokens", None)
    if tokens is None:
        if counted is None:
            raise NoAnswer("the reply has no usage; give --tokenizer MODEL to count its tokens")
        tokens = counted
    elif counted is not None and abs(tokens - counted) > max(4, COUNTS_DIFFER * tokens):
        differs.append(f"{tokens} and {counted} tokens")
    return Stored(
        key=request.key,
        sample=request.sample,
        text=text,
        reasoning=reasoning,
        tokens=tokens,
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        reasoning_tokens=reasoning_tokens,
        truncated=finish == "length",
    )


async def _check_model(client: Any, server: Server) -> None:
    """Raise if nothing answers, or if the server lists its models and ours is not among them."""
    import openai

    try:
        listed = [model.id for model in (await client.models.list()).data]
    except openai.APIConnectionError as error:
        raise SettingsError(f"--server: nothing answers at {server.url} ({one_line(error)})") from None
    except (openai.APIError, json.JSONDecodeError, AttributeError):
        return  # the server has no list of models; the first request shows the rest
    if listed and server.model not in listed:
        raise SettingsError(f"MODEL: {server.url} has {unknown('model', server.model, listed)}")


def one_line(error: Exception) -> str:
    """The first line of an error's message, with its cause."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    cause = str(error.__cause__ or "").splitlines()
    return (f"{said.rstrip('.')}: {cause[0]}" if cause else said)[:300]
