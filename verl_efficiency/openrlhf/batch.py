"""The rollouts of a step as our methods want them, and the way back into OpenRLHF's experiences.

OpenRLHF cuts a step into micro-batches (``Experience``), whose masks (E, A) are over the prompt and the response, shifted by
one. Here are all rollouts of the step, in the order in which they were generated, and their masks (B, L) from the first token
of the response on, as verl has them. Rollout k belongs to group k // n.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.data.columns import column
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings


@dataclass(frozen=True)
class Batch:
    """All rollouts of a step.

    Attributes:
        place_B: where each rollout is among the rows of all experiences, one after the other.
        mask_BL: the response tokens that the policy wrote (not those of tools), from the first one on.
        scores_B: float32, the reward of each rollout.
        prompts_B: the prompt of each rollout, as text.
        labels_B: its label.
        tokens_B: the token ids of each response, those of tools included.
        group_size: rollouts per prompt, n.
    """

    place_B: Tensor
    mask_BL: Tensor
    scores_B: Tensor
    prompts_B: tuple[str, ...]
    labels_B: tuple[str, ...]
    tokens_B: tuple[Tensor, ...]
    group_size: int

    @classmethod
    def of(cls, experiences: Sequence[Any], group_size: int) -> "Batch":
        """Collect the rollouts of ``experiences``.

        Raises:
            ValueError: they do not form whole groups of one prompt each.
        """
        index = torch.tensor([number for experience in experiences for number in experience.index])
        place_B = index.argsort()
        masks, tokens = [], []
        for experience in experiences:
            aligned, first_E = _from_first_token(experience.action_mask)
            masks.append(aligned)
            written_E = (aligned.shape[1] - aligned.flip(1).argmax(1)) * aligned.any(1)
            last_E = first_E + written_E
            for ids, first, last in zip(experience.sequences[:, 1:], first_E.tolist(), last_E.tolist(), strict=True):
                tokens.append(ids[first:last])
        width = max(mask.shape[1] for mask in masks)
        mask_BL = torch.cat([torch.nn.functional.pad(mask, (0, width - mask.shape[1])) for mask in masks])

        def in_order(name: str) -> tuple:
            rows = [value for experience in experiences for value in getattr(experience, name)]
            return tuple(rows[place] for place in place_B.tolist())

        prompts_B = in_order("prompts")
        if len(index) % group_size:
            raise ValueError(f"{len(index)} rollouts are no whole groups of rollout.n_samples_per_prompt={group_size}")
        for start in range(0, len(index), group_size):
            if len(set(prompts_B[start : start + group_size])) > 1:
                raise ValueError(
                    f"the rollouts {start} to {start + group_size - 1} are a group, but of several prompts"
                )
        return cls(
            place_B=place_B,
            mask_BL=mask_BL[place_B],
            scores_B=torch.cat([experience.rewards for experience in experiences])[place_B],
            prompts_B=prompts_B,
            labels_B=in_order("labels"),
            tokens_B=tuple(tokens[place] for place in place_B.tolist()),
            group_size=group_size,
        )

    def rollouts(self, settings: MethodSettings) -> Rollouts:
        """The input of a method, with what it asks of the data set (in the labels).

        A group is named by its place and its tokens: methods that draw by the name draw anew in every step, and the same again
        in a repeated run.

        Raises:
            SettingsError: the labels lack a column that the method reads.
        """
        names_B = []
        for start in range(0, len(self.prompts_B), self.group_size):
            text = self.prompts_B[start] + "".join(
                str(ids.tolist()) for ids in self.tokens_B[start : start + self.group_size]
            )
            names_B += [f"{start}/{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"] * self.group_size
        rollouts = Rollouts.build(
            self.scores_B, self.mask_BL.sum(-1), names_B, correct_threshold=settings.correct_threshold
        )
        if settings.reads_responses:
            rollouts = replace(rollouts, responses_B=self.tokens_B)
        first_G = range(0, len(self.labels_B), self.group_size)
        rows_G = [read_label(self.labels_B[first]) for first in first_G]
        if "difficulty" in settings.columns:
            values = [float(value) for value in column(rows_G, settings.columns["difficulty"], "difficulty_column")]
            rollouts = replace(rollouts, difficulty_G=torch.tensor(values, dtype=torch.float64))
        if "prompt" in settings.columns:
            names = [str(value) for value in column(rows_G, settings.columns["prompt"], "prompt_column")]
            rollouts = replace(rollouts, prompt_ids_G=tuple(names))
        elif settings.names_prompts:
            rollouts = replace(rollouts, prompt_ids_G=tuple(prompt_name(self.prompts_B[first]) for first in first_G))
        return rollouts

    def token_advantages(self, outcome: Outcome) -> Tensor:
        """(B, L) float32: each rollout's advantage on its response tokens, times their weights if it has any, 0 elsewhere."""
        weights_BL = self.mask_BL.float() if outcome.token_weights is None else outcome.token_weights(self.mask_BL)
        return weights_BL * outcome.advantages_B.float()[:, None]

    def scatter(self, values_BL: Tensor, experiences: Sequence[Any]) -> list[Tensor]:
        """Values of the response tokens (B, L) as one (E, A) tensor per experience, 0 outside of its mask."""
        by_place = torch.empty_like(values_BL)
        by_place[self.place_B] = values_BL
        scattered, start = [], 0
        for experience in experiences:
            mask_EA = experience.action_mask
            rows, width = mask_EA.shape
            first_E = mask_EA.long().argmax(1)
            values_EL = torch.nn.functional.pad(by_place[start : start + rows], (0, max(0, width - values_BL.shape[1])))
            column_EA = torch.arange(width) - first_E[:, None]
            scattered.append(values_EL.gather(1, column_EA.clamp_min(0)) * mask_EA)
            start += rows
        return scattered


def prompt_name(prompt: str) -> str:
    """A name of a prompt that is the same in every epoch and process."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _from_first_token(mask_EA: Tensor) -> tuple[Tensor, Tensor]:
    """The mask from the first token of each response on (the last columns filled with 0), and where that token is."""
    first_E = mask_EA.long().argmax(1)
    column_EA = torch.arange(mask_EA.shape[1]) + first_E[:, None]
    inside_EA = column_EA < mask_EA.shape[1]
    return mask_EA.gather(1, column_EA.clamp_max(mask_EA.shape[1] - 1)) * inside_EA, first_E
