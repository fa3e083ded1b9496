"""LASER-DE: a correct answer gets the bonus of LASER-D within the target of its problem, a wrong one beyond it.

With score ``s``, length ``L`` (generated tokens) and the target T of the problem's band as in ``laser_d``::

    r = s + bonus     correct and L ≤ T
    r = s + bonus     wrong, L > T, and not truncated
    r = s             otherwise

Paper: "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping", arXiv 2505.15612; code:
github.com/hkust-nlp/Laser at c9e7c4e (``verl/utils/reward_score/length_penalty.py``). There a wrong answer gets no bonus if it
has no boxed answer or its text repeats itself. An estimator sees no text, so here it gets none if it is truncated, as most
repetitions are (our choice). A wrong answer gains from being long, never from being short. ``s`` and ``r`` are on the scale of
1 and −0.5, as in ``laser``: a wrong answer with the bonus stays below every correct one.
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
        bonus: added to the score of a correct answer within its target and of a wrong one beyond it.
    """


@dataclass
class LaserDeState(LaserDState):
    """steps, targets, counts: see :class:`verl_efficiency.methods.shaping.laser_d.LaserDState`."""


def laser_de(rollouts: Rollouts, settings: LaserDeSettings, state: LaserDeState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated first.

    The target is 10 as in the example of ``laser_d``, and the bonus is 0.75. On a 0/1 scale the correct rollouts score 1.5, and
    the wrong ones of 30, 40 (truncated) and 5 tokens score 0.5, 0 and 0:

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
