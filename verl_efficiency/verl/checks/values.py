"""Values of verl's own settings that verl would reject late, or never: text for a number, a folder that is not there."""

import functools
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from verl_efficiency.settings import unknown
from verl_efficiency.verl.checks.rollout import ROLLOUT, SPLITS
from verl_efficiency.verl.compose import verls_configuration

ACTOR = "actor_rollout_ref.actor"
# Where these are set, each is at least 1. Several are null by default.
COUNTS = (
    *(f"data.{name}" for name in ("train_batch_size", "gen_batch_size", "val_batch_size")),
    *("data.max_prompt_length", "data.max_response_length"),
    *("trainer.nnodes", "trainer.n_gpus_per_node", "trainer.total_training_steps", "trainer.total_epochs"),
    *(f"{ACTOR}.ppo_{name}" for name in ("mini_batch_size", "micro_batch_size", "micro_batch_size_per_gpu")),
    *(f"{ACTOR}.ppo_{name}" for name in ("max_token_len_per_gpu", "epochs")),
    *(
        f"actor_rollout_ref.{part}.log_prob_{name}"
        for part in ("rollout", "ref")
        for name in ("micro_batch_size", "micro_batch_size_per_gpu", "max_token_len_per_gpu")
    ),
    *(f"{ROLLOUT}.{name}" for name in ("n", "max_model_len", "max_num_seqs", "max_num_batched_tokens", *SPLITS)),
    *(f"{ROLLOUT}.{name}" for name in ("val_kwargs.n", "agent.num_workers", "engine_kwargs.hf.threads")),
    f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes",
    *("reward.num_workers", "transfer_queue.backend.SimpleStorage.num_data_storage_units"),
    "transfer_queue.backend.SimpleStorage.total_storage_size",
)
# verl counts with these at once, so each must be there, and whole.
WHOLE = (
    *("data.train_batch_size", "data.max_prompt_length", "data.max_response_length"),
    *("trainer.nnodes", "trainer.n_gpus_per_node", "trainer.total_epochs"),
    f"{ACTOR}.ppo_mini_batch_size",
    *(f"{ROLLOUT}.{name}" for name in ("n", "prompt_length", "response_length", *SPLITS)),
)
NAMES = ("algorithm.adv_estimator", "reward.reward_manager.name")
AMOUNTS = (  # at least 0
    *(f"{ACTOR}.{name}" for name in ("optim.lr", "clip_ratio", "clip_ratio_low", "clip_ratio_high", "kl_loss_coef")),
    *("actor_rollout_ref.model.lora_rank", "actor_rollout_ref.model.lora_alpha", "actor_rollout_ref.model.lora.rank"),
    *(f"{ROLLOUT}.{name}" for name in ("temperature", "val_kwargs.temperature", "seed")),
    "data.dataloader_num_workers",
    "algorithm.rollout_correction.rollout_is_threshold",
)
SHARES = tuple(f"{ROLLOUT}.{name}" for name in ("gpu_memory_utilization", "top_p", "val_kwargs.top_p"))  # in (0, 1]
INTERVALS = ("trainer.save_freq", "trainer.test_freq")  # steps; -1 for never
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
MODULES = "ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES"


def check_types(config: Any) -> Iterator[str]:
    """Values of another type than verl's default: not true or false, not a number, or one value for a node of settings.

    Where the default is a text, a list or null, any value passes. So does null, but for a few settings (``WHOLE``, ``NAMES``).
    """
    from omegaconf import OmegaConf

    written, resolved = _defaults()
    wrong = list(_other_types(OmegaConf.to_container(config, resolve=False), written, resolved, ""))
    yield from wrong
    if wrong:  # a node may be missing
        return
    for paths, kind, text in ((WHOLE, int, "a whole number"), (NAMES, str, "a name")):
        for path in paths:
            node, _, key = path.rpartition(".")
            value, parent = OmegaConf.select(config, path), OmegaConf.select(config, node)
            copied = parent is not None and OmegaConf.is_interpolation(parent, key)  # reported where it comes from
            known = OmegaConf.select(verls_configuration(), path) is not None  # not every verl has every key
            if known and not copied and not isinstance(value, kind):
                yield f"{path}: must be {text}, got {'null' if value is None else repr(value)}"


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
        elif given is not None and not _interpolated(given):
            fix = f"; write {path}.name={given}" if isinstance(given, str) and "name" in default else ""
            yield f"{path}: must hold settings (name: value), got {given!r}{fix}"
        return
    unset = given is None or given == written or _interpolated(given)
    if unset or not isinstance(default, Real):
        return
    wanted, right = "a number", isinstance(given, Real) and not isinstance(given, bool)
    if isinstance(default, bool):
        wanted, right = "true or false", isinstance(given, bool)
    if not right:
        yield f"{path}: must be {wanted}, got {given!r}; verl's default is {default}"


def _interpolated(given: Any) -> bool:
    """Whether the value is taken from another setting."""
    return isinstance(given, str) and given.startswith("${")


def check_values(config: Any) -> Iterator[str]:
    """Numbers outside their range, a seed that is not a whole number, a missing model folder, an unknown logger."""
    from omegaconf import OmegaConf

    wrong = list(_out_of_range(config))
    yield from wrong
    if not wrong:  # these compute with the numbers
        yield from _check_lengths(config.actor_rollout_ref.rollout)
        yield from _check_split(config)
    seed = OmegaConf.select(config, "data.seed")
    if seed is not None and not isinstance(seed, int):
        yield f"data.seed: must be a whole number, got {seed!r}"
    model = names_a_model(config)
    if model and model.startswith(("/", "./", "../", "~")) and not os.path.isdir(os.path.expanduser(model)):
        yield f"{MODEL}: there is no folder {model}"
    yield from _check_loggers(config.trainer.logger)


def _out_of_range(config: Any) -> Iterator[str]:
    from omegaconf import OmegaConf

    for paths, right, text in (
        (COUNTS, lambda value: value >= 1, "of at least 1"),
        (AMOUNTS, lambda value: value >= 0, "of at least 0"),
        (SHARES, lambda value: 0 < value <= 1, "above 0 and at most 1"),
    ):
        for path in paths:
            value = OmegaConf.select(config, path)
            if value is not None and not (isinstance(value, int | float) and right(value)):
                yield f"{path}: must be a number {text}, got {value!r}"


def _check_lengths(rollout: Any) -> Iterator[str]:
    """The rollout takes a longest prompt with a longest response."""
    limit, longest = rollout.get("max_model_len"), rollout.prompt_length + rollout.response_length
    if limit is not None and limit < longest:
        yield (f"{ROLLOUT}.max_model_len: {limit} tokens are fewer than the {longest} of data.max_prompt_length and "
               f"data.max_response_length, so responses would be cut off earlier; write {longest}, or null")  # fmt: skip


def _check_split(config: Any) -> Iterator[str]:
    """The GPUs of every pool hold whole copies of the rollout model."""
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    if (rollout.get("disaggregation") or {}).get("enabled", False):  # copies of two sizes
        return
    sizes = [rollout.get(name, 1) for name in SPLITS]
    pools = [("trainer", trainer.nnodes * trainer.n_gpus_per_node)]
    if rollout.get("nnodes"):
        pools.append((ROLLOUT, rollout.nnodes * rollout.n_gpus_per_node))
    for where, gpus in pools:
        copy = math.prod(sizes)
        if gpus % copy:
            fitting = [size for size in range(1, sizes[0] + 1) if gpus % (size * copy // sizes[0]) == 0]
            yield (f"{ROLLOUT}.{SPLITS[0]}: copies of the model on {copy} GPUs each do not divide the {gpus} GPUs of "
                   f"{where}.nnodes and {where}.n_gpus_per_node; write {max(fitting, default=1)}, not {sizes[0]}")  # fmt: skip


def check_choices(config: Any) -> Iterator[str]:
    """Words that verl does not know where it knows a few: strategies, devices, data types, forms of attention.

    Also two mistakes that verl accepts silently: an interval of 0 steps, and a module for the workers that is not here.
    """
    from omegaconf import OmegaConf

    for path in INTERVALS:
        value = OmegaConf.select(config, path)
        if isinstance(value, int | float) and value != -1 and value < 1:
            yield f"{path}: {value} means never to verl, as -1 does; write -1, or a number of steps of at least 1"
    yield from _check_modules(OmegaConf.select(config, MODULES))
    for path, known in CHOICES.items():
        value = OmegaConf.select(config, path)
        for one in value if OmegaConf.is_list(value) else [value]:
            if one is not None and one not in known:
                yield f"{path}: {unknown('value', str(one), known)}"
    attention = OmegaConf.select(config, "actor_rollout_ref.model.override_config.attn_implementation")
    if attention is not None and attention not in ATTENTIONS and not re.fullmatch(r"[\w.-]+/\S+", str(attention)):
        yield f"actor_rollout_ref.model.override_config.attn_implementation: {unknown('form', attention, ATTENTIONS)}"
    yield from _unknown_dtypes(OmegaConf.to_container(config, resolve=False), "")


def _check_modules(named: str | None) -> Iterator[str]:
    """The modules that the workers of a launch import with verl."""
    for name in named.split(",") if named else ():
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # its package is missing, or it is no name of a module
            found = None
        if found is None:
            yield f"{MODULES}: there is no module {name!r} on this machine; a worker without it cannot import verl"


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
