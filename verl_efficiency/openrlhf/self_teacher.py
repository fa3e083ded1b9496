"""Self-distillation in OpenRLHF's trainer: who is routed, what the teacher is shown, what the actor's loss is given.

The passes are methods of our policy actor (:class:`verl_efficiency.openrlhf.ray_classes.EfficiencyPolicyModelActor`):
``student_topk`` and ``teacher_targets`` return, per taught rollout, a tensor with a row for each of its n tokens. What the loss
needs travels with the experience as ``info["distil"]``, one tensor (n, 1 + 2K) per rollout: the weight, K ids, and the
teacher's K log-probabilities, all float32 (exact for ids up to 2**24). It is empty where nothing is distilled.

The teacher is shown demonstrations only: OpenRLHF carries no feedback in words from a reward to the trainer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.adapter.teacher import Plan, Teacher, sampled_advantages
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.openrlhf.batch import Batch

DISTIL = "distil"


@dataclass(frozen=True)
class Passage:
    """Sequences of one forward pass, padded on the right: (b, T), and (b, T − 1) for the mask of the tokens to predict."""

    sequences: Tensor
    attention_mask: Tensor
    action_mask: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Tensor], responses: Sequence[Tensor], masks: Sequence[Tensor], pad: int) -> "Passage":
        """Prompts and responses joined; a mask says which tokens of its response count."""
        width = max(len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True))
        sequences = torch.full((len(prompts), width), pad)
        attention_mask = torch.zeros(len(prompts), width, dtype=torch.long)
        action_mask = torch.zeros(len(prompts), width - 1, dtype=torch.long)
        for row, (prompt, response, mask) in enumerate(zip(prompts, responses, masks, strict=True)):
            begin, end = len(prompt), len(prompt) + len(response)
            sequences[row, :end] = torch.cat([prompt, response])
            attention_mask[row, :end] = 1
            action_mask[row, begin - 1 : end - 1] = mask[: len(response)]
        return cls(sequences, attention_mask, action_mask)


class SelfTeacher(Teacher):
    """The experience maker calls ``teach`` once a step, when rollouts and advantages are known.

    Args:
        maker: the experience maker, for its actor group, tokenizer and settings.
    """

    def __init__(self, maker: Any) -> None:
        super().__init__(maker.method, maker.method_settings, maker.tokenizer)
        self.maker, self.args = maker, maker.args

    def teach(
        self, batch: Batch, rollouts: Rollouts, advantages_BL: Tensor, experiences: Sequence[Any]
    ) -> dict[str, float]:
        """Route, have the teacher score the taught rollouts, write what the loss needs; ``advantages_BL`` changes in place.

        Returns: metrics of the step.
        """
        plan = self.plan(rollouts)
        metrics = {"teacher_rows": float(len(plan.taught))}
        targets = [torch.empty(0)] * len(rollouts.lengths_B)
        if plan.taught:
            prompts = [self.prompt(plan, row, self._messages(batch, row), batch.tokens_B) for row in plan.taught]
            ids, logps, entropy = self._score(batch, plan.taught, prompts)
            weights, values = self.weights(plan, entropy)
            metrics |= values | {"teacher_prompt_tokens": sum(map(len, prompts)) / len(prompts)}
            if ids is None:
                metrics |= self._as_advantages(batch, plan, weights, logps, advantages_BL, experiences)
            else:
                for row, weight, row_ids, row_logps in zip(plan.taught, weights, ids, logps, strict=True):
                    targets[row] = torch.cat([weight[:, None], row_ids.float(), row_logps.float()], dim=1)
        if self.settings.full_logit_distillation:
            self._attach(batch, targets, experiences)
        if plan.skipped:
            kept_BL = batch.mask_BL.clone()
            kept_BL[plan.skipped] = 0
            for experience, mask_EA in zip(experiences, batch.scatter(kept_BL, experiences), strict=True):
                experience.action_mask = mask_EA
        return metrics | self.store(self.maker.method_state, plan, batch.tokens_B)

    def _score(
        self, batch: Batch, taught: list[int], prompts: list[Tensor]
    ) -> tuple[list[Tensor] | None, list[Tensor], list[Tensor] | None]:
        """Per taught rollout: K ids or None; log-probabilities at them, or at the sampled token; the entropy or None."""
        students = self._passages(batch, taught, [batch.prompts_B[row] for row in taught])
        teachers = self._passages(batch, taught, prompts)
        ids = None
        if self.settings.full_logit_distillation:
            ids = self._run("student_topk", passage=students)
        average = self.settings.teacher_regularization == "ema"
        if average:
            self._exchange()
        if ids is None and self.settings.entropy_beta == 0:
            logps, entropy = self._sampled(teachers), None
        else:
            left = iter(ids or [])
            parts = [[next(left) for _ in passage.sequences] if ids else None for passage in teachers]
            scored = self._run("teacher_targets", passage=teachers, ids=parts)
            logps, entropy = [logp for logp, _ in scored], [entropy for _, entropy in scored]
        if average:
            self._exchange()
        count = len(taught)  # the last passage may stand more than once
        return (None if ids is None else ids[:count]), logps[:count], (None if entropy is None else entropy[:count])

    def _exchange(self) -> None:
        """Give the model the teacher's weights, or its own back."""
        self.maker.wait(self.maker.actor_model_group.async_run_method(method_name="exchange_teacher"))

    def _passages(self, batch: Batch, taught: list[int], prompts: list[Tensor]) -> list[Passage]:
        """Micro-batches, equally many for every rank: with ZeRO-3 all ranks must take part in every pass."""
        size, ranks = self.args.rollout.micro_batch_size, self.args.actor.num_nodes * self.args.actor.num_gpus_per_node
        passages = [
            Passage.of(
                prompts[start : start + size],
                [batch.tokens_B[row] for row in taught[start : start + size]],
                [batch.mask_BL[row] for row in taught[start : start + size]],
                self.tokenizer.pad_token_id,
            )
            for start in range(0, len(taught), size)
        ]
        return passages + passages[-1:] * (-len(passages) % ranks)

    def _run(self, method: str, **lists: list) -> list:
        """Results per rollout of ``method`` on every micro-batch."""
        refs = self.maker.actor_model_group.async_run_method_batch(method_name=method, **lists)
        return [result for part in self._results(refs) for result in part]

    def _sampled(self, teachers: list[Passage]) -> list[Tensor]:
        """The stock forward pass, which also works with packed samples and split models."""
        refs = self.maker._dispatch_forward(
            self.maker.actor_model_group,
            self.args.train.colocate_all or self.args.train.colocate_actor_ref,
            sequences=[passage.sequences for passage in teachers],
            action_mask=[passage.action_mask for passage in teachers],
            attention_mask=[passage.attention_mask for passage in teachers],
        )
        return [
            row[mask.bool()].float()[:, None]
            for passage, rows in zip(teachers, self._results(refs), strict=True)
            for row, mask in zip(rows, passage.action_mask, strict=True)
        ]

    def _results(self, refs: Any) -> list:
        """Per micro-batch, without those of ranks that split a sequence or a layer."""
        return self.maker._flatten_results(refs, self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size)

    def _as_advantages(
        self,
        batch: Batch,
        plan: Plan,
        weights: list[Tensor],
        logps: list[Tensor],
        advantages_BL: Tensor,
        experiences: Sequence[Any],
    ) -> dict[str, float]:
        """Distillation on the sampled token: the taught rows get the teacher's advantages, for OpenRLHF's own loss."""
        old_BL = batch.gather([experience.action_log_probs for experience in experiences], experiences)
        masks = [batch.mask_BL[row].bool() for row in plan.taught]
        old = [old_BL[row][mask].float() for row, mask in zip(plan.taught, masks, strict=True)]
        values, metrics = sampled_advantages(weights, [logps_n1[:, 0] for logps_n1 in logps], old)
        for row, mask, value in zip(plan.taught, masks, values, strict=True):
            advantages_BL[row] = 0
            advantages_BL[row, mask] = value
        return metrics

    def _attach(self, batch: Batch, targets: list[Tensor], experiences: Sequence[Any]) -> None:
        by_place: list[Tensor] = [torch.empty(0)] * len(targets)
        for place, target in zip(batch.place_B.tolist(), targets, strict=True):
            by_place[place] = target
        left = iter(by_place)
        for experience in experiences:
            experience.info[DISTIL] = [next(left) for _ in range(len(experience.sequences))]

    def _messages(self, batch: Batch, row: int) -> list[Mapping]:
        """The student's prompt, from the label."""
        messages = read_label(batch.labels_B[row])["prompt"]
        if messages is None:
            raise ValueError(
                f"{self.method.name} shows its teacher the question again, but the label {batch.labels_B[row]!r} does not hold "
                "it; `verl-efficiency pack --format openrlhf` writes such labels"
            )
        return messages
