"""What a demonstration in the prompt does to the testbed's model: ``python -m benchmarks.questions.routing_teacher``.

SDPO's teacher is the model itself with a correct response in its prompt. SDPO can only teach what that prompt adds. This
program measures it before any training, for the committed warm start and for the one of ``routing_train.py``:

* accuracy and tokens of responses sampled with the plain prompt (the student) and with the teacher's prompt;
* on the student's own responses, which are what the teacher scores in training: the probability of the right answer where the
  response gives its answer, under both prompts, apart for right and for wrong responses; and the probability of the right
  digit where the response copies one from the problem;
* the teacher's entropy and the divergence KL(student ‖ teacher) per token.

Prompts, demonstrations and template are those of ``self_distillation`` with its defaults. Problems are of the training split.

Result (``results/routing_teacher.json``, 96 problems with 8 responses): the committed warm start answers 83 % right, its
teacher 15 %. The teacher reads the problem wrongly: it gives the right digit after a label a probability of .79, the student
.97. At the answer of a wrong response, both give the right answer .06, so the demonstration adds nothing. Before training
starts, SDPO alone can thus only teach errors. The warm start of ``routing_train.py`` (``notes_told``) answers 79 % right, its
teacher 96 % in 28 tokens instead of 45. At the answer of a wrong response the student gives the right answer .10, the teacher
.54: it copies from the demonstration.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_efficiency.evaluation.sampling import Completion, Draw, generate
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import demonstrations
from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages
from verl_efficiency.testbed.notes.task import Problem
from verl_efficiency.testbed.packs import count_correct
from verl_efficiency.testbed.prepare import problems
from verl_efficiency.testbed.tasks import task_named

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "routing_teacher.json"
GROUP = 8
LIMIT = 66  # tokens, as in the training runs


def main(
    models: Annotated[
        list[Path] | None, typer.Argument(help="model folders; unless given, the two warm starts")
    ] = None,
    prompts: Annotated[int, typer.Option(help="problems, each with 8 responses")] = 96,
    out: Annotated[Path, typer.Option(help="JSON file to write")] = RESULTS,
) -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    drawn = problems(task_named("notes"), "train", prompts, seed=1)
    folders = models or [task_named("notes").warm_start, HERE.parent / "warm_starts" / "notes_told"]
    found = [{"model": folder.name, **measure(folder, drawn)} for folder in folders]
    out.write_text(json.dumps({"prompts": prompts, "group": GROUP, "models": found}, indent=1) + "\n")
    printed = Printed("", *(row["model"] for row in found))
    for name in list(found[0])[1:]:
        printed.add_row(name, *(f"{row[name]:.3f}" for row in found))
    Console().print(printed)


def measure(folder: Path, drawn: Sequence[Problem]) -> dict[str, float]:
    """All figures of one model."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    settings = DistillationSettings()
    rows = [problem for problem in drawn for _ in range(GROUP)]
    plain = [templated(tokenizer, [{"role": "user", "content": problem.text}]) for problem in rows]
    responses = sample(model, tokenizer, plain)
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
    right = correct(rows, texts)
    rollouts = Rollouts.build(
        torch.tensor(right, dtype=torch.float64),
        torch.tensor([len(response) for response in responses]),
        [row // GROUP for row in range(len(rows))],
    )
    source = demonstrations(rollouts, settings).tolist()
    taught = [row for row, shown in enumerate(source) if shown >= 0]
    asked = {
        row: templated(
            tokenizer,
            teacher_messages([{"role": "user", "content": rows[row].text}], texts[source[row]], None, settings),
        )
        for row in taught
    }
    told = sample(model, tokenizer, [asked[row] for row in taught])
    told_texts = tokenizer.batch_decode(told, skip_special_tokens=True)
    figures = {
        "student's accuracy": fmean(right),
        "student's tokens": fmean(map(len, responses)),
        "teacher's accuracy": fmean(correct([rows[row] for row in taught], told_texts)),
        "teacher's tokens": fmean(map(len, told)),
        "teacher repeats the demonstration": fmean(
            text == texts[source[row]] for text, row in zip(told_texts, taught, strict=True)
        ),
    }
    student = log_probs(model, [plain[row] for row in taught], [responses[row] for row in taught])
    teacher = log_probs(model, [asked[row] for row in taught], [responses[row] for row in taught])
    box = tokenizer.convert_tokens_to_ids("\\boxed{")
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    said: dict[tuple[str, bool], list[float]] = {
        (who, how): [] for who in ("student", "teacher") for how in (True, False)
    }
    for row, ours, theirs in zip(taught, student, teacher, strict=True):
        if box in responses[row][:-1]:
            place, answer = responses[row].index(box) + 1, digits[rows[row].answer]
            said["student", bool(right[row])].append(float(ours[place, answer].exp()))
            said["teacher", bool(right[row])].append(float(theirs[place, answer].exp()))
    for (who, how), values in said.items():
        figures[f"{who}'s p(right answer), {'right' if how else 'wrong'} responses"] = fmean(values)
    ours_NV, theirs_NV = torch.cat(student), torch.cat(teacher)
    for who, rows_of in (("student", student), ("teacher", teacher)):
        copied = [
            p
            for row, found in zip(taught, rows_of, strict=True)
            for p in copies(tokenizer, rows[row], responses[row], found)
        ]
        figures[f"{who}'s p(right digit of the problem)"] = fmean(copied)
    figures["student's entropy per token, nats"] = float(-(ours_NV.exp() * ours_NV).sum(-1).mean())
    figures["teacher's entropy per token, nats"] = float(-(theirs_NV.exp() * theirs_NV).sum(-1).mean())
    figures["KL(student ‖ teacher) per token, nats"] = float((ours_NV.exp() * (ours_NV - theirs_NV)).sum(-1).mean())
    return {name: round(value, 4) for name, value in figures.items()}


def copies(tokenizer: Any, problem: Problem, response: Sequence[int], log_probs_NV: Tensor) -> list[float]:
    """The probability of the problem's digit at each place where the response has just written that digit's label."""
    of = tokenizer.convert_tokens_to_ids
    digit_of = {of(operand[0]): of(operand[1]) for operand in problem.operands_by_label}
    return [
        float(log_probs_NV[place, digit_of[label]].exp())
        for place, label in enumerate(response[:-1], start=1)
        if label in digit_of
    ]


def templated(tokenizer: Any, messages: Sequence[dict]) -> list[int]:
    """Token ids of a prompt."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def sample(model: Any, tokenizer: Any, prompts: Sequence[list[int]]) -> list[list[int]]:
    """A response to each prompt at temperature 1."""
    asked = [Completion(prompt, LIMIT, (0, row)) for row, prompt in enumerate(prompts)]
    for _ in generate(model, asked, Draw(), eos_ids=[tokenizer.eos_token_id], pad_id=tokenizer.pad_token_id):
        pass
    return [one.tokens for one in asked]


def correct(rows: Sequence[Problem], texts: Sequence[str]) -> list[float]:
    """1 for a right response, else 0."""
    return [float(count_correct([problem], text)) for problem, text in zip(rows, texts, strict=True)]


@torch.inference_mode()
def log_probs(model: Any, prompts: Sequence[list[int]], responses: Sequence[list[int]]) -> list[Tensor]:
    """Log-probabilities (n, V) of all tokens at each place of each response after its prompt."""
    found = []
    for start in range(0, len(prompts), 64):
        pairs = list(zip(prompts[start : start + 64], responses[start : start + 64], strict=True))
        rows = [torch.tensor([*prompt, *response]) for prompt, response in pairs]
        logits_BLV = model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)).logits  # padding is on the right
        for logits_LV, (prompt, response) in zip(logits_BLV, pairs, strict=True):
            found.append(logits_LV[len(prompt) - 1 : len(prompt) + len(response) - 1].log_softmax(-1))
    return found


if __name__ == "__main__":
    typer.run(main)
