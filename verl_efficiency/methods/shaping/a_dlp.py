"""A-DLP (adaptive direct length penalty): the price of a token follows the accuracy of the batches.

With score ``s``, length ``L`` (generated tokens) and price λ per token::

    r = s − λ · L
    λ ← max(0, λ + step · (accuracy of the batch − reference_accuracy))     after the rewards

Paper: "Thinking Fast and Right: Balancing Accuracy and Reasoning Length with Adaptive Rewards", arXiv 2505.18298; code:
github.com/JinyanSu1/A-DLP at afbc411 (``verl/verl/trainer/main_ppo.py``, ``…/ppo/ray_trainer.py``). Initial λ 0.001, step
0.001 and reference accuracy 0.62 are those of its ``scripts/train.sh``. Set the reference to your own model's accuracy before
training.

Wrong answers pay too, so a short wrong answer scores above a long wrong one. At λ = 0.001 it also scores above a correct
answer that is more than 1000 tokens longer.
"""

from dataclasses import dataclass

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.base import ShapingSettings, paper_scores_of, shaped_outcome
from verl_efficiency.settings import require, require_at_least_0


@dataclass(frozen=True)
class ADlpSettings(ShapingSettings):
    """Settings of ``a_dlp``.

    Attributes:
        reference_accuracy: in [0, 1]. λ rises while accuracy is above it and falls while accuracy is below.
        initial_price: λ of the first step, score per token.
        step: change of λ per training step at an accuracy difference of 1, score per token.
    """

    reference_accuracy: float = 0.62
    initial_price: float = 1e-3
    step: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.reference_accuracy <= 1, "reference_accuracy", self.reference_accuracy, "in [0, 1]")
        require_at_least_0(self, "initial_price", "step")

    @property
    def keeps_state(self) -> bool:
        return True


@dataclass
class ADlpState:
    """price: λ of the next step; None before the first."""

    price: float | None = None


def a_dlp(rollouts: Rollouts, settings: ADlpSettings, state: ADlpState) -> Outcome:
    """Advantages, (B,) float64. ``state`` is updated afterwards.

    At λ = 0.01 the rewards are 0.9, 0.7 and −0.1. Accuracy ⅔ is above 0.5, so λ rises:

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([10, 30, 10]), ["a", "a", "a"])
    >>> s, state = ADlpSettings(reference_accuracy=0.5, initial_price=0.01, step=0.03, advantage="dr_grpo"), ADlpState()
    >>> [round(a, 4) for a in a_dlp(r, s, state).advantages_B.tolist()], round(state.price, 4)
    ([0.4, 0.2, -0.6], 0.015)
    """
    price = settings.initial_price if state.price is None else state.price
    shaped_B = paper_scores_of(rollouts, settings) - price * rollouts.lengths_B.double()
    state.price = price
    if bool(rollouts.real_B.any()):
        accuracy = rollouts.correct_B.sum().item() / int(rollouts.real_B.sum())
        state.price = max(0.0, price + settings.step * (accuracy - settings.reference_accuracy))
    return shaped_outcome(rollouts, shaped_B, settings, price=price)
