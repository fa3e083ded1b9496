"""Truncation: the two parts of DLER that verl lacks, a smaller reward for truncated answers and a boost for correct ones.

With score ``s`` and length ``L`` (generated tokens)::

    r = truncated_factor · s      truncated: L ≥ max_response_length
    r = truncated_value           truncated, if that is set
    r = s                         otherwise
    A = group advantage of r  +  correct_boost where s ≥ 1

Paper: "DLER: Doing Length pEnalty Right", arXiv 2510.15110; code: github.com/NVlabs/DLER at ea7d4f7,
``verl-dler/verl/workers/reward_manager/dapo.py`` and ``…/actor/dp_actor.py``. Factor and boost are 0.1 as in its
``verl-dler/dler_slurm.sh``. The boost depends on the score before the factor, as there: a correct answer that is truncated gets
it too. The rest of DLER is settings of verl: a short ``data.max_response_length``, ``clip_ratio_high=0.28`` and
``filter_groups``. (OpenRLHF has the factor: ProRL's "stop properly".)

DLER normalises over the tokens of the batch, as verl's reinforce_plus_plus_baseline does. That is ``advantage=batch``, which
the recipe sets. The default is ``dr_grpo``, the nearest advantage that needs one group only.

Our choices: the length says whether an answer is truncated. A negative score is not multiplied, since a smaller penalty would
reward truncation.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.advantages import AdvantageName
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import LimitedShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class TruncationSettings(LimitedShapingSettings):
    """Settings of ``truncation``.

    Attributes:
        truncated_factor: in [0, 1], the share of its score that a truncated answer keeps.
        truncated_value: the reward of a truncated answer; null: use the factor.
        correct_boost: added to the advantage of an answer whose score is at least 1, truncated or not.
    """

    advantage: AdvantageName = "dr_grpo"
    truncated_factor: float = 0.1
    truncated_value: float | None = None
    correct_boost: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.truncated_factor <= 1, "truncated_factor", self.truncated_factor, "in [0, 1]")
        require_at_least_0(self, "correct_boost")


def truncation(rollouts: Rollouts, settings: TruncationSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. The second rollout is truncated: rewards 1, 0.1, 0 (mean 0.3667). Correct answers get 0.1 on
    top:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([30, 50, 20]), ["a", "a", "a"])
    >>> s = TruncationSettings(max_response_length=50)
    >>> [round(a, 4) for a in truncation(r, s).advantages_B.tolist()]
    [0.7333, -0.1667, -0.3667]
    """
    scores_B, cut_B = paper_scores_of(rollouts, settings), rollouts.reached(settings.limit)
    kept_B = torch.where(scores_B > 0, settings.truncated_factor * scores_B, scores_B)
    if settings.truncated_value is not None:
        kept_B = torch.full_like(scores_B, settings.truncated_value)
    shaped_B = torch.where(cut_B, kept_B, scores_B)
    truncated = rollouts.average(cut_B)
    boost_B = settings.correct_boost * ((scores_B >= 1 - 1e-5) & rollouts.real_B).double()
    return shaped_outcome(
        rollouts, shaped_B, settings, lambda advantages_B: advantages_B + boost_B, truncated=truncated
    )
