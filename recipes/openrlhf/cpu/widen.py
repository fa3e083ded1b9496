"""The testbed's model with heads of 32 instead of 24: vLLM's CPU build has no attention for 24. It computes the same.

``python recipes/openrlhf/cpu/widen.py --out DIR``. The new columns are 0 and get no gradient. What changes with the width is
made up for: the mean square in a norm (its weight and eps), the divisor of the attention's scores (the weight of the queries),
the frequencies of the rotary embedding (its base).
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from verl_efficiency.testbed.tasks import task_named

HEAD = 32


def widened(model: Qwen2ForCausalLM) -> Qwen2ForCausalLM:
    """A model of the same function with heads of 32."""
    old = model.config
    heads, head = old.num_attention_heads, old.hidden_size // old.num_attention_heads
    growth, width = HEAD / head, old.num_attention_heads * HEAD
    rope = dict(old.rope_parameters or {})
    config = Qwen2Config(
        **{
            **old.to_dict(),
            "hidden_size": width,
            "rms_norm_eps": old.rms_norm_eps / growth,
            "rope_parameters": {**rope, "rope_theta": rope["rope_theta"] ** growth},
        }
    )
    # A rotation turns element i with element i + half of the head.
    rotated = torch.tensor([*range(head // 2), *range(HEAD // 2, HEAD // 2 + head // 2)])
    straight = torch.arange(head)

    def spread_heads(rows: Tensor, places: Tensor) -> Tensor:
        """(heads · head, …) → (heads · HEAD, …)."""
        wide = rows.new_zeros(heads, HEAD, *rows.shape[1:])
        wide[:, places] = rows.unflatten(0, (heads, head))
        return wide.flatten(0, 1)

    def convert(name: str, value: Tensor) -> Tensor:
        if "q_proj" in name:
            value = spread_heads(value, rotated) * growth**0.5
        elif "k_proj" in name:
            value = spread_heads(value, rotated)
        elif "v_proj" in name:
            value = spread_heads(value, straight)
        elif "o_proj" in name:
            value = spread_heads(value.T, straight).T
        elif "norm" in name:
            value = value / growth**0.5
        if name.endswith("bias"):
            return value
        short = [("o_proj", 0), ("down_proj", 0), ("norm", 0)]  # these write to the wide axis, the others read from it
        axis = next((axis for part, axis in short if part in name), -1)
        missing = width - value.shape[axis]
        padding = [0, missing] if axis == -1 or value.dim() == 1 else [0, 0, 0, missing]
        return torch.nn.functional.pad(value, padding)

    wide = Qwen2ForCausalLM(config)
    wide.load_state_dict({name: convert(name, value) for name, value in model.state_dict().items()})
    wide.generation_config = model.generation_config
    return wide.eval()


def main(out: Annotated[Path, typer.Option(help="where the model goes")]) -> None:
    """Write the testbed's warm start with heads of 32."""
    warm_start = task_named("checks").warm_start
    widened(Qwen2ForCausalLM.from_pretrained(warm_start, dtype="float32")).save_pretrained(out)
    AutoTokenizer.from_pretrained(warm_start).save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
