"""Trains a warm start from a seed: ``python -m verl_efficiency.testbed.train_warm_start --task notes --seed 0 --out DIR``.

On one idle core ``checks`` and ``notes`` take about 16 minutes, ``products`` about 3. The result depends only on the task and
the seed: training uses one thread, and each stage has its own random stream. A second call continues after the last finished
stage. ``benchmarks/results/warm_start.json`` has the numbers of two seeds of ``checks``. The folder ``warm_start/`` of a task
is one of its warm starts.
"""

import functools
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from verl_efficiency.settings import SettingsError, unknown
from verl_efficiency.testbed.checks import task as checks
from verl_efficiency.testbed.evaluate import evaluate
from verl_efficiency.testbed.notes import task as notes
from verl_efficiency.testbed.notes.styles import answer_in_style
from verl_efficiency.testbed.packs import Problem, prompt
from verl_efficiency.testbed.products import task as products
from verl_efficiency.testbed.tasks import TASKS, Task, task_named
from verl_efficiency.testbed.tokenizer import build_tokenizer

TOKENS = 1200  # approximate number of response tokens in a batch
WARM_UP = 50  # steps; the rate is then constant up to half of the stage, and falls linearly to 2 %
DRILL_PROBLEMS = (2, 6)
IGNORED = -100  # target of a position without loss

Example = tuple[list[int], list[int]]  # prompt and response


@dataclass(frozen=True)
class Stage:
    """A part of the training, with its own optimizer and random stream.

    The hard part is to find an operand in the prompt. Without drills the model learns to copy by position, which fails in
    packs. So the first ``drills_only`` steps are drills, and up to ``drills_until`` a batch is a drill with probability
    ``drill_share``.
    """

    steps: int
    rate: float  # the highest learning rate
    pack_shares: dict[int, float]  # share of the batches by the number of problems in a prompt
    trace: Callable[[Sequence[Any], random.Random], str]  # writes a response to a pack
    tokens_per_problem: int  # approximate length of these responses; sets the batch size
    drills_only: int = 0
    drills_until: int = 0
    drill_share: float = 0.15
    digit_weight: float = 1.0  # weight of a digit's loss; other tokens have weight 1
    repeats: int = 1  # at most so many repetitions, until `enough` is true
    enough: Callable[[Qwen2ForCausalLM, PreTrainedTokenizerBase], bool] = lambda model, tokenizer: False


IN_HEAD = 2  # the level of three digits
IN_HEAD_PROBLEMS = 480


def in_head(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Accuracy of three digits in the head, without sampling: on problems of the warm start, and on new ones."""
    rng = random.Random(5)
    scores = {}
    for split in ("warm_start", "train"):
        problems = [notes.sample_problem(rng, split, IN_HEAD) for _ in range(IN_HEAD_PROBLEMS)]
        correct, _ = answer_in_style(model, tokenizer, problems, style="0")
        scores[split] = sum(correct) / len(correct)
    return scores


def knows_new_problems(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether :func:`in_head` is as good on new problems as on those of the warm start, within two standard errors."""
    scores = in_head(model, tokenizer)
    print(json.dumps(scores), flush=True)
    return scores["train"] >= 0.9 and scores["train"] >= scores["warm_start"] - 0.03


def right_as_traces(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model is right on new products as often as the traces it learns from, within two standard errors."""
    score = evaluate(model, tokenizer, task_named("products"), 1, 240, seed=5, split="validation")
    traces_right = [(1 - products.SLIPS) ** level for level in products.LEVELS]
    print(json.dumps(score), flush=True)
    return score["accuracy"] >= sum(traces_right) / len(traces_right) - 0.06


_checks = functools.partial(Stage, trace=checks.trace, tokens_per_problem=58)
_notes = functools.partial(Stage, digit_weight=3.0, pack_shares={1: 0.4, 2: 0.24, 3: 0.36})
_products = functools.partial(Stage, rate=3e-3, pack_shares={1: 1.0}, trace=products.trace, tokens_per_problem=40)
_practice = functools.partial(notes.trace, rates=notes.PRACTICE)
_verbose = functools.partial(notes.trace, rates=notes.VERBOSE)
_easy_habit = functools.partial(notes.trace, rates=notes.WASTE_ON_EASY)

STAGES: dict[str, tuple[Stage, ...]] = {
    "checks": (
        _checks(4500, 3e-3, {1: 0.4, 2: 0.24, 3: 0.36}, drills_only=900, drills_until=3150),
        _checks(1500, 1.5e-3, {1: 0.25, 2: 0.3, 3: 0.45}),  # the start of a line in a pack is learned last
        _checks(1500, 1.5e-3, {1: 0.25, 2: 0.3, 3: 0.45}),
    ),
    # First all styles, from no note to a note after every digit; then sums in the head; then the verbose habit.
    "notes": (
        _notes(5000, 3e-3, trace=_practice, tokens_per_problem=33, drills_only=700, drills_until=2500),
        _notes(500, 7e-4, trace=_practice, tokens_per_problem=33, repeats=6, enough=knows_new_problems),
        _notes(800, 7e-4, trace=_verbose, tokens_per_problem=46),
    ),
    # The steps are learned long before the answer, which collects a digit of each.
    "products": (
        _products(800, drills_only=100, drills_until=400),
        _products(200, repeats=10, enough=right_as_traces),
    ),
}
# Other warm starts of the same task. They share its first stages, so the folder `stages` of one may be copied to another.
STAGES |= {
    "notes_early": STAGES["notes"][:1],  # all styles, and less sure in the head
    "notes_easy_habit": (*STAGES["notes"][:2], _notes(800, 7e-4, trace=_easy_habit, tokens_per_problem=46)),
}


def build_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2ForCausalLM:
    """A two-layer Qwen2 of about 200,000 random weights in float32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.06,  # with the usual 0.02, look-ups are not learned
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config)


def drill(task: Task, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> list[Example]:
    """Drills: the labels of a pack with their operands, in random order."""
    size = rng.randint(*(min(most, task.largest_pack) for most in DRILL_PROBLEMS))
    examples = []
    for _ in range(max(4, TOKENS // (7 * size))):
        pack = task.sample_pack(rng, size, task.warm_start_split)
        pairs = [operand for problem in pack for operand in problem.operands_by_label]
        rng.shuffle(pairs)
        examples.append((_prompt_ids(tokenizer, pack), tokenizer.encode("".join(pairs))))
    return examples


def traces(task: Task, tokenizer: PreTrainedTokenizerBase, rng: random.Random, stage: Stage) -> list[Example]:
    """Traces of packs of one size, which is drawn by its share."""
    (size,) = rng.choices(list(stage.pack_shares), list(stage.pack_shares.values()))
    examples = []
    for _ in range(max(8, TOKENS // (stage.tokens_per_problem * size))):
        pack = task.sample_pack(rng, size, task.warm_start_split)
        response = [*tokenizer.encode(stage.trace(pack, rng)), tokenizer.eos_token_id]
        examples.append((_prompt_ids(tokenizer, pack), response))
    return examples


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, pack: Sequence[Problem]) -> list[int]:
    chat = [{"role": "user", "content": prompt(pack)}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)  # type: ignore[return-value]


def train(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, task: Task, stage: Stage, rng: random.Random
) -> None:
    """Train ``model`` in place on the split of the warm start."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, functools.partial(_rate, steps=stage.steps))
    labels = torch.tensor(tokenizer.convert_tokens_to_ids(sorted(filter(str.isalpha, task.characters))))
    weights_V = torch.ones(len(tokenizer))
    weights_V[tokenizer.convert_tokens_to_ids(list("0123456789"))] = stage.digit_weight
    for step in track(range(stage.steps), description="training"):
        drilling = step < stage.drills_only or (step < stage.drills_until and rng.random() < stage.drill_share)
        examples = drill(task, tokenizer, rng) if drilling else traces(task, tokenizer, rng, stage)
        ids_BL, targets_BL = _batch(examples, tokenizer.pad_token_id)
        if drilling:  # their random order cannot be predicted
            targets_BL[torch.isin(targets_BL, labels)] = IGNORED
        hidden_BLD = model.model(ids_BL).last_hidden_state[
            :, :-1
        ]  # padding is on the right, so the causal mask is enough
        learned_BL = targets_BL[:, 1:] != IGNORED
        logits_NV = model.lm_head(hidden_BLD[learned_BL])
        torch.nn.functional.cross_entropy(logits_NV, targets_BL[:, 1:][learned_BL], weights_V).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def _rate(step: int, steps: int) -> float:
    if step < steps // 2:
        return min(1.0, (step + 1) / WARM_UP)
    return max(0.02, 2 * (steps - step) / steps)


def _batch(examples: list[Example], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and targets, both (B, L); the targets are the response tokens, unshifted."""
    ids = [torch.tensor([*question, *response]) for question, response in examples]
    targets = [torch.tensor([IGNORED] * len(question) + response) for question, response in examples]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, batch_first=True, padding_value=pad_id), pad(targets, batch_first=True, padding_value=IGNORED)


def train_all(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    stages: Sequence[Stage],
    seed: int,
    out: Path,
) -> dict:
    """Train ``model`` through all ``stages``, saving it in ``out`` after each; a second call continues after the last one.

    Returns ``steps`` and ``seconds`` of the training.
    """
    steps, seconds = 0, 0.0
    for number, stage in enumerate(stages):
        for repeat in range(stage.repeats):
            folder = out / "stages" / f"{number}.{repeat}"
            if not (folder / "done.json").exists():
                start = time.perf_counter()
                stream = f"{seed} {number}" + f" {repeat}" * (repeat > 0)
                train(model, tokenizer, task, stage, random.Random(seed if number == 0 else stream))
                enough = stage.enough(model.eval(), tokenizer)
                model.train().save_pretrained(folder)
                record = {"seconds": time.perf_counter() - start, "enough": enough}
                (folder / "done.json").write_text(json.dumps(record) + "\n")
            done = json.loads((folder / "done.json").read_text())
            model.load_state_dict(Qwen2ForCausalLM.from_pretrained(folder).state_dict())
            steps, seconds = steps + stage.steps, seconds + done["seconds"]
            if done["enough"]:
                break
    return {"steps": steps, "seconds": round(seconds)}


def main(
    out: Annotated[Path, typer.Option(help="folder of the model")],
    task: Annotated[str, typer.Option(help=f"one of {', '.join(task.name for task in TASKS)}")] = "checks",
    variant: Annotated[str, typer.Option(help="another warm start of notes: early or easy_habit")] = "",
    seed: Annotated[int, typer.Option(help="initial weights and problems")] = 0,
    samples: Annotated[int, typer.Option(help="held-out prompts for each of N = 1, 2, 3")] = 400,
) -> None:
    """Train, evaluate and write a warm start."""
    torch.set_num_threads(1)
    chosen = task_named(task)
    name = f"{task}_{variant}" if variant else task
    if name not in STAGES:
        raise SettingsError(f"--variant: {unknown('warm start', name, STAGES)}")
    tokenizer = build_tokenizer(chosen.characters)
    model = build_model(tokenizer, seed)
    trained = train_all(model, tokenizer, chosen, STAGES[name], seed, out)
    model.generation_config.do_sample = True
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    sizes = [size for size in (1, 2, 3) if size <= chosen.largest_pack]
    scores = {str(size): evaluate(model, tokenizer, chosen, size, samples, seed=77) for size in sizes}
    record = {"name": name, "seed": seed, **trained, "held_out_at_temperature_1_by_pack_size": scores}
    if task == "notes":
        record["three_digits_in_the_head"] = in_head(model, tokenizer)
    (out / "warm_start.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    typer.run(main)
