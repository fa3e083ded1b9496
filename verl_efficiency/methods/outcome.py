"""What a method gives back."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """The advantage of every rollout and the numbers worth logging.

    Attributes:
        advantages_B: float64, 0 for padding; an adapter spreads it over the response tokens.
        metrics: scalars of this step, for example the budget in force.
    """

    advantages_B: Tensor
    metrics: dict[str, float]
