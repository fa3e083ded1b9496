"""Checks a sample of the prompts and labels in the files of ``--data.prompt_dataset`` and ``--eval.dataset``."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verl_efficiency.adapter.checks import check_shares
from verl_efficiency.data.columns import column, has_key
from verl_efficiency.data.files import ENDINGS, Sample, read_sample
from verl_efficiency.data.gradable import check_gradable
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.openrlhf.options import ROOT, Options, teaches
from verl_efficiency.settings import SettingsError

logger = logging.getLogger("verl_efficiency")


def check_data(args: Any, options: Options) -> Iterator[str]:
    """The data sets can be read, and their labels hold what the method and our reward read."""
    columns = _columns(options)
    label_key = args.data.label_key
    reads_labels = bool(columns) or options.reward is not None
    if reads_labels and label_key is None:
        reader, read = (options.method, ", ".join(columns.values())) if columns else (options.reward, "the answer")
        yield f"--data.label_key: {reader} reads {read} from the labels; name their column"
    for flag, given in (("--data.prompt_dataset", args.data.prompt_dataset), ("--eval.dataset", args.eval.dataset)):
        for name in (given or "").split(",") if given else []:
            file = Path(name.partition("@")[0].strip())
            if file.suffix not in ENDINGS:
                logger.warning("%s: %s is not a local .jsonl, .json or .parquet file; it is not checked", flag, file)
                continue
            try:
                sample = read_sample(file, flag, columns=[args.data.input_key, label_key])
                yield from _check_prompts(sample, args.data, f"{flag}: {file}")
                if reads_labels and label_key is not None:
                    yield from _check_labels(sample, label_key, file, columns, options)
            except SettingsError as error:
                yield str(error)


def _columns(options: Options) -> dict[str, str]:
    """The columns that the method reads from the labels: role → path."""
    settings = options.build_settings()
    columns = {} if settings is None else dict(settings.columns)
    return columns | ({"question": "prompt"} if teaches(options) else {})


def _check_prompts(sample: Sample, data: Any, where: str) -> Iterator[str]:
    """The prompts are texts; with a chat template they may be messages."""
    key, place = data.input_key, sample.places.__getitem__
    try:
        prompts = column(sample.rows, key, "--data.input_key", place)
    except SettingsError as error:
        yield f"{error} of {where.partition(': ')[2]}"
        return
    for number, prompt in enumerate(prompts):
        problem = None if isinstance(prompt, str) else prompt_problem(prompt)
        if problem is None and not data.apply_chat_template and not isinstance(prompt, str):
            problem = "is a list of messages; add --data.apply_chat_template"
        if problem:
            yield f"{where}: {key} of {place(number)} {problem}"
            return


def _check_labels(sample: Sample, key: str, file: Path, columns: Mapping[str, str], options: Options) -> Iterator[str]:
    """The labels can be graded by our reward, and have the method's columns."""
    place = sample.places.__getitem__
    rows = [read_label(label) for label in column(sample.rows, key, "--data.label_key", place)]
    infos = [row.get("extra_info") for row in rows]
    packed = any(isinstance(info, Mapping) and (info.get("n") or 1) > 1 for info in infos)
    if packed and options.reward not in (None, "batched_accuracy"):
        yield (f"{ROOT}.reward: {options.reward} grades one problem, but prompts of {file} hold several; write {ROOT}.reward "
               "batched_accuracy, or pack with --problems 1")  # fmt: skip
    elif options.reward is not None:
        labelled = Sample(rows, sample.places, sample.columns)
        yield from check_gradable(labelled, REWARDS[options.reward], {}, f"--data.label_key: {file}")
    for role, path in columns.items():
        if role == "reference" and any(has_key(row, path) for row in rows):
            continue  # a row may lack a reference
        where = ROOT if role == "question" else f"{ROOT}.{role}_column"
        try:
            values = column(rows, path, where, place)
        except SettingsError as error:
            yield f"{error} of the labels in {file}; `verl-efficiency pack --format openrlhf` writes such labels"
            continue
        if role == "difficulty":
            yield from check_shares(values, path, where, file)
