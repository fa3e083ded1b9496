"""Where verl has what a method reads beyond scores, lengths and groups: TransferQueue, the mask, and our trainer's step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_efficiency.data.columns import Row, has_key
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.verl.run import Step


@dataclass(frozen=True)
class Columns:
    """A :class:`~verl_efficiency.adapter.rollouts.Source`.

    Attributes:
        step: what our trainer handed over; None under another trainer.
        mask_BL: the response mask; None for a method that counts neither turns nor context.
    """

    step: Step | None
    mask_BL: Tensor | None = None
    where: str = "algorithm.efficiency"

    def rows(self, rollouts: Rollouts, paths: Sequence[str]) -> list[Row | None]:
        """Per group, one row with these columns; None for padding.

        Raises:
            RuntimeError: TransferQueue has no rollout of a group.
            KeyError: a row lacks a column.
        """
        real_G = (rollouts.count() > 0).tolist()
        labels = [label for label, real in zip(rollouts.labels_G, real_G, strict=True) if real]
        rows = _rows_of_step(labels, sorted({path.partition(".")[0] for path in paths}))
        for path in paths:
            if not all(has_key(row, path) for row in rows):
                raise KeyError(f"a training row has no column {path!r}")
        left = iter(rows)
        return [next(left) if real else None for real in real_G]

    def mask(self) -> Tensor:
        assert self.mask_BL is not None
        return self.mask_BL

    def prompt_tokens(self, rollouts: Rollouts) -> Tensor:
        lengths_G = [0 if row is None else len(row["prompts"]) for row in self.rows(rollouts, ["prompts"])]
        return torch.tensor(lengths_G, device=rollouts.groups_B.device)[rollouts.groups_B]

    def thinking(self) -> Tensor:
        thinking_B = self._step.thinking_B
        assert thinking_B is not None  # our trainer counts where the method asks for it
        return thinking_B

    def responses(self) -> tuple[Tensor, ...]:
        return self._step.responses_B

    def feedback(self) -> tuple[str | None, ...]:
        return self._step.feedback_B

    @property
    def _step(self) -> Step:
        if self.step is None:
            raise RuntimeError("this method needs trainer.v1.trainer_mode=efficiency_sync")
        return self.step


def _rows_of_step(uids: list[str], columns: list[str]) -> list[Row]:
    """One row of ``columns`` per uid. TransferQueue's keys are ``{uid}_{session}_{index}``, see ``Batch.keys``."""
    import transfer_queue as tq

    first: dict[str, str] = {}
    for key in tq.kv_list("train")["train"]:
        uid, *session = key.rsplit("_", 2)
        if session:
            first.setdefault(uid, key)
    missing = [uid for uid in uids if uid not in first]
    if missing:
        raise RuntimeError(
            f"TransferQueue holds no rollout of {len(missing)} groups of this step, the first is {missing[0]}"
        )
    data = tq.kv_batch_get(keys=[first[uid] for uid in uids], partition_id="train", select_fields=columns)
    lists = {column: list(data[column]) for column in columns}
    return [{column: lists[column][row] for column in columns} for row in range(len(uids))]
