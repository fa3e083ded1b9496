"""A replay buffer that looks for finished rollouts more often: verl's own looks every 2.0 s, most of a toy step."""

from collections.abc import Mapping
from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class FastPollReplayBuffer(ReplayBuffer):
    """verl's replay buffer with a poll interval of 0.05 s; for ``trainer.v1.trainer_mode=sync``.

    Use it with ``trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.cpu.replay_buffer`` and
    ``trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer``.

    verl gives a custom sampler none of its group filtering (trainer/ppo/v1/trainer_base.py:163): with this class the keys
    ``algorithm.filter_groups`` and ``trainer.v1.sampler.sync_refill_failed_groups`` have **no effect**. Everything in
    ``trainer.v1.sampler.sampler_kwargs`` is passed on as a constructor argument instead, so that
    ``+trainer.v1.sampler.sampler_kwargs.filter_groups_metric=reward`` filters groups of equal reward and
    ``+trainer.v1.sampler.sampler_kwargs.poll_interval=0.5`` polls less often. An unknown name there is a TypeError.
    """

    def __init__(self, *, sampler_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            **{"poll_interval": 0.05, **kwargs, **(sampler_kwargs or {}), "sampler_kwargs": sampler_kwargs}
        )
