"""Public data sets into verl's parquet form. They are streamed: of a set, only question, answer and difficulty of the rows that
are kept lie in memory, never its worked solutions. ``datasets`` streams from the hub. Your own copy needs only pyarrow.

    python -m recipes.cluster.data dapo aime25                          writes data/dapo.parquet and data/aime25.parquet
    python -m recipes.cluster.data gsm8k --file my_gsm8k_copy.jsonl     the same set from your own file, without a network
    python -m recipes.cluster.data                                      lists the sets

A set is one row of the table below: where it lies, which columns hold question, answer and difficulty. The difficulty is
brought to [0, 1], as ``token_budget`` with ``difficulty=data`` wants it. A row without question or answer stops the command.
"""

import argparse
import json
import random
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import iter_json, open_parquet, require_file
from verl_efficiency.data.length_prompts import ask
from verl_efficiency.data.parquet import load_problems, write_rows
from verl_efficiency.settings import SettingsError, unknown

ENDING = r"Please reason step by step, and put your final answer within \boxed{}."
MULTIPLIED, MULTIPLIED_TEST = 4096, 512


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        hub: its name on the Hugging Face hub; None for the set that is generated here.
        split, config: as the hub calls them.
        question: the prompt, made of columns: ``{problem}``.
        answer: column of the answer.
        answer_after: the answer is what follows this mark in its column.
        answer_in_box: the answer is what the last box of its column holds.
        difficulty: column, and its values at 0 and at 1; values beyond are cut off. Of a text its number counts.
        sample: so many rows, drawn evenly from all; None takes all.
        ending: a sentence behind each question. None where problems are packed: the pack says once how to answer.
        train: whether the rows are for training (``extra_info.split``).
    """

    hub: str | None
    split: str
    question: str = "{problem}"
    answer: str = "answer"
    config: str | None = None
    answer_after: str | None = None
    answer_in_box: bool = False
    difficulty: tuple[str, float, float] | None = None
    sample: int | None = None
    ending: str | None = ENDING
    train: bool = True


DEEPMATH = {"hub": "zwhe99/DeepMath-103K", "split": "train", "question": "{question}", "answer": "final_answer"}
DEEPMATH |= {"difficulty": ("difficulty", 1, 10)}
MATH = {"hub": "DigitalLearningGmbH/MATH-lighteval", "answer": "solution", "answer_in_box": True}
MATH |= {"difficulty": ("level", 1, 5)}
GSM8K = {"hub": "openai/gsm8k", "config": "main", "question": "{question}", "answer_after": "####"}
SVAMP = {"hub": "ChilleD/SVAMP", "question": "{Body}. {Question}", "answer": "Answer"}
TEST = {"split": "test", "train": False}

SOURCES = {
    "deepmath": Source(**DEEPMATH),
    "deepmath_9k": Source(**DEEPMATH, sample=9_000, ending=None),  # 3,000 packs of 3, as in BCR
    "dapo": Source("open-r1/DAPO-Math-17k-Processed", "train", "{prompt}", "solution", config="all"),
    "gsm8k": Source(**GSM8K, split="train"),
    "gsm8k_test": Source(**GSM8K, **TEST),
    "math": Source(**MATH, split="train"),
    "math500": Source("HuggingFaceH4/MATH-500", difficulty=("level", 1, 5), **TEST),
    "svamp": Source(**SVAMP, split="train"),
    "svamp_test": Source(**SVAMP, **TEST),
    "aime24": Source("HuggingFaceH4/aime_2024", "train", train=False),
    "aime25": Source("math-ai/aime25", **TEST),
    "multiplication": Source(None, "train", "{question}"),
    "multiplication_test": Source(None, "test", "{question}", train=False),
}


def stream(source: Source, file: Path | None) -> Iterator[Mapping[str, Any]]:
    """The rows of a set as it is published, from the hub or from a copy of it in ``file`` (.jsonl, .json or .parquet).

    Raises:
        SettingsError: no such file, one that cannot be read, a copy of a set that is generated here, or no ``datasets``.
    """
    if source.hub is None:
        if file is not None:
            raise SettingsError("--file: this set is generated here; leave --file out")
        yield from products(source.split)
    elif file is None:
        try:
            from datasets import load_dataset
        except ModuleNotFoundError:
            fix = "pip install datasets, or name a copy of the set with --file"
            raise SettingsError(f"{source.hub} comes from the hub by datasets, which is not installed: {fix}") from None
        yield from load_dataset(source.hub, source.config, split=source.split, streaming=True)
    elif require_file(file, "--file").suffix == ".parquet":
        for batch in open_parquet(file, "--file").iter_batches(1024):
            yield from batch.to_pylist()
    else:
        yield from (row for _, row in iter_json(file, "--file"))


def products(split: str) -> Iterator[dict[str, str]]:
    """Products of two three-digit numbers, always the same ones; no product is in both splits."""
    numbers = random.Random(0)
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < MULTIPLIED + MULTIPLIED_TEST:
        pairs[(numbers.randint(100, 999), numbers.randint(100, 999))] = None
    chosen = list(pairs)[:MULTIPLIED_TEST] if split == "test" else list(pairs)[MULTIPLIED_TEST:]
    for left, right in chosen:
        yield {"question": f"What is {left} * {right}?", "answer": str(left * right)}


def plain(source: Source, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Question, answer and, where the set has one, difficulty of a published row."""
    try:
        question = source.question.format(**row)
        if source.question.count("{") > 1:
            question = re.sub(r"([.!?])\s*\.(?=\s)", r"\1", question)  # a sentence that brings its own full stop
        found: dict[str, Any] = {"question": question, "answer": row[source.answer]}
        if source.difficulty:
            column, low, high = source.difficulty
            found["difficulty"] = min(max((_number(row[column]) - low) / (high - low), 0.0), 1.0)
    except KeyError as error:
        raise SettingsError(f"{where}: {unknown('column', str(error.args[0]), row)}") from None
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    return found


def sampled(rows: Iterator[dict[str, Any]], count: int | None, seed: int) -> list[dict[str, Any]]:
    """``count`` rows of a stream, every one with the same chance, in the order of the stream; all of them for None."""
    if count is None:
        return list(rows)
    draw, kept = random.Random(seed), []
    for number, row in enumerate(rows):
        if number < count:
            kept.append((number, row))
        elif (place := draw.randrange(number + 1)) < count:
            kept[place] = (number, row)
    return [row for _, row in sorted(kept, key=lambda pair: pair[0])]


def prepare(name: str, folder: Path, file: Path | None = None, limit: int | None = None, seed: int = 0) -> Path:
    """Write one set as ``folder/NAME.parquet``.

    Args:
        file: a copy of the set, instead of the hub.
        limit: so many rows, drawn evenly; wins over the set's own ``sample``.
        seed: of the draw.

    Raises:
        SettingsError: an unknown set, a column that is not there, or a row without an answer.
    """
    if name not in SOURCES:
        raise SettingsError(unknown("data set", name, SOURCES))
    source = SOURCES[name]
    numbered = enumerate(stream(source, file), 1)
    rows = sampled((plain(source, row, f"{name}, row {at}") for at, row in numbered), limit or source.sample, seed)
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch) / f"{name}.jsonl"
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        problems = load_problems(
            lines,
            answer_after=source.answer_after,
            answer_in_box=source.answer_in_box,
            data_source=name,
            split="train" if source.train else "test",
            keep=["difficulty"] if source.difficulty else (),
        )
    if source.ending:
        problems = [ask(row, source.ending, number) for number, row in enumerate(problems)]
    target = folder / f"{name}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(target, problems)
    print(f"{len(problems)} problems: {target}")
    return target


def _number(value: Any) -> float:
    """A number, or the one in a text: 3 of ``Level 3``."""
    if isinstance(value, int | float):
        return float(value)
    digits = re.search(r"\d+(\.\d+)?", str(value))
    if digits is None:
        raise ValueError(f"a difficulty without a number: {value!r}")
    return float(digits[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="sets to write; without one, the list")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder (default: data)")
    parser.add_argument("--file", type=Path, help="a copy of the set, instead of the hub; for one set")
    parser.add_argument("--limit", type=int, help="so many rows, drawn evenly")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    options = parser.parse_args()
    if options.file and len(options.names) != 1:
        raise SystemExit("--file: a copy of which set? Give one name")
    for name in options.names:
        prepare(name, options.out, options.file, options.limit, options.seed)
    if not options.names:
        for name, source in SOURCES.items():
            print(f"{name:<22}{source.hub or 'generated here'} [{source.split}]")


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        raise SystemExit(str(error)) from None
