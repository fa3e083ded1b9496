"""Values of verl's own settings that verl would reject late, or never: text for a number, a folder that is not there."""

import functools
import os
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from verl_efficiency.settings import unknown
from verl_efficiency.verl.compose import verls_configuration

# Where these are set, each is at least 1. Several are null by default.
COUNTS = (
    *("data.train_batch_size", "data.max_prompt_length", "data.max_response_length"),
    *("trainer.nnodes", "trainer.n_gpus_per_node", "trainer.total_training_steps"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"),
    *(
        f"actor_rollout_ref.rollout.{name}"
        for name in ("n", "max_model_len", "log_prob_micro_batch_size_per_gpu", "engine_kwargs.hf.threads")
    ),
)
# The values that verl compares these with. A newer verl may know more, so another value is only worth a warning.
STRATEGIES = ("fsdp", "fsdp2", "fsdp_turbo", "megatron", "veomni", "torchtitan", "automodel")
CHOICES = {
    "trainer.device": ("cuda", "npu", "cpu"),
    "trainer.resume_mode": ("auto", "disable", "resume_path"),
    "actor_rollout_ref.actor.strategy": STRATEGIES,
    "actor_rollout_ref.actor.checkpoint.save_contents": ("model", "optimizer", "extra", "hf_model"),
    "critic.strategy": STRATEGIES,
    "algorithm.rollout_correction.rollout_is": ("token", "sequence"),
    "actor_rollout_ref.actor.optim.lr_scheduler_type": ("constant", "cosine"),
    "actor_rollout_ref.rollout.load_format": ("dummy", "auto", "safetensors", "hf", "megatron", "pt", "dtensor"),
}
DTYPES = ("fp16", "float16", "half", "bf16", "bfloat16", "fp32", "float32", "float", "auto")
DTYPE_KEYS = ("dtype", "model_dtype", "param_dtype", "reduce_dtype")
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")  # or a kernel, owner/name
MODEL, LOGGER = "actor_rollout_ref.model.path", "trainer.logger"


def check_types(config: Any) -> Iterator[str]:
    """Values of another type than verl's default: not true or false, or not a number.

    Where the default is a text, a list or null, any value passes.
    """
    from omegaconf import OmegaConf

    written, resolved = _defaults()
    yield from _other_types(OmegaConf.to_container(config, resolve=False), written, resolved, "")


@functools.cache
def _defaults() -> tuple[Any, Any]:
    """verl's configuration without overrides, as it is written and with its interpolations resolved."""
    from omegaconf import OmegaConf

    schema = verls_configuration()
    return OmegaConf.to_container(schema, resolve=False), OmegaConf.to_container(schema, resolve=True)


def _other_types(given: Any, written: Any, default: Any, path: str) -> Iterator[str]:
    if isinstance(default, Mapping):
        if isinstance(given, Mapping) and isinstance(written, Mapping):
            for key in [key for key in given if key in default and key in written]:
                yield from _other_types(given[key], written[key], default[key], f"{path}.{key}" if path else str(key))
        return
    unset = given is None or given == written or (isinstance(given, str) and given.startswith("${"))
    if unset or not isinstance(default, Real):
        return
    wanted, right = "a number", isinstance(given, Real) and not isinstance(given, bool)
    if isinstance(default, bool):
        wanted, right = "true or false", isinstance(given, bool)
    if not right:
        yield f"{path}: must be {wanted}, got {given!r}; verl's default is {default}"


def check_values(config: Any) -> Iterator[str]:
    """Counts below one, a seed that is not a whole number, a missing model folder, a logger that verl does not have."""
    from omegaconf import OmegaConf

    for path in COUNTS:
        value = OmegaConf.select(config, path)
        if value is not None and not (isinstance(value, int | float) and value >= 1):
            yield f"{path}: must be a number of at least 1, got {value!r}"
    seed = OmegaConf.select(config, "data.seed")
    if seed is not None and not isinstance(seed, int):
        yield f"data.seed: must be a whole number, got {seed!r}"
    model = names_a_model(config)
    if model and model.startswith(("/", "./", "../", "~")) and not os.path.isdir(os.path.expanduser(model)):
        yield f"{MODEL}: there is no folder {model}"
    yield from _check_loggers(config.trainer.logger)


def check_choices(config: Any) -> Iterator[str]:
    """Words that verl does not know where it knows a few: strategies, devices, data types, forms of attention."""
    from omegaconf import OmegaConf

    for path, known in CHOICES.items():
        value = OmegaConf.select(config, path)
        for one in value if OmegaConf.is_list(value) else [value]:
            if one is not None and one not in known:
                yield f"{path}: {unknown('value', str(one), known)}"
    attention = OmegaConf.select(config, "actor_rollout_ref.model.override_config.attn_implementation")
    if attention is not None and attention not in ATTENTIONS and not re.fullmatch(r"[\w.-]+/\S+", str(attention)):
        yield f"actor_rollout_ref.model.override_config.attn_implementation: {unknown('form', attention, ATTENTIONS)}"
    yield from _unknown_dtypes(OmegaConf.to_container(config, resolve=False), "")


def _unknown_dtypes(node: Any, path: str) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, Mapping) else ():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from _unknown_dtypes(value, here)
        elif key in DTYPE_KEYS and isinstance(value, str) and not value.startswith("${") and value not in DTYPES:
            yield f"{here}: {unknown('data type', value, DTYPES)}"


def names_a_model(config: Any) -> str | None:
    """The model that a configuration sets; None where verl's default stands, so this is not yet a launch."""
    from omegaconf import OmegaConf

    model, default = (OmegaConf.select(node, MODEL) for node in (config, verls_configuration()))
    return str(model) if model and model != default else None


def _check_loggers(given: Any) -> Iterator[str]:
    from verl.utils.tracking import Tracking

    for name in [given] if isinstance(given, str) else given or []:
        if name not in Tracking.supported_backend and name != "tracking":
            yield f"{LOGGER}: {unknown('logger', str(name), Tracking.supported_backend)}"
