"""Sample routing (SRPO): a wrong rollout with a correct sibling or feedback learns from its teacher, all others by GRPO."""

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
    """Rollout i goes to the teacher if ``z_i = (1 − c_i) · m_i`` is 1, where c_i is its correctness; else it learns by GRPO.

    m_i is 1 if another rollout of the group is correct, or if the reward gave feedback on rollout i. So all-wrong groups
    without feedback stay with GRPO (advantage 0).
    """
    return route_taught(rollouts, settings, ~rollouts.correct_B, GRPO)


def sample_routing(rollouts: Rollouts, settings: SampleRoutingSettings, state: None = None) -> Outcome:
    """SRPO: wrong rollouts with a correct sibling or feedback learn from the self-teacher token by token, the others by GRPO.

    z is 1 for rollouts routed to the teacher (:func:`route_by_sample`), T the set of all valid tokens::

        L = [ Σ over z = 0 of the clipped GRPO loss  +  Σ over z = 1 of w_t · min(π/π_old, is_clip) · JS_t ] / |T|
        w_t = exp(−β H_t) / mean over all routed tokens,   H_t the entropy of the teacher

    Both terms share one denominator, without a mixing coefficient. The GRPO advantage compares a rollout with its whole group.
    The teacher is an exponential average of the model. Its prompt holds the question and the correct sibling. Its settings are
    in ``teacher.py``.

    Paper: SRPO ("Sample Routing"), arXiv 2604.02288; full text read. Routing, fallback to GRPO, weights, denominator, β = 1 and
    the teacher's values follow the paper. The paper's "unbiased advantage normalisation" is that of Dr. GRPO, which does not
    divide by the standard deviation. Teacher and divergence come from SDPO, arXiv 2601.20802. The paper does not say which
    correct sibling to show; we take the first, as SDPO's code does. This is not the other SRPO (Self-Reset, arXiv 2605.25507).

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 0., 0., 0.]), torch.tensor([5, 9, 7, 4]), list("aaab"))
    >>> out = sample_routing(r, SampleRoutingSettings())
    >>> out.metrics
    {'grpo_share': 0.5, 'distil_share': 0.5, 'skip_share': 0.0}
    >>> [round(a, 3) for a in out.advantages_B.tolist()]
    [0.667, 0.0, 0.0, 0.0]
    """
    return routed_outcome(rollouts, route(route_by_sample, rollouts, settings), settings)
