"""verl's replay buffer, polling more often. verl polls every 2.0 s, which is most of a toy step."""

from typing import Any

from verl_efficiency.verl.sampler import ConfiguredReplayBuffer


class FastPollReplayBuffer(ConfiguredReplayBuffer):
    """verl's replay buffer with a poll interval of 0.05 s; for ``trainer.v1.trainer_mode=sync``.

    Use it with ``trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.cpu.replay_buffer`` and
    ``trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer``. ``algorithm.filter_groups`` works as in verl's own buffer.
    ``+trainer.v1.sampler.sampler_kwargs.poll_interval=0.5`` polls less often.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"poll_interval": 0.05, **kwargs})
