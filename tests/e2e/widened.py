"""The testbed's model with heads of 32 instead of 24, since vLLM's CPU attention has no kernel for 24. It computes the same."""

import math

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

HEADS, OLD, NEW = 4, 24, 32


def widen(source, target, more_tokens=()):
    """Write the model of ``source`` to ``target``, with these further tokens, whose weights are random."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.add_tokens([*more_tokens]):
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer))
    config = model.config
    share = OLD / NEW
    # A rotation turns number i of a head together with number i + half of the head.
    inside = [number + (NEW - OLD) // 2 * (number >= OLD // 2) for number in range(OLD)]
    heads = torch.tensor([head * NEW + place for head in range(HEADS) for place in inside])
    stream = torch.arange(HEADS * OLD)  # the other numbers of the residual stream stay 0
    config.hidden_size = HEADS * NEW
    config.rope_parameters = config.rope_parameters | {
        "rope_theta": config.rope_parameters["rope_theta"] ** (1 / share)
    }
    config.rms_norm_eps *= share  # the mean is over more numbers
    wide = Qwen2ForCausalLM(config)
    narrow = model.state_dict()
    for name, weight in wide.state_dict().items():
        old = narrow[name]
        if "q_proj" in name:
            old = old / math.sqrt(share)  # scores are divided by the root of the head's size
        if "norm" in name:
            old = old * math.sqrt(share)
        rows = heads if any(kind in name for kind in ("q_proj", "k_proj", "v_proj")) else stream
        rows = torch.arange(len(old)) if any(kind in name for kind in ("embed", "lm_head", "gate", "up_proj")) else rows
        weight.zero_()
        if old.ndim == 1:
            weight[rows] = old
        else:
            columns = heads if "o_proj" in name else torch.arange(old.shape[1]) if "down_proj" in name else stream
            weight[rows[:, None], columns] = old
    wide.generation_config = model.generation_config
    wide.save_pretrained(target)
    tokenizer.save_pretrained(target)
