"""The driver's side of self-distillation: who is routed, what the teacher is shown, what the loss is given.

Rows of the batch gain these fields in TransferQueue. It returns only fields that all rows asked for have, so what the update
reads is written for every row; n is the number of generated tokens of a routed row and 0 for the others, L the length of the
response:

* ``distil_mask`` (L,), 1 where a token is distilled;
* ``distil_topk_ids`` (n, K) int32, the student's most likely tokens, noted during verl's own pass for ``old_log_probs``;
* ``teacher_prompts``, the token ids of the teacher's prompt, for routed rows and those that fill up the last of their batch;
* ``distil_teacher_logps`` (n, K) float32, and ``distil_weight`` (L,) float32.
"""

import logging
import math
from typing import Any

import torch
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.utils.seqlen_balancing import get_seqlen_balanced_partitions

from verl_efficiency.methods import distillation
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import REFERENCE, SKIP, Routes, route
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages, truncate_prompt
from verl_efficiency.verl import run
from verl_efficiency.verl.batch import Batch, read, write
from verl_efficiency.verl.estimators import build_rollouts

logger = logging.getLogger("verl_efficiency")


class SelfTeacher:
    """Called by the trainer, in this order: ``start`` once; ``route``, ``teach``, ``update`` in every step."""

    def __init__(self, method: Estimator, settings: DistillationSettings, config: Any, tokenizer: Any) -> None:
        self.method, self.settings, self.config, self.tokenizer = method, settings, config, tokenizer
        self.temperature = config.actor_rollout_ref.rollout.temperature
        self.compared = False

    def start(self, workers: Any) -> None:
        """The models are built: tell the workers to keep a teacher."""
        self.workers = workers
        workers.start_distillation(self.settings)

    def route(self, batch: KVBatchMeta, rows: Batch) -> None:
        """Decide who learns by what; have the student's top-K noted in the pass that comes next."""
        self.rollouts: Rollouts = build_rollouts(
            rows.scores_B, rows.lengths_B, rows.uids_B, self.method, self.settings, rows.step
        )
        self.routes: Routes = route(self.method.own_router(), self.rollouts, self.settings)
        distil = self.routes.distil_B.tolist()
        if any(distil):
            masks = [mask * routed for mask, routed in zip(rows.masks_B, distil, strict=True)]
            write(rows.keys, batch, distil_mask=masks)
            if batch.fields is not None:
                batch.fields = [*batch.fields, "distil_mask"]
            if self.settings.full_logit_distillation:
                batch.extra_info["distil_topk"] = self.settings.distillation_topk

    def teach(self, batch: KVBatchMeta, rows: Batch, metrics: dict) -> None:
        """Have the teacher score the routed rows; give the loss its targets and weights."""
        skipped = [row for row, real in enumerate(rows.real_B) if real and self.routes.route_B[row] == SKIP]
        if skipped and len(skipped) < sum(rows.real_B):
            empty = [torch.zeros_like(rows.masks_B[row]) for row in skipped]
            write([rows.keys[row] for row in skipped], batch, response_mask=empty, loss_mask=empty)
        routed = (self.routes.distil_B & (self.rollouts.lengths_B > 0)).nonzero().flatten().tolist()
        self._log(metrics, teacher_rows=float(len(routed)))
        if routed:
            self._teach(batch, rows, routed, metrics)
            batch.fields = None  # all that the rows have by now
        state = run.state_of(self.method)
        if isinstance(state, StoredResponses) and self.settings.keeps_state:
            state.offer_all(self.rollouts, lambda row: self._text(rows, row))
            self._log(metrics, stored_responses=float(len(state.texts)))

    def update(self, metrics: dict, step: int = 0) -> None:
        """Move the teacher's average; not in a step in which verl threw a gradient away, be it one of several.

        ``step`` is verl's number of the training step, from which on the teacher may have to wait for its next one.
        """
        if self.settings.teacher_regularization != "ema" or step % self.settings.teacher_refresh_steps:
            return
        moved = math.isfinite(metrics["actor/grad_norm"])
        self._log(metrics, teacher_updated=float(moved))
        if moved:
            self.workers.update_teacher()

    def _teach(self, batch: KVBatchMeta, rows: Batch, routed: list[int], metrics: dict) -> None:
        scored = self._score(batch, rows, routed, metrics)
        routed_keys = [rows.keys[row] for row in routed]
        entropy = list(read(routed_keys, batch, "teacher_entropy")["teacher_entropy"].unbind())
        entropy_N = torch.cat(entropy)
        weights_N = distillation.entropy_weights(entropy_N, self.settings.entropy_beta)
        weights = [torch.zeros(len(response)) for response in rows.responses_B]
        for row, part in zip(routed, weights_N.split([len(part) for part in entropy]), strict=True):
            weights[row][rows.masks_B[row].bool()] = part
        self._log(
            metrics,
            distil_token_share=len(entropy_N) / int(self.rollouts.lengths_B[self.routes.route_B != SKIP].sum()),
            teacher_entropy=float(entropy_N.mean()),
            weight_largest=float(weights_N.max()),
            weight_smallest=float(weights_N.min()),
            feedback_share=int(self.routes.feedback_B.sum()) / len(routed),
        )
        if self.settings.full_logit_distillation:
            none = read(routed_keys[:1], batch, "distil_teacher_logps")["distil_teacher_logps"].values()[:0]
            others = [key for row, key in enumerate(rows.keys) if row not in scored]
            if others:
                write(others, batch, distil_teacher_logps=[none] * len(others))
            write(rows.keys, batch, distil_weight=weights)
            self._log(metrics, target_mebibytes=len(entropy_N) * none.shape[1] * (4 + 4) / 2**20)
        else:
            self._as_advantages(batch, rows, routed, weights, metrics)

    def _score(self, batch: KVBatchMeta, rows: Batch, routed: list[int], metrics: dict) -> set[int]:
        """The teacher's pass; returns the rows that it scored, those that fill up the last of their batch included."""
        if not self.compared:
            self._compare_templates(rows, routed[0])
        ranks = max(self.workers._dispatch_info["actor"]) + 1  # filled in when verl balanced the batch
        fill = _shortest(rows, -len(routed) % ranks, besides=routed)
        prompts = {row: self._prompt(rows, row) for row in routed} | {row: rows.prompts_B[row] for row in fill}
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
                    "temperature": self.temperature,
                    "calculate_entropy": False,
                    "use_dynamic_bsz": True,  # whatever the actor does: the number of routed rows divides by nothing
                    "max_token_len_per_gpu": most,
                },
            )
        )
        self._log(
            metrics,
            teacher_prompt_tokens=sum(len(prompts[row]) for row in routed) / len(routed),
            teacher_tokens=float(sum(tokens.values())),
        )
        return set(scored)

    def _as_advantages(
        self, batch: KVBatchMeta, rows: Batch, routed: list[int], weights: list[Tensor], metrics: dict
    ) -> None:
        """Sampled-token form: ``w · (log q − log π_old)`` is the advantage, and verl's own loss does the rest."""
        data = read(rows.keys, batch, "advantages", "old_log_probs")
        advantages, old = list(data["advantages"].unbind()), list(data["old_log_probs"].unbind())
        teacher = read([rows.keys[row] for row in routed], batch, "distil_teacher_logps")["distil_teacher_logps"]
        gaps = []
        for row, teacher_n1 in zip(routed, teacher.unbind(), strict=True):
            mask = rows.masks_B[row].bool()
            gaps.append(teacher_n1[:, 0] - old[row][mask])
            advantages[row] = torch.zeros_like(advantages[row])
            advantages[row][mask] = (weights[row][mask] * gaps[-1]).to(advantages[row].dtype)
        self._log(metrics, sampled_kl=-float(torch.cat(gaps).mean()))
        write(rows.keys, batch, advantages=advantages)

    def _prompt(self, rows: Batch, row: int) -> Tensor:
        """The token ids of what the teacher is shown for ``row``."""
        source, group = int(self.routes.source_B[row]), int(self.rollouts.groups_B[row])
        demonstration = feedback = None
        if source == REFERENCE:
            demonstration = self.rollouts.references_G[group]  # type: ignore[index]  # check_routes has seen it
        elif source >= 0:
            demonstration = self._text(rows, source)
        if self.routes.feedback_B[row]:
            feedback = self.rollouts.feedback_B[row]  # type: ignore[index]  # likewise
        messages = teacher_messages(rows.messages_B[row], demonstration, feedback, self.settings)
        return torch.tensor(truncate_prompt(self._templated(messages), self.settings))

    def _templated(self, messages: Any) -> list[int]:
        return self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **(self.config.data.get("apply_chat_template_kwargs") or {}),
        )

    def _compare_templates(self, rows: Batch, row: int) -> None:
        """Once per run: a student's prompt that is templated as a teacher's must come out as it is."""
        self.compared = True
        if self._templated(rows.messages_B[row]) != rows.prompts_B[row].tolist():
            logger.warning(
                "The prompts of the rollouts are not what the tokenizer's chat template makes of their messages. What an agent "
                "loop adds (tools, for one) is missing in the teacher's prompts; or data.max_prompt_length has cut them."
            )

    def _text(self, rows: Batch, row: int) -> str:
        return self.tokenizer.decode(rows.responses_B[row], skip_special_tokens=True)

    def _log(self, metrics: dict, **values: float) -> None:
        metrics.update({f"{self.method.name}/{name}": value for name, value in values.items()})


def _shortest(rows: Batch, count: int, *, besides: list[int]) -> list[int]:
    """Rows that the teacher scores for nothing, since each rank must be given equally many."""
    others = sorted(set(range(len(rows.keys))) - set(besides), key=lambda row: len(rows.responses_B[row]))
    return others[:count]


def _balanced(tokens: dict[int, int], ranks: int) -> list[int]:
    """The rows in an order that gives every rank, which takes the next equal part of it, about as many tokens."""
    rows = list(tokens)
    parts = get_seqlen_balanced_partitions(list(tokens.values()), k_partitions=ranks, equal_size=True)
    return [rows[index] for part in parts for index in part]
