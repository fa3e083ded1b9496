"""``actor_rollout_ref.rollout.name=hf``: our rollout takes whole weights and keeps each copy of the model on one device."""

from collections.abc import Iterator
from typing import Any

ROLLOUT = "actor_rollout_ref.rollout"
SPLITS = ("tensor_model_parallel_size", "data_parallel_size", "pipeline_model_parallel_size")
LORA = "actor_rollout_ref.model.lora"


def check_hf(config: Any) -> Iterator[str]:
    """An adapter that verl would send by itself, and a model that is split over GPUs. Other rollouts pass."""
    rollout, model = config.actor_rollout_ref.rollout, config.actor_rollout_ref.model
    if rollout.get("name") != "hf":
        return
    lora = model.get("lora") or {}
    ranks = (model.get("lora_rank"), lora.get("rank"))  # either one switches an adapter on
    if any(isinstance(rank, int | float) and rank > 0 for rank in ranks) and not lora.get("merge", False):
        yield f"{LORA}.merge: rollout hf takes no LoRA adapter, only weights with the adapter in them; write {LORA}.merge=True"
    for name in SPLITS:
        size = rollout.get(name, 1)
        if size != 1:
            yield f"{ROLLOUT}.{name}: rollout hf keeps a copy of the model on one device; write {ROLLOUT}.{name}=1, not {size}"
