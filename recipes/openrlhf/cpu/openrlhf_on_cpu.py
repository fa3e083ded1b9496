"""What OpenRLHF 0.11.2 and vLLM's CPU build 0.32.0 need on a machine without a GPU. For the CPU quickstart and the tests only.

Each patch waits for its module and is applied when that is imported.
"""

from typing import Any

import wrapt


class Cpu(str):
    """The device "cpu"; replay_buffer.py:40 writes it into f"cuda:{device}"."""

    def __format__(self, spec: str) -> str:
        return "0"


@wrapt.when_imported("openrlhf")
def _no_cuda(_module: Any) -> None:
    import torch

    torch.cuda.current_device = lambda: Cpu("cpu")  # type: ignore[assignment,return-value]
    for name in ("set_device", "synchronize", "empty_cache", "current_stream"):
        setattr(torch.cuda, name, lambda *_: None)


@wrapt.when_imported("openrlhf.utils.deepspeed.deepspeed")
def _deepspeed(module: Any) -> None:
    """A device mesh of CPUs (deepspeed.py:105), and torch's Adam, since DeepSpeed's is compiled with a C++ compiler."""
    mesh, train_config = module.init_device_mesh, module.get_train_ds_config
    module.init_device_mesh = lambda _device, *args, **kwargs: mesh("cpu", *args, **kwargs)

    def get_train_ds_config(*args: Any, **kwargs: Any) -> dict:
        config = train_config(*args, **kwargs)
        if config.get("optimizer", {}).get("type") == "AdamW":
            config["optimizer"]["params"]["torch_adam"] = True
        return config

    module.get_train_ds_config = get_train_ds_config


@wrapt.when_imported("deepspeed.comm.torch")
def _no_compiler(module: Any) -> None:
    """Without DeepSpeed's shared-memory collectives, which are compiled too (comm/torch.py:31)."""
    module.build_shm_op = lambda: None


class TcpBroadcast:
    """In the place of NCCL: vLLM's own process group over TCP (distributed_util.py:13)."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def broadcast(self, tensor: Any, src: int, stream: Any = None) -> None:
        sent = self.group.broadcast_obj(tensor.detach().cpu() if self.group.rank == src else None, src)
        if self.group.rank != src:
            tensor.copy_(sent)


@wrapt.when_imported("openrlhf.utils.distributed_util")
def _weights_over_tcp(module: Any) -> None:
    def stateless_init_process_group(
        master_address: str, master_port: int, rank: int, world_size: int, device: Any
    ) -> TcpBroadcast:
        from vllm.distributed.utils import StatelessProcessGroup

        return TcpBroadcast(
            StatelessProcessGroup.create(host=master_address, port=master_port, rank=rank, world_size=world_size)
        )

    module.stateless_init_process_group = stateless_init_process_group


@wrapt.when_imported("openrlhf.trainer.ray.vllm_worker_wrap")
def _weights_on_cpu(module: Any) -> None:
    """WorkerWrap.update_weight makes its buffer on "cuda" (vllm_worker_wrap.py:40)."""

    def update_weight(self: Any, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> None:
        import torch

        assert dtype == self.model_config.dtype, f"mismatch dtype: src {dtype}, dst {self.model_config.dtype}"
        weight = torch.empty(shape, dtype=dtype, device="cpu")
        self._model_update_group.broadcast(weight, src=0)
        self.model_runner.model.load_weights(weights=[(name, weight)])

    module.WorkerWrap.update_weight = update_weight


@wrapt.when_imported("vllm.model_executor.layers.utils")
def _plain_weights(module: Any) -> None:
    """vLLM's CPU build packs linear weights and drops the plain ones (layers/linear.py:214), so none can be loaded later."""

    def dispatch_cpu_unquantized_gemm(layer: Any, remove_weight: bool) -> None:
        import torch

        layer.cpu_linear = torch.nn.functional.linear

    module.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm
