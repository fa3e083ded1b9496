"""The engine that loads a Hugging Face model and generates in this process."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_efficiency.evaluation.checkpoint import resolve_model
from verl_efficiency.evaluation.engines import Answer, Engine, Request, Sampling
from verl_efficiency.evaluation.reasoning import find_reasoning
from verl_efficiency.evaluation.sampling import Completion, Draw, generate
from verl_efficiency.settings import SettingsError, require


@dataclass(frozen=True)
class LocalModel:
    """A loaded model; ``eos_ids`` end a response, ``pad_id`` fills shorter prompts."""

    network: Any
    tokenizer: Any
    eos_ids: frozenset[int]
    pad_id: int


def load_model(path: str, device: str = "auto", dtype: str = "auto") -> LocalModel:
    """Load a model folder or hub name.

    Args:
        path: what ``resolve_model`` returns.
        device: a torch device, or ``auto``: CUDA if there is a GPU, else the CPU.
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
    network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch_dtype)
    network.to(device).eval()
    # vLLM stops at both, so a response ends here where it ended in training.
    ends = network.generation_config.eos_token_id
    eos_ids = frozenset({*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None})
    require(bool(eos_ids), "model", path, "a model or tokenizer with an end-of-sequence token")
    pad_id = min(eos_ids) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return LocalModel(network, tokenizer, eos_ids, pad_id)


def respond(model: LocalModel, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
    """Draw one response to each prompt (token ids, not empty), in the order of ``prompts``, with a progress bar.

    A response depends on the seed, its prompt, and how often that prompt came before; not on the batch size. Prompts of
    similar length share a batch, the longest first, so that a lack of memory shows at once.

    Raises:
        SettingsError: the longest prompt and ``max_new_tokens`` together exceed the model's positions.
    """
    if not prompts:
        return []
    _check_lengths(model.network, prompts, sampling)
    asked = Counter[tuple[int, ...]]()
    rows = []
    for prompt in map(tuple, prompts):
        rows.append(Completion(list(prompt), sampling.max_new_tokens, (sampling.seed, asked[prompt], *prompt)))
        asked[prompt] += 1
    longest_first = sorted(rows, key=lambda row: len(row.prompt), reverse=True)
    draw = Draw(sampling.temperature, sampling.top_p)
    done = (
        row
        for start in range(0, len(rows), sampling.batch_size)
        for row in generate(
            model.network,
            longest_first[start : start + sampling.batch_size],
            draw,
            eos_ids=model.eos_ids,
            pad_id=model.pad_id,
            segment=sampling.max_new_tokens,
        )
    )
    for _ in track(done, "generate", total=len(rows), console=Console(stderr=True)):
        pass
    return rows


def _check_lengths(network: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
    require(min(map(len, prompts)) > 0, "prompts", 0, "at least one token long each")
    longest = max(map(len, prompts))
    known = getattr(network.config, "max_position_embeddings", None)
    if known is not None and longest + sampling.max_new_tokens > known:
        raise SettingsError(
            f"max_new_tokens: the longest prompt ({longest} tokens) and {sampling.max_new_tokens} new ones exceed the "
            f"model's {known} positions; at most {known - longest} fit"
        )


def transformers_engine(model: str | Path, device: str = "auto", dtype: str = "auto") -> Engine:
    """Load a model folder, a hub name, a verl checkpoint or the latest step of a run.

    Raises:
        SettingsError: see :func:`resolve_model` and :func:`load_model`.
    """
    path = resolve_model(model)
    loaded = load_model(path, device, dtype)
    place = loaded.network.device
    facts = {
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
        "dtype": str(loaded.network.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    return Engine(path, facts, lambda requests, sampling: answers(loaded, requests, sampling))


def answers(model: LocalModel, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
    """A response to every request, by :func:`respond`.

    Raises:
        SettingsError: the tokenizer has no chat template.
    """
    prompts: dict[str, list[int]] = {}
    for request in requests:
        if request.key not in prompts:
            prompts[request.key] = _encode(model.tokenizer, request)
    rows = respond(model, [prompts[request.key] for request in requests], sampling)
    texts = [model.tokenizer.decode(row.tokens, skip_special_tokens=True) for row in rows]
    reasoning = find_reasoning(texts, [not row.stopped for row in rows])
    return [
        Answer(
            text=text,
            tokens=len(row.tokens),
            truncated=not row.stopped,
            reasoning_tokens=min(_count(model.tokenizer, thought), len(row.tokens)),
            prompt_tokens=len(row.prompt),
        )
        for row, text, thought in zip(rows, texts, reasoning, strict=True)
    ]


def _count(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else 0


def _encode(tokenizer: Any, request: Request) -> list[int]:
    if tokenizer.chat_template is None:
        raise SettingsError(
            f"model: the tokenizer of {tokenizer.name_or_path} has no chat template; give it one and save it"
        )
    text = tokenizer.apply_chat_template(
        request.messages, add_generation_prompt=True, tokenize=False, **request.chat_template
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]
