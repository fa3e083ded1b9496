"""ALP (adaptive length penalty): every token costs, and costs more the more often the problem is solved.

With score ``s``, length ``L`` (generated tokens), solve rate p of the group and its number of rollouts K::

    r = s − β · L · max(p, 1/K)

Paper: "Just Enough Thinking: Efficient Reasoning with Adaptive Length Penalties Reinforcement Learning", arXiv
2506.05256. We found no official code and not the text itself. Several independent readers of it agree on: the weight β
max(p, 1/K), p over the K rollouts of the problem; that right and wrong answers pay alike; β = 1e-7; that hard prompts stay
unhindered. They do not agree on the factor behind it: β · L · max(p, 1/K), or that over L_max. Ours is the first (our
reading: tokens, not normalised), so the default is meant for thousands of tokens. With advantage ``grpo`` β hardly
matters where all answers of a group score the same, since the lengths alone then make its deviation: problems that nobody
solved are then made shorter at full strength. Three other implementations (prime-rl, PipelineRL, a fork of AReaL) do not
penalise those at all: ``unsolved=leave``. Wrong answers pay too, so a short wrong answer scores above a long wrong one.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require_at_least_0


@dataclass(frozen=True)
class AlpSettings(ShapingSettings):
    """Settings of ``alp``.

    Attributes:
        beta: β, score lost per token of a problem that is always solved.
    """

    beta: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "beta")

    @property
    def warnings(self) -> tuple[str, ...]:
        if self.unsolved == "leave" or self.combine == "decoupled" or self.beta == 0:
            return ()
        return (
            "alp: unsolved=as_published makes problems that nobody solved shorter too, while the paper says that hard "
            "problems stay unhindered; unsolved=leave does that.",
        )


def alp(rollouts: Rollouts, settings: AlpSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. Half are right; at β = 0.01 a token costs 0.005: rewards 0.9, 0.8, 0 − 0.2, 0 − 0.1:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0., 0.]), torch.tensor([20, 40, 40, 20]), ["a"] * 4)
    >>> [round(a, 4) for a in alp(r, AlpSettings(beta=0.01, advantage="dr_grpo")).advantages_B.tolist()]
    [0.55, 0.45, -0.55, -0.45]
    """
    price_G = torch.maximum(rollouts.solve_rate(), 1 / rollouts.count().clamp_min(1))
    shaped_B = (
        paper_scores_of(rollouts, settings) - settings.beta * rollouts.lengths_B.double() * price_G[rollouts.groups_B]
    )
    return shaped_outcome(rollouts, shaped_B, settings)
