"""``KeepSolvedGroups``: a group filter that drops only the groups in which no rollout is correct.

verl's own filter (``algorithm.filter_groups``, DAPO) drops every group whose rollouts all have the same ``metric``, because
equal scores teach nothing. But a length-shaped method learns most from groups that are all correct. Set this sampler in place
of verl's::

    algorithm.filter_groups.enable=True algorithm.filter_groups.metric=acc
    trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.sampler
    trainer.v1.sampler.custom_sampler.name=KeepSolvedGroups

It works with the synchronous trainers (``sync``, ``efficiency_sync``). Dropped groups are replaced as with verl's own filter,
and counted in the same metrics (``training/filter_groups/evicted_samples``).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class ConfiguredReplayBuffer(ReplayBuffer):
    """verl's replay buffer as a custom sampler, with ``trainer.v1.sampler.sampler_kwargs`` as constructor arguments.

    verl gives a custom sampler none of the arguments of its group filter (trainer/ppo/v1/trainer_base.py:163). So the start-up
    check copies them from ``algorithm.filter_groups`` into ``sampler_kwargs``, where your own values take precedence. An
    unknown name there is a TypeError.
    """

    def __init__(self, *, sampler_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, **(sampler_kwargs or {}), "sampler_kwargs": sampler_kwargs})


class KeepSolvedGroups(ConfiguredReplayBuffer):
    """Drops a group if its rollouts all have the same metric and that is at most 0."""

    def _dapo_filtered_keys(self, partition_id: str) -> tuple[set[str], Counter]:
        equal, _ = super()._dapo_filtered_keys(partition_id)
        metric_of = self._dapo_classification_cache[partition_id]  # None where the rollouts differ
        unsolved = {uid: metric for uid in equal if (metric := metric_of[uid]) is not None and metric <= 0}
        return set(unsolved), Counter(unsolved.values())
