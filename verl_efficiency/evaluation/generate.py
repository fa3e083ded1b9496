"""Batched generation with Hugging Face transformers: token ids without padding, and whether the end was reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from verl_efficiency.evaluation.checkpoint import resolve_model
from verl_efficiency.evaluation.engines import Answer, Engine, Request, Sampling
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class Response:
    """Generated ids, the end-of-sequence token included; ``truncated`` when ``max_new_tokens`` came before it."""

    token_ids: list[int]
    truncated: bool


def load_model(path: str, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """Load ``(model, tokenizer)`` from a model folder or hub name.

    Args:
        path: what ``resolve_model`` returns.
        device: a torch device, or ``auto``: CUDA where there is one, else the CPU.
        dtype: a torch dtype by name, or ``auto``: float32 on the CPU, else bfloat16. It does not follow the checkpoint,
            because two models are compared fairly only in the same precision.

    Raises:
        SettingsError: the dtype does not exist, or the model names no end-of-sequence token.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    torch_dtype = getattr(torch, dtype, None)
    require(isinstance(torch_dtype, torch.dtype), "dtype", dtype, "auto or a torch dtype such as bfloat16 or float32")

    tokenizer = AutoTokenizer.from_pretrained(path)
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch_dtype)
    model.to(device).eval()
    # The union is what vLLM stops at, so a response ends here where it ended in training.
    ends = model.generation_config.eos_token_id
    eos_ids = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    require(bool(eos_ids), "model", path, "a model or tokenizer with an end-of-sequence token")
    # A fresh configuration: a model's own sampling settings (repetition_penalty, top_k …) must not slip in.
    pad_id = min(eos_ids) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=sorted(eos_ids), pad_token_id=pad_id)
    return model, tokenizer


@torch.inference_mode()
def generate(model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Response]:
    """Draw one response for each prompt, in the order of ``prompts``, with a progress bar.

    Prompts of similar length share a batch, padded on the left, the longest first so that a lack of memory shows at once.
    The draw depends on the seed, the prompts and the batch size.

    Args:
        model: from :func:`load_model`.
        prompts: token ids, chat template applied; none may be empty.
        sampling: how to draw.

    Raises:
        SettingsError: the longest prompt and ``max_new_tokens`` together exceed the positions that the model knows.
    """
    if not prompts:
        return []
    _check_lengths(model, prompts, sampling)
    draw: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        draw = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    ends: list[int] = model.generation_config.eos_token_id
    pad_id: int = model.generation_config.pad_token_id
    config = GenerationConfig(max_new_tokens=sampling.max_new_tokens, eos_token_id=ends, pad_token_id=pad_id, **draw)

    torch.manual_seed(sampling.seed)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    responses: dict[int, Response] = {}
    for start in track(range(0, len(order), sampling.batch_size), description="generate"):
        batch = order[start : start + sampling.batch_size]
        width = len(prompts[batch[0]])
        ids_BL = torch.full((len(batch), width), pad_id)
        mask_BL = torch.zeros_like(ids_BL)
        for row, index in enumerate(batch):
            length = len(prompts[index])
            ids_BL[row, width - length :] = torch.tensor(prompts[index])
            mask_BL[row, width - length :] = 1
        output = model.generate(
            input_ids=ids_BL.to(model.device), attention_mask=mask_BL.to(model.device), generation_config=config
        )
        for index, ids in zip(batch, output[:, width:].tolist(), strict=True):
            end = next((place for place, token in enumerate(ids, start=1) if token in ends), None)
            responses[index] = Response(token_ids=ids[:end], truncated=end is None)
    return [responses[index] for index in range(len(prompts))]


def _check_lengths(model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
    require(min(map(len, prompts)) > 0, "prompts", 0, "at least one token long each")
    longest = max(map(len, prompts))
    known = getattr(model.config, "max_position_embeddings", None)
    if known is not None and longest + sampling.max_new_tokens > known:
        raise SettingsError(
            f"max_new_tokens: the longest prompt ({longest} tokens) and {sampling.max_new_tokens} new ones exceed the "
            f"model's {known} positions; at most {known - longest} fit"
        )


def transformers_engine(model: str | Path, device: str = "auto", dtype: str = "auto") -> Engine:
    """Load a model folder, a hub name, a verl checkpoint or the latest step of a run, and generate here.

    Raises:
        SettingsError: see :func:`resolve_model` and :func:`load_model`.
    """
    path = resolve_model(model)
    network, tokenizer = load_model(path, device, dtype)
    place = network.device
    facts = {
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
        "dtype": str(network.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    return Engine(path, facts, lambda requests, sampling: answers(network, tokenizer, requests, sampling))


def answers(model: Any, tokenizer: Any, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
    """A response to every request, by :func:`generate`.

    Raises:
        SettingsError: the tokenizer has no chat template.
    """
    prompts: dict[str, list[int]] = {}
    for request in requests:
        if request.key not in prompts:
            prompts[request.key] = _encode(tokenizer, request)
    drawn = generate(model, [prompts[request.key] for request in requests], sampling)
    return [
        Answer(
            text=tokenizer.decode(response.token_ids, skip_special_tokens=True),
            tokens=len(response.token_ids),
            truncated=response.truncated,
            prompt_tokens=len(prompts[request.key]),
        )
        for request, response in zip(requests, drawn, strict=True)
    ]


def _encode(tokenizer: Any, request: Request) -> list[int]:
    if tokenizer.chat_template is None:
        raise SettingsError(
            f"model: the tokenizer of {tokenizer.name_or_path} has no chat template; give it one and save it"
        )
    text = tokenizer.apply_chat_template(
        request.messages, add_generation_prompt=True, tokenize=False, **request.chat_template
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]
