"""Reward functions, one response at a time, as verl's ``reward.custom_reward_function`` calls them.

``path=pkg://verl_efficiency.rewards name=batched_accuracy``, or ``path=pkg://verl_efficiency.rewards.batched_accuracy`` with
verl's default name ``compute_score``. The functions share their modules' names, so ``import verl_efficiency.rewards.accuracy``
binds the module, while ``verl_efficiency.rewards.accuracy`` as an attribute is the function.
"""

from verl_efficiency.rewards.accuracy import AccuracySettings, accuracy
from verl_efficiency.rewards.batched_accuracy import BatchedAccuracySettings, batched_accuracy

__all__ = ["AccuracySettings", "BatchedAccuracySettings", "accuracy", "batched_accuracy"]
