"""Makes the rollout ``hf`` known to verl outside CPU mode: a machine with a GPU and PyTorch trains without vLLM.

It also replaces verl's loop over single tokens, which takes the place of flash-attention where that is missing.

    export VERL_USE_EXTERNAL_MODULES=verl_efficiency.verl.plugin,verl_efficiency.verl.cpu.hf

verl imports the modules of that variable in every process, and importing this one is enough. The recipes do it for
``ROLLOUT=hf``. The server lives on the GPU of its trainer rank, in ``rollout.dtype`` (bf16 by default), beside the trainer's
weights. It has no sleep mode, so it is for small models. An H200 has run it.
"""

import wrapt

from verl_efficiency.verl.cpu.patches import log_probs_in_blocks, register_hf_adapter, register_hf_replica

wrapt.register_post_import_hook(register_hf_adapter, "verl.workers.rollout.base")
wrapt.register_post_import_hook(register_hf_replica, "verl.workers.rollout.replica")
wrapt.register_post_import_hook(log_probs_in_blocks, "verl.utils.torch_functional")
