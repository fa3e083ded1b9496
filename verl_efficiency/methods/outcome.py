"""The result of a method."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """The advantage of every rollout, and metrics to log.

    Attributes:
        advantages_B: float64, 0 for padding. An adapter copies it to the response tokens.
        metrics: scalars of this step, for example the budget of the step.
        token_weights: response mask (B, L) → factor of each token's advantage (B, L), a new float32 tensor that is 0
            outside the mask; None: all tokens of a rollout have its advantage.
    """

    advantages_B: Tensor
    metrics: dict[str, float]
    token_weights: Callable[[Tensor], Tensor] | None = None
