"""The rollouts of a step as our methods want them, and the way back into OpenRLHF's experiences.

OpenRLHF cuts a step into micro-batches (``Experience``), whose masks (E, A) are over the prompt and the response, shifted by
one. Here are all rollouts of the step, in the order in which they were generated, and their masks (B, L) from the first token
of the response on, as verl has them. Rollout k belongs to group k // n.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.data.columns import column
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.grading import opens_thinking
from verl_efficiency.methods.cost import LOOK_BACK, count_tool_tokens, count_turns, priced, thinking_counter
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.variance_routing import StoredResponses
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
        prompt_tokens_B: the token ids of each prompt.
        tokens_B: the token ids of each response, those of tools included.
        group_size: rollouts per prompt, n.
    """

    place_B: Tensor
    mask_BL: Tensor
    scores_B: Tensor
    prompts_B: tuple[str, ...]
    labels_B: tuple[str, ...]
    prompt_tokens_B: tuple[Tensor, ...]
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
        prompts, tokens = [], []
        for experience in experiences:
            mask_EA = experience.action_mask
            first_E = _first_token(mask_EA)
            last_E = torch.where(mask_EA.any(1), mask_EA.shape[1] - mask_EA.flip(1).long().argmax(1), first_E)
            for ids, first, last in zip(experience.sequences, first_E.tolist(), last_E.tolist(), strict=True):
                prompts.append(ids[: first + 1])  # masks are shifted by one
                tokens.append(ids[first + 1 : last + 1])

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
            mask_BL=_aligned([experience.action_mask for experience in experiences], experiences)[place_B],
            scores_B=torch.cat([experience.rewards for experience in experiences])[place_B],
            prompts_B=prompts_B,
            labels_B=in_order("labels"),
            prompt_tokens_B=tuple(prompts[place] for place in place_B.tolist()),
            tokens_B=tuple(tokens[place] for place in place_B.tolist()),
            group_size=group_size,
        )

    def rows(self) -> list[dict[str, Any]]:
        """The row of the data set behind each group, from its label."""
        return [read_label(self.labels_B[first]) for first in range(0, len(self.labels_B), self.group_size)]

    def rollouts(self, settings: MethodSettings, state: Any = None, tokenizer: Any = None) -> Rollouts:
        """The input of a method, with what it asks of the data set (in the labels).

        ``tokenizer`` is needed only where the method counts thinking tokens.

        A group is named by its place and its tokens: methods that draw by the name draw again in every step, and the same again
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
        added = self._columns(settings, state) | self._counts(settings, tokenizer)
        return priced(replace(rollouts, **added), settings)

    def _counts(self, settings: MethodSettings, tokenizer: Any) -> dict[str, Tensor]:
        """The counts of ``settings.parts``."""
        counts: dict[str, Tensor] = {}
        if "turns" in settings.parts:
            counts["turns_B"] = count_turns(self.mask_BL)
        if "context" in settings.parts:
            counts["context_B"] = torch.tensor([*map(len, self.prompt_tokens_B)]) + count_tool_tokens(self.mask_BL)
        if "thinking" in settings.parts:
            ends = [tokenizer.decode(prompt[-LOOK_BACK:]) for prompt in self.prompt_tokens_B]
            masks = [mask[: len(ids)] for mask, ids in zip(self.mask_BL, self.tokens_B, strict=True)]
            opened = [opens_thinking(end) for end in ends]
            counts["thinking_B"] = thinking_counter(tokenizer).count(self.tokens_B, masks, opened)
        return counts

    def _columns(self, settings: MethodSettings, state: Any) -> dict[str, Any]:
        rows_G = self.rows()
        added: dict[str, Any] = {}
        if "difficulty" in settings.columns:
            values = [float(value) for value in column(rows_G, settings.columns["difficulty"], "difficulty_column")]
            added["difficulty_G"] = torch.tensor(values, dtype=torch.float64)
        if "prompt" in settings.columns:
            names = [str(value) for value in column(rows_G, settings.columns["prompt"], "prompt_column")]
            added["prompt_ids_G"] = tuple(names)
        elif settings.names_prompts:
            added["prompt_ids_G"] = tuple(prompt_name(prompt) for prompt in self.prompts_B[:: self.group_size])
        if "reference" in settings.columns:
            path = settings.columns["reference"]
            added["references_G"] = tuple(_value(row, path) or None for row in rows_G)
        if isinstance(state, StoredResponses) and settings.names_prompts:
            known = added.get("references_G", (None,) * len(rows_G))
            added["references_G"] = state.completed(known, added["prompt_ids_G"])
        return added

    def token_advantages(self, outcome: Outcome) -> Tensor:
        """(B, L) float32: each rollout's advantage on its response tokens, times their weights if it has any, 0 elsewhere."""
        weights_BL = self.mask_BL.float() if outcome.token_weights is None else outcome.token_weights(self.mask_BL)
        return weights_BL * outcome.advantages_B.float()[:, None]

    def gather(self, values: Sequence[Tensor], experiences: Sequence[Any]) -> Tensor:
        """(B, L): values of the response tokens, from one (E, A) tensor per experience."""
        return _aligned(values, experiences)[self.place_B] * self.mask_BL

    def scatter(self, values_BL: Tensor, experiences: Sequence[Any]) -> list[Tensor]:
        """The way back from :meth:`gather`: one (E, A) tensor per experience, 0 outside of its mask."""
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


def prompt_name(prompt: str) -> str:
    """A name of a prompt that is the same in every epoch and process."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _first_token(mask_EA: Tensor) -> Tensor:
    return mask_EA.long().argmax(1)


def _aligned(values: Sequence[Tensor], experiences: Sequence[Any]) -> Tensor:
    """(rows, L): the values from the first token of each response on, 0 behind the last column."""
    parts = []
    for values_EA, experience in zip(values, experiences, strict=True):
        width = values_EA.shape[1]
        column_EA = torch.arange(width) + _first_token(experience.action_mask)[:, None]
        parts.append(values_EA.gather(1, column_EA.clamp_max(width - 1)) * (column_EA < width))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts])


def _value(row: Any, path: str) -> Any:
    for key in path.split("."):
        row = row.get(key) if isinstance(row, Mapping) else None
    return row
