"""The actor's worker with a self-teacher, in verl's worker processes (``workers/engine_workers.py:452`` in 0.9.1)."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker

from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.verl.average import WeightAverage
from verl_efficiency.verl.distillation_loss import DistillationLoss, StudentTopk, TeacherTargets
from verl_efficiency.verl.hdfs import upload
from verl_efficiency.verl.targets import DTYPES, TopkTargets, nested

logger = logging.getLogger("verl_efficiency")
ON_ALL: Any = Dispatch.ONE_TO_ALL  # type: ignore[attr-defined]  # verl adds the members at run time
OVER_ROWS = make_nd_compute_dataproto_dispatch_fn(mesh_name="actor")


class DistillationWorker(ActorRolloutRefWorker):
    """verl's worker, plus the teacher's weights, the teacher's pass, and a loss with two terms."""

    actor: Any  # verl's TrainingWorker
    targets: TopkTargets
    average: WeightAverage | None = None
    longest_teacher = 0  # largest number of tokens of prompt and response so far

    @register(dispatch_mode=ON_ALL)
    def start_distillation(self, settings: DistillationSettings) -> None:
        """Start the teacher's average and wrap verl's loss. The model must exist."""
        self.distillation = settings
        self.targets = TopkTargets()
        if settings.teacher_regularization == "ema":
            self.average = WeightAverage(self.actor.engine.module, settings.teacher_update_rate)
        self.actor.set_loss_fn(DistillationLoss(self.loss_fn, settings))

    @register(dispatch_mode=OVER_ROWS)
    def compute_log_prob(self, data: TensorDict) -> TensorDict:
        """verl's pass. If rows are to be distilled, this worker also notes their student's top-K."""
        k = tu.pop(data, "distil_topk", default=None)
        if k is None:
            return super().compute_log_prob(data)
        tu.assign_non_tensor(data, compute_loss=True, distillation_use_topk=True, distillation_only=False)
        with self._reading_logits(StudentTopk(k, self.distillation.chunk_tokens)):
            output = super().compute_log_prob(data)
        self.targets.note_ids(data, output)
        return output

    @register(dispatch_mode=OVER_ROWS)
    def teacher_log_probs(self, data: TensorDict) -> TensorDict:
        """``teacher_entropy`` (n,) of each row under the teacher's prompt and weights.

        In the full form this worker notes the teacher's log-probabilities at the student's top-K. In the sampled-token form
        they are returned too, as ``distil_teacher_logps`` (n, 1).
        """
        _put_teacher_prompts(data)
        self._notice_length(int(data["input_ids"].offsets().diff().max()))
        tu.assign_non_tensor(data, compute_loss=True, distillation_use_topk=True, distillation_only=True)
        full = self.distillation.full_logit_distillation
        reader = TeacherTargets(
            self.distillation.chunk_tokens, DTYPES[self.distillation.target_dtype] if full else None
        )
        if full:
            self.targets.give_ids(data)
        with self._teacher_weights(), self._reading_logits(reader):
            output = self.actor.infer_batch(data).cpu()
        if full:
            self.targets.note_logps(data, output)
        return output

    @register(dispatch_mode=OVER_ROWS)
    def update_actor(self, data: TensorDict) -> TensorDict:
        """verl's update. On a batch with targets our loss also computes the log-probabilities, since it reads the logits."""
        if "distil_weight" in data and self.distillation.full_logit_distillation:
            tu.assign_non_tensor(data, distillation_use_topk=True, distillation_only=True)
            self.targets.give(data)
        return super().update_actor(data)

    @register(dispatch_mode=ON_ALL)
    def update_teacher(self) -> None:
        """One step of the teacher's average."""
        assert self.average is not None
        self.average.update()

    @register(dispatch_mode=ON_ALL)
    def save_checkpoint(self, local_path, hdfs_path=None, global_step=0, max_ckpt_to_keep=None):
        super().save_checkpoint(local_path, hdfs_path, global_step, max_ckpt_to_keep)
        if self.average and local_path is not None:
            upload([self.average.save(local_path)], local_path, hdfs_path)

    @register(dispatch_mode=ON_ALL)
    def load_checkpoint(self, local_path, hdfs_path=None, del_local_after_load=False):
        # First, because verl may delete the folder after reading it.
        found = self.average is not None and local_path is not None and self.average.load(local_path)
        super().load_checkpoint(local_path, hdfs_path, del_local_after_load)
        if self.average and local_path is not None and not found:
            self.average.restart()

    def _notice_length(self, tokens: int) -> None:
        """Warn once if the teacher reads more tokens than the model has positions; the rollout engine does not check that."""
        limit = getattr(self.actor.model_config.hf_config, "max_position_embeddings", None) or math.inf
        if self.longest_teacher <= limit < tokens:
            logger.warning(
                "The teacher reads %d tokens (its prompt and the response), but the model has %d positions "
                "(max_position_embeddings); lower algorithm.efficiency.max_reprompt_len or data.max_response_length.",
                *(tokens, limit),
            )
        self.longest_teacher = max(self.longest_teacher, tokens)

    @contextmanager
    def _reading_logits(self, reader: Callable) -> Iterator[None]:
        """Inside the context, ``reader`` replaces the loss, because verl's engine passes the logits to the loss."""
        loss, self.actor.loss_fn = self.actor.loss_fn, reader
        try:
            yield
        finally:
            self.actor.loss_fn = loss

    @contextmanager
    def _teacher_weights(self) -> Iterator[None]:
        if self.average is None:
            yield
        else:
            with self.average.in_place():
                yield


def _put_teacher_prompts(data: Any) -> None:
    """Replace the student's prompt by the teacher's, before the same response."""
    prompts = list(data.pop("teacher_prompts").unbind())
    rows = [torch.cat([prompt, response]) for prompt, response in zip(prompts, data["responses"].unbind(), strict=True)]
    data["prompts"] = nested(prompts)
    data["input_ids"] = nested(rows)
    data["position_ids"] = nested([torch.arange(len(row), device=row.device) for row in rows])
