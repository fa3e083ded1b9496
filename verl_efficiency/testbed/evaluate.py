"""How well does a model do on the testbed? Accuracy and tokens at temperature 1, on held-out problems."""

import random
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from verl_efficiency.testbed.task import PACKED_ANSWER, SINGLE_ANSWER, Problem, prompt, sample_pack, shortest_tokens

MAX_NEW_TOKENS = 230  # for each problem: the longest verbose trace of depth 6 has 173 + 5


class Score(TypedDict):
    """``accuracy`` is a share of problems, ``tokens`` a mean over problems, ``times_shortest`` all tokens over all needed."""

    samples: int
    accuracy: float
    tokens: float
    times_shortest: float


def count_correct(problems: Sequence[Problem], response: str) -> int:
    """Number of problems whose own answer stands in the response, in the form that the prompt's form asks for."""
    template = SINGLE_ANSWER if len(problems) == 1 else PACKED_ANSWER
    return sum(template.format(index=i, answer=p.answer) in response for i, p in enumerate(problems, start=1))


def evaluate(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, size: int, samples: int, seed: int) -> Score:
    """Sample one response to each of ``samples`` prompts of ``size`` held-out problems."""
    rng = random.Random(seed)
    packs = [sample_pack(rng, size, test=True) for _ in range(samples)]
    chats = [[{"role": "user", "content": prompt(pack)}] for pack in packs]
    batch: Any = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        output_BL: Any = model.generate(  # type: ignore[misc]  # typed for a protocol that no model class of transformers meets
            **batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS * size
        )
    response_BL = output_BL[:, batch["input_ids"].shape[1] :]
    tokens = int((response_BL != tokenizer.pad_token_id).sum())
    texts = tokenizer.batch_decode(response_BL, skip_special_tokens=True)
    problems = size * samples
    return {
        "samples": samples,
        "accuracy": round(sum(map(count_correct, packs, texts)) / problems, 4),
        "tokens": round(tokens / problems, 2),
        "times_shortest": round(tokens / sum(map(shortest_tokens, packs)), 3),
    }
