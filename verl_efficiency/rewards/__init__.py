"""Reward functions, one response at a time, as verl's ``reward.custom_reward_function`` calls them.

``path=pkg://verl_efficiency.rewards name=batched_accuracy``, or ``path=pkg://verl_efficiency.rewards.batched_accuracy`` with
verl's default name ``compute_score``. The functions share their modules' names, so ``import verl_efficiency.rewards.accuracy``
binds the module, while ``verl_efficiency.rewards.accuracy`` as an attribute is the function.

Every one returns a dict of numbers and texts with the same keys for every sample: ``score`` is what is trained on, ``acc`` the
plain correctness. A higher ``score`` is always better. They are plain functions that know no framework.
"""

from verl_efficiency.rewards.accuracy import AccuracySettings, accuracy
from verl_efficiency.rewards.batched_accuracy import BatchedAccuracySettings, batched_accuracy
from verl_efficiency.rewards.composition import CompositionSettings, composition
from verl_efficiency.rewards.cosine import CosineRewardSettings, cosine
from verl_efficiency.rewards.lcpo_exact import LcpoExactSettings, lcpo_exact
from verl_efficiency.rewards.lcpo_max import LcpoMaxSettings, lcpo_max
from verl_efficiency.rewards.length_levels import LengthLevelsSettings, length_levels
from verl_efficiency.rewards.repetition import RepetitionSettings, repetition
from verl_efficiency.rewards.stop_properly import StopProperlySettings, stop_properly
from verl_efficiency.rewards.token_budget import TokenBudgetRewardSettings, token_budget

__all__ = [
    "AccuracySettings",
    "BatchedAccuracySettings",
    "CompositionSettings",
    "CosineRewardSettings",
    "LcpoExactSettings",
    "LcpoMaxSettings",
    "LengthLevelsSettings",
    "RepetitionSettings",
    "StopProperlySettings",
    "TokenBudgetRewardSettings",
    "accuracy",
    "batched_accuracy",
    "composition",
    "cosine",
    "lcpo_exact",
    "lcpo_max",
    "length_levels",
    "repetition",
    "stop_properly",
    "token_budget",
]
