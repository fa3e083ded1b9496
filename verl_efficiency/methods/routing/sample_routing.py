"""Sample routing (SRPO): a wrong rollout with a correct sibling learns from its teacher, everything else by GRPO."""

from dataclasses import dataclass

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.base import GRPO, Routes, route, route_taught, routed_outcome
from verl_efficiency.methods.routing.self_distillation import SelfDistillationSettings


@dataclass(frozen=True)
class SampleRoutingSettings(SelfDistillationSettings):
    """Settings of ``sample_routing``: those of ``self_distillation``, with SRPO's entropy weights."""

    entropy_beta: float = 1.0


def route_by_sample(rollouts: Rollouts, settings: SampleRoutingSettings) -> Routes:
    """``z_i = (1 − c_i) · m_i``: to the teacher if rollout i is wrong (c_i = 0) and the teacher would know more (m_i = 1).

    m_i = 1 where another rollout of its group is correct, or where the reward gave feedback on it. The rest learn by GRPO: all
    of an all-wrong group (advantage 0), and correct rollouts also when they are alone.
    """
    return route_taught(rollouts, settings, ~rollouts.correct_B, GRPO)


def sample_routing(rollouts: Rollouts, settings: SampleRoutingSettings, state: None = None) -> Outcome:
    """SRPO: failed rollouts with a correct sibling are corrected by the self-teacher token by token, the others learn by GRPO.

    With c correctness, m whether the teacher knows more than the student, ``z = (1 − c) · m`` and T all valid tokens::

        L = [ Σ over z = 0 of the clipped GRPO loss  +  Σ over z = 1 of w_t · min(π/π_old, is_clip) · JS_t ] / |T|
        w_t = exp(−β H_t) / mean over all routed tokens,   H_t the entropy of the teacher

    One denominator, no mixing coefficient. The GRPO advantage of a rollout compares it with its whole group. The teacher is the
    model itself (an exponential average), given the question and a correct sibling; see ``teacher.py`` for its settings.

    Paper: SRPO ("Sample Routing"), arXiv 2604.02288, read in its text. Routing, fall-back to GRPO, weights, denominator, β = 1
    and the teacher's numbers are as there. So is the advantage without the deviation: the paper says "unbiased advantage
    normalisation", that of Dr. GRPO. Teacher and divergence: SDPO, arXiv 2601.20802. Our choice where the paper is silent: the
    first correct sibling as demonstration (SDPO's code). Not the other SRPO (Self-Reset, arXiv 2605.25507).

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 0., 0., 0.]), torch.tensor([5, 9, 7, 4]), list("aaab"))
    >>> out = sample_routing(r, SampleRoutingSettings())
    >>> out.metrics
    {'grpo_share': 0.5, 'distil_share': 0.5, 'skip_share': 0.0}
    >>> [round(a, 3) for a in out.advantages_B.tolist()]
    [0.667, 0.0, 0.0, 0.0]
    """
    return routed_outcome(rollouts, route(route_by_sample, rollouts, settings), settings)
