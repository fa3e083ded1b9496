"""Refuse a wrong configuration on the driver, before Ray starts and a model is loaded.

This wraps ``verl.utils.config.validate_config`` (config.py:94 in 0.9.1, also in 0.8.0), because verl has no hook there and no
earlier call sees the whole configuration (main_ppo.py:177). verl imports plugins before main_ppo imports that function. Its own
check runs first and unchanged. Runs that do not use this package are not checked (``checks/concern.py``). For runs that do,
``nodes.py`` also wraps Ray's ``ray.init``, for one call. Outside ``cpu/`` we wrap one more function of verl (``sessions.py``).
"""

import functools
import inspect
import logging
from typing import Any

from omegaconf import open_dict

from verl_efficiency.adapter.checks import state_is_lost, with_limit
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.own import offers
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.checks.concern import concerns_us
from verl_efficiency.verl.checks.dataset import check_dataset
from verl_efficiency.verl.checks.estimator import (
    advise_on_aggregation,
    advise_on_budget,
    advise_on_loop,
    advise_on_staleness,
    check_estimator,
    check_mode,
    estimator_of,
    settings_of,
)
from verl_efficiency.verl.checks.extras import advise_to_declare
from verl_efficiency.verl.checks.groups import advise, check_filter, hand_filter_to_sampler
from verl_efficiency.verl.checks.moved import check_moved_keys
from verl_efficiency.verl.checks.places import advise_on_places, check_misplaced, check_near_keys
from verl_efficiency.verl.checks.reward import check_reward
from verl_efficiency.verl.checks.rollout import check_hf
from verl_efficiency.verl.cpu_switch import cpu_mode
from verl_efficiency.verl.nodes import check_when_connected

logger = logging.getLogger("verl_efficiency")


def patch_validate_config(module: Any) -> None:
    """Wrap ``module.validate_config`` so that :func:`check` runs after it."""
    original = getattr(module, "validate_config", None)
    signature = inspect.signature(original) if callable(original) else inspect.Signature()
    if original is None or "config" not in signature.parameters:
        logger.warning(
            "verl.utils.config.validate_config has no parameter `config`, so settings are not checked at start-up. This verl "
            "is newer than verl-efficiency knows: install verl>=0.8,<0.10."
        )
        return

    @functools.wraps(original)
    def validate_config(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        config = signature.bind(*args, **kwargs).arguments["config"]
        if cpu_mode():
            from verl_efficiency.verl import cpu

            cpu.tell_ray_workers(config)
        if concerns_us(config):
            _check_and_prepare(config)
        return result

    module.validate_config = validate_config


def _check_and_prepare(config: Any) -> None:
    from verl_efficiency.verl.checks.data import check_data  # pyarrow and the grader, which the plugin must not load

    for problem in offers().problems:
        logger.warning("%s", problem)
    problems = [*check(config), *check_data(config)]
    if problems:
        raise SettingsError("\n".join(["this run would not do what its configuration says:", *problems]))
    for line in advice(config):
        logger.warning(line)
    prepare(config)
    check_when_connected()


def check(config: Any) -> list[str]:
    """Every problem that concerns us in a composed verl configuration, one line each."""
    problems = [
        *check_near_keys(config),
        *check_misplaced(config),
        *check_mode(config.trainer),
        *check_estimator(config),
        *check_moved_keys(config),
        *check_reward(config),
        *check_dataset(config),
        *check_hf(config),
    ]
    return problems or list(check_filter(config))  # it reads the reward's settings, so they must be right


def advice(config: Any) -> list[str]:
    """What is worth knowing about a configuration without problems, one line each."""
    return [
        *advise(config, estimator_of(config)),
        *advise_to_declare(config),
        *advise_on_aggregation(config),
        *advise_on_budget(config),
        *advise_on_loop(config),
        *advise_on_staleness(config),
        *advise_on_places(config),
    ]


def prepare(config: Any) -> None:
    """Fill in what a method needs: response limit, checkpoint callback, ``gen_batch_size``, arguments of the sampler."""
    hand_filter_to_sampler(config)
    method = estimator_of(config)
    if method is None:
        return
    settings = settings_of(method, config)
    for text in settings.warnings:
        logger.warning("%s", text)
    limited = with_limit(config.algorithm.get("efficiency"), settings, config.data.max_response_length)
    if limited is not None:
        with open_dict(config.algorithm):
            config.algorithm.efficiency = limited
    if getattr(settings, "replay", 0):
        with open_dict(config.data):
            config.data.gen_batch_size = 1
    if settings.keeps_state:
        _save_state(method, config.trainer)


def _save_state(method: Estimator, trainer: Any) -> None:
    """Save the state with verl's checkpoints, or warn that it is not saved."""
    ours = "verl_efficiency.verl.checkpoint.StateCallback"
    if "checkpoint_callback_class" not in trainer or not trainer.get("use_v1", False):
        logger.warning("%s", state_is_lost(method, "trainer.use_v1", "verl>=0.9.1 with trainer.use_v1=True saves it"))
    elif trainer.checkpoint_callback_class is None:
        trainer.checkpoint_callback_class = ours
    elif trainer.checkpoint_callback_class != ours:
        logger.warning(
            "trainer.checkpoint_callback_class: %s must derive from %s and call super(), or the state of %s is not saved",
            *(trainer.checkpoint_callback_class, ours, method.name),
        )
