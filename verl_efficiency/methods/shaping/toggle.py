"""Toggle: in every second phase, a correct answer over its problem's budget scores 0. In the other phases nothing is shaped.

With score ``s``, length ``L`` (generated tokens), the mean score of the group, the budget of the problem and the training step
t = 0, 1, …::

    phase  = ⌊t / phase_steps⌋ mod 2
    r = 0    phase 0, mean score ≥ threshold, L > budget and s > 0
    r = s    otherwise
    budget = percentile of the correct lengths when the problem was first solved

Paper: "Kimi K2.5: Visual Agentic Intelligence", arXiv 2602.02276, section 4.4.2; no public code. It reports 25–30 % fewer
tokens with little loss. Its reason for the phases without a budget: a model that always trains under a rigid budget cannot use
more tokens later.

Our choices, since the paper does not say: ``phase_steps``, ``threshold`` and ``percentile``. The paper estimates the budgets at
the start of the run. Here a problem gets its budget from its first group with a correct answer. The budget already applies to
that group, because a run of one epoch sees each problem once. Until then the problem is not shaped. Only scores above 0 become
0: with scores of 1 and −1 a long wrong answer must not gain.
"""

import math
from dataclasses import dataclass, field

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import PromptSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require


@dataclass(frozen=True)
class ToggleSettings(PromptSettings):
    """Settings of ``toggle``.

    Attributes:
        phase_steps: m, training steps of each phase; the first phase has budgets.
        threshold: λ; the budget applies to groups whose mean score is at least this.
        percentile: ρ in [0, 100]; the budget is this percentile of the lengths of the correct answers.
    """

    phase_steps: int = 10
    threshold: float = 0.5
    percentile: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.phase_steps >= 1, "phase_steps", self.phase_steps, "a whole number of at least 1")
        require(self.threshold >= 0, "threshold", self.threshold, "a score of at least 0")
        require(0 <= self.percentile <= 100, "percentile", self.percentile, "in [0, 100]")


@dataclass
class ToggleState:
    """What is carried from step to step.

    Attributes:
        steps: training steps so far.
        budgets: tokens, by the name of the problem. A budget never changes.
    """

    steps: int = 0
    budgets: dict[str, float] = field(default_factory=dict)


def toggle(rollouts: Rollouts, settings: ToggleSettings, state: ToggleState) -> Outcome:
    """Advantages, (B,) float64. A new problem gets its budget before its rewards are computed.

    The median of 10 and 30 tokens is 20, so the second correct answer scores 0 in phase 0:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 30, 5]), ["a", "a", "a"])
    >>> from dataclasses import replace
    >>> r, state = replace(r, prompt_ids_G=("1 + 1?",)), ToggleState()
    >>> s = ToggleSettings(phase_steps=1, advantage="dr_grpo")
    >>> [round(a, 4) for a in toggle(r, s, state).advantages_B.tolist()]
    [0.6667, -0.3333, -0.3333]
    >>> [round(a, 4) for a in toggle(r, s, state).advantages_B.tolist()]  # phase 1
    [0.3333, 0.3333, -0.6667]
    """
    if rollouts.prompt_ids_G is None:
        raise ValueError("toggle needs prompt_ids_G: a name of each prompt that is the same in every epoch")
    limited = state.steps // settings.phase_steps % 2 == 0
    lengths_B, correct_B, groups_B = rollouts.lengths_B.double(), rollouts.correct_B, rollouts.groups_B
    budgets = []
    for group, prompt in enumerate(rollouts.prompt_ids_G):  # a loop over groups: budgets are stored by prompt
        if prompt not in state.budgets:
            solved = lengths_B[correct_B & (groups_B == group)]
            if len(solved):
                state.budgets[prompt] = torch.quantile(solved, settings.percentile / 100).item()
        budgets.append(state.budgets.get(prompt, math.inf))
    state.steps += int(rollouts.real_B.any())

    budget_G = torch.tensor(budgets, dtype=torch.float64, device=lengths_B.device)
    scores_B = paper_scores_of(rollouts, settings)
    strict_G = rollouts.mean(scores_B) >= settings.threshold
    over_B = strict_G[groups_B] & (lengths_B > budget_G[groups_B]) & rollouts.real_B
    shaped_B = torch.where(over_B & limited, scores_B.clamp_max(0), scores_B)
    known = budget_G[budget_G.isfinite()]
    metrics = {
        "budget_phase": float(limited),
        "over_budget": rollouts.average(over_B),
        "budget": known.mean().item() if len(known) else float("nan"),
    }
    return shaped_outcome(rollouts, shaped_B, settings, **metrics)
