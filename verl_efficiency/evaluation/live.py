"""Test-time strategies on a server, see :mod:`verl_efficiency.evaluation.strategies` for what each of them does.

Samples are streamed. When a strategy has its answer, the other streams are closed, and the server stops generating for them.
Every token that arrived until then is paid for. *First to finish* is by time here, and by length in the replay.

A stream is a line of the store when it ends. An interrupted run resumes: samples that finished are not requested again. A
stream that breaks is tried again ``server.retries`` times, and what broken ones cost counts too.

``think@TOKENS`` is a thinking budget, where ``cap@TOKENS`` is a hard cut that loses the answer. A first request has this
limit. If it is cut off, a second one goes on: with the thought closed, as a continuation of the assistant's turn
(``continue_final_message``, as vLLM and SGLang take it). Thoughts are those between ``<think>`` and ``</think>``, or in
``reasoning_content``. Both requests are paid for.

Tokens of a sample are those of the server's usage, which vLLM and SGLang send with every piece. A finished sample without
usage is counted by the tokenizer (``--tokenizer``). Another stream is counted by the tokenizer, or else as one token for each
piece of text. What the server generates between the end of a stream and its notice of it is not known.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

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
from verl_efficiency.evaluation.engines import Sampling
from verl_efficiency.evaluation.generations import token_counter
from verl_efficiency.evaluation.plans import (
    Plan,
    Stream,
    Vote,
    closed,
    cost,
    cuts_without_thought,
    elect,
    finished,
    has_answer,
    vote_of,
)
from verl_efficiency.evaluation.prompts import Prompt
from verl_efficiency.evaluation.strategies import by_cost
from verl_efficiency.evaluation.streaming import Broken, Count, Sample, whole
from verl_efficiency.evaluation.summary import ratio
from verl_efficiency.settings import SettingsError, require

CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}  # vLLM takes the first only with the second


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
        server: where, and the file of streams, from which an interrupted run continues.
        grade: correctness of a response to a prompt, in [0, 1].
        chat_template: further arguments of the chat template.
        marker: where the answers stand that are voted on, see :func:`~verl_efficiency.grading.extract_answer`.
        strip_thinking: whether an answer inside ``<think>…</think>`` has no vote.

    Returns:
        Rows like those of :func:`~verl_efficiency.evaluation.strategies.replay`. For each problem they also have
        ``cancelled``, the number of streams that were closed, and ``failed_tokens``, the part of ``tokens`` that was spent on
        streams that broke.

    Raises:
        SettingsError: nothing answers, the server refuses every request, gives no usage or cannot go on with a thought, or
            samples are missing after all tries. Problems whose requests it refuses do not stop the others.
    """
    for plan in plans:
        fits = plan.think is None or plan.think < sampling.max_new_tokens
        require(fits, "--strategies", f"think@{plan.think}", f"below --max-new-tokens, {sampling.max_new_tokens}")
    plans = list(dict.fromkeys(plans))
    row_of: dict[str, int] = {}  # the first row of each problem in the data
    for row, prompt in enumerate(prompts):
        row_of.setdefault(prompt.key, row)
    prompts = list({prompt.key: prompt for prompt in prompts}.values())
    most = max(plan.k for plan in plans)
    require(
        server.concurrency >= most, "--concurrency", server.concurrency, f"at least {most}, the most samples at once"
    )
    count = None if server.tokenizer is None else token_counter(server.tokenizer)
    vote = partial(vote_of, marker=marker, strip_thinking=strip_thinking)
    drawn = {name: value for name, value in asdict(sampling).items() if name != "batch_size"}
    header = {"strategies": server.model, "sampling": drawn, "chat_template": chat_template}
    streams: dict[tuple[str, int, str], list[Stream]] = {}  # in the order in which they ended
    for one in open_store(server.store, header, Stream):
        streams.setdefault((one.strategy, one.k, one.key), []).append(_counted(one, count, server))
    missing = []
    for plan in plans:
        for prompt in prompts:
            its_streams = streams.setdefault((plan.name, plan.k, prompt.key), [])
            if not has_answer(plan, its_streams, vote):
                missing.append((plan, prompt, its_streams))
    if missing:
        failures, refused = asyncio.run(_run_all(missing, sampling, server, chat_template, count, vote))
        if failures or refused:
            reasons = "; ".join(failures[:1] + [reason for _, reason in refused[:1]])
            rows_refused = {row_of[prompt.key]: (prompt.key, prompt.messages) for prompt, _ in refused}
            raise SettingsError(
                f"--server: {len(failures) + len(refused)} of {len(plans) * len(prompts)} outcomes are missing ({reasons}). "
                f"{refused_rows(rows_refused)}The samples "
                f"that finished are in {server.store}; run the same command again to request the missing ones only"
            )
    return by_cost(
        [
            _row(plan, prompts, [streams[plan.name, plan.k, prompt.key] for prompt in prompts], grade, vote)
            for plan in plans
        ]
    )


def _row(
    plan: Plan,
    prompts: Sequence[Prompt],
    streams: Sequence[Sequence[Stream]],
    grade: Callable[[Prompt, str], float],
    vote: Vote,
) -> dict[str, Any]:
    """What a strategy came to, from the streams of each prompt. It prints a warning if its budget cut no thought."""
    responses = [elect(finished(plan, found), vote) for found in streams]
    correct_P = np.array([grade(prompt, text) for prompt, text in zip(prompts, responses, strict=True)])
    accuracy, accuracy_se = ratio(correct_P, np.ones(len(prompts)))
    tokens, tokens_se = ratio(np.array([cost(found) for found in streams]), np.ones(len(prompts)))
    if plan.think and cuts_without_thought([one for found in streams for one in found]):
        print(
            f"warning: {plan.name}: no response shows a thought (<think>, or reasoning_content). If the model does not "
            "think, this budget cut answers"
        )
    failed = [cost([one for one in found if one.ended == "failed"]) for found in streams]
    return {
        **{"strategy": plan.name, "k": plan.k, "accuracy": accuracy, "accuracy_se": accuracy_se},
        **{"tokens": tokens, "tokens_se": tokens_se},
        "cancelled": float(np.mean([sum(one.ended == "cancelled" for one in found) for found in streams])),
        "failed_tokens": float(np.mean(failed)),
    }


def _counted(stream: Stream, count: Count | None, server: Server) -> Stream:
    """The stream with its tokens; the tokenizer counts those of a server without usage."""
    if stream.tokens is not None:
        return stream
    if count is None:
        raise SettingsError(
            f"--server: {server.url} gives no usage; give --tokenizer MODEL to count its tokens. The samples that finished "
            f"are in {server.store}"
        )
    end = 0 if stream.truncated else 1  # the end-of-sequence token
    return replace(stream, tokens=sum(count([stream.reasoning, stream.text])) + end)


async def _run_all(
    jobs: Sequence[tuple[Plan, Prompt, list[Stream]]],
    sampling: Sampling,
    server: Server,
    chat_template: dict[str, Any],
    count: Count | None,
    vote: Vote,
) -> tuple[list[str], list[tuple[Prompt, str]]]:
    """Run all jobs, each of which adds to its list of streams; returns why some failed, and what the server refused and why."""
    import openai

    failures: list[str] = []
    refused: list[tuple[Prompt, str]] = []
    health = Health(server.concurrency)
    async with asking(server, len(jobs)) as (client, keep):
        if any(plan.think for plan, _, _ in jobs):
            await _require_continuing(client, server, jobs[0][1], chat_template)
        free = asyncio.Semaphore(server.concurrency)
        requests = _Requests(client, server, sampling, chat_template)
        taking = asyncio.Lock()  # one job takes all its places before the next takes any

        async def work(plan: Plan, prompt: Prompt, streams: list[Stream]) -> None:
            def add(stream: Stream) -> None:
                had_answer = has_answer(plan, streams, vote)
                streams.append(stream)
                keep(stream, int(has_answer(plan, streams, vote) and not had_answer))
                streams[-1] = _counted(stream, count, server)

            async def ask(seed: int, messages: list[dict[str, Any]], limit: int, **extra: Any) -> Stream:
                line = partial(Stream, plan.name, plan.k, prompt.key, seed)

                def lost(sample: Sample) -> None:
                    ended = "cancelled" if has_answer(plan, streams, vote) else "failed"
                    add(line(ended, sample.tokens(count)))

                sample = await whole(lambda: requests.start(messages, limit, seed, extra), server.retries + 1, lost)
                health.answered()
                truncated = sample.finish == "length"
                ended = "thought" if plan.think and truncated and not extra else "finished"
                stream = line(ended, sample.usage, "".join(sample.pieces), "".join(sample.reasoning), truncated)
                add(stream)
                return stream

            async def draw(seed: int) -> None:
                stream = next((one for one in streams if one.seed == seed and one.ended == "thought"), None)
                if stream is None:
                    limit = plan.think or plan.cap or sampling.max_new_tokens
                    stream = await ask(seed, prompt.messages, min(limit, sampling.max_new_tokens))
                if plan.think and stream.ended == "thought":
                    turn = {"role": "assistant", "content": closed(stream)}
                    await ask(seed, [*prompt.messages, turn], sampling.max_new_tokens - plan.think, **CONTINUE)

            done = {one.seed for one in streams if one.ended == "finished"}
            seeds = [seed for seed in range(sampling.seed, sampling.seed + plan.k) if seed not in done]
            places = 1 if plan.early_stop else len(seeds)
            async with taking:
                for _ in range(places):
                    await free.acquire()
            try:
                if health.gave_up:
                    failures.append("not asked")
                    return
                await _run(plan, streams, seeds, draw, vote)
            except refusals() as error:
                health.answered()
                refused.append((prompt, one_line(error)))
            except (openai.APIError, Broken) as error:
                health.fail(places)
                failures.append(one_line(error))
            finally:
                for _ in range(places):
                    free.release()

        await _all([asyncio.create_task(work(*job)) for job in jobs])
    return failures, refused


@dataclass
class _Requests:
    """Starts streams. It asks for a usage in every piece (vLLM, SGLang), until the server refuses that.

    Attributes:
        in_pieces: whether it asks for it.
        taken: whether the server has taken it; until then a refusal may be for this.
    """

    client: Any
    server: Server
    sampling: Sampling
    chat_template: dict[str, Any]
    in_pieces: bool = True
    taken: bool = False

    async def start(self, messages: list[dict[str, Any]], limit: int, seed: int, extra: dict[str, Any]) -> Any:
        """The stream of one sample.

        Raises:
            SettingsError: the server refuses every request.
            openai.APIError: it refuses this one, or does not answer.
        """
        request = {
            "model": self.server.model,
            "messages": messages,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": limit,
            "seed": seed,
            "extra_body": _template(self.chat_template) | extra,
        }

        async def create(in_pieces: bool) -> Any:
            options = {"include_usage": True} | ({"continuous_usage_stats": True} if in_pieces else {})
            return await self.client.chat.completions.create(**request, stream=True, stream_options=options)

        refusal = refusals()
        asked = self.in_pieces
        try:
            try:
                stream = await create(asked)
                self.taken = self.taken or asked
            except refusal as error:
                if self.taken or not asked or error.status_code in REFUSES_ALL:
                    raise
                stream = await create(False)  # if it is refused again, the reason is another one
                self.in_pieces = False
            return stream
        except refusal as error:
            if error.status_code not in REFUSES_ALL:
                raise
            fix = REFUSES_ALL[error.status_code]
            raise SettingsError(
                f"--server: {self.server.url} refuses every request: {one_line(error)}; {fix}"
            ) from None


def _template(chat_template: dict[str, Any]) -> dict[str, Any]:
    return {"chat_template_kwargs": chat_template} if chat_template else {}


async def _require_continuing(client: Any, server: Server, prompt: Prompt, chat_template: dict[str, Any]) -> None:
    """Raise unless the server goes on with an assistant's turn, and its chat template keeps the thought in it.

    A server may ignore a field that it does not know. So three requests, for one token each, compare the tokens of the prompt.
    """
    import openai

    needs = (
        "--strategies: think@TOKENS needs a server that goes on with an assistant's turn (continue_final_message: vLLM, "
        f"SGLang) and a chat template that keeps the thought in it; {server.url}"
    )

    async def prompt_tokens(words: int, extra: dict[str, Any]) -> int | None:
        turn = {"role": "assistant", "content": f"<think>\n{'so ' * words}so\n</think>\n\n"}
        messages = [*prompt.messages, turn]
        body = _template(chat_template) | extra
        reply = await client.chat.completions.create(
            model=server.model, messages=messages, max_tokens=1, extra_body=body
        )
        return getattr(getattr(reply, "usage", None), "prompt_tokens", None)

    try:
        short, long = await prompt_tokens(0, CONTINUE), await prompt_tokens(100, CONTINUE)
        try:
            ended = await prompt_tokens(100, {})
        except openai.BadRequestError:  # a template that wants the user's turn last, so the server knows the difference
            ended = None
    except (openai.APIError, ValueError) as error:
        raise SettingsError(f"{needs} refuses a test of it: {one_line(error)}") from None
    if short is None or long is None:
        raise SettingsError(f"{needs} gives no usage, which would show it")
    if short == long:
        raise SettingsError(f"{needs} drops the thought")
    if ended == long:
        raise SettingsError(f"{needs} ignores continue_final_message")


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all tasks. If one raises, or this one is cancelled, the others are cancelled and end before it goes on."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(
    plan: Plan, streams: Sequence[Stream], seeds: Sequence[int], draw: Callable[[int], Awaitable[None]], vote: Vote
) -> None:
    """Draw samples until the strategy has its answer. If one breaks, the others still end.

    Raises:
        openai.APIError, Broken: a sample failed after all tries, and the strategy has no answer without it.
    """
    import openai

    if plan.early_stop:
        for seed in seeds:
            if not has_answer(plan, streams, vote):
                await draw(seed)
        return
    tasks = [asyncio.ensure_future(draw(seed)) for seed in seeds]
    waiting = set(tasks)
    failed: list[BaseException] = []
    try:
        while waiting and not has_answer(plan, streams, vote):
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            failed += [error for task in ended if (error := task.exception())]
            if stops := [error for error in failed if not isinstance(error, openai.APIError | Broken)]:
                raise stops[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not has_answer(plan, streams, vote):
        raise failed[0]
