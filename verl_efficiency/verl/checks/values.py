"""Values of verl's own settings that verl would reject late, or never: text for a number, a folder that is not there."""

import os
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from verl_efficiency.settings import unknown

# A run has at least one of each.
COUNTS = (
    *("data.train_batch_size", "data.max_prompt_length", "data.max_response_length", "trainer.nnodes"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size", "actor_rollout_ref.rollout.n", "trainer.n_gpus_per_node"),
)
MODEL, LOGGER = "actor_rollout_ref.model.path", "trainer.logger"


def check_types(config: Any, schema: Any) -> Iterator[str]:
    """Values of another type than verl's default: not true or false, or not a number.

    Args:
        schema: verl's configuration without overrides. Where its default is a text, a list or null, any value passes.
    """
    from omegaconf import OmegaConf

    given, raw = (OmegaConf.to_container(node, resolve=False) for node in (config, schema))
    yield from _other_types(given, raw, OmegaConf.to_container(schema, resolve=True), "")


def _other_types(given: Any, raw: Any, default: Any, path: str) -> Iterator[str]:
    """``raw`` is the default as it is written; an interpolation there is a value in ``default``."""
    if isinstance(default, Mapping):
        if isinstance(given, Mapping) and isinstance(raw, Mapping):
            for key in given.keys() & default.keys() & raw.keys():
                yield from _other_types(given[key], raw[key], default[key], f"{path}.{key}" if path else str(key))
        return
    unset = given is None or given == raw or (isinstance(given, str) and given.startswith("${"))
    if unset or not isinstance(default, Real):
        return
    wanted, right = "a number", isinstance(given, Real) and not isinstance(given, bool)
    if isinstance(default, bool):
        wanted, right = "true or false", isinstance(given, bool)
    if not right:
        yield f"{path}: must be {wanted}, got {given!r}; verl's default is {default}"


def check_values(config: Any, schema: Any) -> Iterator[str]:
    """Counts below one, a model's folder that is not there, a logger that verl does not have."""
    from omegaconf import OmegaConf

    for path in COUNTS:
        value = OmegaConf.select(config, path)
        if value is not None and value < 1:
            yield f"{path}: must be at least 1, got {value}"
    model = names_a_model(config, schema)
    if model and model.startswith(("/", "./", "../", "~")) and not os.path.isdir(os.path.expanduser(model)):
        yield f"{MODEL}: there is no folder {model}"
    yield from _check_loggers(config.trainer.logger)


def names_a_model(config: Any, schema: Any) -> str | None:
    """The model that a configuration sets; None where verl's default stands, so this is not yet a launch."""
    from omegaconf import OmegaConf

    model, default = (OmegaConf.select(node, MODEL) for node in (config, schema))
    return str(model) if model and model != default else None


def _check_loggers(given: Any) -> Iterator[str]:
    from verl.utils.tracking import Tracking

    for name in [given] if isinstance(given, str) else given or []:
        if name not in Tracking.supported_backend and name != "tracking":
            yield f"{LOGGER}: {unknown('logger', str(name), Tracking.supported_backend)}"
