"""Weights for a rollout pool of its own on a machine without a GPU: ``rollout.checkpoint_engine.backend=cpu``.

verl's trainer mode ``separate_async`` sends weights through a checkpoint engine, and verl's own engines need an accelerator or
RDMA. This one sends buckets through a ``TCPStore`` of PyTorch on the first trainer rank. verl imports this module in every
process that needs it (``checkpoint_engine.custom_backend_module``). It is for small models: each bucket is pickled.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import ray
import torch
from torch.distributed import TCPStore
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry
from verl.workers.rollout.utils import ensure_async_iterator

Address = tuple[str, int]


@CheckpointEngineRegistry.register("cpu")
class CPUCheckpointEngine(CheckpointEngine):
    """verl makes one in each trainer rank and in each worker of the rollout pool.

    Args:
        bucket_size: bytes of weights to send at once.
        is_master: whether this is the first trainer rank, which sends. The other trainer ranks only help to gather weights.
    """

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        self.bucket_size = bucket_size
        self.is_master = is_master
        self.store: TCPStore | None = None

    def prepare(self) -> Address | None:  # type: ignore[override]  # verl's annotation is a dict, its callers take anything
        if not self.is_master:
            return None
        host = ray.util.get_node_ip_address()
        self.store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, self.store.port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Any]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        return {"address": [None] * actor_wg_world_size}, {"address": [metadata[0]] * rollout_world_size}

    def init_process_group(self, address: Address | None) -> None:  # type: ignore[override]
        if address is not None:
            self.store = TCPStore(*address, is_master=False)

    def finalize(self) -> None:
        self.store = None

    async def send_weights(self, weights: Any, global_steps: int | None = None) -> None:
        number, size = 0, 0
        bucket: dict[str, torch.Tensor] = {}
        async for name, value in ensure_async_iterator(weights):  # every rank: each weight is gathered from all
            if not self.is_master:
                continue
            bucket[name] = value.detach().cpu().contiguous()
            size += value.nbytes
            if size >= self.bucket_size:
                self._put(number, bucket, last=False)
                number, bucket, size = number + 1, {}, 0
        if self.is_master:
            self._put(number, bucket, last=True)

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, torch.Tensor]]:  # type: ignore[override]
        assert self.store is not None, "verl calls init_process_group first"
        number, last = 0, False
        while not last:
            sent = await asyncio.to_thread(self.store.get, str(number))
            bucket, last = torch.load(io.BytesIO(sent))
            for name, value in bucket.items():
                yield name, value
            number += 1

    def _put(self, number: int, bucket: dict[str, torch.Tensor], *, last: bool) -> None:
        assert self.store is not None, "verl calls prepare first"
        file = io.BytesIO()
        torch.save((bucket, last), file)
        self.store.set(str(number), file.getvalue())  # type: ignore[arg-type]  # its stub says str, it takes bytes
