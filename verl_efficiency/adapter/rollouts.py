"""From the data of a step to the input of a method, and from its outcome to advantages for every token."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from verl_efficiency.data.columns import Row, column, value_at
from verl_efficiency.grading import opens_thinking
from verl_efficiency.methods.cost import LOOK_BACK, count_tool_tokens, count_turns, priced, thinking_counter
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.settings import MethodSettings

RAW_PROMPT = "raw_prompt"  # the column that names a prompt where the user names none: its text, or its messages


class Source(Protocol):
    """Where a framework has what a method may read beyond scores, lengths and groups.

    :func:`complete` calls only what the settings of the method ask for. A framework that cannot answer raises an error that
    says which setting to change.
    """

    @property
    def where(self) -> str:
        """How users of the framework write our settings, for messages: ``algorithm.efficiency``, ``--efficiency``."""

    def rows(self, rollouts: Rollouts, paths: Sequence[str]) -> list[Row | None]:
        """Per group, the row of the data set with these columns (:data:`RAW_PROMPT` may be one); None for padding."""

    def mask(self) -> Tensor:
        """(B, L): 1 for the tokens that the policy wrote."""

    def prompt_tokens(self, rollouts: Rollouts) -> Tensor:
        """(B,) int64: tokens of each prompt."""

    def thinking(self) -> Tensor:
        """(B,) int64: thinking tokens of each response, see :func:`count_thinking`."""

    def responses(self) -> tuple[Tensor, ...]:
        """Token ids of each response, those of tools included."""

    def feedback(self) -> tuple[str | None, ...] | None:
        """What the reward said of each response in words; None where the framework carries no words."""


def complete(rollouts: Rollouts, settings: MethodSettings, state: Any, source: Source) -> Rollouts:
    """``rollouts`` with what the method reads beyond scores and lengths; lengths become costs where ``settings.cost`` says so.

    Raises:
        SettingsError: a column is missing or empty in the data of the step.
    """
    added: dict[str, Any] = {}
    if settings.reads_responses:
        added["responses_B"] = source.responses()
    if settings.reads_feedback:
        added["feedback_B"] = source.feedback()
    if "thinking" in settings.parts:
        added["thinking_B"] = source.thinking().to(rollouts.lengths_B.device)
    if "turns" in settings.parts:
        added["turns_B"] = count_turns(source.mask())
    if "context" in settings.parts:
        read_B = count_tool_tokens(source.mask())
        added["context_B"] = source.prompt_tokens(rollouts).to(read_B.device) + read_B
    return priced(replace(rollouts, **added, **_of_data_set(rollouts, settings, state, source)), settings)


def _of_data_set(rollouts: Rollouts, settings: MethodSettings, state: Any, source: Source) -> dict[str, Any]:
    """What the data set, and the responses stored so far, say of each prompt."""
    paths = dict(settings.columns)
    if settings.names_prompts:
        paths.setdefault("prompt", RAW_PROMPT)
    if not paths:
        return {}
    rows_G = source.rows(rollouts, sorted(set(paths.values())))

    def values(role: str, of_padding: Any) -> list[Any]:
        given = [row for row in rows_G if row is not None]
        found = iter(column(given, paths[role], f"{source.where}.{role}_column"))
        return [of_padding if row is None else next(found) for row in rows_G]

    added: dict[str, Any] = {}
    if "difficulty" in paths:
        difficulty = [float(value) for value in values("difficulty", 0.5)]
        added["difficulty_G"] = torch.tensor(difficulty, dtype=torch.float64, device=rollouts.scores_B.device)
    if "prompt" in paths:
        prompts_G = values("prompt", None)
        as_it_is = paths["prompt"] != RAW_PROMPT  # the user's own column of names
        added["prompt_ids_G"] = tuple(
            ""
            if value is None
            else str(value)
            if as_it_is and isinstance(value, str | int | float)
            else prompt_name(value)
            for value in prompts_G
        )
    if "reference" in paths:  # a prompt may have none
        path = paths["reference"]
        added["references_G"] = tuple(None if row is None else value_at(row, path) or None for row in rows_G)
    if isinstance(state, StoredResponses) and settings.names_prompts:
        known = added.get("references_G", (None,) * rollouts.G)
        added["references_G"] = state.completed(known, added["prompt_ids_G"])
    return added


def prompt_name(prompt: str | Iterable[Mapping]) -> str:
    """A name of a prompt, its text or its messages, that is the same in every epoch and process.

    >>> prompt_name([{"content": "1+1?", "role": "user"}]) == prompt_name([{"role": "user", "content": "1+1?"}])
    True
    """
    if not isinstance(prompt, str):
        prompt = json.dumps([[str(message["role"]), str(message["content"])] for message in prompt])
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def count_thinking(
    tokenizer: Any, prompts_B: Sequence[Tensor], responses_B: Sequence[Tensor], masks_B: Sequence[Tensor]
) -> Tensor:
    """(B,) int64: thinking tokens of each response; the end of its prompt says whether the thinking is open already.

    Args:
        tokenizer: any tokenizer of transformers.
        prompts_B: token ids.
        responses_B: token ids, those of tools included.
        masks_B: 1 for the tokens that the policy wrote, each like its response.
    """
    opened_B = [opens_thinking(tokenizer.decode(prompt[-LOOK_BACK:])) for prompt in prompts_B]
    return thinking_counter(tokenizer).count(responses_B, masks_B, opened_B)


def spread(outcome: Outcome, mask_BL: Tensor) -> Tensor:
    """(B, L) float32: a rollout's advantage on each of its tokens, times the token's weight where the method gives weights.

    It is 0 outside ``mask_BL``, the tokens that the policy wrote.
    """
    weigh = outcome.token_weights or (lambda mask: mask.to(torch.float32, copy=True))
    return weigh(mask_BL).mul_(outcome.advantages_B.float()[:, None])
