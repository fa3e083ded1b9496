"""The running average of the actor's weights under DeepSpeed. Up to ZeRO stage 2, every rank holds every parameter whole."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from verl_efficiency.adapter import average

FILE = "verl_efficiency_teacher.pt"


class WeightAverage(average.WeightAverage):
    """See the base class. The average is in float32 on the CPU, and equal on all ranks.

    Args:
        module: the model inside DeepSpeed's engine.
        rate: τ in [0, 1].
    """

    def __init__(self, module: torch.nn.Module, rate: float) -> None:
        self.module = module
        self._kept: dict[str, Tensor] | None = None
        super().__init__({name: value.float().cpu().clone() for name, value in self.weights()}, rate)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value.detach()) for name, value in self.module.named_parameters() if value.requires_grad)

    def file(self, folder: Path) -> Path:
        return folder / FILE

    @torch.no_grad()
    def exchange(self) -> None:
        """Load the averaged weights into the model. The next call restores the model's own."""
        given, self._kept = (
            (self.average, {name: value.clone() for name, value in self.weights()})
            if self._kept is None
            else (self._kept, None)
        )
        for name, value in self.weights():
            value.copy_(given[name])
