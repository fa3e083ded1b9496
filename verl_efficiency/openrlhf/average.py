"""The running average of the actor's weights under DeepSpeed. Up to ZeRO stage 2, every rank holds every parameter whole."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from verl_efficiency.adapter import average
from verl_efficiency.adapter.state import starts_again

PREFIX = "verl_efficiency_teacher"


class WeightAverage(average.WeightAverage):
    """See the base class. Each rank keeps the average of its share of the parameters, in float32 on the CPU.

    Args:
        module: the model inside DeepSpeed's engine.
        rate: τ in [0, 1].
        group: the ranks that hold the same parameters (data parallel); None: all ranks.
    """

    def __init__(self, module: torch.nn.Module, rate: float, group: Any = None) -> None:
        self.module, self.group = module, group
        distributed = dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(group), dist.get_world_size(group)) if distributed else (0, 1)
        self.owner_of = owners({name: value.numel() for name, value in self._trained()}, self.ranks)
        self._kept: dict[str, Tensor] = {}
        super().__init__({name: value.float().cpu().clone() for name, value in self.weights()}, rate)

    def _trained(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value.detach()) for name, value in self.module.named_parameters() if value.requires_grad)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self._trained() if self.owner_of[name] == self.rank)

    def file(self, folder: Path) -> Path:
        return folder / f"{PREFIX}_{self.rank}_of_{self.ranks}.pt"

    def save(self, folder: str | Path) -> Path:
        """See the base class. Removes what a run with another number of ranks left in the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob(f"{PREFIX}*.pt") if self.rank == 0 else ():
            if not file.stem.endswith(f"_of_{self.ranks}"):
                file.unlink()
        return super().save(folder)

    def load(self, folder: str | Path) -> bool:
        """See the base class. The number of ranks may have changed, since each file holds whole parameters."""
        folder, own = Path(folder), self.file(Path(folder))
        found: dict[str, Tensor] = {}
        for file in sorted(folder.glob(f"{PREFIX}*.pt"), key=lambda file: file != own):  # which mostly has all of them
            if not self.average.keys() <= found.keys():
                found = torch.load(file, map_location="cpu", weights_only=True, mmap=True) | found
        if missing := self.average.keys() - found.keys():
            reason = f"no file holds {min(missing)}" if found else own.name
            starts_again(folder, f"average of the self-teacher ({reason})")
            return False
        for name, value in self.average.items():
            value.copy_(found[name])
        return True

    @torch.no_grad()
    def exchange(self) -> None:
        """Load the averaged weights into the model, on every rank. The next call restores the model's own.

        The owner of a parameter sends it to the other ranks, so every rank must call this.
        """
        given = self._kept or self.average
        kept = {} if self._kept else {name: value.clone() for name, value in self.weights()}
        for name, value in self._trained():
            owner = self.owner_of[name]
            if owner == self.rank:
                value.copy_(given[name])
            if self.ranks > 1:
                source = owner if self.group is None else dist.get_global_rank(self.group, owner)
                dist.broadcast(value, source, self.group)
        self._kept = kept


def owners(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """The rank that keeps each parameter: the largest first, each to the rank with the fewest numbers so far.

    >>> owners({"embedding": 8, "up": 5, "down": 5, "norm": 1}, ranks=2)
    {'embedding': 0, 'up': 1, 'down': 1, 'norm': 0}
    """
    load, owner_of = [0] * ranks, {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owner_of[name] = load.index(min(load))
        load[owner_of[name]] += sizes[name]
    return {name: owner_of[name] for name in sizes}
