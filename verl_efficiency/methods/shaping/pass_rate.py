"""Pass rate: a penalty for tokens, context and turns, times the mean score of the group.

With score ``s``, its mean s̄ over the group, generated tokens ``L``, context ``C`` (tokens read: the prompt and what tools
wrote), turns ``T``, and their maxima over the group::

    r = s − s̄ · (w_out · L / max L + w_in · C / max C + w_turns · T / max T)
    A = r − mean r

Code: github.com/PrimeIntellect-ai/prime-rl at 559b447 (``orchestrator/algo/grpo.py``, ``length_penalty`` "linear"), with
weights 0.25, 0.1 and 0.1 and advantage ``dr_grpo``. There is no paper. An unsolved group pays nothing. Wrong answers pay too,
so a short wrong answer scores above a long wrong one. Our choice: a negative s̄ counts as 0, so that length never pays.

Without tools, all rollouts of a group have the same context and one turn, so both terms cancel.
"""

from dataclasses import dataclass

from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require_at_least_0


@dataclass(frozen=True)
class PassRateSettings(ShapingSettings):
    """Settings of ``pass_rate``.

    Attributes:
        output_weight: w_out, score lost by the longest rollout of a group that is all correct.
        context_weight: w_in, the same for context; set 0 if the trainer cannot count it.
        turns_weight: w_turns, the same for turns.
    """

    advantage: AdvantageName = "dr_grpo"
    output_weight: float = 0.25
    context_weight: float = 0.1
    turns_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "output_weight", "context_weight", "turns_weight")

    @property
    def parts(self) -> frozenset[str]:
        used = {"context": self.context_weight, "turns": self.turns_weight}
        return super().parts | {part for part, weight in used.items() if weight}


def pass_rate(rollouts: Rollouts, settings: PassRateSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. All correct, with 10 and 20 tokens, 1 and 2 turns, context 30 and 60. The penalties are 0.225
    and 0.45:

    >>> import torch
    >>> from dataclasses import replace
    >>> r = Rollouts.build(torch.tensor([1., 1.]), torch.tensor([10, 20]), ["a", "a"])
    >>> r = replace(r, turns_B=torch.tensor([1, 2]), context_B=torch.tensor([30, 60]))
    >>> [round(a, 4) for a in pass_rate(r, PassRateSettings()).advantages_B.tolist()]
    [0.1125, -0.1125]
    """
    share_B = settings.output_weight * _of_largest(rollouts, rollouts.lengths_B)
    for part, weight, count_B in (
        ("context", settings.context_weight, rollouts.context_B),
        ("turns", settings.turns_weight, rollouts.turns_B),
    ):
        if not weight:
            continue
        if count_B is None:
            raise ValueError(f"{part}_weight={weight:g} needs {part}_B: a count for every rollout")
        share_B = share_B + weight * _of_largest(rollouts, count_B)
    scores_B = paper_scores_of(rollouts, settings)
    rate_G = rollouts.mean(scores_B).clamp_min(0)
    penalty_B = rate_G[rollouts.groups_B] * share_B * rollouts.real_B
    return shaped_outcome(rollouts, scores_B - penalty_B, settings)


def _of_largest(rollouts: Rollouts, count_B: Tensor) -> Tensor:
    """(B,) float64: the counts as a share of the largest of their group."""
    return count_B.double() / rollouts.largest(count_B).clamp_min(1)[rollouts.groups_B]
