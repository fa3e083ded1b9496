"""The running average of the actor's weights, on each rank for its own FSDP2 shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from verl_efficiency.adapter import average

_PREFIX = "teacher_world_size_"


class WeightAverage(average.WeightAverage):
    """See the base class. The average is on the same device as the weights.

    Args:
        module: the model as FSDP2 holds it; this rank's shards are averaged.
        rate: τ in [0, 1].

    Raises:
        ValueError: the weights are not float32; in half precision a small rate would be rounded away.
    """

    def __init__(self, module: torch.nn.Module, rate: float) -> None:
        self.module = module
        super().__init__({name: local.clone() for name, local in self.weights()}, rate)
        for name, weights in self.average.items():
            if weights.dtype != torch.float32:
                raise ValueError(
                    f"the teacher is an average of float32 weights, but {name} is {weights.dtype}; set actor_rollout_ref.actor."
                    "fsdp_config.model_dtype=float32, or algorithm.efficiency.teacher_regularization=none"
                )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        # With reshard_after_forward=False parameters stay gathered after a forward pass. A module reshards only its own.
        for module in self.module.modules():
            reshard = getattr(module, "reshard", None)
            if callable(reshard):
                reshard()
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                local: Any = parameter.detach()
                yield name, local.to_local() if isinstance(local, DTensor) else local

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the context, the model has the averaged weights. They are swapped tensor by tensor, without a second copy."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weights in self.weights():
            kept = weights.clone()
            weights.copy_(self.average[name])
            self.average[name].copy_(kept)

    def file(self, folder: Path) -> Path:
        distributed = torch.distributed.is_initialized()
        world, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if distributed else (1, 0)
        return folder / f"{_PREFIX}{world}_rank_{rank}.pt"

    def why_missing(self, folder: Path) -> str:
        others = sorted(folder.glob(f"{_PREFIX}*"))
        return f"{others[0].name} is from another number of ranks; resume with as many" if others else ""
