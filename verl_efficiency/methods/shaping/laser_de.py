"""LASER-DE: LASER-D, which also lets wrong answers explore: one that is longer than its target gets the bonus too.

With score ``s``, length ``L`` (generated tokens) and the target T of the problem's band as in ``laser_d``::

    r = s + bonus     correct and L ≤ T
    r = s + bonus     wrong, L > T, and not cut off by the limit
    r = s             otherwise

Paper: "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping", arXiv 2505.15612; code:
github.com/hkust-nlp/Laser at c9e7c4e (``verl/utils/reward_score/length_penalty.py``). There the bonus of a wrong
answer is withheld when it has no boxed answer or its text repeats itself; an estimator sees no text, so here (our
choice) when it ran into the limit, which is how most repetitions end. A wrong answer gains from being long, never
from being short. ``s`` and ``r`` are on the scale of 1 and −0.5, as in ``laser``: a long wrong answer gets the bonus and
stays below every correct one.
"""

from dataclasses import dataclass

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import paper_scores_of, shaped_outcome
from verl_efficiency.methods.shaping.laser_d import LaserDSettings, LaserDState, target_lengths, target_metrics


@dataclass(frozen=True)
class LaserDeSettings(LaserDSettings):
    """Settings of ``laser_de``: those of ``laser_d``.

    Attributes:
        bonus: what a correct answer within its target, and a wrong one beyond it, gets.
    """


@dataclass
class LaserDeState(LaserDState):
    """steps, targets, counts: see :class:`verl_efficiency.methods.shaping.laser_d.LaserDState`."""


def laser_de(rollouts: Rollouts, settings: LaserDeSettings, state: LaserDeState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated first.

    The target is 10 as in the example of ``laser_d``, and the bonus is 0.75. On a 0/1 scale the correct rollouts score 1.5. The
    wrong ones of 30, 40 (cut off) and 5 tokens score 0.5, 0 and 0:

    >>> import torch
    >>> lengths = torch.tensor([6, 10, 8, 9, 30, 40, 5])
    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 1., 0., 0., 0.]), lengths, ["a"] * 7)
    >>> s = LaserDeSettings(max_response_length=40, grid_points=4, bonus=0.75, advantage="dr_grpo")
    >>> [round(a, 4) for a in laser_de(r, s, LaserDeState()).advantages_B.tolist()]  # mean 6.5 / 7
    [0.5714, 0.5714, 0.5714, 0.5714, -0.4286, -0.9286, -0.9286]
    """
    targets_B = target_lengths(rollouts, settings, state)
    within_B = rollouts.lengths_B <= targets_B
    explores_B = ~rollouts.correct_B & ~within_B & ~rollouts.reached(settings.limit) & rollouts.real_B
    shaped_B = (
        paper_scores_of(rollouts, settings) + settings.bonus * ((rollouts.correct_B & within_B) | explores_B).double()
    )
    exploring = rollouts.average(explores_B)
    return shaped_outcome(rollouts, shaped_B, settings, exploring=exploring, **target_metrics(state))
