"""The trainer's side of self-distillation: who is routed, what the teacher is shown, what the actor's loss is given.

The passes are methods of our policy actor (:class:`verl_efficiency.openrlhf.ray_classes.EfficiencyPolicyModelActor`):
``student_topk`` and ``teacher_targets`` return one tensor per routed rollout, with a row for each of its n tokens. What the
loss needs travels with the experience as ``info["distil"]``, one tensor (n, 1 + 2K) per rollout: weight, K ids, K
log-probabilities of the teacher (float32, which holds ids up to 2**24 exactly); an empty one where nothing is distilled.

OpenRLHF carries numbers only from a reward to the trainer, no feedback in words: the teacher is shown demonstrations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.distillation import entropy_weights
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import REFERENCE, SKIP, Routes, route
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages, truncate_prompt
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


class SelfTeacher:
    """Called by the experience maker once a step, when rollouts and advantages are known.

    Args:
        maker: the experience maker, for its actor group, tokenizer and settings.
    """

    def __init__(self, maker: Any) -> None:
        self.maker, self.args = maker, maker.args
        self.method: Estimator = maker.method
        self.settings: DistillationSettings = maker.method_settings

    def teach(
        self, batch: Batch, rollouts: Rollouts, advantages_BL: Tensor, experiences: Sequence[Any]
    ) -> dict[str, float]:
        """Route; have the teacher score the routed rollouts; write what the loss needs. ``advantages_BL`` is changed in place.

        Returns: metrics of the step.
        """
        routes = route(self.method.own_router(), rollouts, self.settings)
        routed = routes.distil_B.nonzero().flatten().tolist()
        metrics = {"teacher_rows": float(len(routed))}
        topk = self.settings.full_logit_distillation
        targets = [torch.empty(0)] * len(rollouts.lengths_B)
        if routed:
            prompts = [self._prompt(batch, rollouts, routes, row) for row in routed]
            metrics["teacher_prompt_tokens"] = sum(map(len, prompts)) / len(prompts)
            ids, logps, entropy = self._score(batch, routed, prompts)
            weights_N = torch.ones(sum(map(len, logps)))
            if entropy is not None:
                weights_N = entropy_weights(torch.cat(entropy), self.settings.entropy_beta)
                metrics["teacher_entropy"] = float(torch.cat(entropy).mean())
            weights = weights_N.split([len(part) for part in logps])
            if ids is not None:
                for row, weight, row_ids, row_logps in zip(routed, weights, ids, logps, strict=True):
                    targets[row] = torch.cat([weight[:, None], row_ids.float(), row_logps.float()], dim=1)
            else:
                metrics |= self._as_advantages(batch, routed, weights, logps, advantages_BL, experiences)
        if topk:
            self._attach(batch, targets, experiences)
        skipped_B = routes.route_B == SKIP
        if skipped_B.any() and not skipped_B.all():
            kept_BL = batch.mask_BL * ~skipped_B[:, None]
            for experience, mask_EA in zip(experiences, batch.scatter(kept_BL, experiences), strict=True):
                experience.action_mask = mask_EA
        state = self.maker.method_state
        if isinstance(state, StoredResponses) and self.settings.keeps_state:
            state.offer_all(rollouts, lambda row: self._text(batch, row))
            metrics["stored_responses"] = float(len(state.texts))
        return metrics

    def _score(
        self, batch: Batch, routed: list[int], prompts: list[Tensor]
    ) -> tuple[list[Tensor] | None, list[Tensor], list[Tensor] | None]:
        """Per routed rollout: K ids or None; what the teacher gives them, or the sampled token; its entropy or None."""
        students = self._passages(batch, routed, [batch.prompt_tokens_B[row] for row in routed])
        teachers = self._passages(batch, routed, prompts)
        ids = None
        if self.settings.full_logit_distillation:
            ids = self._run("student_topk", passage=students)
        average = self.settings.teacher_regularization == "ema"
        if average:
            self.maker.wait(self.maker.actor_model_group.async_run_method(method_name="exchange_teacher"))
        if ids is None and self.settings.entropy_beta == 0:
            logps, entropy = self._sampled(teachers, len(routed)), None
        else:
            left = iter(ids or [])
            parts = [[next(left) for _ in passage.sequences] if ids else None for passage in teachers]
            scored = self._run("teacher_targets", passage=teachers, ids=parts)
            logps, entropy = [logp for logp, _ in scored], [entropy for _, entropy in scored]
        if average:
            self.maker.wait(self.maker.actor_model_group.async_run_method(method_name="exchange_teacher"))
        count = len(routed)
        return (None if ids is None else ids[:count]), logps[:count], (None if entropy is None else entropy[:count])

    def _passages(self, batch: Batch, routed: list[int], prompts: list[Tensor]) -> list[Passage]:
        """Micro-batches, as many for every rank: with ZeRO-3 all must take part in every pass."""
        size, ranks = self.args.rollout.micro_batch_size, self.args.actor.num_nodes * self.args.actor.num_gpus_per_node
        passages = [
            Passage.of(
                prompts[start : start + size],
                [batch.tokens_B[row] for row in routed[start : start + size]],
                [batch.mask_BL[row] for row in routed[start : start + size]],
                self.maker.tokenizer.pad_token_id,
            )
            for start in range(0, len(routed), size)
        ]
        return passages + passages[-1:] * (-len(passages) % ranks)

    def _run(self, method: str, **lists: list) -> list:
        """Results per rollout of ``method`` on every micro-batch."""
        refs = self.maker.actor_model_group.async_run_method_batch(method_name=method, **lists)
        duplicates = self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size
        return [result for part in self.maker._flatten_results(refs, duplicates) for result in part]

    def _sampled(self, teachers: list[Passage], count: int) -> list[Tensor]:
        """The stock forward pass, which works with packed samples and split models too."""
        refs = self.maker._dispatch_forward(
            self.maker.actor_model_group,
            self.args.train.colocate_all or self.args.train.colocate_actor_ref,
            sequences=[passage.sequences for passage in teachers],
            action_mask=[passage.action_mask for passage in teachers],
            attention_mask=[passage.attention_mask for passage in teachers],
        )
        duplicates = self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size
        passes = self.maker._flatten_results(refs, duplicates)
        logps = [
            row[mask.bool()].float()[:, None]
            for passage, rows in zip(teachers, passes, strict=True)
            for row, mask in zip(rows, passage.action_mask, strict=True)
        ]
        return logps[:count]

    def _as_advantages(
        self,
        batch: Batch,
        routed: list[int],
        weights: Sequence[Tensor],
        logps: list[Tensor],
        advantages_BL: Tensor,
        experiences: Sequence[Any],
    ) -> dict[str, float]:
        """Sampled-token form: ``w · (log q − log π_old)`` is the advantage, and OpenRLHF's own loss does the rest."""
        old_BL = batch.gather([experience.action_log_probs for experience in experiences], experiences)
        gaps = []
        for row, weight, logp in zip(routed, weights, logps, strict=True):
            mask = batch.mask_BL[row].bool()
            gaps.append(logp[:, 0] - old_BL[row][mask].float())
            advantages_BL[row] = 0
            advantages_BL[row, mask] = weight * gaps[-1]
        return {"sampled_kl": -float(torch.cat(gaps).mean())}

    def _attach(self, batch: Batch, targets: list[Tensor], experiences: Sequence[Any]) -> None:
        by_place: list[Tensor] = [torch.empty(0)] * len(targets)
        for place, target in zip(batch.place_B.tolist(), targets, strict=True):
            by_place[place] = target
        left = iter(by_place)
        for experience in experiences:
            experience.info[DISTIL] = [next(left) for _ in range(len(experience.sequences))]

    def _prompt(self, batch: Batch, rollouts: Rollouts, routes: Routes, row: int) -> Tensor:
        """The token ids of what the teacher is shown for ``row``."""
        source, group = int(routes.source_B[row]), int(rollouts.groups_B[row])
        demonstration = None
        if source == REFERENCE:
            demonstration = rollouts.references_G[group]  # type: ignore[index]  # check_routes has seen it
        elif source >= 0:
            demonstration = self._text(batch, source)
        messages = read_label(batch.labels_B[row])["prompt"]
        if messages is None:
            raise ValueError(
                f"{self.method.name} shows its teacher the question again, which the label {batch.labels_B[row]!r} does not "
                "hold; `verl-efficiency pack --format openrlhf` writes such labels"
            )
        ids = self.maker.tokenizer.apply_chat_template(
            teacher_messages(messages, demonstration, None, self.settings),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        return torch.tensor(truncate_prompt(ids, self.settings))

    def _text(self, batch: Batch, row: int) -> str:
        return self.maker.tokenizer.decode(batch.tokens_B[row], skip_special_tokens=True)
