"""A torch data set that packs its problems again in every epoch and resumes exactly."""

import hashlib
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from verl_efficiency.data.columns import Row
from verl_efficiency.data.packing import packed_row, plan
from verl_efficiency.data.problems import read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.settings import SettingsError


class RepackedRows(Dataset):
    """Rows of N problems. ``(seed, epoch)`` determines the packs of an epoch; every epoch has the same number of packs.

    No one tells a data set when an epoch begins. A loader with automatic batching asks for each batch by ``__getitems__``, so
    rows are counted there. An epoch ends when the next batch is longer than the rest of the epoch, which is right with and
    without ``drop_last``. ``rows[k]`` does not count. Use 0 loader workers: each would count only a part. ``state_dict`` holds
    epoch and count; torchdata's ``StatefulDataLoader`` saves it with the sampler's state.

    Args:
        rows: single problems in verl's format.
        settings: how to pack.
        seed: at least 0.

    Raises:
        SettingsError: see ``pack_rows``; or a saved state of other problems, settings or another seed.
    """

    def __init__(self, rows: Sequence[Row], settings: PackingSettings, seed: int):
        self.settings = settings
        self.seed = seed
        self._problem_set = read_problems(rows, settings)
        self._fingerprint = hashlib.sha256(repr((self._problem_set, settings, seed)).encode()).hexdigest()
        self._begin(epoch=0, served=0)

    def _begin(self, epoch: int, served: int) -> None:
        self.epoch = epoch
        self._served = served
        self._packs = plan(self._problem_set, self.settings, [self.seed, epoch])

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return packed_row(self._problem_set, self._packs[number], number, self.settings)

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        self.count_batch(len(numbers))
        return [self[number] for number in numbers]

    def count_batch(self, size: int) -> None:
        """Count a batch of ``size`` rows; begin the next epoch first if the batch does not fit into this one."""
        if self._served + size > len(self):
            self._begin(epoch=self.epoch + 1, served=0)
        self._served += size

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "served": self._served, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self._fingerprint:
            raise SettingsError(
                "the checkpoint belongs to other problems, packing settings or another seed, so its packs cannot be resumed; "
                "restore them, or start without the checkpoint's data.pt"
            )
        self._begin(epoch=state["epoch"], served=state["served"])
