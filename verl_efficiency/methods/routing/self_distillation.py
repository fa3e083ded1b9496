"""Self-distillation (SDPO): every rollout with a correct sibling, or with feedback, learns from its self-teacher."""

from dataclasses import dataclass

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.base import SKIP, Routes, route, route_taught, routed_outcome
from verl_efficiency.methods.teacher import DistillationSettings


@dataclass(frozen=True)
class SelfDistillationSettings(DistillationSettings):
    """Settings of ``self_distillation``: those of the teacher.

    Attributes:
        success_reward_threshold: a score of at least this is correct (0.5 as in SDPO's ``actor.yaml``; its README says 1.0).
    """

    success_reward_threshold: float = 0.5

    @property
    def correct_threshold(self) -> float:  # type: ignore[override]
        return self.success_reward_threshold


def route_all(rollouts: Rollouts, settings: SelfDistillationSettings) -> Routes:
    """Route every rollout with a demonstration or feedback to the teacher, correct ones too. Skip the others."""
    return route_taught(rollouts, settings, rollouts.real_B, SKIP)


def self_distillation(rollouts: Rollouts, settings: SelfDistillationSettings, state: None = None) -> Outcome:
    """SDPO: the model re-scores its own rollout with a correct sibling (or feedback) in the prompt, and learns from that.

    T is the set of tokens of all rollouts that have a teacher. The student p and the teacher q are distributions over the
    student's K most likely tokens and a bucket for the rest. With ``m = (1 − α) p + α q``::

        L = 1/|T| · Σ_t min(π/π_old, is_clip) · [ (1 − α) KL(p ‖ m) + α KL(q ‖ m) ]      (α = 0: KL(q ‖ p), α = 1: KL(p ‖ q))

    There is no policy gradient: all advantages are 0.

    Paper: arXiv 2601.20802; code: lasgroup/SDPO @0e6d510. That code takes the mean per micro-batch and counts rows without a
    teacher. Our T covers the whole mini-batch over all ranks, and only rows with a teacher.

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 0., 1., 0.]), torch.tensor([5, 9, 7, 4]), list("aaab"))
    >>> self_distillation(r, SelfDistillationSettings()).metrics
    {'grpo_share': 0.0, 'distil_share': 0.75, 'skip_share': 0.25}
    """
    return routed_outcome(rollouts, route(route_all, rollouts, settings), settings)
