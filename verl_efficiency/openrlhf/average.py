"""The exponential average of the actor's weights: the self-teacher with ``teacher_regularization=ema``."""

from pathlib import Path

import torch

FILE = "verl_efficiency_teacher.pt"


class WeightAverage:
    """``average ← (1 − rate) · average + rate · weights`` of the parameters that are trained, in float32 on the CPU.

    DeepSpeed's stages up to 2 hold every parameter whole on every rank, so the averages of all ranks are the same.

    Args:
        module: the model inside DeepSpeed's engine.
        rate: τ in [0, 1].
    """

    def __init__(self, module: torch.nn.Module, rate: float) -> None:
        self.weights = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.rate = rate
        self.average = {name: value.detach().float().cpu().clone() for name, value in self.weights.items()}
        self._kept: dict[str, torch.Tensor] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """One step of the average."""
        for name, value in self.weights.items():
            self.average[name].lerp_(value.detach().float().cpu(), self.rate)

    @torch.no_grad()
    def exchange(self) -> None:
        """Give the model the averaged weights; the second call gives it its own back."""
        if self._kept is None:
            self._kept = {name: value.detach().clone() for name, value in self.weights.items()}
            given = self.average
        else:
            given, self._kept = self._kept, None
        for name, value in self.weights.items():
            value.copy_(given[name])

    def save(self, folder: str | Path) -> None:
        """Write the average into a checkpoint's folder."""
        torch.save(self.average, Path(folder) / FILE)

    def load(self, folder: str | Path) -> bool:
        """Read it back; False if the checkpoint has none: the average is then what the weights are now."""
        file = Path(folder) / FILE
        if file.exists():
            self.average = torch.load(file, map_location="cpu", weights_only=True)
        return file.exists()
