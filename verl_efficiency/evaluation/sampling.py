"""Batched sampling with Hugging Face ``generate``: a seed per row, log-probabilities, finished rows dropped early.

``evaluate`` and the CPU rollout of verl both draw with it. Shapes: B rows, L prompt and response so far, T new tokens,
V vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Draw:
    """How a token is drawn: ``temperature`` >= 0 (0 is greedy), ``top_p`` in (0, 1], ``top_k`` (below 1: all tokens)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1


@dataclass
class Completion:
    """One prompt and, once :func:`generate` has yielded it, its response.

    The response depends on the weights, the prompt, the draw and ``seed``. It does not depend on the other rows of the
    batch, except that the shape of a batch changes the last bits of a logit.
    """

    prompt: list[int]
    max_tokens: int
    seed: Sequence[int]
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    stopped: bool = False  # by an end-of-sequence token, which is then the last of `tokens`

    @property
    def done(self) -> bool:
        return self.stopped or len(self.tokens) >= self.max_tokens


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    completions: Sequence[Completion],
    draw: Draw,
    *,
    eos_ids: Collection[int],
    pad_id: int,
    segment: int = 32,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Completion]:
    """Fill in the responses of ``completions``, all in one batch, and yield each one when its response is complete.

    Args:
        model: a decoder in eval mode. Its ``generation_config`` is emptied, because transformers fills in from it what a call
            leaves out, and a checkpoint's own defaults (Qwen: top_k 20, repetition_penalty 1.05) must not apply.
        completions: at least one. Prompts may differ in length; they are padded on the left.
        draw: how tokens are drawn.
        eos_ids: tokens that end a response; empty to always generate ``max_tokens``.
        pad_id: any valid token id; padding is masked.
        segment: after this many tokens, finished rows leave the batch and its key-value cache. With the limit of the longest
            row, the batch runs in one call, which also works for caches that cannot drop rows.
        stop: asked before each segment. Once True, the batch ends there, and open rows keep the tokens that they have.
    """
    model.generation_config = GenerationConfig()
    rows = list(completions)
    width = max(len(row.prompt) for row in rows)
    ids_BL = torch.full((len(rows), width), pad_id)
    mask_BL = torch.zeros_like(ids_BL)
    for index, row in enumerate(rows):
        ids_BL[index, width - len(row.prompt) :] = torch.tensor(row.prompt)
        mask_BL[index, width - len(row.prompt) :] = 1
    ids_BL, mask_BL = ids_BL.to(model.device), mask_BL.to(model.device)
    exact = torch.float32 if model.device.type == "mps" else torch.float64  # MPS has no float64
    uniforms_BT = torch.from_numpy(_uniforms(rows)).to(model.device, exact)

    generate_tokens: Any = model.generate  # typed on a mixin that the class itself does not inherit
    cache = None
    step = 0
    while not stop():
        steps = min(segment, max(row.max_tokens for row in rows) - step)
        drawing = _DrawToken(draw, uniforms_BT[:, step : step + steps])
        output: Any = generate_tokens(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            past_key_values=cache,
            generation_config=GenerationConfig(
                max_new_tokens=steps,
                do_sample=False,  # the last processor has drawn already and leaves one token possible
                eos_token_id=sorted(eos_ids) or None,
                pad_token_id=pad_id,
                return_dict_in_generate=True,
                use_cache=True,
            ),
            logits_processor=LogitsProcessorList([drawing]),
        )
        new_BT = output.sequences[:, ids_BL.shape[1] :]
        _append(rows, new_BT.tolist(), torch.stack(drawing.log_probs_TB, dim=1).tolist(), frozenset(eos_ids))
        step += steps

        yield from (row for row in rows if row.done)
        keep = [index for index, row in enumerate(rows) if not row.done]
        rows = [rows[index] for index in keep]
        if not rows:
            return
        cache = output.past_key_values
        if len(keep) < len(ids_BL):
            cache.batch_select_indices(torch.tensor(keep, device=ids_BL.device))
        ids_BL = output.sequences[keep]
        mask_BL = torch.cat([mask_BL, torch.ones_like(new_BT)], dim=1)[keep]
        uniforms_BT = uniforms_BT[keep]


def _uniforms(rows: Sequence[Completion]) -> np.ndarray:
    """One number in [0, 1) per row and step, from the row's own seed."""
    uniforms_BT = np.zeros((len(rows), max(row.max_tokens for row in rows)))
    for uniforms_T, row in zip(uniforms_BT, rows, strict=True):
        uniforms_T[: row.max_tokens] = np.random.default_rng(row.seed).random(row.max_tokens)
    return uniforms_BT


def _append(
    rows: Sequence[Completion], tokens_BT: list[list[int]], log_probs_BT: list[list[float]], eos_ids: frozenset[int]
) -> None:
    for row, tokens_T, log_probs_T in zip(rows, tokens_BT, log_probs_BT, strict=True):
        for token, log_prob in zip(tokens_T, log_probs_T, strict=True):
            if row.done:
                break
            row.tokens.append(token)
            row.log_probs.append(log_prob)
            row.stopped = token in eos_ids


class _DrawToken(LogitsProcessor):
    """Draws each row's token, keeps its log-probability, and leaves only that token possible.

    Because it draws here and not in ``generate``, every row has its own random stream, and a log-probability costs one
    number per token. It is taken after temperature, top-k and top-p, as vLLM's ``processed_logprobs``, which verl asks for.
    """

    def __init__(self, draw: Draw, uniforms_BT: torch.Tensor) -> None:
        self.greedy = draw.temperature == 0
        self.uniforms_BT = uniforms_BT
        self.log_probs_TB: list[torch.Tensor] = []
        self.warpers: list[Any] = []
        if not self.greedy and draw.temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(float(draw.temperature)))
        if draw.top_k > 0:
            self.warpers.append(TopKLogitsWarper(draw.top_k))
        if draw.top_p < 1:
            self.warpers.append(TopPLogitsWarper(draw.top_p))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        for warp in self.warpers:
            scores = warp(input_ids, scores)
        log_probs_BV = scores.log_softmax(dim=-1)
        if self.greedy:
            token_B1 = log_probs_BV.argmax(dim=-1, keepdim=True)
        else:
            cumulative_BV = log_probs_BV.exp().to(self.uniforms_BT.dtype).cumsum(dim=-1)
            point_B1 = self.uniforms_BT[:, len(self.log_probs_TB), None] * cumulative_BV[:, -1:]
            token_B1 = torch.searchsorted(cumulative_BV, point_B1, right=True).clamp_max(scores.shape[1] - 1)
        self.log_probs_TB.append(log_probs_BV.gather(1, token_B1).squeeze(1))
        return torch.full_like(scores, float("-inf")).scatter(1, token_B1, 0.0)
