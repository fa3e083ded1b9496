"""``reward``: the manager, and a reward function of ours."""

from collections.abc import Iterator
from typing import Any

from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.settings import SettingsError, misspelt, unknown
from verl_efficiency.verl.checks.columns import check_column


def check_reward(config: Any) -> Iterator[str]:
    reward = config.get("reward")
    if reward is None:
        return
    manager = reward.reward_manager
    if manager.source == "register":
        from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

        meant = misspelt(str(manager.name), ["efficiency", *REWARDS])  # another name may be registered later
        if manager.name not in REWARD_MANAGER and meant:
            other = (
                ""
                if meant == "efficiency"
                else f"; {meant} is a reward: write reward.custom_reward_function.name={meant}"
            )
            yield f"reward.reward_manager.name: {unknown('manager', manager.name, REWARD_MANAGER)}{other}"
    yield from _check_reward_function(reward.get("custom_reward_function") or {}, config)


def _check_reward_function(function: Any, config: Any) -> Iterator[str]:
    """A reward of ours exists under the name given, takes the keyword arguments given, and will be told what it needs."""
    path, name = function.get("path"), str(function.get("name"))
    if path is None or not str(path).startswith("pkg://verl_efficiency.rewards"):
        return
    module = str(path).removeprefix("pkg://verl_efficiency.rewards").strip(".")
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
