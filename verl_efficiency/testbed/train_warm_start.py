"""Train the verbose warm start from a seed: ``python -m verl_efficiency.testbed.train_warm_start --seed 0 --out DIR``."""

import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from verl_efficiency.testbed.evaluate import evaluate
from verl_efficiency.testbed.task import prompt, sample_pack, trace
from verl_efficiency.testbed.tokenizer import build_tokenizer

# (first step, shares of the tokens spent on drills and on traces of 1, 2, 3 problems). Looking an operand up in the prompt is
# what is hard to learn: without drills the model settles on copying by position, which fails in packs.
STAGES = ((0, (1.0, 0.0, 0.0, 0.0)), (350, (0.2, 0.24, 0.24, 0.32)), (1200, (0.0, 0.3, 0.3, 0.4)))
MEAN_TOKENS = (80, 75, 165, 255)  # of a drill and of 1, 2, 3 problems, prompt and response together
STEPS = 2400
WARM_UP = 100
CONSTANT_UNTIL = 1000  # then the learning rate falls linearly to 2 %
MATRIX_RATE, OTHER_RATE = 1e-2, 3e-3
BATCH_TOKENS = 1600
BATCHES_PER_POOL = 16
IGNORE = -100

Example = tuple[list[int], list[int]]  # token ids and, as long, labels: the ids that are trained, IGNORE elsewhere


def build_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2ForCausalLM:
    """A two-layer Qwen2 of 200,352 random parameters in float32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1000.0,
        },  # short texts: sharper positions than 10,000 gives
        initializer_range=0.06,  # with the usual 0.02 look-ups are not learnt
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config)


def sample_example(kind: int, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Example:
    """A verbose trace of ``kind`` problems, or for kind 0 a drill: the operands of a prompt, asked for in random order."""
    problems = sample_pack(rng, kind or rng.randint(1, 4), test=False)
    chat = [{"role": "user", "content": prompt(problems)}]
    question: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    if kind:
        response = [*tokenizer.encode(trace(problems, rng)), tokenizer.eos_token_id]
        return question + response, [IGNORE] * len(question) + response
    pairs = 2 * [f"{label}{operand}" for problem in problems for label, operand, _, _ in problem.steps]
    rng.shuffle(pairs)
    response = tokenizer.encode("".join(pairs))
    operands = [token if index % 2 else IGNORE for index, token in enumerate(response)]
    return question + response, [IGNORE] * len(question) + operands


def batches(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield for ever ids_BL and labels_BL of about BATCH_TOKENS tokens; a batch holds examples of similar length."""
    step = 0
    while True:
        shares = [shares for start, shares in STAGES if start <= step][-1]
        weights = [share / tokens for share, tokens in zip(shares, MEAN_TOKENS, strict=True)]
        pool: list[Example] = []
        while sum(len(ids) for ids, _ in pool) < BATCH_TOKENS * BATCHES_PER_POOL:
            pool.append(sample_example(rng.choices(range(4), weights)[0], tokenizer, rng))
        pool.sort(key=lambda example: len(example[0]))
        cuts: list[list[Example]] = [[]]
        for example in pool:
            if (len(cuts[-1]) + 1) * len(example[0]) > 1.15 * BATCH_TOKENS:
                cuts.append([])
            cuts[-1].append(example)
        rng.shuffle(cuts)
        step += len(cuts)
        for cut in cuts:
            ids, labels = zip(*cut, strict=True)
            yield _pad(ids, tokenizer.pad_token_id), _pad(labels, IGNORE)


def train(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Train ``model`` in place for STEPS steps on problems of the train split; deterministic on one thread."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "layers" not in name]
    # Adam alone needs several times the steps until look-ups emerge.
    muon = torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, _rate) for optimizer in (muon, adam)]
    with Progress() as progress:
        bar = progress.add_task("training", total=STEPS)
        stream = itertools.islice(batches(tokenizer, random.Random(seed)), STEPS)
        for step, (ids_BL, labels_BL) in enumerate(stream, start=1):
            loss = model(input_ids=ids_BL, labels=labels_BL).loss  # padded on the right: the causal mask is enough
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip((muon, adam), schedules, strict=True):
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            progress.update(bar, advance=1)
            if step % 100 == 0:
                progress.console.print(f"step {step}: loss {loss.item():.3f}")


def _rate(step: int) -> float:
    if step < CONSTANT_UNTIL:
        return min(1.0, (step + 1) / WARM_UP)
    return max(0.02, (STEPS - step) / (STEPS - CONSTANT_UNTIL))


def _pad(rows: tuple[list[int], ...], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def main(
    out: Annotated[Path, typer.Option(help="where the model directory goes")],
    seed: Annotated[int, typer.Option(help="initial weights and problems")] = 0,
    samples: Annotated[int, typer.Option(help="held-out prompts for each of N = 1, 2, 3")] = 400,
) -> None:
    """Train, evaluate and write a warm start."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed)
    start = time.perf_counter()
    train(model, tokenizer, seed)
    seconds = time.perf_counter() - start
    model.generation_config.do_sample = True
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    scores = {str(size): evaluate(model, tokenizer, size, samples, seed=77) for size in (1, 2, 3)}
    record = {"seed": seed, "steps": STEPS, "seconds": round(seconds), "held_out_at_temperature_1_by_pack_size": scores}
    (out / "warm_start.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    typer.run(main)
