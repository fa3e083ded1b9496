"""Answers in a forced style: the model writes notes exactly where the style says so."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    Qwen2ForCausalLM,
)

from verl_efficiency.testbed.notes.task import DIGITS, LABELS, NOTE_TOKENS, OPENERS, Problem, styled
from verl_efficiency.testbed.packs import count_correct, prompt

MAX_NEW_TOKENS = 2 * DIGITS + 4 + NOTE_TOKENS * DIGITS + 8  # the longest sensible response has 58


class ForcedNotes(LogitsProcessor):
    """Forces a note after a digit where ``plans_BD`` (bool) is true, and forbids one where it is false.

    Only a digit behind a label may be followed by a note. The model writes all other tokens freely.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, plans_BD: Tensor):
        of = tokenizer.convert_tokens_to_ids
        self.plans_BD = plans_BD
        self.is_digit_V = torch.zeros(len(tokenizer), dtype=torch.bool)
        self.is_digit_V[of(list("0123456789"))] = True
        self.label_V = torch.full((len(tokenizer),), -1)  # level · DIGITS + place, −1 for a token that is not a label
        self.label_V[of(list(LABELS))] = torch.arange(len(LABELS))
        self.openers_L = torch.tensor(of(list(OPENERS)))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask ``scores`` (B, V) after ``input_ids`` (B, T)."""
        label_B = self.label_V[input_ids[:, -2]]
        may_B = self.is_digit_V[input_ids[:, -1]] & (label_B >= 0)
        must_B = may_B & self.plans_BD.gather(1, (label_B.clamp_min(0) % DIGITS)[:, None])[:, 0]
        opener_B = self.openers_L[label_B.clamp_min(0) // DIGITS]
        opens_BV = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, opener_B[:, None], True)
        forbidden_BV = torch.zeros_like(opens_BV)
        forbidden_BV[:, self.openers_L] = (may_B & ~must_B)[:, None]
        forbidden_BV |= must_B[:, None] & ~opens_BV
        return scores.masked_fill(forbidden_BV, -torch.inf)


def answer_in_style(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    style: str,
    sample: bool = False,
    batch_size: int = 240,
) -> tuple[list[bool], list[int]]:
    """Answer single problems in a style of :func:`styled`; returns whether each is right, and its tokens.

    ``sample`` draws at temperature 1; otherwise each token is the most likely one.
    """
    # Both cases set do_sample, since its default comes from the model's own configuration, which samples.
    draw: dict[str, Any] = {"do_sample": sample} | ({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {})
    correct: list[bool] = []
    tokens: list[int] = []
    for start in range(0, len(problems), batch_size):
        batch = problems[start : start + batch_size]
        plans_BD = torch.tensor([styled(problem, style) for problem in batch])
        chats = [[{"role": "user", "content": prompt([problem])}] for problem in batch]
        inputs: Any = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            output_BL: Any = model.generate(  # type: ignore[misc]  # its annotation fits no model class
                **inputs,
                generation_config=GenerationConfig(
                    max_new_tokens=MAX_NEW_TOKENS,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                    **draw,
                ),
                logits_processor=LogitsProcessorList([ForcedNotes(tokenizer, plans_BD)]),
            )
        response_BL = output_BL[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(response_BL, skip_special_tokens=True)
        correct += [bool(count_correct([problem], text)) for problem, text in zip(batch, texts, strict=True)]
        tokens += (response_BL != tokenizer.pad_token_id).sum(1).tolist()
    return correct, tokens
