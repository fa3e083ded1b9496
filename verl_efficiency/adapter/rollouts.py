"""Turns the data of a step into the input of a method, and the method's outcome into advantages for every token."""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verl_efficiency.data.columns import Row, column, value_at
from verl_efficiency.grading import opens_thinking
from verl_efficiency.methods.cost import LOOK_BACK, count_tool_tokens, count_turns, priced, thinking_counter
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.settings import MethodSettings

RAW_PROMPT = "raw_prompt"


@dataclass(frozen=True)
class Sessions:
    """The sessions of a batch in which an agent loop returned several outputs per session.

    A rollout is a session. Its length is the sum over its outputs, its score is that of the last one, and each output gets the
    session's advantage. The framework's batch has R rows, one per output; the method sees B sessions.

    Attributes:
        session_R: int64 in [0, B), the session of each row.
        order_R: int64, the rows by session, and in a session from its first output to its last.
        last_B: int64, the row of the last output of each session.
    """

    session_R: Tensor
    order_R: Tensor
    last_B: Tensor

    @classmethod
    def of(cls, names_R: Sequence[Hashable], outputs_R: Sequence[int]) -> "Sessions | None":
        """Number the sessions in order of first appearance. None if each has one output.

        Args:
            names_R: the session of each row.
            outputs_R: the number of the output in its session.

        >>> Sessions.of(["x", "y", "x"], [1, 0, 0])
        Sessions(session_R=tensor([0, 1, 0]), order_R=tensor([2, 0, 1]), last_B=tensor([0, 1]))
        """
        number = {name: session for session, name in enumerate(dict.fromkeys(names_R))}
        if len(number) == len(names_R):
            return None
        session_R = torch.tensor([number[name] for name in names_R])
        by_output = torch.tensor(outputs_R).argsort(stable=True)
        order_R = by_output[session_R[by_output].argsort(stable=True)]
        ends_B = torch.bincount(session_R).cumsum(0) - 1
        return cls(session_R, order_R, order_R[ends_B])

    def total(self, values_R: Tensor) -> Tensor:
        """(B,): the sum over the outputs of each session."""
        session_R = self.session_R.to(values_R.device)
        return values_R.new_zeros(len(self.last_B)).index_add_(0, session_R, values_R)

    def joined(self, rows_R: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Per session, the tensors of its outputs one after the other."""
        rows = [rows_R[row] for row in self.order_R.tolist()]
        ends = torch.bincount(self.session_R).cumsum(0).tolist()
        return tuple(torch.cat(rows[start:end]) for start, end in zip([0, *ends], ends, strict=False))

    def weights(self, weigh: Callable[[Tensor], Tensor], mask_RL: Tensor) -> Tensor:
        """(R, L): the token weights of a method, which sees the mask of a session as the masks of its outputs in a row."""
        columns = mask_RL.shape[1]
        outputs_B = torch.bincount(self.session_R)
        place_R = torch.empty_like(self.order_R)
        starts_B = outputs_B.cumsum(0) - outputs_B
        place_R[self.order_R] = torch.arange(len(place_R)) - starts_B[self.session_R[self.order_R]]
        index = (self.session_R.to(mask_RL.device), place_R.to(mask_RL.device))
        masks = mask_RL.new_zeros((len(outputs_B), int(outputs_B.max()), columns))
        masks[index] = mask_RL
        return weigh(masks.flatten(1)).view(masks.shape)[index]


@dataclass(frozen=True)
class Step:
    """What a framework knows about the rollouts of a step, besides scores, lengths and groups. None: it does not know.

    With ``sessions``, the other fields have one entry per row of the framework's batch, not per rollout.

    Attributes:
        where: how users of the framework write our settings, for messages: ``algorithm.efficiency``, ``--efficiency``.
        rows: a function of the rollouts and the dotted column paths to read. It returns one row of the data set per group,
            None for a group of padding. A row also has ``raw_prompt`` (text or messages).
        mask_BL: response mask, 1 for the tokens that the policy wrote.
        responses_B: token ids of each response, those of tools included.
        feedback_B: the reward's feedback on each response in words, or None.
        thinking_B: int64, thinking tokens of each response, see :func:`count_thinking`.
        sessions: which rows are outputs of one session; None: each row is a rollout.
        prompt_tokens: a function that returns the number of prompt tokens of each response, (B,) int64.
    """

    where: str
    rows: Callable[[Rollouts, Sequence[str]], list[Row | None]]
    mask_BL: Tensor | None = None
    responses_B: tuple[Tensor, ...] | None = None
    feedback_B: tuple[str | None, ...] | None = None
    thinking_B: Tensor | None = None
    sessions: Sessions | None = None
    prompt_tokens: Callable[[], Tensor] | None = None


def build_rollouts(
    scores_R: Tensor,
    lengths_R: Tensor,
    labels_R: Sequence | np.ndarray,
    settings: MethodSettings,
    sessions: Sessions | None = None,
    real_R: Tensor | None = None,
) -> Rollouts:
    """:meth:`Rollouts.build` from the rows of a framework's batch, one rollout per session.

    Raises:
        RuntimeError: a session has several outputs, and the method takes one.
    """
    threshold = settings.correct_threshold
    if sessions is None:
        return Rollouts.build(scores_R, lengths_R, labels_R, correct_threshold=threshold, real_B=real_R)
    if settings.single_output:
        raise RuntimeError(f"an agent loop returned several outputs for one session, but {settings.single_output}")
    last_B = sessions.last_B
    labels_B = [labels_R[row] for row in last_B.tolist()]
    real_B = None if real_R is None else real_R[last_B]
    lengths_B = sessions.total(lengths_R)
    rollouts = Rollouts.build(scores_R[last_B], lengths_B, labels_B, correct_threshold=threshold, real_B=real_B)
    return replace(rollouts, final_B=lengths_R[last_B])


def complete(rollouts: Rollouts, settings: MethodSettings, state: Any, step: Step) -> Rollouts:
    """Add to ``rollouts`` what the method reads besides scores and lengths. With ``settings.cost``, lengths become costs.

    Nothing is looked up that the settings do not ask for.

    Raises:
        SettingsError: a column is missing or empty in the data of the step.
    """
    device = rollouts.lengths_B.device
    sessions = step.sessions
    total = sessions.total if sessions else lambda counts_B: counts_B
    added: dict[str, Any] = {}
    if settings.reads_responses and step.responses_B is not None:
        added["responses_B"] = sessions.joined(step.responses_B) if sessions else step.responses_B
    if settings.reads_feedback and step.feedback_B is not None:
        last = sessions.last_B.tolist() if sessions else range(len(step.feedback_B))
        added["feedback_B"] = tuple(step.feedback_B[row] for row in last)
    if "thinking" in settings.parts and step.thinking_B is not None:
        added["thinking_B"] = total(step.thinking_B.to(device))
    if "turns" in settings.parts and step.mask_BL is not None:
        added["turns_B"] = total(count_turns(step.mask_BL))
    if "context" in settings.parts and step.mask_BL is not None and step.prompt_tokens is not None:
        added["context_B"] = total(step.prompt_tokens().to(device) + count_tool_tokens(step.mask_BL))
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


def spread(outcome: Outcome, mask_BL: Tensor, sessions: Sessions | None = None, *, overwrite: bool = False) -> Tensor:
    """(B, L) float32: each rollout's advantage on its generated tokens, times the method's token weights; 0 elsewhere.

    With ``sessions``, the mask and the result have one row per output, (R, L).
    ``overwrite``: without token weights, the result may take the place of a mask in float32.
    """
    weigh = outcome.token_weights or (lambda mask: mask.to(torch.float32, copy=not overwrite))
    advantages_B = outcome.advantages_B.float()
    if sessions is None:
        return weigh(mask_BL).mul_(advantages_B[:, None])
    weights_RL = sessions.weights(weigh, mask_BL) if outcome.token_weights else weigh(mask_BL)
    return weights_RL.mul_(advantages_B[sessions.session_R][:, None])
