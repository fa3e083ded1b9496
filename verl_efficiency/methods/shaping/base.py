"""What the length-shaped methods share: their common settings, and the way from shaped rewards to advantages.

With scores ``s`` and shaped rewards ``r`` of the rollouts of a group::

    combine=shaped_reward   A = A(r)
    combine=decoupled       A = A(s) + length_weight · A(r − s), the second term among the correct only

where A(·) is the group advantage ``advantage`` (with verl's ``algorithm.norm_adv_by_std_in_grpo=False``, ``grpo`` is
``dr_grpo``). ``decoupled`` (:func:`verl_efficiency.methods.advantages.decoupled_advantage`) keeps a correct but long
rollout from falling below the wrong ones. It reads what a method does to correct rollouts only: wrong ones keep A(s).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, decoupled_advantage, group_advantage
from verl_efficiency.methods.cost import CostSettings
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, SettingsError, require


@dataclass(frozen=True)
class ShapingSettings(CostSettings):
    """Settings of every length-shaped method.

    Attributes:
        combine: ``shaped_reward``, the advantage of the shaped reward; or ``decoupled``, the advantage of the score plus
            that of the length term among the correct, which leaves wrong answers alone.
        length_weight: weight of the length term in ``decoupled``.
        advantage: the group advantage: grpo, dr_grpo or rloo.
        correct_threshold: a score of at least this is correct.
    """

    combine: Literal["shaped_reward", "decoupled"] = "shaped_reward"
    length_weight: float = 0.5
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        CostSettings.__post_init__(self)
        require(self.length_weight >= 0, "length_weight", self.length_weight, "a number of at least 0")


@dataclass(frozen=True)
class LimitedSettings(MethodSettings):
    """Settings of a method that looks at the limit on generated tokens.

    Attributes:
        max_response_length: the limit on generated tokens; in verl ``data.max_response_length`` where it is left unset.
    """

    max_response_length: int | None = None

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class LimitedShapingSettings(ShapingSettings, LimitedSettings):
    """Settings of a length-shaped method that looks at the limit."""

    def __post_init__(self) -> None:
        ShapingSettings.__post_init__(self)
        LimitedSettings.__post_init__(self)


def shaped_outcome(rollouts: Rollouts, shaped_B: Tensor, settings: ShapingSettings, **metrics: float) -> Outcome:
    """Advantages of the shaped rewards; ``metrics`` are logged beside the common ones.

    Args:
        rollouts: the batch.
        shaped_B: float64, the shaped reward of each rollout.
        settings: which advantage, and how the two are combined.
        metrics: what the method itself wants logged.
    """
    length_term_B = (shaped_B - rollouts.scores_B) * rollouts.real_B
    if settings.combine == "decoupled":
        advantages_B = decoupled_advantage(
            settings.advantage, rollouts.scores_B, length_term_B, rollouts, length_weight=settings.length_weight
        )
    else:
        advantages_B = group_advantage(settings.advantage, shaped_B, rollouts)
    real = max(int(rollouts.real_B.sum()), 1)
    common = {
        "solve_rate": rollouts.correct_B.sum().item() / real,
        "length_term": length_term_B.sum().item() / real,
    }
    return Outcome(advantages_B, {**metrics, **common})
