"""The top-K targets of a worker's rows. They stay in its own memory, since they are too large to travel.

K ids and K log-probabilities take 600 bytes per distilled token at K = 100: 25 GiB for 5,000 rollouts of 8,900 tokens. verl
gives a rank the same rows in every call of a step: it balances the batch once, before the first (``_balance_batch``), and deals
out equal parts in turn. The teacher's rows are dealt out likewise (``self_teacher.deal``). A row that a rank does not know is
an error.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.methods.teacher import DistillationSettings

ROW = "distil_row"  # int64 (1,) per row of the batch: its number on the driver
IDS, LOGPS = "distil_topk_ids", "distil_teacher_logps"
DTYPES = {"float16": torch.float16, "float32": torch.float32}


class TopkTargets:
    """What a rank keeps from the student's pass to the update. Fields in ``data`` are nested, one part per row."""

    def __init__(self) -> None:
        self.ids: dict[int, Tensor] = {}
        self.logps: dict[int, Tensor] = {}

    def note_ids(self, data: Any, output: Any) -> None:
        """Take the student's ids, (n, K) int32 per row, out of the output of its pass over ``data``."""
        self.ids = dict(zip(_rows(data), output.pop(IDS).unbind(), strict=True))

    def give_ids(self, data: Any) -> None:
        """Put the ids of the rows of the teacher's pass into ``data``."""
        data[IDS] = nested(_of(_rows(data), self.ids))

    def note_logps(self, data: Any, output: Any) -> None:
        """Take the teacher's log-probabilities, (n, K) per row, out of the output of its pass over ``data``."""
        self.logps = dict(zip(_rows(data), output.pop(LOGPS).unbind(), strict=True))

    def give(self, data: Any) -> None:
        """Put ids and log-probabilities of every row into ``data``, and keep none, so that the update has the only copy.

        Rows that the teacher did not score have 0 tokens.
        """
        rows = _rows(data)
        none = next(iter(self.logps.values()))[:0]
        data[IDS] = nested(_of(rows, self.ids))
        data[LOGPS] = nested([self.logps.get(row, none) for row in rows])
        self.ids, self.logps = {}, {}


def bytes_per_token(settings: DistillationSettings) -> int:
    """Bytes of the targets of one distilled token."""
    return settings.distillation_topk * (torch.int32.itemsize + DTYPES[settings.target_dtype].itemsize)


def _rows(data: Any) -> list[int]:
    return data[ROW].values().tolist()


def _of(rows: Sequence[int], kept: dict[int, Tensor]) -> list[Tensor]:
    if unknown := [row for row in rows if row not in kept]:
        raise RuntimeError(
            f"this rank is given {len(unknown)} rows of the batch that it has no targets for, the first is row {unknown[0]}: "
            "self-distillation needs verl to give a rank the same rows in the pass for old_log_probs and in the update"
        )
    return [kept[row] for row in rows]


def nested(rows: list[Tensor]) -> Tensor:
    """A jagged tensor with one part per row; the first dimensions may differ, and may be 0."""
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
