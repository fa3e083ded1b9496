"""What runs inside verl's engine where the logits are available.

The engine calls the loss function twice per micro-batch (``workers/engine/fsdp/transformer_impl.py`` in 0.9.1): at :1412 (:1511
without remove-padding) with ``student_logits`` (1, T, V), which are divided by the temperature, for tensors (1, T) to be put
into ``model_output``; then at :1572 with ``model_output`` for the loss. Wider outputs cannot pass the first call, so the two
readers below keep them until the second.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import no_padding_2_padding

from verl_efficiency.methods import distillation
from verl_efficiency.methods.teacher import DistillationSettings


class DistillationLoss:
    """verl's own loss on the batch, plus ``Σ w · min(π/π_old, is_clip) · D`` over the same denominator.

    Routed rows have advantage 0 in verl's loss, the others weight 0 here. A batch without targets is verl's business alone.
    The metric ``actor/distil_kl`` is ``Σ D`` of the routed tokens, without weights, over the same denominator: divided by
    ``distil_token_share`` of the method it is the mean of D.
    """

    def __init__(self, stock_loss: Any, settings: DistillationSettings) -> None:
        self.stock_loss, self.settings = stock_loss, settings
        self.config = stock_loss.keywords["config"]

    def __call__(
        self,
        model_output: Any = None,
        data: Any = None,
        dp_group: Any = None,
        student_logits: Tensor | None = None,
        **_: Any,
    ) -> Any:
        if student_logits is not None:
            return self._from_logits(student_logits[0], data)
        # Every rollout of the mini-batch is skipped: 0 / 0 would make the gradient NaN.
        if data["batch_num_tokens"] == 0:
            tu.assign_non_tensor(data, batch_num_tokens=1)
        loss, metrics = self.stock_loss(model_output=model_output, data=data, dp_group=dp_group)
        if "divergence" not in model_output:
            return loss, metrics

        names = ["response_mask", "old_log_probs", "distil_weight", "distil_mask"]
        names += ["rollout_is_weights"] if "rollout_is_weights" in data else []
        padded = data.select(*names).to_padded_tensor()
        divergence_BL = no_padding_2_padding(model_output["divergence"], data)
        log_probs_BL = no_padding_2_padding(model_output["log_probs"], data)
        weights_BL = padded["distil_weight"]
        if self.settings.is_clip is not None:
            ratio_BL = torch.exp((log_probs_BL - padded["old_log_probs"]).detach()).clamp(max=self.settings.is_clip)
            weights_BL = weights_BL * ratio_BL
        if "rollout_is_weights" in names:
            weights_BL = weights_BL * padded["rollout_is_weights"]
        # ppo_loss has just filled in global_batch_info: the tokens of the mini-batch over all ranks are the one denominator.
        per_token = functools.partial(
            agg_loss,
            loss_mask=padded["response_mask"].bool(),
            loss_agg_mode="token-mean",
            **self.config.global_batch_info,
        )
        distil_loss = per_token(loss_mat=weights_BL * divergence_BL)
        divergence = per_token(loss_mat=(divergence_BL * padded["distil_mask"]).detach())
        # In every micro-batch, also in one without routed tokens: verl wants as many values from every rank.
        metrics["actor/distil_loss"] = Metric(value=distil_loss, aggregation=AggregationType.SUM)
        metrics["actor/distil_kl"] = Metric(value=divergence, aggregation=AggregationType.SUM)
        return loss + distil_loss, metrics

    def _from_logits(self, logits_TV: Tensor, data: Any) -> dict[str, Tensor]:
        """``log_probs`` of the next token and ``divergence``, both (1, T); the engine makes no log-probabilities of its own."""
        ids_T = data["input_ids"].values()
        if len(ids_T) != len(logits_TV):
            raise RuntimeError(
                f"{len(logits_TV)} rows of logits for {len(ids_T)} tokens: verl pads or splits the sequences in a way that "
                "self-distillation does not support"
            )
        positions_N = routed_positions(data)[0]
        log_probs_T, divergence_N = distillation.chunked_divergence(
            logits_TV,
            ids_T.roll(-1),
            positions_N,
            data["distil_topk_ids"].values(),
            data["distil_teacher_logps"].values(),
            alpha=self.settings.alpha,
            add_tail=self.settings.distillation_add_tail,
            chunk_tokens=self.settings.chunk_tokens,
            # The entropy bonus reads the logits in its own backward; nothing else does.
            overwrite_logits=logits_TV.requires_grad
            and not logits_TV.is_leaf
            and not tu.get_non_tensor_data(data, "calculate_entropy", False)
            and not tu.get_non_tensor_data(data, "calculate_sum_pi_squared", False),
        )
        divergence_T = divergence_N.new_zeros(len(logits_TV)).index_put((positions_N,), divergence_N)
        return {"log_probs": log_probs_T[None], "divergence": divergence_T[None]}


class StudentTopk:
    """Keeps the K most likely tokens at every routed position (forward only)."""

    def __init__(self, k: int, chunk_tokens: int) -> None:
        self.k, self.chunk_tokens = k, chunk_tokens

    def __call__(
        self, model_output: Any = None, data: Any = None, student_logits: Tensor | None = None, **_: Any
    ) -> Any:
        if student_logits is not None:
            positions_N, offsets = routed_positions(data)
            ids_NK = distillation.student_topk(student_logits[0], positions_N, self.k, chunk_tokens=self.chunk_tokens)
            self.kept = torch.nested.nested_tensor_from_jagged(ids_NK, offsets)
            return {}
        model_output["distil_topk_ids"] = self.kept
        return torch.zeros((), device=self.kept.device), {}


class TeacherTargets:
    """Keeps the log-probabilities at those tokens, or at the sampled one, and the entropy (forward only)."""

    def __init__(self, chunk_tokens: int) -> None:
        self.chunk_tokens = chunk_tokens

    def __call__(
        self, model_output: Any = None, data: Any = None, student_logits: Tensor | None = None, **_: Any
    ) -> Any:
        if student_logits is not None:
            positions_N, offsets = routed_positions(data)
            if "distil_topk_ids" in data:
                ids_NK = data["distil_topk_ids"].values()
            else:
                ids_NK = data["input_ids"].values()[positions_N + 1, None]
            logps_NK, entropy_N = distillation.teacher_targets(
                student_logits[0], positions_N, ids_NK, chunk_tokens=self.chunk_tokens
            )
            self.kept = {
                "distil_teacher_logps": torch.nested.nested_tensor_from_jagged(logps_NK, offsets),
                "teacher_entropy": torch.nested.nested_tensor_from_jagged(entropy_N, offsets),
            }
            return {}
        model_output.update(self.kept)
        return torch.zeros((), device=data["input_ids"].device), {}


def routed_positions(data: Any) -> tuple[Tensor, Tensor]:
    """Which of the T tokens of a micro-batch predict a distilled one, (N,), and where each row's begin among them, (B + 1,)."""
    mask = data["distil_mask"]
    ends_B, starts_B = data["input_ids"].offsets()[1:], mask.offsets()
    lengths_B = starts_B.diff()
    row_R = torch.repeat_interleave(torch.arange(len(lengths_B), device=lengths_B.device), lengths_B)
    token_R = torch.arange(len(row_R), device=row_R.device)
    position_R = ends_B[row_R] - lengths_B[row_R] - 1 + token_R - starts_B[row_R]
    keep_R = mask.values().bool()
    offsets = torch.zeros(len(lengths_B) + 1, dtype=torch.int64, device=keep_R.device)
    offsets[1:] = torch.bincount(row_R[keep_R], minlength=len(lengths_B)).cumsum(0)
    return position_R[keep_R], offsets
