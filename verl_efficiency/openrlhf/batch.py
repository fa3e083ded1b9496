"""Collects the rollouts of a step from OpenRLHF's experiences, and writes values for their tokens back.

OpenRLHF cuts a step into micro-batches (``Experience``). A micro-batch of E rollouts has a mask (E, A) over prompt and
response, shifted by one. A :class:`Batch` has all rollouts of the step in the order of generation. Its masks (B, L) begin at
the first token of the response, as in verl. Rollout k belongs to group k // n.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.adapter.rollouts import RAW_PROMPT, Step, complete, count_thinking
from verl_efficiency.data.columns import Row
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.openrlhf.options import ROOT
from verl_efficiency.settings import MethodSettings


@dataclass(frozen=True)
class Batch:
    """All rollouts of a step.

    Attributes:
        place_B: int64, the row of each rollout when all experiences are concatenated.
        mask_BL: response mask from the first response token on: 1 for tokens that the policy wrote, 0 for those of tools.
        scores_B: float32, rewards.
        texts_B: prompts as text.
        labels_B: labels of the data set.
        group_size: rollouts per prompt, n.
        prompts_B: prompts as token ids.
        tokens_B: responses as token ids, those of tools included.
        tokenizer: needed only to count thinking tokens.
    """

    place_B: Tensor
    mask_BL: Tensor
    scores_B: Tensor
    texts_B: tuple[str, ...]
    labels_B: tuple[str, ...]
    group_size: int
    prompts_B: tuple[Tensor, ...]
    tokens_B: tuple[Tensor, ...]
    tokenizer: Any = None

    @classmethod
    def of(cls, experiences: Sequence[Any], group_size: int, tokenizer: Any = None) -> "Batch":
        """Collect the rollouts of ``experiences``.

        Raises:
            ValueError: the rollouts do not form whole groups with one prompt each.
        """
        index = torch.tensor([number for experience in experiences for number in experience.index])
        place_B = index.argsort()
        prompts, tokens = [], []
        for experience in experiences:
            mask_EA = experience.action_mask
            first_E = _first_token(mask_EA)
            last_E = torch.where(mask_EA.any(1), mask_EA.shape[1] - mask_EA.flip(1).long().argmax(1), first_E)
            for ids, first, last in zip(experience.sequences, first_E.tolist(), last_E.tolist(), strict=True):
                prompts.append(ids[: first + 1])  # masks are shifted by one
                tokens.append(ids[first + 1 : last + 1])

        def in_order(rows: Iterable[Any]) -> tuple:
            listed = list(rows)
            return tuple(listed[place] for place in place_B.tolist())

        texts_B = in_order(text for experience in experiences for text in experience.prompts)
        if len(index) % group_size:
            raise ValueError(
                f"{len(index)} rollouts do not make whole groups of rollout.n_samples_per_prompt={group_size}"
            )
        for start in range(0, len(index), group_size):
            if len(set(texts_B[start : start + group_size])) > 1:
                raise ValueError(
                    f"rollouts {start} to {start + group_size - 1} should be one group, but their prompts differ"
                )
        return cls(
            place_B=place_B,
            mask_BL=_aligned([experience.action_mask for experience in experiences], experiences)[place_B],
            scores_B=torch.cat([experience.rewards for experience in experiences])[place_B],
            texts_B=texts_B,
            labels_B=in_order(label for experience in experiences for label in experience.labels),
            prompts_B=in_order(prompts),
            tokens_B=in_order(tokens),
            group_size=group_size,
            tokenizer=tokenizer,
        )

    def rollouts(self, settings: MethodSettings, state: Any = None) -> Rollouts:
        """The input of a method.

        The name of a group is its place in the batch and a digest of its prompt and rollouts. A method that seeds a random draw
        with this name draws differently in every step, and identically when the run is repeated.

        Raises:
            SettingsError: the labels lack a column that the method reads.
        """
        names_B = []
        for start in range(0, len(self.texts_B), self.group_size):
            group = self.tokens_B[start : start + self.group_size]
            digest = hashlib.blake2b(self.texts_B[start].encode(), digest_size=8)
            for ids in group:
                digest.update(_sample(ids))
            names_B += [f"{start}/{digest.hexdigest()}"] * self.group_size
        rollouts = Rollouts.build(
            self.scores_B, self.mask_BL.sum(-1), names_B, correct_threshold=settings.correct_threshold
        )
        thinking_B = None
        if "thinking" in settings.parts:
            masks = [mask[: len(ids)] for mask, ids in zip(self.mask_BL, self.tokens_B, strict=True)]
            thinking_B = count_thinking(self.tokenizer, self.prompts_B, self.tokens_B, masks)
        step = Step(
            *(ROOT, self._rows, self.mask_BL),
            responses_B=self.tokens_B,
            thinking_B=thinking_B,
            prompt_tokens=lambda: torch.tensor([len(ids) for ids in self.prompts_B]),
        )
        return complete(rollouts, settings, state, step)

    def _rows(self, _rollouts: Rollouts, _paths: Sequence[str]) -> list[Row | None]:
        """The row of the data set behind each group, from its label."""
        return [
            {**read_label(self.labels_B[row]), RAW_PROMPT: self.texts_B[row]}
            for row in range(0, len(self.labels_B), self.group_size)
        ]

    def gather(self, values: Sequence[Tensor], experiences: Sequence[Any]) -> Tensor:
        """(B, L): values of the response tokens, from one (E, A) tensor per experience."""
        return _aligned(values, experiences)[self.place_B] * self.mask_BL

    def scatter(self, values_BL: Tensor, experiences: Sequence[Any]) -> list[Tensor]:
        """The inverse of :meth:`gather`: one (E, A) tensor per experience, 0 outside its mask."""
        by_place = torch.empty_like(values_BL)
        by_place[self.place_B] = values_BL
        scattered = []
        for experience, values_EL in zip(
            experiences, by_place.split([len(experience.sequences) for experience in experiences]), strict=True
        ):
            mask_EA = experience.action_mask
            width = mask_EA.shape[1]
            values_EL = torch.nn.functional.pad(values_EL, (0, max(0, width - values_EL.shape[1])))
            column_EA = torch.arange(width) - _first_token(mask_EA)[:, None]
            scattered.append(values_EL.gather(1, column_EA.clamp_min(0)) * mask_EA)
        return scattered


def _sample(ids: Tensor) -> bytes:
    """The length of a response and up to 64 of its tokens, evenly spread: all tokens would take seconds."""
    return len(ids).to_bytes(8, "little") + ids[:: len(ids) // 64 + 1].numpy().tobytes()


def _first_token(mask_EA: Tensor) -> Tensor:
    return mask_EA.long().argmax(1)


def _aligned(values: Sequence[Tensor], experiences: Sequence[Any]) -> Tensor:
    """(rows, L): the values, shifted so that column 0 is the first token of each response, and padded with 0."""
    parts = []
    for values_EA, experience in zip(values, experiences, strict=True):
        width = values_EA.shape[1]
        column_EA = torch.arange(width) + _first_token(experience.action_mask)[:, None]
        parts.append(values_EA.gather(1, column_EA.clamp_max(width - 1)) * (column_EA < width))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts])
