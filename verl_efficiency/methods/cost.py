"""What a rollout costs: which tokens, or how many turns, a method makes it pay for.

The setting ``cost`` is one of these names, or a weighted sum of them such as ``thinking+0.2*answer`` or
``generated+200*turns``:

* ``generated``: tokens that the policy wrote, the default;
* ``thinking``: those between ``<think>`` and ``</think>``, tags included;
* ``answer``: the other generated tokens;
* ``turns``: how often the policy was asked to write, which is 1 without tools;
* ``context``: tokens that it read: the prompt, and what tools wrote between its turns.

A method finds the cost in :attr:`~verl_efficiency.methods.rollouts.Rollouts.lengths_B` and treats it like a length. Its
settings in tokens (targets, budgets, ``max_response_length``) are then in units of the cost. Whether a response was cut
off still goes by its generated tokens.
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

# Term of a cost → what an adapter must count for it beyond the generated tokens.
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
        SettingsError: an unknown term, one that is named twice, or a weight that is not a number above 0.

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
            raise SettingsError(f"cost: {unknown('term', name, TERMS)}; a weighted sum is written thinking+0.2*answer")
        if name in weights:
            raise SettingsError(f"cost: {name!r} stands twice in {cost!r}")
        try:
            weights[name] = float(weight) if times else 1.0
        except ValueError:
            raise SettingsError(f"cost: {weight.strip()!r} in {cost!r} is not a number") from None
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise SettingsError(f"cost: the weight of {name} must be above 0, got {weight.strip()}")
    return weights


def priced(rollouts: Rollouts, settings: MethodSettings) -> Rollouts:
    """The rollouts with what ``settings.cost`` counts in the place of their lengths; unchanged for ``generated``.

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
    """(B,) int64: runs of generated tokens in the response mask (B, L); 0 for an empty response.

    >>> count_turns(torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0]])).tolist()
    [2, 0]
    """
    mask_BL = mask_BL.bool()
    return mask_BL[:, :1].sum(1) + (mask_BL[:, 1:] & ~mask_BL[:, :-1]).sum(1)


def count_tool_tokens(mask_BL: Tensor) -> Tensor:
    """(B,) int64: tokens of a response before its last generated one that the policy did not write.

    >>> count_tool_tokens(torch.tensor([[1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0]])).tolist()
    [2, 0]
    """
    mask_BL = mask_BL.bool()
    columns = mask_BL.shape[1]
    end_B = columns - mask_BL.flip(1).to(torch.uint8).argmax(1) if columns else mask_BL.sum(1)
    return torch.where(mask_BL.any(1), end_B - mask_BL.sum(1), 0)


class ThinkingCounter:
    """Counts the thinking tokens of responses, by the pieces of text that a tokenizer's vocabulary is made of.

    A tag may be one token of the vocabulary or several, and its last token may go on after it (``>\\n``).

    Args:
        tokenizer: any tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.pieces = {number: piece for piece, number in tokenizer.get_vocab().items()}
        ends = [number for number, piece in self.pieces.items() if _may_end_a_tag(piece)]
        self.may_end = torch.zeros(max(self.pieces, default=0) + 1, dtype=torch.bool)
        self.may_end[torch.tensor(ends, dtype=torch.int64)] = True

    def count(self, responses_B: Sequence[Tensor], masks_B: Sequence[Tensor], opened_B: Sequence[bool]) -> Tensor:
        """(B,) int64: generated tokens inside the thinking, tags included.

        Thinking goes from ``<think>``, or from the start where the prompt has opened it, to ``</think>``. Without an end
        it goes to the end of the response. A ``</think>`` that nobody has opened ends a thinking that began where the one
        before it ended. A response without a tag is all thinking if the prompt has opened it, and all answer if not.

        Args:
            responses_B: token ids of each response, those of tools included.
            masks_B: 1 for a generated token, each like its response.
            opened_B: whether the prompt ends inside the thinking.
        """
        counts = [self._count(*row) for row in zip(responses_B, masks_B, opened_B, strict=True)]
        return torch.tensor(counts, dtype=torch.int64)

    def _count(self, response: Tensor, mask: Tensor, opened: bool) -> int:
        response, mask = response.cpu(), mask.cpu()
        ids = response.tolist()
        start, inside, total = 0, opened, 0  # the thinking, or what may turn out to be it, begins at token `start`
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
        """The tags that end in token ``end``: whether it closes, and its first token."""
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
    """The counter of ``tokenizer``; made once, since it reads the whole vocabulary."""
    return ThinkingCounter(tokenizer)


LOOK_BACK = 16  # tokens at the end of a prompt, enough for a <think> in pieces and blanks
_LONGEST = len("</think>")  # a tag has at most so many tokens


def _may_end_a_tag(piece: str) -> bool:
    """Whether a tag may end in ``piece``: what comes up to a ``>`` ends as a tag does, or is the end of one."""
    beginnings = [piece[: place + 1] for place, letter in enumerate(piece) if letter == ">"]
    return any(text.endswith("think>") or "</think>".endswith(text) or text == "<think>" for text in beginnings)
