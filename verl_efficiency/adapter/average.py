"""The self-teacher's weights with ``teacher_regularization=ema``: a running average of the actor's."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from verl_efficiency.adapter.state import starts_again
from verl_efficiency.data.files import replacing
from verl_efficiency.methods.teacher import DistillationSettings


def moves(settings: DistillationSettings, step: int) -> bool:
    """Whether the average takes a step after training step ``step``."""
    return settings.teacher_regularization == "ema" and step % settings.teacher_refresh_steps == 0


class WeightAverage:
    """``average ← (1 − rate) · average + rate · weights`` of the trained parameters.

    With LoRA only the adapter is trained. The teacher is then the base model with the averaged adapter.

    Each framework has a subclass. It says where the weights are (:meth:`weights`) and which file of a checkpoint holds their
    average (:meth:`file`). It also swaps the average in for the teacher's pass, and out again.

    Args:
        average: where the average starts, by parameter name.
        rate: τ in [0, 1].
    """

    def __init__(self, average: dict[str, Tensor], rate: float) -> None:
        self.average, self.rate = average, rate

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and values of each trained parameter, as this process holds it; writing to a tensor changes the model."""
        raise NotImplementedError

    def file(self, folder: Path) -> Path:
        """Where the checkpoint in ``folder`` holds the average of this process."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self) -> None:
        """One step of the average."""
        for name, weights in self.weights():
            self.average[name].lerp_(weights.to(self.average[name]), self.rate)

    @torch.no_grad()
    def restart(self) -> None:
        """Start the average again from the weights as they are now."""
        for name, weights in self.weights():
            self.average[name].copy_(weights)

    def save(self, folder: str | Path) -> Path:
        """Write the average into a checkpoint's folder, in full or not at all. Returns the file."""
        file = self.file(Path(folder))
        with replacing(file) as beside:
            torch.save(self.average, beside)
        return file

    def load(self, folder: str | Path) -> bool:
        """Read the average from a checkpoint's folder. Returns False and changes nothing if it is to start again.

        Raises:
            SettingsError: the checkpoint has none, and the user has not allowed that; see :mod:`verl_efficiency.adapter.state`.
        """
        folder = Path(folder)
        file = self.file(folder)
        if not file.exists():
            starts_again(folder, f"average of the self-teacher ({self.why_missing(folder) or file.name})")
            return False
        saved = torch.load(file, map_location="cpu", weights_only=True)
        for name, average in self.average.items():
            average.copy_(saved[name])
        return True

    def why_missing(self, folder: Path) -> str:
        """The reason why the checkpoint in ``folder`` has no :meth:`file`, if it is known."""
        return ""
