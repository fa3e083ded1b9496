"""Options that several commands share, as dataclasses, and the decorator that turns their fields into options."""

import contextlib
import dataclasses
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from verl_efficiency.settings import SettingsError, require, unknown

if TYPE_CHECKING:
    from verl_efficiency.evaluation.client import Server
    from verl_efficiency.evaluation.engines import Engine, Sampling

AnswerAfter = Annotated[str | None, Option(help="The answer is what follows this mark in its column (GSM8K: ####).")]
AnswerInBox = Annotated[
    bool, Option("--answer-in-box", help=r"The answer is what the last \boxed{} of its column holds (MATH).")
]
Marker = Annotated[
    str | None,
    Option(
        help="A response's answer follows the last such text on its line or the next, not in \\boxed{}; or <a>…</a>."
    ),
]
StripThinking = Annotated[bool, Option("--strip-thinking", help="Read answers outside <think> blocks only.")]
ScoreCorrect = Annotated[float, Option(help="Score of a correct answer.")]
ScoreWrong = Annotated[float, Option(help="Score of a wrong answer, such as -1.")]
UseRay = Annotated[
    bool, Option("--ray", help="Read the file in the workers of Ray Data: all cores, or the cluster of RAY_ADDRESS.")
]

ENGINES = ("transformers", "vllm")


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter of ``command`` whose type is a dataclass into one option per field; it receives the dataclass."""
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if dataclasses.is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += inspect.signature(groups[parameter.name]).parameters.values()
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def with_fields(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in inspect.signature(group).parameters})
        command(**given)

    keywords = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in parameters]
    with_fields.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    with_fields.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return with_fields


@dataclass(frozen=True)
class Generating:
    """How responses are drawn: from a model loaded here, or from a server."""

    samples: Annotated[int, Option(help="Responses per prompt.")] = 1
    temperature: Annotated[float, Option(help="0 is greedy.")] = 1.0
    top_p: Annotated[float, Option(help="Nucleus sampling.")] = 1.0
    batch_size: Annotated[int, Option(help="Responses generated together.")] = 64
    seed: Annotated[int, Option(help="Seed of the sampling.")] = 0
    device: Annotated[str, Option(help="auto, cuda, cpu, …")] = "auto"
    dtype: Annotated[str, Option(help="auto (float32 on the CPU, else bfloat16), float16, …")] = "auto"
    chat_template: Annotated[str, Option(help="Further arguments of the chat template, as JSON.")] = "{}"
    server: Annotated[
        str | None, Option(help="Ask this OpenAI-compatible server (http://host:8000/v1); MODEL is its name there.")
    ] = None
    engine_name: Annotated[
        str,
        Option(
            "--engine",
            help="Without --server: load MODEL here (for small models), or start and stop `vllm serve MODEL`.",
        ),
    ] = "transformers"
    engine_args: Annotated[
        str | None, Option(help="Further arguments of `vllm serve`, in quotes: '--tensor-parallel-size 2'.")
    ] = None
    store: Annotated[
        Path | None, Option(help="File for the server's responses. Default: OUT with .responses.jsonl.")
    ] = None
    concurrency: Annotated[int, Option(help="Requests sent to the server in parallel.")] = 32
    retries: Annotated[int, Option(help="Retries of a request that fails (429, 5xx, time-out).")] = 4
    timeout: Annotated[float, Option(help="Seconds for one response of the server.")] = 1800.0
    tokenizer: Annotated[
        str | None,
        Option(
            help="Model whose tokenizer checks the server's token counts, or counts if the server gives none. Default with "
            "--engine vllm: MODEL, if it is a folder with a tokenizer."
        ),
    ] = None

    def sampling(self, max_new_tokens: int) -> "Sampling":
        from verl_efficiency.evaluation.engines import Sampling

        return Sampling(self.temperature, self.top_p, max_new_tokens, self.batch_size, self.seed)

    def template(self) -> dict[str, Any]:
        """The chat template's arguments; SettingsError if they are not JSON."""
        try:
            return json.loads(self.chat_template)
        except json.JSONDecodeError as error:
            raise SettingsError(f"--chat-template: must be JSON, got {self.chat_template!r} ({error})") from None

    def store_file(self, out: Path) -> Path | None:
        """The file for the server's responses, None without a server."""
        if self.engine_name not in ENGINES:
            raise SettingsError(f"--engine: {unknown('engine', self.engine_name, ENGINES)}")
        served = self.server is not None or self.engine_name == "vllm"
        require(served or self.store is None, "--store", self.store, "used with --server or --engine vllm")
        return self.store or out.with_suffix(".responses.jsonl") if served else None

    @contextlib.contextmanager
    def server_for(self, model: str, out: Path) -> "Iterator[Server]":
        """The server of ``--server``, or one that ``--engine vllm`` starts and stops."""
        from verl_efficiency.evaluation.checkpoint import resolve_model
        from verl_efficiency.evaluation.client import Server
        from verl_efficiency.evaluation.local_server import ended_like_ctrl_c, vllm_server

        store = self.store_file(out)
        if store is None:
            raise SettingsError("--server: give the address of a server, or --engine vllm")
        require(
            self.server is None or self.engine_name == "transformers", "--server", self.server, "left out with --engine"
        )
        key = os.environ.get("OPENAI_API_KEY", "none")
        limits = (self.concurrency, self.retries, self.timeout)
        with ended_like_ctrl_c(), contextlib.ExitStack() as stack:
            url, own = self.server, None
            if url is None:
                url = stack.enter_context(vllm_server(model, self.engine_args or "", store.with_suffix(".vllm.log")))
                folder = resolve_model(model)
                own = folder if Path(folder, "tokenizer_config.json").is_file() else None
            else:
                require(self.engine_args is None, "--engine-args", self.engine_args, "used with --engine vllm")
            try:
                yield Server(url, model, store, *limits, key, self.tokenizer or own)
            except KeyboardInterrupt:
                with contextlib.suppress(OSError):  # the terminal may be gone
                    print(
                        f"stopped: responses that arrived are in {store}; the same command requests the others",
                        file=sys.stderr,
                    )
                raise

    @contextlib.contextmanager
    def engine(self, model: str, out: Path) -> "Iterator[Engine | None]":
        """The engine of ``--server`` or ``--engine vllm``, None for a model that is loaded here."""
        from verl_efficiency.evaluation.server import server_engine

        if self.store_file(out) is None:
            require(self.tokenizer is None, "--tokenizer", self.tokenizer, "used with --server or --engine vllm")
            require(self.engine_args is None, "--engine-args", self.engine_args, "used with --engine vllm")
            yield None
            return
        with self.server_for(model, out) as server:
            yield server_engine(server)


@dataclass(frozen=True)
class Stored:
    """How stored responses are read, and what is written about them."""

    problem: Annotated[str | None, Option(help="Column that names the problem; a dot reaches a nested field.")] = None
    response: Annotated[str | None, Option(help="Column of the response's text.")] = None
    correct: Annotated[str | None, Option(help="Column of the correctness, from --score-wrong to --score-correct.")] = (
        None
    )
    score_correct: ScoreCorrect = 1.0
    score_wrong: ScoreWrong = 0.0
    answer: Annotated[str | None, Option(help="Column of the right answer, with which the responses are graded.")] = (
        None
    )
    answer_after: Annotated[
        str | None, Option(help="The right answer is what follows this mark in its column (GSM8K: ####).")
    ] = None
    answer_in_box: Annotated[
        bool, Option("--answer-in-box", help=r"The right answer is the content of the last \boxed{} in its column.")
    ] = False
    marker: Marker = None
    strip_thinking: StripThinking = False
    tokens: Annotated[str | None, Option(help="Column of the response's tokens.")] = None
    tokenizer: Annotated[str | None, Option(help="Model whose tokenizer counts the response's tokens.")] = None
    out: Annotated[Path | None, Option(help="Write all numbers, as JSON.")] = None


def whole_numbers(text: str, option: str) -> list[int]:
    """``"1,2,4"`` as numbers of at least 1."""
    parts = [part.strip() for part in text.split(",")]
    fine = all(part.isdecimal() and int(part) for part in parts)
    require(fine, option, text, "whole numbers of at least 1, with commas")
    return [int(part) for part in parts]


def score_range(wrong: float, correct: float) -> tuple[float, float]:
    """``--score-wrong`` and ``--score-correct``, in this order."""
    require(wrong < correct, "--score-wrong", wrong, f"below --score-correct, {correct:g}")
    return wrong, correct
