"""``reward``: the reward manager, and our reward functions."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from verl_efficiency.adapter.checks import only_a_term
from verl_efficiency.methods.catalog import REWARDS, Reward
from verl_efficiency.own_code import module_name
from verl_efficiency.settings import SettingsError, misspelt, unknown
from verl_efficiency.verl.checks.columns import check_column

PACKAGE = "verl_efficiency.rewards"
FUNCTION = "reward.custom_reward_function"
KWARGS = f"{FUNCTION}.reward_kwargs"
logger = logging.getLogger("verl_efficiency")
GDPO_KEYS = "gdpo_reward_keys"


def check_reward(config: Any) -> Iterator[str]:
    """The reward manager exists, and our reward function is right."""
    reward = config.get("reward")
    if reward is None:
        return
    manager = reward.reward_manager
    if manager.source == "register":
        from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

        meant = misspelt(str(manager.name), ["efficiency", *REWARDS])  # another name may be registered later
        if manager.name not in REWARD_MANAGER and meant:
            other = "" if meant == "efficiency" else f"; {meant} is a reward: write {FUNCTION}.name={meant}"
            yield f"reward.reward_manager.name: {unknown('manager', manager.name, REWARD_MANAGER)}{other}"
    yield from _check_reward_function(reward.get("custom_reward_function") or {}, config)


class OurReward(NamedTuple):
    """One of our rewards in a run.

    Attributes:
        method: its row of the catalog.
        given: its keyword arguments, as the user wrote them.
        settings: the same, checked.
    """

    method: Reward
    given: dict[str, Any]
    settings: Any


def reward_of(config: Any) -> OurReward | None:
    """The reward of a run if it is ours; None for other people's, and for a wrong one, which :func:`check_reward` reports."""
    from omegaconf import OmegaConf

    function = (config.get("reward") or {}).get("custom_reward_function") or {}
    module = module_name(function.get("path")) or ""
    method = REWARDS.get(module.removeprefix(PACKAGE).strip(".") or str(function.get("name")))
    if not module.startswith(PACKAGE) or method is None:
        return None
    given = function.get("reward_kwargs") or {}
    kwargs: Any = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else dict(given)
    try:
        return OurReward(method, kwargs, method.build_settings(kwargs, FUNCTION))
    except SettingsError:
        return None


def uses_verls_reward(config: Any) -> bool:
    """Whether verl's own ``default_compute_score`` gives the score."""
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

    reward = config.get("reward") or {}
    manager = reward.get("reward_manager") or {}
    known = REWARD_MANAGER.get(str(manager.get("name"))) if manager.get("source") == "register" else None
    own_function = any((node.get("custom_reward_function") or {}).get("path") for node in (reward, config))
    agent = config.actor_rollout_ref.rollout.get("agent") or {}
    own_loop = agent.get("agent_loop_config_path")  # an agent loop may give the score
    return (
        getattr(known, "__module__", "").startswith(("verl.", "verl_efficiency."))
        and not own_function
        and not own_loop
        and not (reward.get("reward_model") or {}).get("enable", False)
    )


def unknown_to_verl(sources: Iterable[Any]) -> list[Any]:
    """The data sources for which verl's ``default_compute_score`` has no reward: each once, in order."""
    from verl.utils.reward_score import default_compute_score

    unknown_ones = []
    for source in dict.fromkeys(sources):
        if not isinstance(source, str):
            unknown_ones.append(source)
            continue
        try:
            default_compute_score(source, None, None)
        except NotImplementedError:
            unknown_ones.append(source)
        except Exception:  # noqa: BLE001  # there is a reward, and it cannot grade None
            pass
    return unknown_ones


def _check_reward_function(function: Any, config: Any) -> Iterator[str]:
    """Our reward exists, its settings are right, and it gets what it needs."""
    path, name = function.get("path"), str(function.get("name"))
    module = module_name(path) or ""
    if not module.startswith(PACKAGE):
        return
    module = module.removeprefix(PACKAGE).strip(".")
    if module and module not in REWARDS:
        yield f"{FUNCTION}.path: {unknown('reward', module, REWARDS)}"
        return
    if module and name not in (module, "compute_score"):
        yield f"{FUNCTION}.name: {path} has {module} and compute_score, not {name!r}"
        return
    if not module and name not in REWARDS:
        yield f"{FUNCTION}.name: {unknown('reward', name, REWARDS)}"
        return
    method = REWARDS[module or name]
    try:
        settings: Any = method.build_settings(dict(function.get("reward_kwargs") or {}), KWARGS)
    except SettingsError as error:
        yield str(error)
        return
    if method.name == "composition" and str(config.algorithm.adv_estimator) == "gdpo":
        yield from _check_components(settings, config)
    if problem := only_a_term(method):
        yield f"{FUNCTION}.name: {problem}"
    manager = config.reward.reward_manager
    if settings.needs_cost and manager.source == "register" and manager.name != "efficiency":
        yield (f"reward.reward_manager.name: {method.name} needs the token count of each response, which {manager.name} does "
               "not give; set it to efficiency")  # fmt: skip
    if settings.needs_cost and (config.actor_rollout_ref.rollout.get("multi_turn") or {}).get("enable", False):
        logger.warning(
            "%s.name: %s also counts the tokens that tools write, because verl gives rewards no response mask; an estimator "
            "(algorithm.adv_estimator) does not count them.",
            *(FUNCTION, method.name),
        )
    for role, column in settings.columns.items():
        for files in (config.data.train_files, config.data.val_files):
            yield from check_column(files, column, f"{KWARGS}.{role}_column")


def _check_components(settings: Any, config: Any) -> Iterator[str]:
    """verl's ``gdpo`` gets the terms of a composition that it normalises."""
    if config.trainer.get("use_v1", False):
        yield ("trainer.use_v1: the V1 trainer of this verl does not give the terms of composition to the estimator gdpo, "
               "which then fails in the first step; set it to False")  # fmt: skip
    terms = [f"term_{term.label}" for term in settings.read()]
    keys, weights = (config.algorithm.get(key) for key in (GDPO_KEYS, "gdpo_reward_weights"))
    if not keys:
        yield f"algorithm.{GDPO_KEYS}: gdpo needs the terms to normalise; add +algorithm.{GDPO_KEYS}=[{','.join(terms)}]"
    for key in keys or []:
        if key not in terms and str(key).startswith("term"):
            yield f"algorithm.{GDPO_KEYS}: {unknown('term', key, terms)}"
    if keys and weights and len(keys) != len(weights):
        yield f"algorithm.gdpo_reward_weights: must have a number for each of the {len(keys)} keys, got {len(weights)}"
