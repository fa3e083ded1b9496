"""``data.efficiency``, which only a data set of ours reads."""

from collections.abc import Iterator
from typing import Any

from verl_efficiency.own_code import module_name
from verl_efficiency.settings import SettingsError, build_settings
from verl_efficiency.verl.checks.columns import check_column

OURS = "verl_efficiency.verl.dataset"


def check_dataset(config: Any) -> Iterator[str]:
    """``data.efficiency`` is right, and read by a data set of ours."""
    given = config.data.get("efficiency")
    ours = module_name((config.data.get("custom_cls") or {}).get("path")) == OURS
    if given and not ours:
        yield (f"data.efficiency: {', '.join(given)} would be ignored; add data.custom_cls.path=pkg://{OURS} "
               "data.custom_cls.name=PackedDataset")  # fmt: skip
    elif ours:
        from verl_efficiency.data.settings import PackingSettings

        try:
            settings = build_settings(PackingSettings, dict(given or {}), "data.efficiency")
        except SettingsError as error:
            yield str(error)
            return
        if config.data.get("dataloader_num_workers", 0) > 0:
            yield "data.dataloader_num_workers: must be 0 with PackedDataset: loader workers do not see where an epoch ends"
        if settings.grouping != "random":
            from verl_efficiency.data.problems import needs_difficulty

            for problem in check_column(config.data.train_files, settings.difficulty, "data.efficiency.difficulty"):
                yield f"{problem}; {needs_difficulty(settings)}"
        if settings.distinct_by is not None:
            yield from check_column(config.data.train_files, settings.distinct_by, "data.efficiency.distinct_by")
