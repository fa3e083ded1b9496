"""What a method gives back."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """The advantage of every rollout and the numbers worth logging.

    Attributes:
        advantages_B: float64, 0 for padding; an adapter spreads it over the response tokens.
        metrics: scalars of this step, for example the budget in force.
        token_weights: from a response mask (B, L) to new weights (B, L), float32 and 0 outside the mask, that the advantages
            of its tokens are multiplied by; None: a rollout's tokens all have its advantage.
    """

    advantages_B: Tensor
    metrics: dict[str, float]
    token_weights: Callable[[Tensor], Tensor] | None = None
