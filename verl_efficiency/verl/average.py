"""The exponential average of the actor's weights, on each rank for its own shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


class WeightAverage:
    """``average ← (1 − rate) · average + rate · weights`` of the parameters that are trained, exchangeable with them.

    With LoRA only the adapter is trained, so the teacher is the base model with the averaged adapter.

    Args:
        module: the model as FSDP2 holds it; what is averaged are this rank's shards.
        rate: τ in [0, 1].

    Raises:
        ValueError: the weights are not float32, in which a small rate would be rounded away.
    """

    def __init__(self, module: torch.nn.Module, rate: float) -> None:
        self.module, self.rate = module, rate
        self.average = {name: local.clone() for name, local in self._locals()}
        for name, weights in self.average.items():
            if weights.dtype != torch.float32:
                raise ValueError(
                    f"the teacher is an average of float32 weights, but {name} is {weights.dtype}; set actor_rollout_ref.actor."
                    "fsdp_config.model_dtype=float32, or algorithm.efficiency.teacher_regularization=none"
                )

    def _locals(self) -> Iterator[tuple[str, Tensor]]:
        """Name and local shard of each trained parameter."""
        # After a forward pass with reshard_after_forward=False the parameters are whole; an FSDP module reshards its own only.
        for module in self.module.modules():
            reshard = getattr(module, "reshard", None)
            if callable(reshard):
                reshard()
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                local: Any = parameter.detach()
                yield name, local.to_local() if isinstance(local, DTensor) else local

    @torch.no_grad()
    def update(self) -> None:
        """One step of the average."""
        for name, weights in self._locals():
            average = self.average[name]
            average.lerp_(weights.to(average.device), self.rate)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the averaged weights. The two are exchanged tensor by tensor: no second copy of the model."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weights in self._locals():
            average = self.average[name]
            kept = weights.clone()
            weights.copy_(average)
            average.copy_(kept)

    def save(self, folder: str) -> None:
        """Write this rank's part beside verl's checkpoint of the actor."""
        torch.save(self.average, _file(folder))

    def load(self, folder: str) -> bool:
        """Read it back; False if the checkpoint holds none.

        Raises:
            ValueError: it was written by another number of ranks, so that the shards are others.
        """
        file = _file(folder)
        if file.exists():
            saved = torch.load(file, map_location="cpu", weights_only=True)
            for name, average in self.average.items():
                average.copy_(saved[name])
            return True
        others = sorted(Path(folder).glob(f"{_PREFIX}*"))
        if others:
            raise ValueError(
                f"{folder} holds the teacher of another number of ranks ({others[0].name}); resume with as many, or delete "
                f"{_PREFIX}*.pt there to start the teacher from the actor"
            )
        return False

    @torch.no_grad()
    def restart(self) -> None:
        """The average is what the weights are now."""
        for name, weights in self._locals():
            self.average[name].copy_(weights)


_PREFIX = "teacher_world_size_"


def _file(folder: str) -> Path:
    distributed = torch.distributed.is_initialized()
    world, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if distributed else (1, 0)
    return Path(folder) / f"{_PREFIX}{world}_rank_{rank}.pt"
