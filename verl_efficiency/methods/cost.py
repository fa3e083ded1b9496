"""What a rollout pays for: its tokens, some of them, or its turns.

The setting ``cost`` is one of these terms, or a weighted sum such as ``thinking+0.2*answer`` or ``generated+200*turns``:

* ``generated``: tokens that the policy wrote, the default;
* ``thinking``: generated tokens between ``<think>`` and ``</think>``, tags included;
* ``answer``: the other generated tokens;
* ``turns``: how many times the policy wrote; 1 without tools;
* ``context``: tokens that the policy read: the prompt, and the tool output between its turns.

A method finds the cost in :attr:`~verl_efficiency.methods.rollouts.Rollouts.lengths_B` and treats it as the length. Its
settings in tokens (targets, budgets, ``max_response_length``) are then in units of the cost. Truncation still depends on the
generated tokens.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, SettingsError, unknown

# term → what an adapter must count for it beyond the generated tokens
TERMS: Mapping[str, str | None] = {
    "generated": None,
    "thinking": "thinking",
    "answer": "thinking",
    "turns": "turns",
    "context": "context",
}


@dataclass(frozen=True)
class CostSettings(MethodSettings):
    """Settings of a method that makes rollouts pay for their length.

    Attributes:
        cost: what a rollout pays for: generated (tokens), thinking, answer, turns or context, or a weighted sum such as
            ``thinking+0.2*answer``. Where the text says length, it means this cost.
    """

    cost: str = "generated"

    def __post_init__(self) -> None:
        read_cost(self.cost)

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(part for term in read_cost(self.cost) if (part := TERMS[term]))


def read_cost(cost: str) -> dict[str, float]:
    """The weight of each term.

    Raises:
        SettingsError: an unknown term, a repeated term, or a weight that is not a number above 0.

    >>> read_cost("thinking + 0.2*answer")
    {'thinking': 1.0, 'answer': 0.2}
    >>> read_cost("thinkin")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: cost: unknown term 'thinkin'; did you mean 'thinking'? Known: ...
    """
    weights: dict[str, float] = {}
    for term in cost.split("+"):
        weight, times, name = term.rpartition("*")
        name = name.strip()
        if name not in TERMS:
            raise SettingsError(f"cost: {unknown('term', name, TERMS)}; write a weighted sum as thinking+0.2*answer")
        if name in weights:
            raise SettingsError(f"cost: {name!r} stands twice in {cost!r}")
        try:
            weights[name] = float(weight) if times else 1.0
        except ValueError:
            raise SettingsError(f"cost: {weight.strip()!r} in {cost!r} is not a number") from None
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise SettingsError(f"cost: the weight of {name} must be above 0, got {weight.strip()}")
    return weights


def most_per_token(cost: str) -> float:
    """The highest cost of one generated token; infinite if a rollout also pays for what it reads.

    >>> most_per_token("generated"), most_per_token("thinking+0.2*answer"), most_per_token("generated+200*turns")
    (1.0, 1.0, 201.0)
    """
    weights = read_cost(cost)
    kinds = max(weights.get("thinking", 0.0), weights.get("answer", 0.0))  # a token is one or the other
    return math.inf if "context" in weights else weights.get("generated", 0.0) + kinds + weights.get("turns", 0.0)


def priced(rollouts: Rollouts, settings: MethodSettings) -> Rollouts:
    """``rollouts`` with the cost in ``lengths_B`` and the lengths in ``generated_B``; unchanged for ``cost=generated``.

    >>> r = Rollouts.build(torch.tensor([1., 0.]), torch.tensor([10, 30]), ["a", "a"])
    >>> r = replace(r, thinking_B=torch.tensor([6, 30]))
    >>> p = priced(r, CostSettings("thinking+0.5*answer"))
    >>> p.lengths_B.tolist(), p.generated_B.tolist()
    ([8.0, 30.0], [10, 30])
    """
    cost = getattr(settings, "cost", "generated")
    weights = read_cost(cost)
    if weights == {"generated": 1.0}:
        return rollouts
    counts: dict[str, Tensor | None] = {
        "generated": rollouts.lengths_B,
        "thinking": rollouts.thinking_B,
        "answer": None if rollouts.thinking_B is None else rollouts.lengths_B - rollouts.thinking_B,
        "turns": rollouts.turns_B,
        "context": rollouts.context_B,
    }
    cost_B = torch.zeros_like(rollouts.scores_B)
    for term, weight in weights.items():
        count_B = counts[term]
        if count_B is None:
            raise ValueError(f"cost={cost} needs {TERMS[term]}_B: a count for every rollout")
        cost_B = cost_B + weight * count_B.double()
    return replace(rollouts, lengths_B=cost_B, generated_B=rollouts.lengths_B)


def count_turns(mask_BL: Tensor) -> Tensor:
    """(B,) int64: turns, which are runs of ones in the response mask (B, L); 0 for an empty response.

    >>> count_turns(torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0]])).tolist()
    [2, 0]
    """
    mask_BL = mask_BL.bool()
    return mask_BL[:, :1].sum(1) + (mask_BL[:, 1:] & ~mask_BL[:, :-1]).sum(1)


def count_tool_tokens(mask_BL: Tensor) -> Tensor:
    """(B,) int64: tool tokens before the last generated token, from the response mask (B, L).

    >>> count_tool_tokens(torch.tensor([[1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0]])).tolist()
    [2, 0]
    """
    mask_BL = mask_BL.bool()
    columns = mask_BL.shape[1]
    end_B = columns - mask_BL.flip(1).to(torch.uint8).argmax(1) if columns else mask_BL.sum(1)
    return torch.where(mask_BL.any(1), end_B - mask_BL.sum(1), 0)


class ThinkingCounter:
    """Counts thinking tokens. It finds the tags in the vocabulary's texts of the tokens, so it need not decode.

    A tag may be one token or several, and its last token may have more text after the tag (``>\\n``). ``tokenizer`` is any
    tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.pieces = {number: piece for piece, number in tokenizer.get_vocab().items()}
        ends = [number for number, piece in self.pieces.items() if _may_end_a_tag(piece)]
        self.may_end = torch.zeros(max(self.pieces, default=0) + 1, dtype=torch.bool)
        self.may_end[torch.tensor(ends, dtype=torch.int64)] = True

    def count(self, responses_B: Sequence[Tensor], masks_B: Sequence[Tensor], opened_B: Sequence[bool]) -> Tensor:
        """(B,) int64: thinking tokens of each response, tags included.

        Thinking begins at ``<think>``, or at the start of the response if the prompt opened it. It ends at ``</think>``, or
        at the end of the response. A ``</think>`` without ``<think>`` ends thinking that began at the previous ``</think>``
        or at the start. A response without a tag is all thinking if the prompt opened it, else all answer.

        Args:
            responses_B: token ids of each response, tool tokens included.
            masks_B: response mask of each response, 1 for a generated token.
            opened_B: whether the prompt ends inside the thinking.
        """
        counts = [self._count(*row) for row in zip(responses_B, masks_B, opened_B, strict=True)]
        return torch.tensor(counts, dtype=torch.int64)

    def _count(self, response: Tensor, mask: Tensor, opened: bool) -> int:
        response, mask = response.cpu(), mask.cpu()
        ids = response.tolist()
        start, inside, total = 0, opened, 0  # `start`: first token of the thinking, as a later </think> may show
        known = response.clamp(0, len(self.may_end) - 1)
        for end in self.may_end[known].nonzero().flatten().tolist():
            for closing, first in self._tags(ids, end):
                if closing:
                    total += int(mask[start : end + 1].sum())
                    start, inside = end + 1, False
                elif not inside:
                    start, inside = first, True
        return total + int(mask[start:].sum()) if inside else total

    def _tags(self, ids: list[int], end: int) -> list[tuple[bool, int]]:
        """The tags that end in token ``end``: (is it a closing tag, its first token)."""
        begin = max(0, end - _LONGEST)
        window = [self.pieces.get(number, "") for number in ids[begin : end + 1]]
        text, known = "".join(window), sum(map(len, window[:-1]))
        found = []
        for tag in re.finditer("<(/?)think>", text):
            if tag.end() > known:
                left, first = tag.start(), begin
                for piece in window:
                    if left < len(piece):
                        break
                    left, first = left - len(piece), first + 1
                found.append((bool(tag[1]), first))
        return found


@functools.lru_cache(maxsize=1)
def thinking_counter(tokenizer: Any) -> ThinkingCounter:
    """The counter of ``tokenizer``, cached because it reads the whole vocabulary."""
    return ThinkingCounter(tokenizer)


LOOK_BACK = 16  # tokens to read at the end of a prompt: enough for a <think> in pieces, and blanks
_LONGEST = len("</think>")  # maximum number of tokens in a tag


def _may_end_a_tag(piece: str) -> bool:
    """Whether a tag may end in ``piece``: its text up to some ``>`` ends with a tag, or is the end of one."""
    beginnings = [piece[: place + 1] for place, letter in enumerate(piece) if letter == ">"]
    return any(text.endswith("think>") or "</think>".endswith(text) or text == "<think>" for text in beginnings)
