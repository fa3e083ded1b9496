"""Decides whether a run uses this package. Other runs are not checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.methods.own import all_estimators, offers
from verl_efficiency.own_code import module_name
from verl_efficiency.settings import misspelt
from verl_efficiency.verl.modes import MODES, mode_of

ALIAS = "efficiency."


def concerns_us(config: Any) -> bool:
    """Whether a setting holds one of our names, or nearly one, or a path into this package."""
    algorithm, data = config.get("algorithm") or {}, config.get("data") or {}
    reward = config.get("reward") or {}
    manager = str((reward.get("reward_manager") or {}).get("name"))
    function = module_name((reward.get("custom_reward_function") or {}).get("path")) or ""
    estimator = str(algorithm.get("adv_estimator"))
    mode = str(mode_of(config.get("trainer") or {}))
    return (
        estimator.startswith(ALIAS)
        or estimator in offers().refused
        or misspelt(estimator, [*all_estimators(), *REWARDS]) is not None
        or misspelt(manager, ["efficiency"]) is not None
        or misspelt(mode, MODES) is not None
        or any(misspelt(str(key), ["efficiency"]) for node in (algorithm, data) for key in node)
        or function.startswith("verl_efficiency.")
        or any(value.startswith(("pkg://verl_efficiency", "verl_efficiency.")) for value in _texts(config))
    )


def _texts(node: Any) -> Iterator[str]:
    """Every text of the configuration as it is written, with ``${…}`` unresolved."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=False)
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | Sequence):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)
