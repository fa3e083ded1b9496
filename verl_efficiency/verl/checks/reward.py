"""``reward``: the manager, a reward function of ours, and keys that this verl reads nowhere."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from verl_efficiency.methods.catalog import REWARDS, Method
from verl_efficiency.own_code import module_name
from verl_efficiency.settings import SettingsError, unknown
from verl_efficiency.verl.checks.columns import check_column

PACKAGE = "verl_efficiency.rewards"


def _set_leaves(node: Any, path: str) -> Iterator[str]:
    """Paths of the values below ``node`` that are not null."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _set_leaves(child, f"{path}.{key}")
    elif node is not None:
        yield path


def check_reward(config: Any) -> Iterator[str]:
    reward = config.get("reward")
    # verl 0.8 moves what stands under these keys to `reward` and deletes them; verl 0.9 keeps them and reads them nowhere.
    for root in ("custom_reward_function", "reward_model", "sandbox_fusion"):
        for leaf in _set_leaves(config.get(root), root):
            new = {"reward_model.reward_manager": "reward_manager.name", "reward_model.num_workers": "num_workers"}.get(
                leaf, leaf
            )
            yield f"{leaf}: this verl ignores the key without a word; write reward.{new}"
    if reward is None:
        return
    manager = reward.reward_manager
    if manager.source == "register":
        from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

        if manager.name not in REWARD_MANAGER:
            yield f"reward.reward_manager.name: {unknown('manager', manager.name, REWARD_MANAGER)}"
    yield from _check_reward_function(reward.get("custom_reward_function") or {}, config)


def reward_of(config: Any) -> tuple[Method, dict[str, Any]] | None:
    """Our reward with its keyword arguments, or None where it is somebody else's, or is named or set wrongly."""
    function = (config.get("reward") or {}).get("custom_reward_function") or {}
    module = module_name(function.get("path")) or ""
    method = REWARDS.get(module.removeprefix(PACKAGE).strip(".") or str(function.get("name")))
    if not module.startswith(PACKAGE) or method is None:
        return None
    given = function.get("reward_kwargs") or {}
    kwargs: Any = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else dict(given)
    try:
        method.build_settings(kwargs, "")
    except SettingsError:  # said by check_reward
        return None
    return method, kwargs


def _check_reward_function(function: Any, config: Any) -> Iterator[str]:
    """A reward of ours exists under the name given, takes the keyword arguments given, and will be told what it needs."""
    path, name = function.get("path"), str(function.get("name"))
    module = module_name(path) or ""
    if not module.startswith(PACKAGE):
        return
    module = module.removeprefix(PACKAGE).strip(".")
    if module and module not in REWARDS:
        yield f"reward.custom_reward_function.path: {unknown('reward', module, REWARDS)}"
        return
    if module and name not in (module, "compute_score"):
        yield f"reward.custom_reward_function.name: {path} has {module} and compute_score, not {name!r}"
        return
    if not module and name not in REWARDS:
        yield f"reward.custom_reward_function.name: {unknown('reward', name, REWARDS)}"
        return
    method, where = REWARDS[module or name], "reward.custom_reward_function.reward_kwargs"
    try:
        settings: Any = method.build_settings(dict(function.get("reward_kwargs") or {}), where)
    except SettingsError as error:
        yield str(error)
        return
    if method.name == "repetition":
        yield ("reward.custom_reward_function.name: repetition alone would teach the empty response; make it a term of "
               "composition, which by default is accuracy with a little of it")  # fmt: skip
    manager = config.reward.reward_manager
    if settings.needs_cost and manager.source == "register" and manager.name != "efficiency":
        yield (f"reward.reward_manager.name: {method.name} must be told what a response cost, which {manager.name} does not "
               "do; set it to efficiency")  # fmt: skip
    for role, column in settings.columns.items():
        for files in (config.data.train_files, config.data.val_files):
            yield from check_column(files, column, f"{where}.{role}_column")
