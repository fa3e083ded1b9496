"""GRPO-RoC: learn from the shortest correct rollouts of a group and from any of the wrong ones, in proportion."""

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
        min_correct, min_wrong: of each at least this many, where there are as many.
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
    """GRPO-RoC (resampling on correct): keep the best of the correct rollouts and any of the wrong ones, in proportion.

    Of a group of n with c correct and w wrong, k are kept: ``round(k · c / n)`` correct and ``round(k · w / n)`` wrong
    ones, but at least ``min_wrong`` and ``min_correct`` where there are as many (the other kind makes room). The
    correct are kept from the best on; the wrong as they come, so that all ways to fail stay represented.

    Paper: "rStar2-Agent: Agentic Reasoning Technical Report", arXiv 2508.20722; code: github.com/microsoft/rStar at
    ecbfb94 (``rstar2_agent/down_sample/roc.py``), which keeps 16 of 32, at least 2 and 2. There "best" means few tool
    errors and clean answer tags; an estimator sees no text, so here (our choice) it means short. Also ours: a group of
    at most k is kept whole (there, a smaller one is dropped).

    (B,) float64. Three of four are right: two of the shortest right ones and the wrong one would be 2 + 0 of k = 2,
    held at one wrong (min_wrong = 1) and one right:

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
