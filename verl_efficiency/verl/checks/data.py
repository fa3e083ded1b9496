"""``data.train_files`` and ``data.val_files``: a bounded sample of their rows, and whether the reward can grade it."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import ROWS_LOOKED_AT, Sample, open_parquet, read_sample, require_file
from verl_efficiency.data.gradable import check_gradable
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.data.packing import pack_rows
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.rewards.ground_truth import option_for
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.checks.code import check_code_of
from verl_efficiency.verl.checks.columns import check_column, missing_values
from verl_efficiency.verl.checks.concern import concerns_us
from verl_efficiency.verl.checks.dataset import packing_of, uses_ours
from verl_efficiency.verl.checks.files import is_local, many_machines, named, resolved
from verl_efficiency.verl.checks.prompts import advise_to_ask, advise_to_pack
from verl_efficiency.verl.checks.reward import FUNCTION, OurReward, reward_of, unknown_to_verl, uses_verls_reward
from verl_efficiency.verl.checks.values import names_a_model
from verl_efficiency.verl.modes import mode_of

logger = logging.getLogger("verl_efficiency")
DEFAULT_FILES = ("~/data/rlhf/gsm8k/train.parquet", "~/data/rlhf/gsm8k/test.parquet")  # verl's own
_WRITE_A_REWARD = (
    f"write {FUNCTION}.path=pkg://verl_efficiency.rewards {FUNCTION}.name=accuracy, or name your own reward function"
)
_ANSWERS = ("answer", "answers", "final_answer", "solution", "ground_truth", "label")
_QUESTIONS = ("question", "problem", "query", "prompt", "input", "Question", "Problem")


def check_data(config: Any, *, asked: bool = False) -> Iterator[str]:
    """Every problem of the files and of the code that the configuration names, one line each.

    Args:
        config: a composed verl configuration.
        asked: True for ``doctor``. It also looks at runs that do not use this package, and verl's default files may be missing.
    """
    if not asked and not concerns_us(config):
        return
    yield from check_code_of(config)
    if (config.data.get("custom_cls") or {}).get("path") and not uses_ours(config):
        return  # such a data set may read any format
    for key in ("train_files", "val_files"):
        given = named(config.data.get(key))
        if not given:
            yield f"data.{key}: names no file"
        for file in given:
            if not is_local(file):
                logger.warning("data.%s: %s is not a local file; its rows are not checked at start-up.", key, file)
                continue
            files = resolved(file)
            if asked and file in DEFAULT_FILES and not files[0].exists():
                continue
            for one in files:
                if one.exists() or not many_machines(config):
                    yield from _check_file(one, f"data.{key}", config)
                else:
                    logger.warning("data.%s: %s is not on this machine; its rows are not checked.", key, one)


def _check_file(file: Any, setting: str, config: Any) -> Iterator[str]:
    prompt_key = str(config.data.get("prompt_key") or "prompt")
    try:
        sample = read_sample(file, setting, columns=[prompt_key, "data_source", "reward_model", "extra_info"])
    except SettingsError as error:
        yield f"{error}{_hint_of_default(file)}"
        return
    reward = reward_of(config)
    needed = [prompt_key, *(["data_source", "reward_model"] if reward else [])]
    missing = [name for name in needed if name not in sample.columns]
    if missing:
        yield f"{setting}: {file} has no column {missing[0]!r}; {_fix_of_columns(sample.columns, file)}"
        return
    for row, place in zip(sample.rows, sample.places, strict=True):
        if problem := prompt_problem(row.get(prompt_key)):
            yield (f"{setting}: the prompt of {file} {place} {problem}; `verl-efficiency pack {file} NEW.parquet --problems 1` "
                   "writes texts and from/value conversations as messages")  # fmt: skip
            return
    if reward is not None:
        yield from _check_rewarded(sample, reward, file, setting, config, prompt_key)
    elif uses_verls_reward(config):
        yield from _check_sources(sample, f"{setting}: {file}")


def check_rows(config: Any) -> Iterator[str]:
    """The training files of a launch fill one batch. verl leaves a smaller batch out, so the run would end without a step.

    Data sets and samplers of others may make more of the rows, so such runs pass. So does ``data.gen_batch_size``, which takes
    the rows in smaller parts, and a file whose rows cannot be counted here.
    """
    data, trainer, batch = config.data, config.trainer, config.data.train_batch_size
    of_others = (data.get("custom_cls") or {}).get("path") and not uses_ours(config)
    sampler = (data.get("sampler") or {}).get("class_path")
    if names_a_model(config) is None or of_others or sampler or data.get("gen_batch_size"):
        return
    filters = (config.algorithm.get("filter_groups") or {}).get("enable", False)
    one_by_one = trainer.get("use_v1", False) and (mode_of(trainer) != "sync" or filters)
    if one_by_one and trainer.get("total_training_steps"):  # a batch may then span epochs
        return
    rows = sum(
        _count(file) if is_local(name) else math.inf for name in named(data.train_files) for file in resolved(name)
    )
    if 0 < data.get("train_max_samples", -1) < rows:
        rows = data.train_max_samples
    if 0 < rows < batch:
        yield (f"data.train_batch_size: {batch} is more than the {rows} rows of data.train_files. verl leaves a smaller batch "
               f"out, so the run would end without a step; write at most {rows}")  # fmt: skip


def _count(file: Path) -> float:
    """The rows of a file; infinite where they cannot be counted, or only by reading a large file."""
    try:
        if file.suffix == ".parquet":
            return open_parquet(require_file(file, ""), "").metadata.num_rows
        rows = len(read_sample(file).rows)
    except SettingsError:  # reported by check_data
        return math.inf
    return rows if rows < ROWS_LOOKED_AT else math.inf


def _check_rewarded(
    sample: Sample, reward: OurReward, file: Any, setting: str, config: Any, prompt_key: str
) -> Iterator[str]:
    """Our reward can grade the rows; a warning where their prompts do not ask for what it reads."""
    if empty := missing_values(file, "reward_model.ground_truth"):
        yield f"{setting}: {empty} rows of {file} have no reward_model.ground_truth (null); fill it, or leave them out"
        return
    if any(any(check_column([str(file)], column, setting)) for column in reward.settings.columns.values()):
        return  # reported by checks/reward.py, with the setting that names the column
    problems = list(check_gradable(sample, reward.method, reward.given, f"{setting}: {file}"))
    packing = packing_of(config)
    if packing is not None and packing.problems > 1 and not (problems and reward.method.name == "batched_accuracy"):
        problems = list(_check_packs(sample, packing, reward, f"{setting}: {file}"))
    yield from problems
    if problems:
        return
    # checks/dataset.py reports settings that nobody reads
    packs_itself = packing is not None or config.data.get("efficiency")
    advice = list(advise_to_ask(sample, prompt_key, reward, file))
    if setting == "data.train_files" and not packs_itself:  # single problems are right for validation
        advice += advise_to_pack(sample, reward, file)
    for text in advice:
        logger.warning("%s: %s", setting, text)


def _check_sources(sample: Sample, where: str) -> Iterator[str]:
    """verl's own reward knows the data sources of the rows."""
    if "data_source" not in sample.columns:
        yield f"{where} has no column 'data_source', by which verl's default reward chooses how to grade; {_WRITE_A_REWARD}"
    elif sources := unknown_to_verl(row.get("data_source") for row in sample.rows):
        more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
        yield (f"{where}: verl's default reward does not know the data_source {sources[0]!r}{more}, so the run would end at "
               f"the first reward; {_WRITE_A_REWARD}")  # fmt: skip


def _check_packs(sample: Sample, packing: PackingSettings, reward: OurReward, where: str) -> Iterator[str]:
    """Rows that our data set packs can be graded as packs."""
    infos = [row.get("extra_info") for row in sample.rows]
    splits = {info.get("split") if isinstance(info, Mapping) else None for info in infos}
    if None in splits:
        yield f"{where}: every row must say in extra_info.split whether it is packed ({packing.split!r}) or not"
    elif splits != {packing.split}:
        yield from check_gradable(sample, reward.method, reward.given, where)
    else:
        loose = replace(packing, grouping="random", distinct_by=None, remainder="smaller")
        try:
            packs = pack_rows(sample.rows[: 8 * packing.problems], loose, seed=0)
        except SettingsError as error:
            yield f"{where}: {error}"
            return
        places = [f"pack {number}" for number in range(len(packs))]
        yield from check_gradable(Sample(packs, places, sample.columns), reward.method, reward.given, where)


def _fix_of_columns(columns: list[str], file: Any) -> str:
    """How to bring a file with other columns into verl's form."""
    question = next((name for name in _QUESTIONS if name in columns), None)
    answer = next((name for name in _ANSWERS if name in columns), None)
    if question is None or answer is None:
        return f"it has {', '.join(columns)}, and verl reads prompt, data_source, reward_model and extra_info"
    command = f"verl-efficiency pack {file} NEW.parquet --problems 1 --question {question} --answer {answer}"
    answers = [str(row.get(answer)) for row in read_sample(file, "", columns=[answer]).rows]
    option = next(filter(None, map(option_for, answers)), "")
    return (
        f"it holds raw problems ({', '.join(columns)}); bring them into verl's form: `{f'{command} {option}'.strip()}`"
    )


def _hint_of_default(file: Any) -> str:
    defaults = [str(resolved(name)[0]) for name in DEFAULT_FILES]
    return " (verl's default, since the configuration names none)" if str(file) in defaults else ""
