"""The trainer mode ``efficiency_sync``: verl's synchronous V1 trainer, with a self-teacher and with metrics of ours.

``trainer.v1.trainer_mode=efficiency_sync`` in a stock launch, or ``verl-efficiency train`` with verl's own overrides. What verl
does is done by ``super()``; nothing of it is copied (file and line in verl 0.9.1):

* ``_build_replay_buffer`` (v1/trainer_base.py:139) is the first call after the mode's name is read, and where it becomes
  ``sync``, which is what verl compares it with from then on;
* ``_init_resource_pool_mgr`` (:788) puts our worker in the place of the actor's, for methods with a teacher only;
* ``_load_checkpoint`` (:850) is the first call after the models are built, so that a teacher is there to be restored;
* ``_next_train_batch`` (:1479) and ``prepare_step`` (:1525): prompts of t_spmo's replay (``replay.py``), and their metrics;
* ``_compute_old_log_prob`` (:1634) is the first call with the whole batch: rewards and responses are read, rollouts routed;
* ``_compute_advantage`` (:1743) and ``_update_actor`` (:1827): the teacher's pass after the one, its average after the other.
"""

import logging
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from verl_efficiency.grading import opens_thinking
from verl_efficiency.methods.cost import LOOK_BACK, thinking_counter
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.verl import estimators, run
from verl_efficiency.verl.batch import Batch, read_batch
from verl_efficiency.verl.checks.estimator import estimator_of

logger = logging.getLogger("verl_efficiency")
MODE = "efficiency_sync"


@register_trainer(MODE)
class EfficiencyTrainer(PPOTrainerSync):
    """verl's ``sync`` trainer that runs every method of ours, and logs every reward component and method statistic."""

    counts_thinking = False

    def __init__(self, config: Any) -> None:
        self.method = estimator_of(config)
        self.settings = estimators.read_settings(self.method, config.algorithm) if self.method else None
        self.self_teacher: Any = None
        self.replay: Any = None
        self.counts_thinking = bool(self.settings and "thinking" in self.settings.parts)
        if isinstance(self.settings, TSpmoSettings) and self.settings.replay:
            from verl_efficiency.verl.replay import Replay

            self.replay = Replay(
                self.settings, config.data.train_batch_size, config.actor_rollout_ref.rollout.prompt_length
            )
        super().__init__(config)

    def _build_replay_buffer(self) -> Any:
        self.trainer_mode = "sync"
        return super()._build_replay_buffer()

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        if self.method and isinstance(self.settings, DistillationSettings) and self.settings.needs_trainer:
            from verl_efficiency.verl.self_teacher import SelfTeacher
            from verl_efficiency.verl.worker import DistillationWorker

            self.self_teacher = SelfTeacher(self.method, self.settings, self.config, self.tokenizer)
            for role in (Role.Actor, Role.ActorRollout, Role.ActorRolloutRef):
                if role in self.role_worker_mapping:
                    self.role_worker_mapping[role] = ray.remote(DistillationWorker)

    def _load_checkpoint(self) -> None:
        if self.self_teacher:
            self.self_teacher.start(self.actor_rollout_wg)
        super()._load_checkpoint()
        if self.replay and self.global_steps:
            logger.warning("resumed: what was chosen for replay is not saved, so the first step restarts no rollout")

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        if self.replay is None:
            return super()._next_train_batch(num_prompts)
        if num_prompts is None:
            return self.replay.next_batch(super()._next_train_batch)
        refill = super()._next_train_batch(num_prompts)
        self.replay.remember(refill)
        return refill

    def prepare_step(self) -> dict:
        metrics = super().prepare_step()
        return {**metrics, **self.replay.metrics} if self.replay else metrics

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        prompts = self.self_teacher is not None or self.replay is not None or self.counts_thinking
        rows = read_batch(batch, with_prompts=prompts)
        run.begin_step(with_thinking(rows, self.tokenizer) if self.counts_thinking else rows.step)
        metrics.update(reward_metrics(rows))
        self.rows = rows.in_order_of_keys()
        if self.self_teacher:
            self.self_teacher.route(batch, self.rows)
        if self.replay:
            self.replay.choose(self.rows, self.global_steps)
        return super()._compute_old_log_prob(batch, metrics)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        metrics.update(run.reported())
        if self.self_teacher:
            with marked_timer("teacher", self.timing_raw, color="green"):
                self.self_teacher.teach(batch, self.rows, metrics)
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        if self.self_teacher:
            with marked_timer("teacher_update", self.timing_raw, color="green"):
                self.self_teacher.update(metrics, self.global_steps)
        return batch


def with_thinking(rows: Batch, tokenizer: Any) -> run.Step:
    """The step with the thinking tokens of each response."""
    ends = [tokenizer.decode(prompt[-LOOK_BACK:]) for prompt in rows.prompts_B]
    opened = [opens_thinking(end) for end in ends]
    return replace(rows.step, thinking_B=thinking_counter(tokenizer).count(rows.responses_B, rows.masks_B, opened))


def reward_metrics(rows: Batch) -> dict[str, float]:
    """The mean of every number that the reward returns, under ``reward/``; padding does not count.

    Where some rollouts lack a number (a reward that raised returns fewer), the mean is over those that have it, and
    ``reward/<name>_given`` says what share that is.
    """
    infos = [info for info, real in zip(rows.reward_infos, rows.real_B, strict=True) if real]
    values: dict[str, list[float]] = defaultdict(list)
    for info in infos:
        for name, value in info.items():
            if isinstance(value, bool | int | float | np.number | np.bool_):
                values[name].append(float(value))
    metrics = {}
    for name, given in sorted(values.items()):
        metrics[f"reward/{name}"] = float(np.mean(given))
        if len(given) < len(infos):
            metrics[f"reward/{name}_given"] = len(given) / len(infos)
    return metrics
