"""What our trainers, methods that weigh single tokens, and a self-teacher need of verl's trainer and workers."""

from collections.abc import Iterator
from typing import Any

from verl_efficiency.adapter.checks import (
    KL_TO_REFERENCE,
    Need,
    check_aggregation,
    check_loss,
    check_router,
    has_teacher,
    unmet,
)
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.settings import MethodSettings
from verl_efficiency.verl.checks.files import local_files
from verl_efficiency.verl.modes import MODES, SYNC, mode_of, ours_of

SETTINGS, ACTOR = "algorithm.efficiency", "actor_rollout_ref.actor"
# verl's losses that treat all tokens of a rollout alike. sapo averages over each rollout, so it spoils only token weights that
# are scaled for a mean over all tokens.
_OF_ROLLOUTS = {"geo_mean": "takes one ratio and one mean advantage per rollout"}
_SCALED = {"sapo": "averages over each rollout, whatever loss_agg_mode says"}


def check_trainer(method: Estimator, settings: MethodSettings, config: Any) -> Iterator[str]:
    """Trainer, loss and workers are set up as the method needs them."""
    actor = config.actor_rollout_ref.actor
    mode = mode_of(config.trainer)
    replays = bool(getattr(settings, "replay", 0))
    if settings.needs_trainer and mode not in MODES:
        right = ours_of(mode)
        yield (f"trainer.v1.trainer_mode: {method.name} needs {right} (verl>=0.9 with trainer.use_v1=True), not "
               f"{mode}; write trainer.v1.trainer_mode={right} (`verl-efficiency train` sets {SYNC})")  # fmt: skip
    teaches = has_teacher(method, settings)
    if teaches:
        yield from _check_worker(method, settings, config)
    aggregation = f"{ACTOR}.loss_agg_mode"
    yield from check_aggregation(
        *(method, settings, actor.loss_agg_mode, aggregation),
        f"write {aggregation}=token-mean",
        f"set {SETTINGS}.normalise=none",
    )
    losses = _OF_ROLLOUTS | (_SCALED if settings.needs_trainer else {})
    loss, key = actor.policy_loss.loss_mode, f"{ACTOR}.policy_loss.loss_mode"
    yield from check_loss(method, settings, loss, key, losses, "leave it at vanilla")
    if mode in MODES and replays:
        from verl_efficiency.verl import replay

        if mode != SYNC:
            yield (f"trainer.v1.trainer_mode: {SETTINGS}.replay restarts rollouts of the step before, and {mode} mixes the "
                   f"rollouts of several steps; set it to {SYNC}, or replay=0")  # fmt: skip
        yield from replay.check(config)
    if teaches:
        yield from _check_teacher(method, settings, config)


def _check_worker(method: Estimator, settings: Any, config: Any) -> Iterator[str]:
    """The workers give the student's logits and the teacher's weights."""
    actor, model = config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    engine, splits = actor.get("fsdp_config") or {}, "ulysses_sequence_parallel_size"
    needs = [
        Need(f"{ACTOR}.strategy", actor.strategy, ("fsdp2",), "FSDP1 keeps gathered weights from pass to pass"),
        Need("actor_rollout_ref.model.use_fused_kernels", model.get("use_fused_kernels", False), (False,),
             "fused kernels give no logits"),
        Need(f"{ACTOR}.{splits}", actor.get(splits, 1), (1,), "sequence parallelism splits the logits"),
        Need(f"{ACTOR}.fsdp_config.{splits}", engine.get(splits, 1), (1,), "sequence parallelism splits the logits"),
        Need(f"{ACTOR}.fsdp_config.pad_to_length", engine.get("pad_to_length", False), (False,),
             "verl does not return padded logits"),
        Need(f"{ACTOR}.use_kl_loss", actor.get("use_kl_loss", False), (False,), KL_TO_REFERENCE),
    ]  # fmt: skip
    if settings.teacher_regularization == "ema":
        dtype = engine.get("model_dtype", "fp32")
        reason = f"an average of rounded weights does not move; or set {SETTINGS}.teacher_regularization=none"
        needs.append(Need(f"{ACTOR}.fsdp_config.model_dtype", dtype, ("fp32", "float32", None), reason))
    yield from unmet(method.name, needs, lambda key, value: f"write {key}={value}")


def _check_teacher(method: Estimator, settings: Any, config: Any) -> Iterator[str]:
    """Nobody else teaches, and the teacher can read every row."""
    yield from check_router(method, settings, SETTINGS)
    if (config.get("distillation") or {}).get("enabled", False):
        yield f"distillation.enabled: {method.name} is its own teacher; set it to False"
    yield from _check_media(method, config.data)
    correction = config.algorithm.get("rollout_correction") or {}
    if settings.full_logit_distillation and correction.get("bypass_mode", False):
        yield ("algorithm.rollout_correction.bypass_mode: skips the pass for old_log_probs, in which the student's most likely "
               "tokens are recorded; set it to False, or full_logit_distillation=False, alpha=1")  # fmt: skip


def _check_media(method: Estimator, data: Any) -> Iterator[str]:
    """No row of a local training file has images, videos or audio."""
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
