"""ALP (adaptive length penalty): the price of a token grows with the solve rate of the group.

With score ``s``, length ``L`` (generated tokens), solve rate p of the group and its number of rollouts K::

    r = s − β · L · max(p, 1/K)

Paper: "Just Enough Thinking: Efficient Reasoning with Adaptive Length Penalties Reinforcement Learning", arXiv 2506.05256. We
found neither official code nor the text. Several independent descriptions agree on four points: the price β · max(p, 1/K), with
p over the K rollouts of the problem; the same price for right and wrong answers; β = 1e-7; hard prompts are not shortened. They
disagree on what is priced: tokens L, or L / L_max. We price tokens, so the default β is meant for responses of thousands of
tokens.

Wrong answers pay too, so a short wrong answer scores above a long wrong one. With equal scores the rewards of a group differ by
length only. ``grpo`` divides by their standard deviation, so an unsolved group gets a full-size length term at any β. By
default (``unsolved=leave``) it gets none, as in prime-rl, PipelineRL and a fork of AReaL. ``unsolved=as_published`` is the
formula above for every group.
"""

from dataclasses import dataclass

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, Unsolved, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require_at_least_0


@dataclass(frozen=True)
class AlpSettings(ShapingSettings):
    """Settings of ``alp``.

    Attributes:
        beta: β, score lost per token in a group that is all correct.
    """

    beta: float = 1e-7
    unsolved: Unsolved = "leave"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "beta")

    @property
    def warnings(self) -> tuple[str, ...]:
        if self.unsolved == "leave" or self.combine == "decoupled" or self.beta == 0:
            return ()
        return (
            "alp: unsolved=as_published shortens the answers of unsolved groups too. The paper says that hard problems stay "
            "unhindered. Set unsolved=leave for that.",
        )


def alp(rollouts: Rollouts, settings: AlpSettings, state: None = None) -> Outcome:
    """Advantages, (B,) float64. The solve rate is ½, so a token costs 0.005 at β = 0.01. The rewards are 0.9, 0.8, −0.2, −0.1:

    >>> r = Rollouts.build(torch.tensor([1., 1., 0., 0.]), torch.tensor([20, 40, 40, 20]), ["a"] * 4)
    >>> [round(a, 4) for a in alp(r, AlpSettings(beta=0.01, advantage="dr_grpo")).advantages_B.tolist()]
    [0.55, 0.45, -0.55, -0.45]
    """
    price_G = torch.maximum(rollouts.solve_rate(), 1 / rollouts.count().clamp_min(1))
    shaped_B = (
        paper_scores_of(rollouts, settings) - settings.beta * rollouts.lengths_B.double() * price_G[rollouts.groups_B]
    )
    return shaped_outcome(rollouts, shaped_B, settings)
