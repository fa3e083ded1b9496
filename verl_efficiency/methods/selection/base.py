"""Shared by the methods that drop rollouts: a dropped rollout has advantage 0.

Dropping saves no computation, because dropped rollouts still pass through the update.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, group_advantage
from verl_efficiency.methods.cost import CostSettings
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import require


@dataclass(frozen=True)
class SelectionSettings(CostSettings):
    """Settings of ``gfpo`` and ``grpo_roc``.

    Attributes:
        keep: rollouts kept per group. null keeps half of the group, rounded up. Smaller groups are kept whole.
        advantage: grpo, dr_grpo, rloo or batch, computed over the kept rollouts.
        correct_threshold: a score of at least this is correct.
    """

    keep: int | None = None
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.keep is None or self.keep >= 1, "keep", self.keep, "a whole number of at least 1, or null")


def wanted(rollouts: Rollouts, keep: int | None) -> Tensor:
    """(G,) float64: number of rollouts to keep per group."""
    count_G = rollouts.count()
    return (count_G / 2).ceil() if keep is None else count_G.clamp_max(keep)


def outcome_of_kept(rollouts: Rollouts, kept_B: Tensor, advantage: AdvantageName) -> Outcome:
    """The group advantage over the kept rollouts; 0 for the others."""
    kept_B = kept_B & rollouts.real_B
    kept = replace(rollouts, real_B=kept_B, correct_B=rollouts.correct_B & kept_B)
    metrics = {
        "solve_rate": rollouts.average(rollouts.correct_B),
        "kept_solve_rate": kept.average(kept.correct_B),
        "kept": rollouts.average(kept_B),
    }
    return Outcome(group_advantage(advantage, rollouts.scores_B, kept), metrics)
