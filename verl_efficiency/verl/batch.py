"""A batch of verl's V1 trainer on the driver, read from TransferQueue and written back."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

from verl_efficiency.adapter.rollouts import Step
from verl_efficiency.verl import run
from verl_efficiency.verl.sessions import sessions_of

# TransferQueue's field behind each name in ``MethodSettings.reads``. Every one holds a tensor over all tokens of the batch.
FIELDS = {"scores": "rm_scores", "masks": "response_mask", "responses": "responses", "prompts": "prompts"}


@dataclass(frozen=True)
class Batch:
    """The rows of a batch. What :func:`read_batch` was not asked for is empty.

    Attributes:
        keys: TransferQueue's name of each row, ``{uid}_{session}_{index}``.
        uids_B: verl's name of each row's group.
        real_B: False for rows that only pad the batch.
        reward_infos: everything that the reward function returned beside the score.
        scores_B: float32, the reward.
        masks_B: 1 for a token that the policy generated, each like its response.
        responses_B: token ids, tool tokens included.
        prompts_B: the prompt as token ids.
    """

    keys: tuple[str, ...]
    uids_B: np.ndarray
    real_B: tuple[bool, ...]
    reward_infos: tuple[dict, ...]
    scores_B: Tensor = field(default_factory=lambda: torch.empty(0))
    masks_B: tuple[Tensor, ...] = ()
    responses_B: tuple[Tensor, ...] = ()
    prompts_B: tuple[Tensor, ...] = ()

    @functools.cached_property
    def lengths_B(self) -> Tensor:
        """int64, tokens that the policy generated."""
        return torch.tensor([int(mask.sum()) for mask in self.masks_B])

    @property
    def step(self) -> Step:
        """What estimators may read. Feedback is what the reward returns as ``feedback``."""
        texts = (info.get("feedback") for info in self.reward_infos)
        feedback_B = tuple(text if isinstance(text, str) and text.strip() else None for text in texts)
        return run.step(responses_B=self.responses_B or None, feedback_B=feedback_B, sessions=sessions_of(self.keys))

    def in_order_of_keys(self) -> "Batch":
        """The same rows in an order that does not depend on how verl balanced the batch over its ranks."""
        order = sorted(range(len(self.keys)), key=lambda row: _sort_key(self.keys[row]))

        def reorder(rows: Any) -> Any:
            if len(rows) == 0:
                return rows
            return rows[order] if isinstance(rows, Tensor | np.ndarray) else tuple(rows[row] for row in order)

        return Batch(**{column.name: reorder(getattr(self, column.name)) for column in fields(self)})


def _sort_key(key: str) -> tuple[str, int, int]:
    uid, session, index = key.rsplit("_", 2)
    return uid, int(session), int(index)


def read_batch(meta: KVBatchMeta, columns: Collection[str] = ()) -> Batch:
    """Read what the reward returned of each row, and the ``columns``, which are names of :data:`FIELDS`."""
    data = read(meta.keys, meta, "uid", "extra_fields", *(FIELDS[name] for name in sorted(columns)))
    real_B = tuple(not tag.get("is_padding", False) for tag in meta.tags)
    extras = [dict(extra) for extra in list(data["extra_fields"])]
    asked: dict[str, Any] = {f"{name}_B": tuple(data[FIELDS[name]].unbind()) for name in columns}
    if "scores" in columns:
        asked["scores_B"] = torch.stack([scores.sum() for scores in asked["scores_B"]])
    return Batch(
        keys=tuple(meta.keys),
        uids_B=np.array([str(uid) for uid in list(data["uid"])], dtype=object),
        real_B=real_B,
        # A padding row holds a copy of a real row's extras.
        reward_infos=tuple(
            (extra.get("reward_extra_info") or {}) if real else {} for extra, real in zip(extras, real_B, strict=True)
        ),
        **asked,
    )


def read(keys: Sequence[str], meta: KVBatchMeta, *names: str) -> TensorDict:
    """The fields ``names`` of the rows ``keys`` of the batch.

    Raises:
        KeyError: not all rows have a field, which TransferQueue then leaves out silently.
    """
    data = tq.kv_batch_get(keys=list(keys), partition_id=meta.partition_id, select_fields=list(names))
    missing = [name for name in names if name not in data]
    if missing:
        raise KeyError(f"not all {len(keys)} rows of the batch have the fields {', '.join(missing)}")
    return data


def write(keys: Sequence[str], meta: KVBatchMeta, **values: list[Tensor]) -> KVBatchMeta:
    """Write one tensor per row and field. Their first dimensions may differ, and may be 0."""
    nested = {name: nested_tensor_from_tensor_list(rows, ragged_idx=1) for name, rows in values.items()}
    return tq.kv_batch_put(
        keys=list(keys), partition_id=meta.partition_id, fields=TensorDict(nested, batch_size=len(keys))
    )
