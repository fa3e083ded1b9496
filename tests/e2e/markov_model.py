"""A Qwen2 model that needs no training: its weights make the next token depend on the last one only.

Its byte-level tokenizer reads any text, and a table of transitions gives its answers. So real problems run through the trainer
with every kind of answer: correct, wrong, out of order, twice, missing, to a problem that does not exist.
"""

import math
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(folder: Path, transitions: dict[str, dict[str, float]]) -> None:
    """Save model and tokenizer.

    Args:
        transitions: token → next token → probability. Tokens longer than a byte are added to the tokenizer.
    """
    alphabet = {character: number for number, character in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=alphabet, merges=[], unk_token=None, eos_token=None, pad_token=None)
    names = dict.fromkeys([*transitions, *(name for row in transitions.values() for name in row)])
    tokenizer.add_tokens([name for name in names if len(name) > 1 and name not in SPECIALS])
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template = "<|im_end|>", "<|endoftext|>", TEMPLATE
    tokenizer.save_pretrained(folder)

    size = len(tokenizer)
    hidden = math.ceil(size / 8) * 8
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=hidden,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config).float()
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, hidden))
        logits = torch.full((hidden, size), -30.0)  # by last token
        for last, row in transitions.items():
            for following, probability in row.items():
                (source,), (target,) = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (last, following))
                logits[source, target] = math.log(probability)
        model.lm_head.weight.copy_(logits.T / math.sqrt(hidden))  # the norm before it scales a one-hot by √hidden
    model.save_pretrained(folder)
    GenerationConfig(eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id).save_pretrained(folder)
