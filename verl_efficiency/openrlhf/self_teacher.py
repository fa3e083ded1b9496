"""The self-teacher in OpenRLHF's trainer: passes through the policy actor, targets for the actor's loss.

The passes are methods of our policy actor (:class:`verl_efficiency.openrlhf.ray_classes.EfficiencyPolicyModelActor`):
``student_topk`` and ``teacher_targets`` return, per taught rollout, a tensor with a row for each of its n tokens. What the loss
needs travels with the experience as ``info["distil"]``, one tensor (n, 1 + 2K) per rollout: the weight, K ids, and the
teacher's K log-probabilities, all float32 (exact for ids up to 2**24). It is empty where nothing is distilled.

The teacher is shown demonstrations only: OpenRLHF carries no feedback in words from a reward to the trainer.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from verl_efficiency.adapter.teacher import Plan, Teacher
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
        """Join each prompt with its response. A mask says which tokens of the response count."""
        rows = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
        actions = [
            torch.cat([mask.new_zeros(len(prompt) - 1), mask[: len(response)]])
            for prompt, response, mask in zip(prompts, responses, masks, strict=True)
        ]
        return cls(
            pad_sequence(rows, batch_first=True, padding_value=pad),
            pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            pad_sequence(actions, batch_first=True),
        )


class SelfTeacher(Teacher):
    """The teacher of one step; the experience maker calls ``teach`` when rollouts and advantages are known.

    Args:
        maker: the experience maker, for its actor group, tokenizer and settings.
        batch: the rollouts of the step.
        experiences: the experiences that hold them.
        advantages_BL: the method's advantages; the sampled-token form changes them in place.
    """

    def __init__(self, maker: Any, batch: Batch, experiences: Sequence[Any], advantages_BL: Tensor) -> None:
        super().__init__(maker.method, maker.method_settings, maker.tokenizer)
        self.maker, self.args = maker, maker.args
        self.batch, self.experiences, self.advantages_BL = batch, experiences, advantages_BL
        self.targets = [torch.empty(0)] * len(batch.tokens_B)

    def teach(self, rollouts: Rollouts) -> dict[str, float]:
        """Route the rollouts, score the taught ones, and write the loss's inputs. Returns the metrics of the step."""
        plan = self.plan(rollouts)
        with ThreadPoolExecutor(max_workers=1) as beside:  # the prompts are made during the student's pass
            prompts = beside.submit(self.prompts, plan)
            full = plan.taught and self.settings.full_logit_distillation
            self.ids = self.student_topk(plan) if full else None
            metrics = self.lesson(plan, prompts.result, self.maker.method_state)
        if self.settings.full_logit_distillation:
            by_place = dict(zip(self.batch.place_B.tolist(), self.targets, strict=True))
            places = iter(range(len(by_place)))
            for experience in self.experiences:
                experience.info[DISTIL] = [by_place[next(places)] for _ in range(len(experience.sequences))]
        return metrics

    def student_topk(self, plan: Plan) -> list[Tensor]:
        """The student's most likely tokens, (n, K) per taught rollout."""
        passages = self._passages(plan.taught, [self.batch.prompts_B[row] for row in plan.taught])
        return self._run("student_topk", passage=passages)

    def messages(self, row: int) -> list[Mapping]:
        messages = read_label(self.batch.labels_B[row])["prompt"]
        if messages is None:
            raise ValueError(
                f"{self.method.name} shows its teacher the question again, but the label {self.batch.labels_B[row]!r} does not "
                "hold it; `verl-efficiency pack --format openrlhf` writes such labels"
            )
        return messages

    def response(self, row: int) -> Tensor:
        return self.batch.tokens_B[row]

    def score(self, plan: Plan, prompts: list[Tensor]) -> list[Tensor] | None:
        """See the base class; keeps the teacher's log-probabilities at the student's ids."""
        count = len(plan.taught)
        teachers = self._passages(plan.taught, prompts)
        average = self.settings.teacher_regularization == "ema"
        if average:
            self._exchange()
        if self.ids is None and self.settings.entropy_beta == 0:
            self.logps, entropy = self._sampled(teachers), None
        else:
            left = iter(self.ids or [])
            parts = [[next(left) for _ in passage.sequences] if self.ids else None for passage in teachers]
            scored = self._run("teacher_targets", passage=teachers, ids=parts)
            self.logps, entropy = [logps for logps, _ in scored], [entropy_n for _, entropy_n in scored[:count]]
        if average:
            self._exchange()
        return entropy

    def give_targets(self, plan: Plan, weights: list[Tensor]) -> None:
        assert self.ids is not None
        for number, row in enumerate(plan.taught):  # ids and logps may be longer, see _passages
            parts = weights[number][:, None], self.ids[number].float(), self.logps[number].float()
            self.targets[row] = torch.cat(parts, dim=1)

    def log_probs(self, plan: Plan) -> tuple[list[Tensor], list[Tensor]]:
        old_BL = self.batch.gather([experience.action_log_probs for experience in self.experiences], self.experiences)
        old = [old_BL[row][self.batch.mask_BL[row].bool()].float() for row in plan.taught]
        return [logps_n1[:, 0] for logps_n1 in self.logps[: len(plan.taught)]], old

    def give_advantages(self, plan: Plan, values: list[Tensor]) -> None:
        for row, values_n in zip(plan.taught, values, strict=True):
            self.advantages_BL[row] = 0
            self.advantages_BL[row, self.batch.mask_BL[row].bool()] = values_n

    def skip(self, rows: list[int]) -> None:
        kept_BL = self.batch.mask_BL.clone()
        kept_BL[rows] = 0
        for experience, mask_EA in zip(self.experiences, self.batch.scatter(kept_BL, self.experiences), strict=True):
            experience.action_mask = mask_EA

    def _passages(self, taught: list[int], prompts: list[Tensor]) -> list[Passage]:
        """Micro-batches. The last is repeated until all ranks get equally many: ZeRO-3 needs every rank in every pass."""
        size, ranks = self.args.rollout.micro_batch_size, self.args.actor.num_nodes * self.args.actor.num_gpus_per_node
        passages = [
            Passage.of(
                prompts[start : start + size],
                [self.batch.tokens_B[row] for row in taught[start : start + size]],
                [self.batch.mask_BL[row] for row in taught[start : start + size]],
                self.tokenizer.pad_token_id,
            )
            for start in range(0, len(taught), size)
        ]
        return passages + passages[-1:] * (-len(passages) % ranks)

    def _run(self, method: str, **lists: list) -> list:
        """Run ``method`` on every micro-batch; one result per rollout."""
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
        """One result per micro-batch, also if several ranks share its sequences or layers."""
        return self.maker._flatten_results(refs, self.args.ds.ring_attn_size * self.args.ds.tensor_parallel_size)

    def _exchange(self) -> None:
        """Load the teacher's weights into the model. The next call restores the model's own."""
        self.maker.wait(self.maker.actor_model_group.async_run_method(method_name="exchange_teacher"))
