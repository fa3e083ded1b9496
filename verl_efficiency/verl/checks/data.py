"""``data.train_files`` and ``data.val_files``: a sample of their rows, and whether the reward can grade them.

A file is looked at within bounded time and memory, see :mod:`verl_efficiency.data.files`. Only runs that use this package are
checked. Runs with a custom data set class are skipped, because that class may read any file format.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl_efficiency.data.files import Sample, read_sample
from verl_efficiency.data.gradable import check_gradable
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.data.packing import pack_rows
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.methods.catalog import Method
from verl_efficiency.own_code import check_code, module_name
from verl_efficiency.rewards.ground_truth import option_for
from verl_efficiency.settings import SettingsError, build_settings
from verl_efficiency.verl.checks.columns import check_column, missing_values
from verl_efficiency.verl.checks.concern import concerns_us
from verl_efficiency.verl.checks.dataset import OURS
from verl_efficiency.verl.checks.files import is_local, named, resolved
from verl_efficiency.verl.checks.prompts import advise_to_ask, advise_to_pack
from verl_efficiency.verl.checks.reward import reward_of, unknown_to_verl, uses_verls_reward

logger = logging.getLogger("verl_efficiency")
DEFAULT_FILES = ("~/data/rlhf/gsm8k/train.parquet", "~/data/rlhf/gsm8k/test.parquet")  # where a user names none
_WRITE_A_REWARD = (
    "write reward.custom_reward_function.path=pkg://verl_efficiency.rewards reward.custom_reward_function.name=accuracy, or "
    "name a reward function of your own"
)
_ANSWERS = ("answer", "answers", "final_answer", "solution", "ground_truth", "label")
_QUESTIONS = ("question", "problem", "query", "prompt", "input", "Question", "Problem")


def check_data(config: Any, *, asked: bool = False) -> Iterator[str]:
    """Every problem of the files and of the code that the configuration names, one line each.

    Args:
        config: a composed verl configuration.
        asked: whether the user asks (``doctor``) and does not start a run: then a run that uses nothing of ours is looked at
            too, and verl's default files, which are in the configuration of a user who names none, may be missing.
    """
    if not asked and not concerns_us(config):
        return
    yield from _check_code(config)
    path = (config.data.get("custom_cls") or {}).get("path")
    if path and module_name(path) != OURS:
        return
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
                if not one.exists() and _many_machines(config):
                    logger.warning(
                        "data.%s: %s is not on this machine; its rows are not checked at start-up.", key, one
                    )
                else:
                    yield from _check_file(one, f"data.{key}", config)


def _many_machines(config: Any) -> bool:
    """Whether files may be read on another machine than this one."""
    return (config.trainer.get("nnodes") or 1) > 1 or "RAY_ADDRESS" in os.environ


def _check_code(config: Any) -> Iterator[str]:
    """Files and modules of the reward function, the reward manager and the data set are there and have what is named."""
    reward = config.get("reward") or {}
    function = reward.get("custom_reward_function") or {}
    manager = reward.get("reward_manager") or {}
    data_set = config.data.get("custom_cls") or {}
    named_code = [("reward.custom_reward_function", function.get("path"), function.get("name"))]
    if manager.get("source") == "importlib":
        named_code.append(
            ("reward.reward_manager.module", (manager.get("module") or {}).get("path"), manager.get("name"))
        )
    named_code.append(("data.custom_cls", data_set.get("path"), data_set.get("name")))
    for setting, path, name in named_code:
        if not path or str(module_name(path)).startswith("verl_efficiency.rewards"):  # see checks/reward.py
            continue
        if (
            module_name(path) is None
            and not Path(str(path).removeprefix("file://")).exists()
            and _many_machines(config)
        ):
            logger.warning("%s.path: %s is not on this machine; it is not checked at start-up.", setting, path)
        else:
            yield from check_code(path, name, setting)


def _check_file(file: Any, setting: str, config: Any) -> Iterator[str]:
    data = config.data
    prompt_key = str(data.get("prompt_key") or "prompt")
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
    if reward is None:
        if uses_verls_reward(config):
            yield from _check_sources(sample, f"{setting}: {file}")
        return
    method, kwargs = reward
    if empty := missing_values(file, "reward_model.ground_truth"):
        yield f"{setting}: {empty} rows of {file} have no reward_model.ground_truth (null); fill it, or leave them out"
        return
    columns = method.build_settings(kwargs, setting).columns.values()
    if any(True for column in columns for _ in check_column([str(file)], column, setting)):
        return  # said by checks/reward.py, with the setting that names the column
    problems = list(check_gradable(sample, *reward, f"{setting}: {file}"))
    packing = _packing(config)
    if packing is not None and packing.problems > 1 and not (problems and method.name == "batched_accuracy"):
        problems = list(_check_packs(sample, packing, method, kwargs, f"{setting}: {file}"))
    yield from problems
    if problems:
        return
    packs_itself = packing is not None or config.data.get("efficiency")  # checks/dataset.py says where nobody reads it
    advice = list(advise_to_ask(sample, prompt_key, method, kwargs, file))
    if setting == "data.train_files" and not packs_itself:  # to validate on single problems is right
        advice += advise_to_pack(sample, method, kwargs, file)
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


def _packing(config: Any) -> PackingSettings | None:
    """How our data set packs, where it is used and its settings are right."""
    if module_name((config.data.get("custom_cls") or {}).get("path")) != OURS:
        return None
    try:
        return build_settings(PackingSettings, dict(config.data.get("efficiency") or {}), "data.efficiency")
    except SettingsError:  # said by checks/dataset.py
        return None


def _check_packs(
    sample: Sample, packing: PackingSettings, method: Method, kwargs: Mapping[str, Any], where: str
) -> Iterator[str]:
    """Rows that our data set packs are looked at as the reward will see them."""
    infos = [row.get("extra_info") for row in sample.rows]
    splits = {info.get("split") if isinstance(info, Mapping) else None for info in infos}
    if None in splits:
        yield f"{where}: every row must say in extra_info.split whether it is packed ({packing.split!r}) or not"
    elif splits != {packing.split}:
        yield from check_gradable(sample, method, kwargs, where)
    else:
        loose = replace(packing, grouping="random", distinct_by=None, remainder="smaller")
        try:
            packs = pack_rows(sample.rows[: 8 * packing.problems], loose, seed=0)
        except SettingsError as error:
            yield f"{where}: {error}"
            return
        places = [f"pack {number}" for number in range(len(packs))]
        yield from check_gradable(Sample(packs, places, sample.columns), method, kwargs, where)


def _fix_of_columns(columns: list[str], file: Any) -> str:
    """How a file with other columns becomes one in verl's form."""
    question = next((name for name in _QUESTIONS if name in columns), None)
    answer = next((name for name in _ANSWERS if name in columns), None)
    if question is None or answer is None:
        return f"it has {', '.join(columns)}, and verl reads prompt, data_source, reward_model and extra_info"
    command = f"verl-efficiency pack {file} NEW.parquet --problems 1 --question {question} --answer {answer}"
    answers = [str(row.get(answer)) for row in read_sample(file, "", columns=[answer]).rows]
    option = next(filter(None, map(option_for, answers)), "")
    return f"it holds raw problems ({', '.join(columns)}); write them in verl's form: `{f'{command} {option}'.strip()}`"


def _hint_of_default(file: Any) -> str:
    defaults = [str(resolved(name)[0]) for name in DEFAULT_FILES]
    return " (verl's default, since the configuration names none)" if str(file) in defaults else ""
