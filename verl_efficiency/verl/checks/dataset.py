"""``data.efficiency``, which only our data set reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from verl_efficiency.own_code import module_name
from verl_efficiency.settings import SettingsError, build_settings
from verl_efficiency.verl.checks.columns import check_column
from verl_efficiency.verl.checks.estimator import estimator_of, settings_of

if TYPE_CHECKING:
    from verl_efficiency.data.settings import PackingSettings

OURS = "verl_efficiency.verl.dataset"


def uses_ours(config: Any) -> bool:
    """Whether the run loads our data set."""
    return module_name((config.data.get("custom_cls") or {}).get("path")) == OURS


def packing_of(config: Any) -> PackingSettings | None:
    """How our data set packs; None for other data sets, and for wrong settings, which :func:`check_dataset` reports."""
    try:
        return _settings(config) if uses_ours(config) else None
    except SettingsError:
        return None


def _settings(config: Any) -> PackingSettings:
    from verl_efficiency.data.settings import PackingSettings  # pyarrow, which the plugin must not load

    return build_settings(PackingSettings, dict(config.data.get("efficiency") or {}), "data.efficiency")


def check_dataset(config: Any) -> Iterator[str]:
    """The settings are right, our data set reads them, and the estimator can work with its prompts."""
    given = config.data.get("efficiency")
    if not uses_ours(config):
        if given:
            yield (f"data.efficiency: {', '.join(given)} would be ignored; add data.custom_cls.path=pkg://{OURS} "
                   "data.custom_cls.name=PackedDataset")  # fmt: skip
        return
    try:
        settings = _settings(config)
    except SettingsError as error:
        yield str(error)
        return
    if config.data.get("dataloader_num_workers", 0) > 0:
        yield "data.dataloader_num_workers: must be 0 with PackedDataset: loader workers do not see where an epoch ends"
    yield from _check_memory(settings, config)
    if settings.grouping != "random":
        from verl_efficiency.data.problems import needs_difficulty

        for problem in check_column(config.data.train_files, settings.difficulty, "data.efficiency.difficulty"):
            yield f"{problem}; {needs_difficulty(settings)}"
    if settings.distinct_by is not None:
        yield from check_column(config.data.train_files, settings.distinct_by, "data.efficiency.distinct_by")


def _check_memory(packing: PackingSettings, config: Any) -> Iterator[str]:
    """A method that remembers prompts meets each of them again."""
    method = estimator_of(config)
    try:
        settings = settings_of(method, config) if method else None
    except SettingsError:  # reported by checks/estimator.py
        return
    if method is None or settings is None or not settings.names_prompts or packing.problems == 1:
        return
    other = "; difficulty=group does without" if hasattr(settings, "difficulty") else ""
    yield (f"data.efficiency.problems: {method.name} with these settings remembers every prompt, but PackedDataset makes new "
           "ones in every epoch; set it to 1, or write fixed packs with `verl-efficiency pack` and leave data.custom_cls "
           f"out{other}")  # fmt: skip
