"""Test-time strategies on a server, see :mod:`verl_efficiency.evaluation.strategies` for what each of them does.

Samples are streamed. When a strategy has its answer, the other streams are closed, and the server stops generating for them.
Every token that arrived until then is paid for. *First to finish* is by time here, and by length in the replay.

Tokens of a finished sample are those of the server's usage, if it gives it. Those of a cancelled one are counted by the
tokenizer (``--tokenizer``), or else taken as one for each piece of text that the server sent.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from verl_efficiency.evaluation.engines import Sampling
from verl_efficiency.evaluation.generations import token_counter
from verl_efficiency.evaluation.prompts import Prompt
from verl_efficiency.evaluation.server import GIVE_UP_AFTER, Server, asking, one_line, open_store, refusals
from verl_efficiency.evaluation.strategies import answer_vote, by_cost, decided
from verl_efficiency.evaluation.summary import ratio
from verl_efficiency.grading import extract_answer
from verl_efficiency.settings import SettingsError, require

KINDS = "plain, cap@TOKENS, first-finish@K, short-M@K, majority@K, early-stop@K"


@dataclass(frozen=True)
class Plan:
    """A strategy: of ``k`` samples it waits for ``first`` to finish, or draws one after the other (``early_stop``)."""

    name: str
    k: int = 1
    first: int = 1
    cap: int | None = None  # token limit of a sample
    early_stop: bool = False


def parse_plan(text: str) -> Plan:
    """``short-3@8`` and its like.

    >>> parse_plan("short-3@8"), parse_plan("cap@512").cap
    (Plan(name='short-3', k=8, first=3, cap=None, early_stop=False), 512)

    Raises:
        SettingsError: it is another text.
    """
    name, at, count = text.strip().partition("@")
    number = int(count) if count.isdecimal() else 0
    if name == "plain" and not at:
        return Plan("plain")
    if name == "cap" and number >= 1:
        return Plan(f"cap {number:,}", cap=number)
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


@dataclass
class Sample:
    """A response while it streams."""

    pieces: list[str] = field(default_factory=list)  # of the answer
    reasoning: list[str] = field(default_factory=list)
    usage: int | None = None

    def tokens(self, count: Callable[[list[str]], list[int]] | None) -> int:
        """Tokens that arrived so far."""
        if self.usage is not None:
            return self.usage
        if count is not None:
            return sum(count(["".join(self.reasoning), "".join(self.pieces)]))
        return len(self.pieces) + len(self.reasoning)


@dataclass(frozen=True)
class Outcome:
    """One line of the store: what a strategy answered to a problem, and what it paid."""

    strategy: str
    k: int
    key: str
    text: str  # the response whose answer was chosen
    tokens: int  # of all samples, cancelled ones until then
    finished: int  # samples that ended by themselves
    cancelled: int  # samples whose stream was closed


def run_live(
    prompts: Sequence[Prompt],
    plans: Sequence[Plan],
    sampling: Sampling,
    server: Server,
    grade: Callable[[Prompt, str], float],
    chat_template: dict[str, Any],
    *,
    marker: str | None = None,
    strip_thinking: bool = False,
) -> list[dict[str, Any]]:
    """Every strategy on every problem, at most ``server.concurrency`` samples at a time.

    Args:
        prompts: single problems.
        plans: the strategies.
        sampling: how samples are drawn; sample i of a problem has the seed ``sampling.seed + i``, whatever the strategy.
        server: where, and the file of outcomes, from which an interrupted run continues.
        grade: correctness of a response to a prompt, in [0, 1].
        chat_template: further arguments of the chat template.
        marker: where the answers stand that are voted on, see :func:`~verl_efficiency.grading.extract_answer`.
        strip_thinking: whether an answer inside ``<think>…</think>`` has no vote.

    Returns:
        Rows like those of :func:`~verl_efficiency.evaluation.strategies.replay`.

    Raises:
        SettingsError: nothing answers, the server refuses a request, or outcomes are missing after all tries.
    """
    most = max(plan.k for plan in plans)
    require(
        server.concurrency >= most, "--concurrency", server.concurrency, f"at least {most}, the most samples at once"
    )
    drawn = {name: value for name, value in asdict(sampling).items() if name != "batch_size"}
    header = {"strategies": server.model, "sampling": drawn, "chat_template": chat_template}
    header |= {"marker": marker, "strip_thinking": strip_thinking}
    extract = partial(extract_answer, marker=marker, strip_thinking=strip_thinking)
    outcomes = {(one.strategy, one.k, one.key): one for one in open_store(server.store, header, Outcome)}
    prompts = list({prompt.key: prompt for prompt in prompts}.values())
    missing = [
        (plan, prompt) for plan in plans for prompt in prompts if (plan.name, plan.k, prompt.key) not in outcomes
    ]
    if missing:
        failures = asyncio.run(_run_all(missing, sampling, server, outcomes, chat_template, extract))
        if failures:
            raise SettingsError(
                f"--server: {len(failures)} of {len(plans) * len(prompts)} outcomes are missing ({failures[0]}). The others "
                f"are in {server.store}; run the same command again to get the missing ones only"
            )
    rows = []
    for plan in plans:
        found = [outcomes[plan.name, plan.k, prompt.key] for prompt in prompts]
        correct_P = np.array([grade(prompt, one.text) for prompt, one in zip(prompts, found, strict=True)])
        accuracy, error = ratio(correct_P, np.ones(len(prompts)))
        rows.append(
            {
                **{"strategy": plan.name, "k": plan.k, "accuracy": accuracy, "accuracy_se": error},
                "tokens": float(np.mean([one.tokens for one in found])),
                "cancelled": float(np.mean([one.cancelled for one in found])),
            }
        )
    return by_cost(rows)


async def _run_all(
    jobs: Sequence[tuple[Plan, Prompt]],
    sampling: Sampling,
    server: Server,
    outcomes: dict[tuple[str, int, str], Outcome],
    chat_template: dict[str, Any],
    extract: Callable[[str], str | None],
) -> list[str]:
    """Run all jobs; returns why some failed."""
    import httpx
    import openai

    count = None if server.tokenizer is None else token_counter(server.tokenizer)
    failures: list[str] = []
    succeeded = False
    async with asking(server, len(jobs)) as (client, keep):
        free = asyncio.Semaphore(server.concurrency)
        taking = asyncio.Lock()  # one job takes all its places before the next takes any

        async def work(plan: Plan, prompt: Prompt) -> None:
            nonlocal succeeded
            places = 1 if plan.early_stop else plan.k
            async with taking:
                for _ in range(places):
                    await free.acquire()
            try:
                if len(failures) >= GIVE_UP_AFTER and not succeeded:
                    failures.append("not asked")
                    return
                outcome = await _run(client, plan, prompt, sampling, server, chat_template, count, extract)
            except refusals() as error:
                raise SettingsError(f"--server: {server.url} refuses a request: {one_line(error)}") from None
            except (openai.APIError, httpx.HTTPError, json.JSONDecodeError, NoText) as error:
                failures.append(one_line(error))
                return
            finally:
                for _ in range(places):
                    free.release()
            succeeded = True
            outcomes[plan.name, plan.k, prompt.key] = outcome
            keep(outcome)

        await asyncio.gather(*(work(plan, prompt) for plan, prompt in jobs))
    return failures


class NoText(Exception):
    """The server's stream is not one of responses."""


async def _run(
    client: Any,
    plan: Plan,
    prompt: Prompt,
    sampling: Sampling,
    server: Server,
    chat_template: dict[str, Any],
    count: Callable[[list[str]], list[int]] | None,
    extract: Callable[[str], str | None],
) -> Outcome:
    """One strategy on one problem."""
    samples = [Sample() for _ in range(plan.k)]

    async def fill(number: int) -> Sample:
        request = {
            "model": server.model,
            "messages": prompt.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": min(sampling.max_new_tokens, plan.cap or sampling.max_new_tokens),
            "seed": sampling.seed + number,
            "stream_options": {"include_usage": True},
        }
        extra = {"chat_template_kwargs": chat_template} if chat_template else None
        stream = await client.chat.completions.create(**request, stream=True, extra_body=extra)
        async with stream:  # which closes the connection if this task is cancelled
            await _read(stream, samples[number])
        return samples[number]

    finished: list[Sample] = []
    votes: dict[str, int] = {}
    if plan.early_stop:
        for number in range(plan.k):
            finished.append(await fill(number))
            if vote := _vote(finished[-1], extract):
                votes[vote] = votes.get(vote, 0) + 1
            if decided(votes, plan.k - len(finished)):
                break
    else:
        tasks = [asyncio.create_task(fill(number)) for number in range(plan.k)]
        try:
            for next_one in asyncio.as_completed(tasks):
                finished.append(await next_one)
                if len(finished) == plan.first:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return Outcome(
        *(plan.name, plan.k, prompt.key, elect(finished, extract)),
        tokens=sum(sample.tokens(count) for sample in samples),
        finished=len(finished),
        cancelled=0 if plan.early_stop else plan.k - len(finished),
    )


async def _read(stream: Any, sample: Sample) -> None:
    """Add what the stream brings to the sample."""
    ended = False
    async for chunk in stream:
        usage = getattr(chunk, "usage", None)
        if usage is not None and usage.completion_tokens:
            sample.usage = usage.completion_tokens
        for choice in getattr(chunk, "choices", None) or ():
            delta = choice.delta
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            if thought:
                sample.reasoning.append(thought)
            if delta.content:
                sample.pieces.append(delta.content)
            ended |= choice.finish_reason is not None
    if not ended:
        raise NoText("the stream ended before the response did")


def elect(finished: Sequence[Sample], extract: Callable[[str], str | None]) -> str:
    """The text of the first sample with the most frequent answer; of the first sample if none has an answer."""
    votes: dict[str, list[str]] = {}
    for sample in finished:
        if vote := _vote(sample, extract):
            votes.setdefault(vote, []).append("".join(sample.pieces))
    return max(votes.values(), key=len)[0] if votes else "".join(finished[0].pieces)


def _vote(sample: Sample, extract: Callable[[str], str | None]) -> str | None:
    return answer_vote(extract("".join(sample.pieces)))
