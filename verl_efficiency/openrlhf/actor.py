"""OpenRLHF's loss and actor trainer, plus the distillation term of methods with a self-teacher.

Derive your own subclasses from these instead of ``PolicyLoss`` and ``ActorPPOTrainer``.
"""

from typing import Any

import torch
from openrlhf.models import PolicyLoss, aggregate_loss
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from torch import Tensor

from verl_efficiency.adapter.teacher import token_weights
from verl_efficiency.methods.distillation import chunked_divergence
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.openrlhf.options import teaches
from verl_efficiency.openrlhf.self_teacher import DISTIL

# Replaces a token count of 0. OpenRLHF divides by this count even if every rollout of a micro-batch or step is skipped.
NEARLY_0 = 1e-6


class EfficiencyPolicyLoss(PolicyLoss):
    """OpenRLHF's policy loss, plus ``Σ w · min(π/π_old, is_clip) · D`` over the same number of tokens.

    D is the divergence of :mod:`verl_efficiency.methods.distillation` at the tokens that the teacher scored. The rollouts of
    these tokens have advantage 0 in the stock loss.

    Attributes:
        settings: of the self-teacher, or None.
        targets: of the current micro-batch, one tensor per rollout, see :mod:`verl_efficiency.openrlhf.self_teacher`.
        logits: of the current micro-batch, (b, T, V), divided by the temperature.
        distil_loss: the term, for the metrics.
    """

    settings: DistillationSettings | None = None
    targets: list[Tensor] | None = None
    logits: Tensor | None = None
    distil_loss: Tensor | None = None

    def forward(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, action_mask: Any = None, **stock: Any
    ) -> tuple:
        loss, *rest = super().forward(log_probs, old_log_probs, advantages, action_mask=action_mask, **stock)
        if action_mask is not None and not action_mask.any():  # all rollouts are skipped, so these means are 0 / 0
            rest = [None if value is None else value.nan_to_num() for value in rest]
        if self.targets is None:
            return loss, *rest
        divergence = self._divergence(log_probs, old_log_probs, action_mask)
        totals = {name: stock[name] for name in ("dp_size", "batch_num_tokens", "global_batch_size") if name in stock}
        distil_loss = aggregate_loss(divergence, action_mask, token_level_loss=True, **totals)
        self.distil_loss = distil_loss.detach()
        return loss + distil_loss, *rest

    def _divergence(self, log_probs: Tensor, old_log_probs: Tensor, action_mask: Tensor) -> Tensor:
        """(b, A): weighted divergence at the distilled tokens, 0 elsewhere."""
        assert self.settings is not None
        assert self.targets is not None
        routed_b = torch.tensor([len(target) > 0 for target in self.targets], device=log_probs.device)
        places = (action_mask.bool() & routed_b[:, None]).nonzero(as_tuple=True)
        target_N = torch.cat(self.targets).to(log_probs.device)
        if len(places[0]) != len(target_N):
            raise RuntimeError(f"{len(target_N)} targets for {len(places[0])} distilled tokens of a micro-batch")
        if len(target_N) == 0:
            return log_probs * 0.0
        if self.logits is None:
            raise RuntimeError("the actor gave no logits to compare with the teacher's")
        k = (target_N.shape[1] - 1) // 2
        weights_N, ids_NK, teacher_NK = target_N[:, 0], target_N[:, 1 : 1 + k].long(), target_N[:, 1 + k :]
        width = self.logits.shape[1]  # b · T logits, of which the last of each row predicts nothing
        positions_N = places[0] * width + width - 1 - action_mask.shape[1] + places[1]
        logits_TV = self.logits.flatten(0, 1)  # a view
        divergence_N = chunked_divergence(
            logits_TV,
            torch.zeros(len(logits_TV), dtype=torch.int64, device=logits_TV.device),  # of no label
            positions_N,
            ids_NK,
            teacher_NK,
            alpha=self.settings.alpha,
            add_tail=self.settings.distillation_add_tail,
            chunk_tokens=self.settings.chunk_tokens,
        )[1]
        weights_N = token_weights(weights_N, log_probs[places], old_log_probs[places], self.settings)
        return torch.zeros_like(log_probs).index_put(places, weights_N * divergence_N)


class EfficiencyActorTrainer(ActorPPOTrainer):
    """OpenRLHF's actor trainer, which also passes the teacher's targets and the student's logits to the loss."""

    actor_loss_fn: EfficiencyPolicyLoss

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = self.args.efficiency.build_settings()
        if teaches(self.args.efficiency) and settings.full_logit_distillation:
            self.actor_loss_fn.settings = settings
            self.actor.register_forward_hook(self._keep_logits)

    def _keep_logits(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.actor_loss_fn.logits = output[1]["logits"] if isinstance(output, tuple) else None

    def training_step(self, experience: Any, kl_ctl: float, step: int, loss_batch_info: Any = None) -> dict:
        loss = self.actor_loss_fn
        loss.targets = experience.info.pop(DISTIL, None)
        if loss_batch_info is not None:
            totals = ("batch_num_tokens", "global_batch_size")
            loss_batch_info = loss_batch_info | {name: loss_batch_info[name].clamp_min(NEARLY_0) for name in totals}
        else:  # dynamic batches: the stock loss takes its totals from the buffer
            buffer = self.replay_buffer
            for totals_of_step in (buffer.dynamic_batch_num_tokens, buffer.dynamic_global_batch_size):
                if step < len(totals_of_step):
                    totals_of_step[step] = max(totals_of_step[step], NEARLY_0)
        status = super().training_step(experience, kl_ctl, step, loss_batch_info)
        status["num_action_tokens"] = max(status["num_action_tokens"], NEARLY_0)
        if loss.distil_loss is not None:
            status["metrics"]["efficiency/distil_loss"] = loss.distil_loss
            status["weights"]["efficiency/distil_loss"] = "token"
        loss.targets = loss.logits = loss.distil_loss = None
        return status
