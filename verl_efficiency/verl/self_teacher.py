"""The self-teacher on verl's driver: what it writes into TransferQueue for the workers.

The rows of the batch get these fields. TransferQueue returns only fields that every requested row has, so the fields that the
update reads are written for every row. n is the number of generated tokens of a taught row, 0 for others. L is the length of
the response:

* ``distil_mask`` (L,) uint8: 1 where a token is distilled;
* ``distil_row`` (1,): the number of the row, by which the workers find the targets that they keep (``targets.py``);
* ``teacher_prompts``: token ids of the teacher's prompt, for taught rows and for rows that fill up its batch;
* ``distil_weight`` (L,) float32.

The workers write ``teacher_entropy`` (n,), and in the sampled-token form ``distil_teacher_logps`` (n, 1).
"""

import logging
import math
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from transfer_queue import KVBatchMeta

from verl_efficiency.adapter.average import moves
from verl_efficiency.adapter.teacher import Plan, Teacher
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.verl import run
from verl_efficiency.verl.batch import Batch, read, write
from verl_efficiency.verl.estimators import rollouts_of
from verl_efficiency.verl.targets import ROW, bytes_per_token

logger = logging.getLogger("verl_efficiency")


class SelfTeacher(Teacher):
    """The trainer calls ``start`` once, then ``route``, ``teach`` and ``update`` in every step, in this order."""

    batch: KVBatchMeta
    rows: Batch
    plan_of_step: Plan
    prompts_of_step: Future[list[Tensor]]

    def __init__(self, method: Estimator, settings: DistillationSettings, config: Any, tokenizer: Any) -> None:
        super().__init__(method, settings, tokenizer, config.data.get("apply_chat_template_kwargs"))
        self.config = config
        self.compared = False
        self.beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher_prompts")

    def start(self, workers: Any) -> None:
        """Have the workers keep a teacher. Their models must exist."""
        self.workers = workers
        workers.start_distillation(self.settings)
        if self.settings.full_logit_distillation:
            print(f"[verl-efficiency] {self.method.name}: {most_memory(self.settings, self.config)}", flush=True)

    def route(self, batch: KVBatchMeta, rows: Batch) -> None:
        """Route the rollouts, and have the next pass record the student's top-K. Meanwhile a thread makes the prompts."""
        self.batch, self.rows = batch, rows
        rollouts = rollouts_of(rows.scores_B, rows.lengths_B, rows.uids_B, self.method, self.settings, rows.step)
        self.plan_of_step = self.plan(rollouts)
        if not self.plan_of_step.taught:
            return
        self._read_shown(self.plan_of_step)
        self.prompts_of_step = self.beside.submit(self.prompts, self.plan_of_step)
        distil = self.plan_of_step.routes.distil_B.tolist()
        masks = [(mask * routed).to(torch.uint8) for mask, routed in zip(rows.masks_B, distil, strict=True)]
        numbers = [torch.tensor([row]) for row in range(len(rows.keys))]
        write(rows.keys, batch, **{"distil_mask": masks, ROW: numbers})
        if batch.fields is not None:
            batch.fields = [*batch.fields, "distil_mask", ROW]
        if self.settings.full_logit_distillation:
            batch.extra_info["distil_topk"] = self.settings.distillation_topk

    def teach(self, batch: KVBatchMeta, rows: Batch, metrics: dict) -> None:
        """Have the teacher score the taught rows; give the loss its targets and weights."""
        self.batch, self.rows = batch, rows
        plan = self.plan_of_step
        self._log(metrics, self.lesson(plan, lambda: self.prompts_of_step.result(), run.state_of(self.method)))
        if plan.taught:
            batch.fields = None  # everything that the rows have by now

    def update(self, metrics: dict, step: int, grad_norm: float) -> None:
        """Update the teacher's average after training step ``step``, unless verl discarded a gradient of the step.

        Args:
            metrics: of the step; one is added.
            step: number of the training step.
            grad_norm: not finite if the norm of an update of the step is not. verl discards such a gradient.
        """
        if moves(self.settings, step):
            moved = math.isfinite(grad_norm)
            self._log(metrics, {"teacher_updated": float(moved)})
            if moved:
                self.workers.update_teacher()

    def messages(self, row: int) -> Any:
        return self.messages_G[int(self.plan_of_step.rollouts.groups_B[row])]

    def response(self, row: int) -> Tensor:
        return self.rows.responses_B[row] if self.rows.responses_B else self.demonstrations[row]

    def score(self, plan: Plan, prompts: list[Tensor]) -> Sequence[Tensor]:
        """See the base class. Other rows fill up the batch, because every rank must get the same number of rows."""
        rows = self.rows
        if not self.compared:
            self._compare_templates(plan.taught[0])
        ranks = max(self.workers._dispatch_info["actor"]) + 1  # filled in when verl balanced the batch
        number_of = {key: row for row, key in enumerate(rows.keys)}
        order = [number_of[key] for key in self.batch.keys]
        scored = deal(order, set(plan.taught), [len(mask) for mask in rows.masks_B], ranks)
        prompt_of = dict(zip(plan.taught, prompts, strict=True))
        prompt_of |= self._of_rows([row for row in scored if row not in prompt_of], "prompts")
        tokens = {row: len(prompt_of[row]) + len(rows.masks_B[row]) for row in scored}
        keys = [rows.keys[row] for row in scored]
        write(keys, self.batch, teacher_prompts=[prompt_of[row] for row in scored])
        fields = ["teacher_prompts", "responses", "response_mask", "loss_mask", "distil_mask", ROW]
        actor = self.config.actor_rollout_ref.actor
        most = max(actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else 0, *tokens.values())
        self.workers.teacher_log_probs(
            KVBatchMeta(
                keys=keys,
                tags=[{} for _ in keys],
                partition_id=self.batch.partition_id,
                fields=fields,
                extra_info={
                    "temperature": self.config.actor_rollout_ref.rollout.temperature,
                    "calculate_entropy": False,
                    "use_dynamic_bsz": True,  # whatever the actor uses: a fixed size may not divide the number of rows
                    "max_token_len_per_gpu": most,
                },
            )
        )
        self.metrics["teacher_tokens"] = float(sum(tokens.values()))
        return self._of_taught(plan, "teacher_entropy")

    def give_targets(self, plan: Plan, weights: list[Tensor]) -> None:
        rows = self.rows
        weights_B = [torch.zeros(len(mask)) for mask in rows.masks_B]
        for row, weights_n in zip(plan.taught, weights, strict=True):
            weights_B[row][rows.masks_B[row].bool()] = weights_n
        write(rows.keys, self.batch, distil_weight=weights_B)
        self.metrics["target_mebibytes"] = sum(plan.tokens) * bytes_per_token(self.settings) / 2**20

    def log_probs(self, plan: Plan) -> tuple[list[Tensor], list[Tensor]]:
        teacher = self._of_taught(plan, "distil_teacher_logps")
        old = self._of_taught(plan, "old_log_probs")
        masks = [self.rows.masks_B[row].bool() for row in plan.taught]
        return [logps_n1[:, 0] for logps_n1 in teacher], [row[mask] for row, mask in zip(old, masks, strict=True)]

    def give_advantages(self, plan: Plan, values: list[Tensor]) -> None:
        advantages = list(read(self.rows.keys, self.batch, "advantages")["advantages"].unbind())
        for row, values_n in zip(plan.taught, values, strict=True):
            advantages[row] = torch.zeros_like(advantages[row])
            advantages[row][self.rows.masks_B[row].bool()] = values_n.to(advantages[row].dtype)
        write(self.rows.keys, self.batch, advantages=advantages)

    def skip(self, rows: list[int]) -> None:
        empty = [torch.zeros_like(self.rows.masks_B[row]) for row in rows]
        write([self.rows.keys[row] for row in rows], self.batch, response_mask=empty, loss_mask=empty)

    def _read_shown(self, plan: Plan) -> None:
        """Read the questions of the taught groups, and the responses that serve as demonstrations."""
        keys = self.rows.keys
        row_of_group = {int(plan.rollouts.groups_B[row]): row for row in plan.taught}
        questions = read([keys[row] for row in row_of_group.values()], self.batch, "raw_prompt")["raw_prompt"]
        self.messages_G = dict(zip(row_of_group, list(questions), strict=True))
        sources = sorted({source for source in plan.routes.source_B[plan.taught].tolist() if source >= 0})
        self.demonstrations = self._of_rows(sources, "responses") if not self.rows.responses_B else {}

    def _of_rows(self, rows: Sequence[int], field: str) -> dict[int, Tensor]:
        if not rows:
            return {}
        found = read([self.rows.keys[row] for row in rows], self.batch, field)[field].unbind()
        return dict(zip(rows, found, strict=True))

    def _of_taught(self, plan: Plan, field: str) -> Sequence[Tensor]:
        return read([self.rows.keys[row] for row in plan.taught], self.batch, field)[field].unbind()

    def _compare_templates(self, row: int) -> None:
        """Once per run, warn if the chat template does not turn the student's messages into the student's prompt."""
        self.compared = True
        if self.templated([self.messages(row)])[0] != self._of_rows([row], "prompts")[row].tolist():
            logger.warning(
                "The prompts of the rollouts are not what the tokenizer's chat template makes of their messages. Either an "
                "agent loop adds something (tools, for example), which the teacher's prompts lack, or data.max_prompt_length "
                "has cut them."
            )

    def _log(self, metrics: dict, values: dict[str, float]) -> None:
        metrics.update({f"{self.method.name}/{name}": value for name, value in values.items()})


def most_memory(settings: DistillationSettings, config: Any) -> str:
    """The most memory that the top-K targets of a step can take in the workers, in words."""
    rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    tokens = config.data.max_response_length
    ranks, each = config.trainer.nnodes * config.trainer.n_gpus_per_node, bytes_per_token(settings)
    total = rollouts * tokens * each / 2**30
    return (
        f"the targets of a step take at most {total:.3g} GiB of the workers' main memory, {total / ranks:.3g} GiB per rank "
        f"({rollouts} rollouts of {tokens} tokens, {each} bytes per token); a lower algorithm.efficiency.distillation_topk "
        f"than {settings.distillation_topk} takes less"
    )


def deal(order: Sequence[int], taught: Collection[int], lengths: Sequence[int], ranks: int) -> list[int]:
    """The rows of the teacher's pass: equal parts for the ranks in turn, each from the rows that the rank has in the update.

    Args:
        order: all rows of the batch in verl's order, in which the ranks take equal parts in turn.
        taught: the rows that the teacher scores.
        lengths: tokens of each response; a rank with fewer taught rows than another is filled up with its shortest others.
        ranks: number of data-parallel ranks.

    >>> deal([3, 0, 2, 1], taught={3, 2, 1}, lengths=[5, 7, 7, 9], ranks=2)
    [3, 0, 2, 1]
    """
    size = len(order) // ranks
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    most = max(sum(row in taught for row in part) for part in parts)
    return [row for part in parts for row in sorted(part, key=lambda row: (row not in taught, lengths[row]))[:most]]
