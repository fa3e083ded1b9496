"""verl's replay buffers, polling more often. verl polls every 2.0 s, which is most of a toy step."""

from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBufferAsync

from verl_efficiency.verl.sampler import ConfiguredReplayBuffer

POLL_INTERVAL = 0.05  # seconds


class FastPollReplayBuffer(ConfiguredReplayBuffer):
    """verl's replay buffer with a poll interval of 0.05 s; in the asynchronous modes, verl's asynchronous one.

    Use it with ``trainer.v1.sampler.custom_sampler.path=pkg://verl_efficiency.verl.cpu.replay_buffer`` and
    ``trainer.v1.sampler.custom_sampler.name=FastPollReplayBuffer``. ``algorithm.filter_groups`` works as in verl's own buffer.
    ``+trainer.v1.sampler.sampler_kwargs.poll_interval=0.5`` polls less often.
    """

    def __new__(cls, trainer_mode: str, **kwargs: Any) -> Any:
        return super().__new__(cls if trainer_mode == "sync" else _FastPollReplayBufferAsync)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"poll_interval": POLL_INTERVAL, **kwargs})


class _FastPollReplayBufferAsync(FastPollReplayBuffer, ReplayBufferAsync):
    """Both: our constructor, and verl's asynchronous sampling."""
