"""HAPO (history-aware policy optimisation): an answer is compared with the shortest correct one that its problem has
ever had.

With score ``s``, length ``L`` (generated tokens) and h, the shortest correct length of the problem in all steps
before::

    c = cos(½ π · min(L / h, 2))           1 at no tokens, 0 at h, −1 from 2 h
    r = s + weight · max(c, −0.7)          correct
    r = s + weight · min(c, 0)             wrong
    r = s                                  no correct answer before
    h ← min(h, shortest correct length)    after the rewards

Paper: "HAPO: Training Language Models to Reason Concisely via History-Aware Policy Optimization", arXiv 2505.11225;
code: github.com/HCY123902/HAPO at c91ae3b (``utils.py``, ``grpo_trainer.py``, types "cosine" and "min"), weight 1 as
there. Our choice: empty answers do not become h. A wrong answer gains nothing, but one longer than h loses, so it
scores below a short wrong one, as in that code.
"""

import math
from dataclasses import dataclass, field

import torch

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import PromptSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require


@dataclass(frozen=True)
class HapoSettings(PromptSettings):
    """Settings of ``hapo``.

    Attributes:
        weight: weight of the length reward, in [0, 1], so that a correct answer stays above every wrong one.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.weight <= 1, "weight", self.weight, "in [0, 1]")


@dataclass
class HapoState:
    """shortest: h of each problem that was ever solved, generated tokens."""

    shortest: dict[str, float] = field(default_factory=dict)


def hapo(rollouts: Rollouts, settings: HapoSettings, state: HapoState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated afterwards.

    h = 20: lengths 10, 40, 30 give c = 0.7071, −1 and −0.7071; rewards 1.7071, 0.3, −0.7071 (mean 0.4333):

    >>> from dataclasses import replace
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 40, 30]), ["a", "a", "a"])
    >>> r, state = replace(r, prompt_ids_G=("2 + 2?",)), HapoState({"2 + 2?": 20})
    >>> [round(a, 4) for a in hapo(r, HapoSettings(advantage="dr_grpo"), state).advantages_B.tolist()]
    [1.2738, -0.1333, -1.1404]
    >>> state.shortest
    {'2 + 2?': 10.0}
    """
    if rollouts.prompt_ids_G is None:
        raise ValueError("hapo needs prompt_ids_G: a name of each prompt that is the same in every epoch")
    history = [state.shortest.get(prompt, 0) for prompt in rollouts.prompt_ids_G]
    history_G = torch.tensor(history, dtype=torch.float64)
    history_B = history_G.to(rollouts.lengths_B.device)[rollouts.groups_B]
    cosine_B = torch.cos(math.pi / 2 * (rollouts.lengths_B.double() / history_B.clamp_min(1)).clamp_max(2))
    term_B = torch.where(rollouts.correct_B, cosine_B.clamp_min(-0.7), cosine_B.clamp_max(0))
    shaped_B = paper_scores_of(rollouts, settings) + settings.weight * torch.where(history_B > 0, term_B, 0.0)

    shortest_G = rollouts.smallest(rollouts.lengths_B, rollouts.correct_B & (rollouts.lengths_B > 0))
    # A loop over groups: the state is kept by the prompt's name.
    for prompt, shortest in zip(rollouts.prompt_ids_G, shortest_G.tolist(), strict=True):
        if shortest < math.inf:
            state.shortest[prompt] = min(state.shortest.get(prompt, shortest), shortest)
    known = (history_B > 0)[rollouts.real_B].double().mean().item() if bool(rollouts.real_B.any()) else 0.0
    return shaped_outcome(rollouts, shaped_B, settings, with_history=known)
