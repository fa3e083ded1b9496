"""Turns the data of a step into the input of a method, and the method's outcome into advantages for every token."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.data.columns import Row, column, value_at
from verl_efficiency.grading import opens_thinking
from verl_efficiency.methods.cost import LOOK_BACK, count_tool_tokens, count_turns, priced, thinking_counter
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.settings import MethodSettings

RAW_PROMPT, PROMPT_IDS = "raw_prompt", "prompts"


@dataclass(frozen=True)
class Step:
    """What a framework knows about the rollouts of a step, besides scores, lengths and groups. None: it does not know.

    Attributes:
        where: how users of the framework write our settings, for messages: ``algorithm.efficiency``, ``--efficiency``.
        rows: a function of the rollouts and the dotted column paths to read. It returns one row of the data set per group,
            None for a group of padding. A row also has ``raw_prompt`` (text or messages) and ``prompts`` (token ids).
        mask_BL: response mask, 1 for the tokens that the policy wrote.
        responses_B: token ids of each response, those of tools included.
        feedback_B: the reward's feedback on each response in words, or None.
        thinking_B: int64, thinking tokens of each response, see :func:`count_thinking`.
    """

    where: str
    rows: Callable[[Rollouts, Sequence[str]], list[Row | None]]
    mask_BL: Tensor | None = None
    responses_B: tuple[Tensor, ...] | None = None
    feedback_B: tuple[str | None, ...] | None = None
    thinking_B: Tensor | None = None


def complete(rollouts: Rollouts, settings: MethodSettings, state: Any, step: Step) -> Rollouts:
    """Add to ``rollouts`` what the method reads besides scores and lengths. With ``settings.cost``, lengths become costs.

    Nothing is looked up that the settings do not ask for.

    Raises:
        SettingsError: a column is missing or empty in the data of the step.
    """
    device = rollouts.lengths_B.device
    added: dict[str, Any] = {}
    if settings.reads_responses:
        added["responses_B"] = step.responses_B
    if settings.reads_feedback:
        added["feedback_B"] = step.feedback_B
    if "thinking" in settings.parts and step.thinking_B is not None:
        added["thinking_B"] = step.thinking_B.to(device)
    if "turns" in settings.parts and step.mask_BL is not None:
        added["turns_B"] = count_turns(step.mask_BL)
    if "context" in settings.parts and step.mask_BL is not None:
        prompts_G = [0 if row is None else len(row[PROMPT_IDS]) for row in step.rows(rollouts, [PROMPT_IDS])]
        prompts_B = torch.tensor(prompts_G, device=device)[rollouts.groups_B]
        added["context_B"] = prompts_B + count_tool_tokens(step.mask_BL)
    return priced(replace(rollouts, **added, **_of_data_set(rollouts, settings, state, step)), settings)


def _of_data_set(rollouts: Rollouts, settings: MethodSettings, state: Any, step: Step) -> dict[str, Any]:
    """The fields of ``Rollouts`` that come from the data set and from the responses stored so far."""
    paths = dict(settings.columns)
    if settings.names_prompts:
        paths.setdefault("prompt", RAW_PROMPT)
    if not paths:
        return {}
    rows_G = step.rows(rollouts, sorted(set(paths.values())))

    def values(role: str) -> list[Any]:
        """One per group; None for padding."""
        found = iter(column([row for row in rows_G if row is not None], paths[role], f"{step.where}.{role}_column"))
        return [None if row is None else next(found) for row in rows_G]

    added: dict[str, Any] = {}
    if "difficulty" in paths:
        known = [0.5 if value is None else float(value) for value in values("difficulty")]
        added["difficulty_G"] = torch.tensor(known, dtype=torch.float64, device=rollouts.scores_B.device)
    if "prompt" in paths:
        named = paths["prompt"] != RAW_PROMPT  # the user's own column of names
        added["prompt_ids_G"] = tuple(
            ""
            if value is None
            else str(value)
            if named and isinstance(value, str | int | float)
            else prompt_name(value)
            for value in values("prompt")
        )
    if "reference" in paths:  # a prompt may have none
        path = paths["reference"]
        added["references_G"] = tuple(None if row is None else value_at(row, path) or None for row in rows_G)
    if isinstance(state, StoredResponses) and settings.names_prompts:
        references_G = added.get("references_G", (None,) * rollouts.G)
        added["references_G"] = state.completed(references_G, added["prompt_ids_G"])
    return added


def prompt_name(prompt: str | Iterable[Mapping]) -> str:
    """A name for a prompt (text or messages) that is the same in every epoch and process.

    >>> prompt_name([{"content": "1+1?", "role": "user"}]) == prompt_name([{"role": "user", "content": "1+1?"}])
    True
    """
    if not isinstance(prompt, str):
        prompt = json.dumps([[str(message["role"]), str(message["content"])] for message in prompt])
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def count_thinking(
    tokenizer: Any, prompts_B: Sequence[Tensor], responses_B: Sequence[Tensor], masks_B: Sequence[Tensor]
) -> Tensor:
    """(B,) int64: generated thinking tokens. Token ids and masks are as in :class:`Step`. A prompt may open the thinking."""
    opened_B = [opens_thinking(tokenizer.decode(prompt[-LOOK_BACK:])) for prompt in prompts_B]
    return thinking_counter(tokenizer).count(responses_B, masks_B, opened_B)


def spread(outcome: Outcome, mask_BL: Tensor, *, overwrite: bool = False) -> Tensor:
    """(B, L) float32: each rollout's advantage on its generated tokens, times the method's token weights; 0 elsewhere.

    ``overwrite``: without token weights, the result may take the place of a mask in float32.
    """
    weigh = outcome.token_weights or (lambda mask: mask.to(torch.float32, copy=not overwrite))
    return weigh(mask_BL).mul_(outcome.advantages_B.float()[:, None])
