"""Self-distillation on verl's driver: who is routed, what the teacher is shown, what the loss is given.

The rows of the batch get these fields in TransferQueue. TransferQueue returns only fields that every requested row has, so what
the update reads is written for every row. n is the number of generated tokens of a taught row and 0 for others; L is the length
of the response:

* ``distil_mask`` (L,): 1 where a token is distilled;
* ``distil_topk_ids`` (n, K) int32: the student's most likely tokens, noted during verl's own pass for ``old_log_probs``;
* ``teacher_prompts``: token ids of the teacher's prompt, for taught rows and for those that fill up its batch;
* ``distil_teacher_logps`` (n, K) float32, and ``distil_weight`` (L,) float32.
"""

import logging
import math
from typing import Any

import torch
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.utils.seqlen_balancing import get_seqlen_balanced_partitions

from verl_efficiency.adapter.teacher import Plan, Teacher, sampled_advantages
from verl_efficiency.methods.catalog import Method
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.verl import run
from verl_efficiency.verl.batch import Batch, read, write
from verl_efficiency.verl.columns import Columns
from verl_efficiency.verl.estimators import build_rollouts

logger = logging.getLogger("verl_efficiency")


class SelfTeacher(Teacher):
    """The trainer calls ``start`` once, then ``route``, ``teach`` and ``update`` in every step, in this order."""

    plan_of_step: Plan

    def __init__(self, method: Method, settings: DistillationSettings, config: Any, tokenizer: Any) -> None:
        super().__init__(method, settings, tokenizer, config.data.get("apply_chat_template_kwargs"))
        self.config = config
        self.compared = False

    def start(self, workers: Any) -> None:
        """The models are built: have the workers keep a teacher."""
        self.workers = workers
        workers.start_distillation(self.settings)

    def route(self, batch: KVBatchMeta, rows: Batch) -> None:
        """Decide who learns by what; have the student's top-K noted in the pass that comes next."""
        rollouts = build_rollouts(
            rows.scores_B, rows.lengths_B, rows.uids_B, self.method, self.settings, Columns(rows.step)
        )
        self.plan_of_step = self.plan(rollouts)
        distil = self.plan_of_step.routes.distil_B.tolist()
        if any(distil):
            masks = [mask * routed for mask, routed in zip(rows.masks_B, distil, strict=True)]
            write(rows.keys, batch, distil_mask=masks)
            if batch.fields is not None:
                batch.fields = [*batch.fields, "distil_mask"]
            if self.settings.full_logit_distillation:
                batch.extra_info["distil_topk"] = self.settings.distillation_topk

    def teach(self, batch: KVBatchMeta, rows: Batch, metrics: dict) -> None:
        """Have the teacher score the taught rows; give the loss its targets and weights."""
        plan = self.plan_of_step
        if plan.skipped:
            empty = [torch.zeros_like(rows.masks_B[row]) for row in plan.skipped]
            write([rows.keys[row] for row in plan.skipped], batch, response_mask=empty, loss_mask=empty)
        self._log(metrics, teacher_rows=float(len(plan.taught)))
        if plan.taught:
            self._teach(batch, rows, plan, metrics)
            batch.fields = None  # everything that the rows have by now
        self._log(metrics, **self.store(run.state_of(self.method), plan, rows.responses_B))

    def update(self, metrics: dict, step: int = 0) -> None:
        """Move the teacher's average after training step ``step``; not where verl threw away a gradient of the step."""
        if self.moves(step):
            moved = math.isfinite(metrics["actor/grad_norm"])
            self._log(metrics, teacher_updated=float(moved))
            if moved:
                self.workers.update_teacher()

    def _teach(self, batch: KVBatchMeta, rows: Batch, plan: Plan, metrics: dict) -> None:
        scored = self._score(batch, rows, plan, metrics)
        keys = [rows.keys[row] for row in plan.taught]
        entropy = read(keys, batch, "teacher_entropy")["teacher_entropy"].unbind()
        parts, values = self.weights(plan, entropy)
        self._log(metrics, **values)
        if not self.settings.full_logit_distillation:
            self._as_advantages(batch, rows, plan, parts, metrics)
            return
        weights = [torch.zeros(len(response)) for response in rows.responses_B]
        for row, part in zip(plan.taught, parts, strict=True):
            weights[row][rows.masks_B[row].bool()] = part
        none = read(keys[:1], batch, "distil_teacher_logps")["distil_teacher_logps"].values()[:0]
        others = [key for row, key in enumerate(rows.keys) if row not in scored]
        if others:
            write(others, batch, distil_teacher_logps=[none] * len(others))
        write(rows.keys, batch, distil_weight=weights)
        self._log(metrics, target_mebibytes=sum(plan.tokens) * none.shape[1] * (4 + 4) / 2**20)

    def _score(self, batch: KVBatchMeta, rows: Batch, plan: Plan, metrics: dict) -> set[int]:
        """The teacher's pass. Returns the rows that it scored: the taught ones, and those that fill up its last batch."""
        if not self.compared:
            self._compare_templates(rows, plan.taught[0])
        ranks = max(self.workers._dispatch_info["actor"]) + 1  # filled in when verl balanced the batch
        fill = _shortest(rows, -len(plan.taught) % ranks, besides=plan.taught)
        prompts = {row: self.prompt(plan, row, rows.messages_B[row], rows.responses_B) for row in plan.taught}
        asked = sum(len(prompt) for prompt in prompts.values())
        prompts |= {row: rows.prompts_B[row] for row in fill}
        tokens = {row: len(prompt) + len(rows.responses_B[row]) for row, prompt in prompts.items()}
        scored = _balanced(tokens, ranks)
        keys = [rows.keys[row] for row in scored]
        write(keys, batch, teacher_prompts=[prompts[row] for row in scored])
        fields = ["teacher_prompts", "responses", "response_mask", "loss_mask", "distil_mask"]
        if self.settings.full_logit_distillation:
            fields.append("distil_topk_ids")
        actor = self.config.actor_rollout_ref.actor
        most = max(actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else 0, *tokens.values())
        self.workers.teacher_log_probs(
            KVBatchMeta(
                keys=keys,
                tags=[{} for _ in keys],
                partition_id=batch.partition_id,
                fields=fields,
                extra_info={
                    "temperature": self.config.actor_rollout_ref.rollout.temperature,
                    "calculate_entropy": False,
                    "use_dynamic_bsz": True,  # whatever the actor does: a fixed size need not divide the number of rows
                    "max_token_len_per_gpu": most,
                },
            )
        )
        self._log(metrics, teacher_prompt_tokens=asked / len(plan.taught), teacher_tokens=float(sum(tokens.values())))
        return set(scored)

    def _as_advantages(self, batch: KVBatchMeta, rows: Batch, plan: Plan, weights: list[Tensor], metrics: dict) -> None:
        """Distillation on the sampled token: the taught rows get the teacher's advantages, for verl's own loss."""
        data = read(rows.keys, batch, "advantages", "old_log_probs")
        advantages, old = list(data["advantages"].unbind()), list(data["old_log_probs"].unbind())
        teacher = read([rows.keys[row] for row in plan.taught], batch, "distil_teacher_logps")["distil_teacher_logps"]
        masks = [rows.masks_B[row].bool() for row in plan.taught]
        values, metric = sampled_advantages(
            weights,
            [logps_n1[:, 0] for logps_n1 in teacher.unbind()],
            [old[row][mask] for row, mask in zip(plan.taught, masks, strict=True)],
        )
        for row, mask, value in zip(plan.taught, masks, values, strict=True):
            advantages[row] = torch.zeros_like(advantages[row])
            advantages[row][mask] = value.to(advantages[row].dtype)
        self._log(metrics, **metric)
        write(rows.keys, batch, advantages=advantages)

    def _compare_templates(self, rows: Batch, row: int) -> None:
        """Once per run: the chat template must make of a student's messages the prompt that the student had."""
        self.compared = True
        if self.templated(rows.messages_B[row]) != rows.prompts_B[row].tolist():
            logger.warning(
                "The prompts of the rollouts are not what the tokenizer's chat template makes of their messages. Either an "
                "agent loop adds something (tools, for example), which the teacher's prompts lack, or data.max_prompt_length "
                "has cut them."
            )

    def _log(self, metrics: dict, **values: float) -> None:
        metrics.update({f"{self.method.name}/{name}": value for name, value in values.items()})


def _shortest(rows: Batch, count: int, *, besides: list[int]) -> list[int]:
    """``count`` other rows, the shortest ones: every rank must get equally many, so the teacher scores these in vain."""
    others = sorted(set(range(len(rows.keys))) - set(besides), key=lambda row: len(rows.responses_B[row]))
    return others[:count]


def _balanced(tokens: dict[int, int], ranks: int) -> list[int]:
    """The rows in an order in which each rank, which takes the next equal part, gets about as many tokens."""
    rows = list(tokens)
    parts = get_seqlen_balanced_partitions(list(tokens.values()), k_partitions=ranks, equal_size=True)
    return [rows[index] for part in parts for index in part]
