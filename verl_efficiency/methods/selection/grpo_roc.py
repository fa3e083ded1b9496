"""GRPO-RoC: learn from the shortest correct rollouts of a group and from wrong ones of any length, in proportion."""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection.base import SelectionSettings, outcome_of_kept, wanted
from verl_efficiency.settings import require


@dataclass(frozen=True)
class GrpoRocSettings(SelectionSettings):
    """Settings of ``grpo_roc``.

    Attributes:
        min_correct, min_wrong: minimum number of correct and wrong rollouts to keep, if the group has that many.
    """

    min_correct: int = 2
    min_wrong: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("min_correct", "min_wrong"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a whole number of at least 0")
        least = self.min_correct + self.min_wrong
        require(
            self.keep is None or self.keep >= least, "keep", self.keep, f"at least min_correct + min_wrong = {least}"
        )


def grpo_roc(rollouts: Rollouts, settings: GrpoRocSettings, state: None = None) -> Outcome:
    """GRPO-RoC (resampling on correct): the group advantage over k rollouts, correct and wrong in proportion, 0 for the others.

    A group of n has c correct and w wrong rollouts. The method keeps ``round(k · c / n)`` correct and ``round(k · w / n)``
    wrong ones. It raises a number below ``min_correct`` or ``min_wrong`` to that minimum, if the group has that many, and
    lowers the other. It keeps the best correct rollouts, and the first wrong ones whatever their quality, so that every kind
    of failure can remain.

    Paper: "rStar2-Agent: Agentic Reasoning Technical Report", arXiv 2508.20722. Code: github.com/microsoft/rStar at ecbfb94
    (``rstar2_agent/down_sample/roc.py``), which keeps 16 of 32, at least 2 and 2. There "best" means few tool errors and clean
    answer tags. An estimator sees no text, so here "best" means short (our choice). A group of at most k is kept whole (our
    choice; their code drops smaller groups).

    Returns advantages (B,) float64. Three of four are correct, so the proportion at k = 2 would be 2 + 0. ``min_wrong=1`` makes
    it one correct and one wrong:

    >>> r = Rollouts.build(torch.tensor([1., 1., 1., 0.]), torch.tensor([20, 10, 30, 40]), ["a"] * 4)
    >>> s = GrpoRocSettings(advantage="dr_grpo", min_correct=1, min_wrong=1)
    >>> grpo_roc(r, s).advantages_B.tolist()
    [0.0, 0.5, 0.0, -0.5]
    """
    correct_B, count_G = rollouts.correct_B, rollouts.count()
    right_G, wrong_G, wanted_G = rollouts.count(correct_B), rollouts.count(~correct_B), wanted(rollouts, settings.keep)
    keep_right_G, keep_wrong_G = (wanted_G * part_G / count_G.clamp_min(1) for part_G in (right_G, wrong_G))
    keep_right_G, keep_wrong_G = keep_right_G.round(), keep_wrong_G.round()
    few_G = (keep_wrong_G < settings.min_wrong) & (
        keep_right_G < settings.min_correct
    )  # k too small for both: keep all

    least_wrong_G = wrong_G.clamp_max(settings.min_wrong)
    short_G = keep_wrong_G <= least_wrong_G
    keep_wrong_G = torch.where(short_G, least_wrong_G, keep_wrong_G)
    keep_right_G = torch.where(short_G, wanted_G - least_wrong_G, keep_right_G)
    least_right_G = right_G.clamp_max(settings.min_correct)
    short_G = keep_right_G <= least_right_G
    keep_right_G = torch.where(short_G, least_right_G, keep_right_G)
    keep_wrong_G = torch.where(short_G, wanted_G - least_right_G, keep_wrong_G)

    quality_B = torch.where(correct_B, rollouts.lengths_B, 0)
    place_B = rollouts.places([~correct_B, quality_B])  # the correct ones first, then the wrong as they come
    place_of_wrong_B = place_B - right_G[rollouts.groups_B]
    kept_B = torch.where(
        correct_B, place_B < keep_right_G[rollouts.groups_B], place_of_wrong_B < keep_wrong_G[rollouts.groups_B]
    )
    return outcome_of_kept(rollouts, kept_B | (few_G | (count_G <= wanted_G))[rollouts.groups_B], settings.advantage)
