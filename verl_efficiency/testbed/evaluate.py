"""Accuracy and tokens of a model on a task of the testbed, at temperature 1 and on held-out problems."""

import random
from typing import Any, TypedDict

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from verl_efficiency.testbed.packs import count_correct, prompt
from verl_efficiency.testbed.tasks import Task


class Score(TypedDict, total=False):
    """``accuracy`` and ``tokens`` are means over problems; ``times_shortest`` is tokens / tokens of the shortest responses."""

    samples: int
    accuracy: float
    tokens: float
    times_shortest: float


def evaluate(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    size: int,
    samples: int,
    seed: int,
    split: str = "test",
) -> Score:
    """Sample one response to each of ``samples`` prompts of ``size`` problems of a split.

    ``times_shortest`` needs a task whose shortest response is known.
    """
    rng = random.Random(seed)
    drawn = [task.sample_pack(rng, size, split) for _ in range(samples)]
    chats = [[{"role": "user", "content": prompt(pack)}] for pack in drawn]
    batch: Any = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        output_BL: Any = model.generate(  # type: ignore[misc]  # its annotation fits no model class
            **batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=task.max_new_tokens * size
        )
    response_BL = output_BL[:, batch["input_ids"].shape[1] :]
    tokens = int((response_BL != tokenizer.pad_token_id).sum())
    texts = tokenizer.batch_decode(response_BL, skip_special_tokens=True)
    problems = size * samples
    score: Score = {
        "samples": samples,
        "accuracy": round(sum(map(count_correct, drawn, texts)) / problems, 4),
        "tokens": round(tokens / problems, 2),
    }
    if task.shortest_tokens is not None:
        score["times_shortest"] = round(tokens / sum(map(task.shortest_tokens, drawn)), 3)
    return score
