"""The connection to an OpenAI-compatible server: its address, its health, its refusals, and the store of what arrived.

The store is a file of JSON lines, one per response or stream, written as it arrives. So an interrupted run resumes.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verl_efficiency.settings import SettingsError, require, unknown

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
ROWS_NAMED = 20  # refused rows in a message
REFUSES_ALL = {  # statuses of a refusal that every request gets, and what to do
    401: "set OPENAI_API_KEY to a key of this server",
    403: "set OPENAI_API_KEY to a key that may use this model",
    404: "check MODEL, and the address, which ends in /v1",
}
GIVE_UP_AFTER = 8  # failures in a row, each of them after all tries: the server does not recover


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


@dataclass
class Health:
    """Whether the server answers."""

    concurrency: int
    ever: bool = False  # whether it has answered
    failed: int = 0  # requests that failed since its last answer
    gave_up: bool = False  # for good, so that all workers stop

    def answered(self) -> None:
        self.ever, self.failed = True, 0

    def fail(self, requests: int = 1) -> None:
        """A server that has answered may lose all requests of a moment, and go on."""
        self.failed += requests
        self.gave_up |= self.failed >= (max(GIVE_UP_AFTER, self.concurrency) if self.ever else GIVE_UP_AFTER)


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


def refusals() -> "tuple[type[openai.APIStatusError], ...]":
    """Errors that another try cannot fix: a wrong name, a wrong key, a prompt that is too long."""
    import openai

    return (
        openai.BadRequestError,
        openai.AuthenticationError,
        openai.PermissionDeniedError,
        openai.NotFoundError,
        openai.UnprocessableEntityError,
    )


def refused_rows(refused: Mapping[int, tuple[str, list[dict[str, Any]]]]) -> str:
    """The sentence about rows of the data that the server refuses, and what to do; each has a key and messages."""
    if not refused:
        return ""
    rows = sorted(refused)
    key, messages = refused[rows[0]]
    more = f" and {len(rows) - ROWS_NAMED} more" * (len(rows) > ROWS_NAMED)
    beginning = " ".join(str(messages[-1]["content"]).split())[:60]
    return (
        f"The server refuses row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:ROWS_NAMED]))}{more} of the data (row "
        f"{rows[0]} has the key {key}: {beginning!r}); if they are too long, leave them out or raise the server's limit "
        "(vLLM: --max-model-len). "
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
