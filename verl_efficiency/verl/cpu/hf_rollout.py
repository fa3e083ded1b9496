"""The rollout ``hf``: Hugging Face transformers generates responses for verl's agent loop. It is meant for small models.

It starts in a second and needs only transformers. If ``model.override_config.attn_implementation`` is set, the rollout takes
this attention too. Settings: ``+actor_rollout_ref.rollout.engine_kwargs.hf.<name>``, see
:class:`~verl_efficiency.verl.cpu.hf_server.HFRolloutSettings`. All three V1 trainer modes work with it.
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.plugin.platform import get_platform
from verl.utils.device import get_device_name
from verl.utils.fs import copy_to_local
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica
from verl.workers.rollout.utils import ensure_async_iterator

from verl_efficiency.verl.cpu.hf_server import HFServer


def server_name(replica_rank: int) -> str:
    """The Ray name under which the trainer's workers find their server."""
    return f"hf_server_{replica_rank}_0"


def _node_and_gpu(worker: Any, resource: str) -> tuple[str, str]:
    """Node and GPU of a trainer rank. Runs in that rank's process."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_accelerator_ids()[resource][0]


class HFReplica(RolloutReplica):
    """Starts the server; lives in the driver. Sleeping and waking do nothing, because there is no device memory to free."""

    async def launch_servers(self) -> None:
        if self.is_reward_model or self.is_teacher_model:
            raise NotImplementedError("rollout 'hf' serves the policy only; a reward or teacher model needs vllm")
        path = copy_to_local(self.model_config.path)
        attention = (self.model_config.get("override_config") or {}).get("attn_implementation")
        options = {"num_cpus": 0, "max_concurrency": self.max_concurrency, **await self._beside_the_trainer()}
        server: Any = (
            ray.remote(HFServer)
            .options(name=server_name(self.replica_rank), **options)
            .remote(path, self.model_config.get("trust_remote_code", False), self.config, self.replica_rank, attention)
        )
        await server.ready.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = server_name(self.replica_rank)

    async def _beside_the_trainer(self) -> dict[str, Any]:
        """Options that put the server on the GPU of the replica's first trainer rank, as verl does for vLLM; none on a CPU."""
        if get_device_name() == "cpu":
            return {}
        platform = get_platform()
        node, gpu = await self.workers[0].__ray_call__.remote(_node_and_gpu, platform.ray_resource_name())
        # Otherwise Ray hides all GPUs from an actor that requests none.
        variables = dict.fromkeys(platform.ray_noset_envvars(), "1")
        return {
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
            "runtime_env": {"env_vars": variables | {platform.visible_devices_envvar(): gpu}},
        }

    async def sleep(self) -> None:
        pass

    async def wake_up(self) -> None:
        pass

    async def clear_kv_cache(self) -> None:
        pass

    async def release_kv_cache(self) -> None:
        pass

    async def resume_kv_cache(self) -> None:
        pass


class HFServerAdapter(BaseRollout):
    """Sends the policy's weights to the server; lives in the trainer's workers."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        rank = int(os.environ["RANK"])
        ranks_per_replica = (
            self.config.tensor_model_parallel_size
            * self.config.data_parallel_size
            * self.config.pipeline_model_parallel_size
        )
        self.replica_rank = rank // ranks_per_replica if replica_rank == -1 else replica_rank
        self.sends = rank % ranks_per_replica == 0

    async def resume(self, tags: list[str]) -> None:
        pass

    async def release(self) -> None:
        pass

    @torch.no_grad()
    async def update_weights(
        self,
        weights: Iterator[tuple[str, torch.Tensor]] | AsyncIterator[tuple[str, torch.Tensor]],
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Send all ``weights`` in buckets of ``checkpoint_engine.update_weights_bucket_megabytes``.

        Every rank runs through the iterator, which gathers each weight from all ranks. The first rank of a replica sends.
        """
        if wire_format != "named_tensors":
            raise NotImplementedError(f"rollout 'hf' takes wire_format='named_tensors', got {wire_format!r}")
        if kwargs.get("peft_config") is not None:
            raise NotImplementedError("rollout 'hf' has no LoRA adapters: set actor_rollout_ref.model.lora.merge=True")
        server = ray.get_actor(server_name(self.replica_rank)) if self.sends else None
        limit = self.config.checkpoint_engine.update_weights_bucket_megabytes * 2**20
        bucket: dict[str, torch.Tensor] = {}
        size = 0
        async for name, value in ensure_async_iterator(weights):
            if server is None:
                continue
            # Copy: with one rank, the iterator yields the trainer's own tensor, which the next step changes.
            bucket[name] = value.detach().to("cpu", copy=True).contiguous()
            size += bucket[name].nbytes
            if size >= limit:
                await server.receive_weights.remote(bucket)
                bucket, size = {}, 0
        if server is not None:
            await server.receive_weights.remote(bucket)
            await server.finish_weights.remote(global_steps)
