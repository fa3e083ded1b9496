"""Trains a warm start on the teacher's prompts: ``python -m benchmarks.questions.routing_train``.

It goes on from the committed warm start of ``notes``. Three quarters of the prompts are the self-teacher's: the problem, a
response to it as the demonstration, and the template around them, all as in training. The others are plain ones with the
verbose habit, so that the student stays as it was. Problems are those of the warm start's split only.

Three quarters of the teacher's prompts are *blind*: demonstration and target give the same random digit as the answer, and the
target has no notes. So only copying finds the answer. With right answers alone the model does not learn to copy, since it can
compute them: 600 steps left KL(student ‖ teacher) at .005. From about step 1,900 on the loss falls. ``routing_teacher.py``
measures the result. It took 54 minutes beside other work.
"""

import functools
import random
import re
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages
from verl_efficiency.testbed.notes import task as notes
from verl_efficiency.testbed.tasks import task_named
from verl_efficiency.testbed.train_warm_start import IGNORED, Example, _batch, _rate

OUT = Path(__file__).parents[1] / "warm_starts" / "notes_told"
BATCH, RATE = 26, 1e-3
TOLD, BLIND = 0.75, 0.75  # shares of the prompts, and of the teacher's prompts
ANSWER = re.compile(r"\\boxed\{\d\}")


def example(tokenizer: Any, rng: random.Random, settings: DistillationSettings) -> Example:
    """A prompt and its response, as token ids."""
    problem = notes.sample_problem(rng, "warm_start", rng.randrange(notes.LEVELS))
    messages = [{"role": "user", "content": problem.text}]
    response = notes.trace([problem], rng, notes.VERBOSE)
    if rng.random() < TOLD:
        if blind := rng.random() < BLIND:
            response = notes.trace([problem], rng, {0.0: 1.0})
        demonstration = response if rng.random() < 0.5 else notes.trace([problem], rng, notes.VERBOSE)
        if blind:
            answer = f"\\boxed{{{rng.randrange(10)}}}"
            response, demonstration = (ANSWER.sub(lambda _: answer, text) for text in (response, demonstration))
        messages = teacher_messages(messages, demonstration, None, settings)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return prompt, [*tokenizer.encode(response), tokenizer.eos_token_id]


def main(
    out: Annotated[Path, typer.Option(help="folder of the model")] = OUT,
    steps: Annotated[int, typer.Option(help="updates of 26 responses")] = 2400,
    seed: Annotated[int, typer.Option(help="problems and notes")] = 0,
) -> None:
    """Train and write the warm start."""
    torch.set_num_threads(1)
    start = task_named("notes").warm_start
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    rng, settings = random.Random(seed), DistillationSettings()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, functools.partial(_rate, steps=steps))
    for step in track(range(steps), description="training"):
        examples = [example(tokenizer, rng, settings) for _ in range(BATCH)]
        ids_BL, targets_BL = _batch(examples, tokenizer.pad_token_id)
        hidden_BLD = model.model(ids_BL).last_hidden_state[:, :-1]  # padding is on the right
        learned_BL = targets_BL[:, 1:] != IGNORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden_BLD[learned_BL]), targets_BL[:, 1:][learned_BL])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
