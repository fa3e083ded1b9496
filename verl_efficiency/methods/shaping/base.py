"""What the length-shaped methods share: their common settings, and the way from shaped rewards to advantages.

With scores ``s`` and shaped rewards ``r`` of the rollouts of a group::

    grpo, dr_grpo, rloo   A = group_advantage(r)
    decoupled             A = grpo(s) + length_weight · grpo of (r − s) among the correct

``decoupled`` (:func:`verl_efficiency.methods.advantages.decoupled_advantage`) keeps a correct but long rollout from
falling below the wrong ones. It reads what a method does to correct rollouts only; a term for wrong ones is left out.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from verl_efficiency.methods.advantages import decoupled_advantage, group_advantage
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, SettingsError, require


@dataclass(frozen=True)
class ShapingSettings(MethodSettings):
    """Settings of every length-shaped method.

    Attributes:
        advantage: what becomes of the shaped rewards: grpo, dr_grpo, rloo or decoupled.
        length_weight: weight of the length term in ``decoupled``.
        correct_threshold: a score of at least this is correct.
    """

    advantage: Literal["grpo", "dr_grpo", "rloo", "decoupled"] = "grpo"
    length_weight: float = 1.0
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        require(self.length_weight >= 0, "length_weight", self.length_weight, "a number of at least 0")


@dataclass(frozen=True)
class LimitedShapingSettings(ShapingSettings):
    """Settings of a method that looks at the limit on generated tokens.

    Attributes:
        advantage, length_weight, correct_threshold: see :class:`ShapingSettings`.
        max_response_length: the limit on generated tokens; in verl ``data.max_response_length`` where it is left unset.
    """

    max_response_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        limit = self.max_response_length
        require(limit is None or limit > 0, "max_response_length", limit, "a number of tokens above 0, or null")

    @property
    def limit(self) -> int:
        """``max_response_length``.

        Raises:
            SettingsError: it is not set.
        """
        if self.max_response_length is None:
            raise SettingsError(
                f"max_response_length: {type(self).__name__} needs the limit on generated tokens; "
                "set algorithm.efficiency.max_response_length to the value of data.max_response_length"
            )
        return self.max_response_length


def shaped_outcome(rollouts: Rollouts, shaped_B: Tensor, settings: ShapingSettings, **metrics: float) -> Outcome:
    """Advantages of the shaped rewards; ``metrics`` are logged beside the common ones.

    Args:
        rollouts: the batch.
        shaped_B: float64, the shaped reward of each rollout.
        settings: which advantage.
        metrics: what the method itself wants logged.
    """
    length_term_B = (shaped_B - rollouts.scores_B) * rollouts.real_B
    if settings.advantage == "decoupled":
        advantages_B = decoupled_advantage(
            "grpo", rollouts.scores_B, length_term_B, rollouts, length_weight=settings.length_weight
        )
    else:
        advantages_B = group_advantage(settings.advantage, shaped_B, rollouts)
    real = max(int(rollouts.real_B.sum()), 1)
    common = {
        "solve_rate": rollouts.correct_B.sum().item() / real,
        "length_term": length_term_B.sum().item() / real,
    }
    return Outcome(advantages_B, {**metrics, **common})
