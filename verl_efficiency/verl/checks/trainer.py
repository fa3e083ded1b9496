"""What ``efficiency_sync`` and a self-teacher need of verl's trainer and workers."""

from collections.abc import Iterator
from typing import Any

from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.settings import MethodSettings, SettingsError
from verl_efficiency.verl.checks.files import local_files


def check_trainer(method: Estimator, settings: MethodSettings, config: Any) -> Iterator[str]:
    """Our trainer runs, and a method with a self-teacher finds verl set up as it needs it."""
    from verl_efficiency.methods.routing import router_of
    from verl_efficiency.methods.teacher import DistillationSettings

    trainer = config.trainer
    mode = (trainer.get("v1") or {}).get("trainer_mode")
    if mode != "efficiency_sync":
        yield (f"trainer.v1.trainer_mode: {method.name} needs efficiency_sync (verl>=0.9 with trainer.use_v1=True), not "
               f"{mode}; write trainer.v1.trainer_mode=efficiency_sync (`verl-efficiency train` sets it)")  # fmt: skip
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
                f"actor_rollout_ref.{key}: {method.name} needs {' or '.join(map(str, allowed[:2]))}, not {value}; write "
                f"actor_rollout_ref.{key}={allowed[0]} ({reason})"
            )
    if (config.get("distillation") or {}).get("enabled", False):
        yield f"distillation.enabled: {method.name} is its own teacher; set it to False"
    yield from _check_media(method, config.data)
    if settings.full_logit_distillation and (config.algorithm.get("rollout_correction") or {}).get(
        "bypass_mode", False
    ):
        yield ("algorithm.rollout_correction.bypass_mode: the student's most likely tokens are noted in the pass for "
               "old_log_probs, which it leaves out; set it to False, or full_logit_distillation=False, alpha=1")  # fmt: skip


def _check_media(method: Estimator, data: Any) -> Iterator[str]:
    """No row of a local training file has pictures, videos or sound."""
    import pyarrow.parquet as pq

    for file in local_files(data.train_files):
        if file.suffix != ".parquet":
            continue
        parquet = pq.ParquetFile(file)
        for key in ("image_key", "video_key", "audio_key"):
            column = data.get(key)
            if column in parquet.schema_arrow.names and any(
                value for rows in parquet.iter_batches(64, columns=[column]) for value in rows.column(0).to_pylist()
            ):
                yield f"data.{key}: the teacher of {method.name} reads text only, but rows of {file} have {column}"
