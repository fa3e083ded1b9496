"""Refuse a wrong configuration on the driver, before Ray starts and a model is loaded.

The one patch of verl outside ``cpu/``: ``verl.utils.config.validate_config`` (config.py:94 in 0.9.1; also in 0.8.0) is wrapped.
In a stock launch it is the only call that sees the whole configuration that early (main_ppo.py:177), and verl has no hook
there. verl imports plugins before main_ppo binds the name. The wrapped function is called first and unchanged.
"""

import functools
import inspect
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import open_dict

from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS, Method
from verl_efficiency.settings import MethodSettings, SettingsError, build_settings, nearest, unknown

logger = logging.getLogger("verl_efficiency")


def patch_validate_config(module: Any) -> None:
    """Wrap ``module.validate_config`` so that :func:`check` runs after it."""
    original = module.validate_config
    if list(inspect.signature(original).parameters)[:1] != ["config"]:
        raise RuntimeError(
            "verl.utils.config.validate_config does not take `config` first any more, so settings cannot be checked at "
            "start-up. This verl is newer than verl-efficiency knows: install verl>=0.8,<0.10."
        )

    @functools.wraps(original)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> None:
        original(config, *args, **kwargs)
        problems = check(config)
        if problems:
            raise SettingsError("\n".join(["this run would not do what its configuration says:", *problems]))
        prepare(config)

    module.validate_config = validate_config


def estimator_of(config: Any) -> Method | None:
    """Our method behind ``algorithm.adv_estimator``, or None when it is somebody else's."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    name = str(config.algorithm.adv_estimator)
    ours = getattr(ADV_ESTIMATOR_REGISTRY.get(name), "__module__", None) == "verl_efficiency.verl.estimators"
    return ESTIMATORS[name.removeprefix("efficiency.")] if ours else None


def check(config: Any) -> list[str]:
    """Every problem of a composed verl configuration that concerns us, one line each; empty when all is well."""
    return [*_check_mode(config.trainer), *_check_estimator(config), *_check_reward(config), *_check_dataset(config)]


def prepare(config: Any) -> None:
    """Hand a method what it needs of the rest of the configuration: the token limit, a place to save, prompts one by one."""
    method = estimator_of(config)
    if method is None:
        return
    settings = _settings(method, config)
    if getattr(settings, "max_response_length", 0) is None:
        given = dict(config.algorithm.get("efficiency") or {})
        with open_dict(config.algorithm):
            config.algorithm.efficiency = {**given, "max_response_length": config.data.max_response_length}
    if getattr(settings, "replay", 0):
        with open_dict(config.data):
            config.data.gen_batch_size = 1
    if settings.keeps_state:
        _save_state(method, config.trainer)


def _save_state(method: Method, trainer: Any) -> None:
    """Have the state saved with the checkpoints, or say that it is not."""
    ours = "verl_efficiency.verl.checkpoint.StateCallback"
    if "checkpoint_callback_class" not in trainer or not trainer.get("use_v1", False):
        logger.warning(
            "%s keeps running averages, which this trainer has no place to save: a resumed run starts them anew "
            "(verl>=0.9 with trainer.use_v1=True saves them).",
            method.name,
        )
    elif trainer.checkpoint_callback_class is None:
        trainer.checkpoint_callback_class = ours
    elif trainer.checkpoint_callback_class != ours:
        logger.warning(
            "trainer.checkpoint_callback_class is %s: the running averages of %s are saved only if it derives from %s "
            "and calls super().",
            *(trainer.checkpoint_callback_class, method.name, ours),
        )


def _settings(method: Method, config: Any) -> Any:
    from verl_efficiency.verl.estimators import read_settings

    return read_settings(method, config.algorithm)


def _check_mode(trainer: Any) -> Iterator[str]:
    """Our trainer is asked for where it can run."""
    if (trainer.get("v1") or {}).get("trainer_mode") == "efficiency_sync" and not trainer.get("use_v1", False):
        yield "trainer.use_v1: trainer.v1.trainer_mode=efficiency_sync is ignored without the V1 trainer; set it to True"


def _check_estimator(config: Any) -> Iterator[str]:
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, AdvantageEstimator

    algorithm = config.algorithm
    name = str(algorithm.adv_estimator)
    known = {*ADV_ESTIMATOR_REGISTRY, *(estimator.value for estimator in AdvantageEstimator)}
    if name not in known:
        yield f"algorithm.adv_estimator: {unknown('estimator', name, known)}"
        return
    for key in algorithm:
        if key != "efficiency" and not hasattr(AlgoConfig, key) and nearest(key, ["efficiency"]):
            yield f"algorithm.{key}: nobody reads this key{nearest(key, ['efficiency'])}"
    method = estimator_of(config)
    if method is None:
        if algorithm.get("efficiency"):
            yield (f"algorithm.efficiency: {', '.join(algorithm.efficiency)} would be ignored, since algorithm.adv_estimator="
                   f"{name} is verl's; set it to one of {', '.join(ESTIMATORS)}")  # fmt: skip
        return
    try:
        settings = _settings(method, config)
    except SettingsError as error:
        yield str(error)
        return
    if algorithm.get("use_kl_in_reward"):
        yield (f"algorithm.use_kl_in_reward: {method.name} reads correctness from the score, which a KL penalty inside the "
               "reward changes; use actor_rollout_ref.actor.use_kl_loss=True instead")  # fmt: skip
    if (algorithm.get("rollout_correction") or {}).get("rollout_rs"):
        yield (f"algorithm.rollout_correction.rollout_rs: {method.name} counts response tokens, and rejection sampling removes "
               "rejected ones from the mask; leave it null")  # fmt: skip
    needs_rows = settings.columns or settings.names_prompts
    if needs_rows and not config.trainer.get("use_v1", False):
        other = "; difficulty=group does without" if hasattr(settings, "difficulty") else ""
        yield (f"trainer.use_v1: {method.name} with these settings reads the data set's columns at the advantage step, which "
               f"only the V1 trainer keeps (verl>=0.9 with trainer.use_v1=True){other}")  # fmt: skip
    if settings.needs_trainer:
        yield from _check_trainer(method, settings, config)
    for role, path in settings.columns.items():
        yield from _check_column(config.data.train_files, path, f"algorithm.efficiency.{role}_column")


def _check_trainer(method: Method, settings: MethodSettings, config: Any) -> Iterator[str]:
    """Our trainer runs, and a method with a self-teacher finds verl set up as it needs it."""
    from verl_efficiency.methods.routing import router_of
    from verl_efficiency.methods.teacher import DistillationSettings

    trainer = config.trainer
    mode = (trainer.get("v1") or {}).get("trainer_mode")
    if mode != "efficiency_sync":
        yield (f"trainer.v1.trainer_mode: {method.name} needs efficiency_sync (verl>=0.9 with trainer.use_v1=True), not "
               f"{mode}; `verl-efficiency train` sets it")  # fmt: skip
    aggregation = config.actor_rollout_ref.actor.loss_agg_mode
    if getattr(settings, "normalise", "none") != "none" and aggregation != "token-mean":
        yield (f"actor_rollout_ref.actor.loss_agg_mode: {method.name} is scaled for token-mean, not {aggregation}; or set "
               "algorithm.efficiency.normalise=none")  # fmt: skip
    loss = config.actor_rollout_ref.actor.policy_loss.loss_mode
    if loss in ("sapo", "geo_mean"):
        yield (f"actor_rollout_ref.actor.policy_loss.loss_mode: {method.name} works token by token, but {loss} takes means "
               "over rollouts whatever loss_agg_mode says; leave it at vanilla")  # fmt: skip
    if mode == "efficiency_sync" and getattr(settings, "replay", 0):
        from verl_efficiency.verl import replay

        yield from replay.check(config)
    if not isinstance(settings, DistillationSettings):
        return
    try:
        router_of(method.own_router(), settings)
    except SettingsError as error:
        yield f"algorithm.efficiency.{error}"
    worker = config.actor_rollout_ref
    actor, engine = worker.actor, worker.actor.get("fsdp_config") or {}
    needed: list[tuple[str, Any, tuple, str]] = [
        ("actor.strategy", actor.strategy, ("fsdp2",), "FSDP1 keeps gathered weights from pass to pass"),
        ("model.use_fused_kernels", worker.model.get("use_fused_kernels", False), (False,), "fused kernels give no logits"),
        ("actor.ulysses_sequence_parallel_size", actor.get("ulysses_sequence_parallel_size", 1), (1,),
         "sequence parallelism splits the logits"),
        ("actor.fsdp_config.ulysses_sequence_parallel_size", engine.get("ulysses_sequence_parallel_size", 1), (1,),
         "sequence parallelism splits the logits"),
        ("actor.fsdp_config.pad_to_length", engine.get("pad_to_length", False), (False,), "verl hands no padded logits over"),
        ("actor.loss_agg_mode", aggregation, ("token-mean",), "both terms of the loss share the denominator, tokens"),
        ("actor.use_kl_loss", actor.get("use_kl_loss", False), (False,),
         "a KL to the reference pulls routed rows away from their teacher (the papers have none)"),
    ]  # fmt: skip
    if settings.teacher_regularization == "ema":
        needed.append(
            ("actor.fsdp_config.model_dtype", engine.get("model_dtype", "fp32"), ("fp32", "float32", None),
             "an average of rounded weights does not move; or set teacher_regularization=none")
        )  # fmt: skip
    for key, value, allowed, reason in needed:
        if value not in allowed:
            yield (
                f"actor_rollout_ref.{key}: {method.name} needs {' or '.join(map(str, allowed[:2]))}, not {value}: {reason}"
            )
    if (config.get("distillation") or {}).get("enabled", False):
        yield f"distillation.enabled: {method.name} is its own teacher; set it to False"
    yield from _check_media(method, config.data)
    if settings.full_logit_distillation and (config.algorithm.get("rollout_correction") or {}).get(
        "bypass_mode", False
    ):
        yield ("algorithm.rollout_correction.bypass_mode: the student's likeliest tokens are noted in the pass for "
               "old_log_probs, which it leaves out; set it to False, or full_logit_distillation=False, alpha=1")  # fmt: skip


def _check_media(method: Method, data: Any) -> Iterator[str]:
    """No row of a local training file has pictures, videos or sound."""
    import pyarrow.parquet as pq

    for file in [data.train_files] if isinstance(data.train_files, str) else list(data.train_files):
        if Path(file).suffix != ".parquet" or not Path(file).exists():
            continue
        parquet = pq.ParquetFile(file)
        for key in ("image_key", "video_key", "audio_key"):
            column = data.get(key)
            if column in parquet.schema_arrow.names and any(
                value for rows in parquet.iter_batches(64, columns=[column]) for value in rows.column(0).to_pylist()
            ):
                yield f"data.{key}: the teacher of {method.name} reads text only, but rows of {file} have {column}"


def _check_column(files: Any, path: str, where: str) -> Iterator[str]:
    """Every local training file has the column; a difficulty lies in [0, 1] everywhere."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for file in [files] if isinstance(files, str) else list(files):
        if Path(file).suffix != ".parquet" or not Path(file).exists():
            logger.warning(
                "%s: %s is not a local parquet file; its column %s is not checked at start-up.", where, file, path
            )
            continue
        columns = [leaf for field in pq.read_schema(file) for leaf in _leaves(field)]
        if path not in columns:
            yield f"{where}: {unknown('column', path, columns)} (in {file})"
        elif where.endswith("difficulty_column"):
            root, *rest = path.split(".")
            values = pq.read_table(file, columns=[root]).column(root).combine_chunks()
            for part in rest:
                values = pc.struct_field(values, part)
            if values.null_count:
                yield f"{where}: {values.null_count} rows of {file} have no {path}"
            number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
            bad = (
                values.filter(pc.invert(pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, 1))))
                if number
                else values
            )
            if len(bad):
                yield f"{where}: {path} must be a number in [0, 1] in every row, but {file} has {bad[0].as_py()!r}"


def _leaves(field: Any, prefix: str = "") -> list[str]:
    import pyarrow as pa

    name = prefix + field.name
    if pa.types.is_struct(field.type):
        return [leaf for child in field.type for leaf in _leaves(child, name + ".")]
    return [name]


def _set_leaves(node: Any, path: str) -> Iterator[str]:
    """Paths of the values below ``node`` that are not null."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _set_leaves(child, f"{path}.{key}")
    elif node is not None:
        yield path


def _check_reward(config: Any) -> Iterator[str]:
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
            yield from _check_column(files, column, f"{where}.{role}_column")


def _check_dataset(config: Any) -> Iterator[str]:
    """``data.efficiency`` is right, and read by a data set of ours."""
    given = config.data.get("efficiency")
    path = (config.data.get("custom_cls") or {}).get("path")
    ours = "pkg://verl_efficiency.verl.dataset"
    if given and path != ours:
        yield (f"data.efficiency: {', '.join(given)} would be ignored; add data.custom_cls.path={ours} "
               "data.custom_cls.name=PackedDataset")  # fmt: skip
    elif path == ours:
        from verl_efficiency.data.settings import PackingSettings

        try:
            settings = build_settings(PackingSettings, dict(given or {}), "data.efficiency")
        except SettingsError as error:
            yield str(error)
            return
        if config.data.get("dataloader_num_workers", 0) > 0:
            yield "data.dataloader_num_workers: must be 0 with PackedDataset: loader workers do not see where an epoch ends"
        if settings.grouping != "random":
            yield from _check_column(config.data.train_files, settings.difficulty, "data.efficiency.difficulty")
        if settings.distinct_by is not None:
            yield from _check_column(config.data.train_files, settings.distinct_by, "data.efficiency.distinct_by")
