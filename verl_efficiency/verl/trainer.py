"""Our trainer modes: each of verl's three V1 trainers, with a self-teacher and with our metrics.

``trainer.v1.trainer_mode`` is ``efficiency_sync``, ``efficiency_colocate_async`` or ``efficiency_separate_async`` in a stock
launch, or in ``verl-efficiency train`` with verl's own overrides. ``super()`` does what verl does; nothing is copied. What is
overridden, with file and line in verl 0.9.1:

* ``__init__`` (v1/trainer_base.py:109): verl looks up the settings of a mode by its name, so ours gets those of verl's mode;
* ``_build_replay_buffer`` (:139) is the first call after verl has read the mode's name. Here the name becomes verl's, since
  verl compares it with its own names from then on;
* ``_init_resource_pool_mgr`` (:788): for methods with a teacher, our worker replaces the actor's;
* ``_load_checkpoint`` (:850) is the first call after the models are built: the teacher starts before it can be restored;
* ``_next_train_batch`` (:1479) and ``prepare_step`` (:1525): prompts of t_spmo's replay (``replay.py``), and their metrics;
* ``_compute_old_log_prob`` (:1634) is the first call with the whole batch: what the reward returned is read, and whatever else
  the method needs (``MethodSettings.reads``); rollouts are routed;
* ``_compute_advantage`` (:1743): the teacher's pass comes after it;
* ``_update_actor`` (:1827): the teacher's average moves after the last update of a step.

**The self-teacher in the asynchronous modes.** A rollout may come from older weights than those that train. Nothing else
changes: the teacher scores the tokens that were sampled, the demonstrations come from the same group, and π_old and the
student's top-K belong to the weights before the step. What is missing is the ratio between the weights before the step and
those that sampled; ``algorithm.rollout_correction.rollout_is=token`` adds it, in the distillation term too. In
``separate_async``, ``parameter_sync_step`` batches make one step. The teacher of each batch is the average from before the
step, and the average moves once per step, as with several mini-batches of ``sync``.
"""

import logging
from dataclasses import replace
from typing import Any, ClassVar

import ray
from omegaconf import open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import PPOTrainer, register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from verl_efficiency.adapter.metrics import reward_means
from verl_efficiency.adapter.rollouts import count_thinking
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.verl import estimators, run
from verl_efficiency.verl.batch import read_batch
from verl_efficiency.verl.checks.estimator import estimator_of

logger = logging.getLogger("verl_efficiency")


class EfficiencyTrainer(PPOTrainer):
    """What we add to a trainer of verl: it runs methods with a teacher, and logs reward components and method statistics.

    A mode derives from this class first, then from verl's.
    """

    verls_mode: ClassVar[str]
    counts_thinking = False
    grad_norm = 0.0  # sum over the updates of a step: not finite if one of them is not

    def __init__(self, config: Any) -> None:
        self.method = estimator_of(config)
        self.settings = estimators.read_settings(self.method, config.algorithm) if self.method else None
        self.self_teacher: Any = None
        self.replay: Any = None
        self.reads = self.settings.reads if self.settings else frozenset()
        self.counts_thinking = bool(self.settings and "thinking" in self.settings.parts)
        if isinstance(self.settings, TSpmoSettings) and self.settings.replay:
            from verl_efficiency.verl.replay import Replay

            self.replay = Replay(
                self.settings, config.data.train_batch_size, config.actor_rollout_ref.rollout.prompt_length
            )
        settings = config.trainer.v1
        with open_dict(settings):
            settings[settings.trainer_mode] = settings.get(self.verls_mode, {})
        super().__init__(config)

    def _build_replay_buffer(self) -> Any:
        self.trainer_mode = self.verls_mode
        return super()._build_replay_buffer()

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        if self.method and isinstance(self.settings, DistillationSettings) and self.settings.needs_trainer:
            from verl_efficiency.verl.self_teacher import SelfTeacher

            self.self_teacher = SelfTeacher(self.method, self.settings, self.config, self.tokenizer)
            for role in (Role.Actor, Role.ActorRollout, Role.ActorRolloutRef):
                if role in self.role_worker_mapping:
                    self.role_worker_mapping[role] = ray.remote(self._worker())

    def _worker(self) -> type:
        """The actor's worker for methods with a teacher."""
        from verl_efficiency.verl.worker import DistillationWorker

        return DistillationWorker

    def _load_checkpoint(self) -> None:
        if self.self_teacher:
            self.self_teacher.start(self.actor_rollout_wg)
        super()._load_checkpoint()
        if self.replay and self.global_steps:
            logger.warning("resumed: the choice of rollouts to replay is not saved, so the first step replays none")

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
        rows = read_batch(batch, self.reads)
        step = rows.step
        if self.counts_thinking:
            thinking_B = count_thinking(self.tokenizer, rows.prompts_B, rows.responses_B, rows.masks_B)
            step = replace(step, thinking_B=thinking_B)
        run.begin_step(step)
        last = step.sessions.last_B.tolist() if step.sessions else range(len(rows.keys))  # a session counts once
        metrics.update(reward_means([rows.reward_infos[row] for row in last if rows.real_B[row]]))
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
            self.grad_norm = metrics["actor/grad_norm"] + (self.grad_norm if self.local_trigger_step else 0.0)
            if self.local_trigger_step == self.parameter_sync_step - 1:
                with marked_timer("teacher_update", self.timing_raw, color="green"):
                    self.self_teacher.update(metrics, self.global_steps, self.grad_norm)
        return batch


@register_trainer("efficiency_sync")
class EfficiencySync(EfficiencyTrainer, PPOTrainerSync):
    """verl's ``sync``: rollouts and training take turns on the same devices."""

    verls_mode = "sync"


@register_trainer("efficiency_colocate_async")
class EfficiencyColocateAsync(EfficiencyTrainer, PPOTrainerColocateAsync):
    """verl's ``colocate_async``: as ``sync``, but open rollouts are interrupted for the update and go on after it."""

    verls_mode = "colocate_async"


@register_trainer("efficiency_separate_async")
class EfficiencySeparateAsync(EfficiencyTrainer, PPOTrainerSeparateAsync):
    """verl's ``separate_async``: rollouts have devices of their own and go on during the updates."""

    verls_mode = "separate_async"

    def _worker(self) -> type:
        from verl_efficiency.verl.detached_worker import DetachedDistillationWorker

        return DetachedDistillationWorker
