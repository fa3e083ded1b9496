"""What the length-shaped methods share: one score scale, the step from rewards to advantages, and unsolved groups.

**Score scale.** Authors score right and wrong answers differently: 1 and 0, 1 and −1 (Leash), 1 and −0.5 (LASER). A length
term of 0.5 is half the distance between right and wrong in the first case and a third of it in the last. So each method
computes on the scale of its authors' code, with their numbers as its defaults:

1. ``paper_scores`` of the settings class holds the authors' scores (right, wrong).
2. ``score_correct`` and ``score_wrong`` are the scores of *your* reward, 1 and 0 by default.
3. :func:`paper_scores_of` maps your scores to theirs, linearly. The method computes its reward from these.
4. :func:`shaped_outcome` maps that reward back to your scale.

Every setting that is an amount of reward (``weight``, ``bonus``, ``alpha``, a price) is on the authors' scale, whatever your
scores are. The advantage ``grpo`` is the same as in the authors' code at any scale. ``dr_grpo`` and ``rloo`` are theirs times
a factor: the distance between your two scores over the distance between theirs. On a 0/1 scale, ``weight=0.4`` of ``kimi``
equals 0.27 and ``bonus=0.5`` of ``laser`` equals 0.33.

**Advantages.** With your scores ``s`` and the shaped rewards ``r`` on your scale::

    combine=shaped_reward   A = A(r)
    combine=decoupled       A = A(s) + length_weight · A(r − s), the second term among the correct only

A(·) is the group advantage ``advantage``. With verl's ``algorithm.norm_adv_by_std_in_grpo=False``, ``grpo`` is ``dr_grpo``.
``decoupled`` (:func:`verl_efficiency.methods.advantages.decoupled_advantage`) keeps a correct but long rollout from falling
below the wrong ones. It ignores what a method does to wrong rollouts: they keep A(s).

**Unsolved groups.** Some methods shape wrong answers too. In a group that is all wrong, the rewards then differ by length
only. ``grpo`` divides by their standard deviation, so the length term gets full size, however small its weight is.
``unsolved=leave`` gives such groups A(s), which is 0 for equal scores. The metric ``unsolved_share`` is their share of the
update, measured as the sum of |advantage| · tokens. The default is ``as_published``, but for ``kimi``, ``alp`` and ``cosine``
it is ``leave``: on our task their published form lost much of the accuracy (docs/measured.md).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, decoupled_advantage, group_advantage
from verl_efficiency.methods.cost import CostSettings
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, SettingsError, require, require_at_least_0

Unsolved = Literal["as_published", "leave"]
logger = logging.getLogger("verl_efficiency")
_warned: set[type] = set()  # settings classes whose score scale was warned about


@dataclass(frozen=True)
class ShapingSettings(CostSettings):
    """Settings of every length-shaped method.

    Attributes:
        combine: ``shaped_reward``: the advantage of the shaped reward. ``decoupled``: the advantage of the score plus that
            of the length term among correct rollouts; wrong ones have no length term.
        length_weight: weight of the length term in ``decoupled``.
        advantage: the group advantage: grpo, dr_grpo, rloo or batch.
        correct_threshold: a score of at least this is correct. It lies above ``score_wrong``, and at most at
            ``score_correct``.
        score_correct, score_wrong: the scores that your reward gives to a right and a wrong answer.
        unsolved: groups without a correct rollout. ``as_published``: shaped as in the paper. ``leave``: not shaped.
            ``as_published`` by default, ``leave`` in ``kimi``, ``alp`` and ``cosine``.
    """

    paper_scores: ClassVar[tuple[float, float]] = (1.0, 0.0)  # of a right and a wrong answer in the authors' code

    combine: Literal["shaped_reward", "decoupled"] = "shaped_reward"
    length_weight: float = 0.5
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5
    score_correct: float = 1.0
    score_wrong: float = 0.0
    unsolved: Unsolved = "as_published"

    def __post_init__(self) -> None:
        CostSettings.__post_init__(self)
        require_at_least_0(self, "length_weight")
        require(
            self.score_wrong < self.score_correct,
            "score_wrong",
            self.score_wrong,
            f"below score_correct = {self.score_correct:g}",
        )
        require(
            self.score_wrong < self.correct_threshold <= self.score_correct,
            "correct_threshold",
            self.correct_threshold,
            f"above score_wrong = {self.score_wrong:g} and at most score_correct = {self.score_correct:g}",
        )

    @property
    def score_unit(self) -> float:
        """One unit of the authors' scale on the user's scale: distance between the user's two scores over the authors'."""
        right, wrong = self.paper_scores
        return (self.score_correct - self.score_wrong) / (right - wrong)


@dataclass(frozen=True)
class LimitedSettings(MethodSettings):
    """Settings of a method that uses the limit on generated tokens.

    Attributes:
        max_response_length: the limit on generated tokens; on verl, ``data.max_response_length`` by default.
    """

    max_response_length: int | None = None

    def __post_init__(self) -> None:
        limit = self.max_response_length
        require(limit is None or limit > 0, "max_response_length", limit, "a number of tokens above 0, or null")

    @property
    def limit(self) -> int:
        """``max_response_length``.

        Raises:
            SettingsError: it is not set.
        """
        if self.max_response_length is None:
            raise SettingsError(
                f"max_response_length: {type(self).__name__} needs the limit on generated tokens; "
                "set algorithm.efficiency.max_response_length to the value of data.max_response_length"
            )
        return self.max_response_length


@dataclass(frozen=True)
class LimitedShapingSettings(ShapingSettings, LimitedSettings):
    """Settings of a length-shaped method that uses the limit."""

    def __post_init__(self) -> None:
        ShapingSettings.__post_init__(self)
        LimitedSettings.__post_init__(self)


@dataclass(frozen=True)
class PromptSettings(ShapingSettings):
    """Settings of a length-shaped method that remembers each problem from step to step.

    Attributes:
        prompt_column: path of a column that names a problem across epochs; null: the text of the prompt is its name.
    """

    prompt_column: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        return {} if self.prompt_column is None else {"prompt": self.prompt_column}

    @property
    def names_prompts(self) -> bool:
        return True

    @property
    def keeps_state(self) -> bool:
        return True


def paper_scores_of(rollouts: Rollouts, settings: ShapingSettings) -> Tensor:
    """(B,) float64: the scores on the scale of the authors' code."""
    return settings.paper_scores[1] + (rollouts.scores_B - settings.score_wrong) / settings.score_unit


def shaped_outcome(
    rollouts: Rollouts,
    shaped_B: Tensor,
    settings: ShapingSettings,
    adjust: Callable[[Tensor], Tensor] = lambda advantages_B: advantages_B,
    /,
    **metrics: float,
) -> Outcome:
    """Advantages of the shaped rewards, and the metrics that all methods log.

    Args:
        rollouts: the batch.
        shaped_B: float64, the shaped reward of each rollout, on the scale of the authors' code.
        settings: the advantage, how score and length term combine, and the score scale.
        adjust: the method's own last step on the advantages, (B,) to (B,).
        metrics: the method's own metrics.
    """
    scores_B = rollouts.scores_B
    shaped_B = settings.score_wrong + (shaped_B - settings.paper_scores[1]) * settings.score_unit
    unsolved_B = (rollouts.count(rollouts.correct_B) == 0)[rollouts.groups_B] & rollouts.real_B
    if settings.unsolved == "leave":
        shaped_B = torch.where(unsolved_B, scores_B, shaped_B)
    length_term_B = (shaped_B - scores_B) * rollouts.real_B
    if settings.combine == "decoupled":
        advantages_B = decoupled_advantage(
            settings.advantage, scores_B, length_term_B, rollouts, length_weight=settings.length_weight
        )
    else:
        advantages_B = group_advantage(settings.advantage, shaped_B, rollouts)
    advantages_B = adjust(advantages_B)

    pull_B = advantages_B.abs() * rollouts.lengths_B
    common = {
        "solve_rate": rollouts.average(rollouts.correct_B),
        "length_term": rollouts.average(length_term_B),
        "unsolved_share": (pull_B * unsolved_B).sum().item() / (pull_B.sum().item() or 1.0),
    }
    lowest = scores_B[rollouts.real_B].min().item() if bool(rollouts.real_B.any()) else settings.score_wrong
    if lowest < settings.score_wrong and type(settings) not in _warned:
        _warned.add(type(settings))
        logger.warning(
            "%s: a rollout scored %g, below score_wrong = %g. Length terms scale with the distance between score_wrong and "
            "score_correct. Set both to the scores that your reward gives to a wrong and a right answer.",
            *(type(settings).__name__, lowest, settings.score_wrong),
        )
    return Outcome(advantages_B, {**metrics, **common})
