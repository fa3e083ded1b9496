"""The server of the rollout ``hf``: holds a Hugging Face model, and batches the requests of verl's agent loop."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from verl.utils.device import get_device_name
from verl.workers.config import RolloutConfig
from verl.workers.rollout.replica import TokenOutput

from verl_efficiency.evaluation.sampling import Completion, Draw, generate
from verl_efficiency.settings import SettingsError, build_settings, require, unknown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HFRolloutSettings:
    """``rollout.engine_kwargs.hf``."""

    threads: int = 1
    """torch threads of the server; with more threads than free cores it is many times slower"""
    segment: int = 32
    """tokens after which finished rows leave the batch"""
    gather_seconds: float = 0.02
    """a batch starts after this time without a new request"""

    def __post_init__(self) -> None:
        require(self.threads >= 1, "threads", self.threads, "at least 1")
        require(self.segment >= 1, "segment", self.segment, "at least 1")
        require(self.gather_seconds >= 0, "gather_seconds", self.gather_seconds, "at least 0")


class HFServer:
    """Generates for verl's agent loop; its methods are what verl calls on a rollout server."""

    def __init__(
        self,
        model_path: str,
        trust_remote_code: bool,
        config: RolloutConfig,
        replica_rank: int,
        attention: str | None = None,
    ) -> None:
        self.config = config
        self.settings = build_settings(
            HFRolloutSettings, config.engine_kwargs.get("hf"), "actor_rollout_ref.rollout.engine_kwargs.hf"
        )
        torch.set_num_threads(self.settings.threads)
        tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=trust_remote_code)
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            model_path, dtype=config.dtype, trust_remote_code=trust_remote_code, attn_implementation=attention
        ).eval()
        self.model.to(get_device_name())
        self.eos_ids = read_eos_ids(self.model.generation_config.eos_token_id, tokenizer.eos_token_id)
        self.pad_id = tokenizer.pad_token_id or 0
        self.replica_rank = replica_rank
        self.busy = asyncio.Lock()  # one batch at a time, and none while weights arrive
        self.waiting: list[_Waiting] = []
        self.serving: asyncio.Task[None] | None = None
        self.open = asyncio.Event()  # cleared while new requests must wait
        self.open.set()
        self.rejects = False  # new requests are sent back instead
        self.received: set[str] = set()
        self.global_steps: int | None = None
        self.asked_before: Counter[tuple[int, ...]] = Counter()  # how often a prompt came since the last weights

    async def ready(self) -> None:
        """Return when the model is loaded; raise what the constructor raised."""

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        image_data: list[Any] | None = None,
        video_data: list[Any] | None = None,
    ) -> TokenOutput:
        """One response. Concurrent calls share a batch, and each call returns when its own response is complete.

        An aborted request returns the tokens that it has (``stop_reason="aborted"``). verl's client asks again with them.
        """
        if image_data or video_data:
            raise NotImplementedError("rollout 'hf' generates from text only; images and videos need rollout.name=vllm")
        prompt = [int(token) for token in prompt_ids]
        sampling, max_tokens, ignore_eos = read_sampling_params(sampling_params, self.config, len(prompt))
        while not self.open.is_set():
            if self.rejects:
                return self._output(Completion(prompt, max_tokens, ()))
            await self.open.wait()
        place = (self.config.seed, self.replica_rank, self.global_steps or 0)
        seed = next_seed(place, prompt, self.asked_before)
        answered = asyncio.get_running_loop().create_future()
        request = Completion(prompt, max_tokens, seed)
        self.waiting.append(_Waiting(request, sampling, ignore_eos, answered))
        if self.serving is None or self.serving.done():
            self.serving = asyncio.create_task(self._serve_all())
        await answered
        return self._output(request)

    def _output(self, request: Completion) -> TokenOutput:
        cut = "length" if request.done else "aborted"
        return TokenOutput(
            token_ids=request.tokens,
            log_probs=request.log_probs,
            stop_reason="completed" if request.stopped else cut,
            extra_fields={"global_steps": self.global_steps},
        )

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        """End all requests, those of a running batch after its segment. New ones wait until :meth:`resume_generation`.

        Args:
            reject_request: send new requests back at once, for a replica that will not resume soon.
        """
        self.rejects = reject_request
        self.open.clear()
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.answered.set_result(None)
        if self.serving is not None:
            await self.serving

    async def resume_generation(self) -> None:
        """Accept requests again."""
        self.rejects = False
        self.open.set()

    async def _serve_all(self) -> None:
        while self.waiting:
            seen = 0
            while seen < len(self.waiting) < self.config.max_num_seqs:
                seen = len(self.waiting)
                await asyncio.sleep(self.settings.gather_seconds)
            if not self.waiting:  # aborted meanwhile
                return
            batch = [one for one in self.waiting if one.like(self.waiting[0])][: self.config.max_num_seqs]
            self.waiting = [one for one in self.waiting if one not in batch]
            async with self.busy:
                try:
                    await asyncio.to_thread(self._run, batch, asyncio.get_running_loop())
                except Exception as error:  # every call that is still open raises it
                    logger.exception("rollout 'hf' failed for a batch of %d requests", len(batch))
                    for one in batch:
                        if not one.answered.done():
                            one.answered.set_exception(error)

    def _run(self, batch: list["_Waiting"], loop: asyncio.AbstractEventLoop) -> None:
        """Generate in a thread, so that complete responses return and new requests arrive meanwhile."""
        answered = {id(one.request): one.answered for one in batch}

        def answer(request: Completion) -> None:
            loop.call_soon_threadsafe(answered.pop(id(request)).set_result, None)

        for request in generate(
            self.model,
            [one.request for one in batch],
            batch[0].sampling,
            eos_ids=() if batch[0].ignore_eos else self.eos_ids,
            pad_id=self.pad_id,
            segment=self.settings.segment,
            stop=lambda: not self.open.is_set(),
        ):
            answer(request)
        for one in batch:
            if id(one.request) in answered:  # aborted
                answer(one.request)

    async def receive_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy some of the new weights into the model, by name. :meth:`finish_weights` ends the update."""
        async with self.busy:
            load_weights(self.model, weights)
            self.received.update(weights)

    async def finish_weights(self, global_steps: int | None) -> None:
        """End an update. Raises RuntimeError if it left out a weight of the model."""
        check_complete(self.model, self.received)
        self.received.clear()
        self.asked_before.clear()
        self.global_steps = global_steps


@dataclass(eq=False)
class _Waiting:
    request: Completion
    sampling: Draw
    ignore_eos: bool
    answered: asyncio.Future[None]

    def like(self, other: "_Waiting") -> bool:
        return (self.sampling, self.ignore_eos) == (other.sampling, other.ignore_eos)


def read_sampling_params(
    params: Mapping[str, Any], config: RolloutConfig, prompt_length: int
) -> tuple[Draw, int, bool]:
    """Sampling, number of new tokens and ``ignore_eos`` that verl asks for. SettingsError for an unsupported parameter."""
    known = {"temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "max_new_tokens"}
    known |= {"ignore_eos", "logprobs"}
    for name in params:
        if name not in known:
            raise SettingsError(f"rollout 'hf': {unknown('sampling parameter', name, known)}")
    penalty = params.get("repetition_penalty", config.repetition_penalty)
    if penalty != 1.0:
        raise SettingsError(f"rollout 'hf': repetition_penalty must be 1.0, got {penalty}")
    # verl's own rule for the default (workers/rollout/vllm_rollout/vllm_async_server.py:612).
    default = min(config.response_length, config.prompt_length + config.response_length - prompt_length)
    max_tokens = int(params.get("max_tokens", params.get("max_new_tokens", default)))
    if max_tokens < 1:
        raise ValueError(
            f"rollout 'hf': no room to generate (prompt of {prompt_length} tokens, max_tokens={max_tokens})"
        )
    sampling = Draw(
        temperature=float(params.get("temperature", config.temperature)),
        top_p=float(params.get("top_p", config.top_p)),
        top_k=int(params.get("top_k", config.top_k)),
    )
    return sampling, max_tokens, bool(params.get("ignore_eos", config.ignore_eos))


def next_seed(
    place: tuple[int, int, int], prompt: Sequence[int], asked_before: Counter[tuple[int, ...]]
) -> tuple[int, ...]:
    """The seed of the next sample of a prompt.

    Request ids are random, so the n samples of a prompt are numbered as they arrive. Every run has the same n samples. Which
    row gets which sample may differ; so may the group, for a prompt that is twice in a batch.

    Args:
        place: seed of the rollout, rank of the replica, training step of the weights.
        prompt: token ids.
        asked_before: how often each prompt came since the last weights; counts this one.
    """
    occurrence = asked_before[tuple(prompt)]
    asked_before[tuple(prompt)] += 1
    return (*place, occurrence, *prompt)


def read_eos_ids(from_generation_config: int | list[int] | None, from_tokenizer: int | None) -> frozenset[int]:
    eos = from_tokenizer if from_generation_config is None else from_generation_config
    if eos is None:
        raise ValueError(
            "rollout 'hf': neither the model's generation_config.json nor its tokenizer names an eos token"
        )
    return frozenset([eos] if isinstance(eos, int) else eos)


@torch.no_grad()
def load_weights(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy ``weights`` into ``model`` by name. RuntimeError for an unknown name or another shape."""
    own = model.state_dict()
    if unexpected := sorted(set(weights) - set(own)):
        raise RuntimeError(f"rollout 'hf': the trainer sent weights that the rollout model does not have: {unexpected}")
    for name, value in weights.items():
        if own[name].shape != value.shape:
            raise RuntimeError(
                f"rollout 'hf': weight {name} has shape {tuple(value.shape)} in the trainer "
                f"and {tuple(own[name].shape)} in the rollout model"
            )
        own[name].copy_(value)


def check_complete(model: PreTrainedModel, received: set[str]) -> None:
    """RuntimeError unless ``received`` names every weight of ``model``. One name is enough for tied weights."""
    own = model.state_dict()
    filled = {own[name].data_ptr() for name in received}
    if missing := sorted(name for name, value in own.items() if value.data_ptr() not in filled):
        raise RuntimeError(f"rollout 'hf': the trainer did not send these weights of the rollout model: {missing}")
