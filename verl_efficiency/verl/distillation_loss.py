"""The loss with distillation, and the readers of logits, as verl's engine calls them.

The engine (``workers/engine/fsdp/transformer_impl.py`` in 0.9.1) calls the loss function twice per micro-batch. At :1412 (:1511
without remove-padding) it hands over ``student_logits`` (1, T, V), already divided by the temperature, and puts the tensors
(1, T) that come back into ``model_output``. At :1572 it hands over ``model_output`` for the loss. Wider tensors cannot pass the
first call, so the two readers keep theirs until the second.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.utils.torch_functional import logprobs_from_logits
from verl.workers.utils.padding import no_padding_2_padding

from verl_efficiency.adapter.teacher import token_weights
from verl_efficiency.methods import distillation
from verl_efficiency.methods.teacher import DistillationSettings


class DistillationLoss:
    """verl's own loss on the batch, plus ``Σ w · min(π/π_old, is_clip) · D`` over the same denominator.

    Taught rows have advantage 0 in verl's loss, others have weight 0 here. A batch without targets has verl's loss only. The
    metric ``actor/distil_kl`` is ``Σ D`` over the same denominator, without weights: divided by the method's metric
    ``distil_token_share`` it is the mean of D.
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
        # All rollouts of the mini-batch are skipped: 0 / 0 would make the gradient NaN.
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
        weights_BL = token_weights(padded["distil_weight"], log_probs_BL, padded["old_log_probs"], self.settings)
        if "rollout_is_weights" in names:
            weights_BL = weights_BL * padded["rollout_is_weights"]
        # ppo_loss has just filled in global_batch_info; the denominator is the tokens of the mini-batch over all ranks.
        per_token = functools.partial(
            agg_loss,
            loss_mask=padded["response_mask"].bool(),
            loss_agg_mode="token-mean",
            **self.config.global_batch_info,
        )
        distil_loss = per_token(loss_mat=weights_BL * divergence_BL)
        divergence = per_token(loss_mat=(divergence_BL * padded["distil_mask"]).detach())
        # Also where the micro-batch has no taught tokens: verl needs equally many values from every rank.
        metrics["actor/distil_loss"] = Metric(value=distil_loss, aggregation=AggregationType.SUM)
        metrics["actor/distil_kl"] = Metric(value=divergence, aggregation=AggregationType.SUM)
        return loss + distil_loss, metrics

    def _from_logits(self, logits_TV: Tensor, data: Any) -> dict[str, Tensor]:
        """``log_probs`` of the next token and ``divergence``, both (1, T), in place of the engine's own log-probabilities.

        ``log_probs`` come from the function that computed ``old_log_probs``. In bfloat16 it may round them to bfloat16, so any
        other function would give ratios π/π_old other than 1 at equal weights.
        """
        ids_T = data["input_ids"].values()
        if len(ids_T) != len(logits_TV):
            raise RuntimeError(
                f"{len(logits_TV)} rows of logits for {len(ids_T)} tokens: self-distillation does not support the way in which "
                "verl pads or splits the sequences here"
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
            label_log_probs=logprobs_from_logits,
        )
        divergence_T = divergence_N.new_zeros(len(logits_TV)).index_put((positions_N,), divergence_N)
        return {"log_probs": log_probs_T[None], "divergence": divergence_T[None]}


class _LogitReader:
    """Replaces the loss in a pass without gradient: stores the result of :meth:`read`, and puts it into the output."""

    def __init__(self, chunk_tokens: int) -> None:
        self.chunk_tokens = chunk_tokens

    def read(self, logits_TV: Tensor, positions_N: Tensor, data: Any) -> dict[str, Tensor]:
        """Output field → one row per distilled token; ``positions_N`` are the tokens that predict them."""
        raise NotImplementedError

    def __call__(
        self, model_output: Any = None, data: Any = None, student_logits: Tensor | None = None, **_: Any
    ) -> Any:
        if student_logits is not None:
            positions_N, offsets = routed_positions(data)
            found = self.read(student_logits[0], positions_N, data)
            # On the CPU at once: verl keeps the outputs of all micro-batches until the pass is over.
            self.kept = {
                name: torch.nested.nested_tensor_from_jagged(rows.cpu(), offsets.cpu()) for name, rows in found.items()
            }
            return {}
        model_output.update(self.kept)
        return torch.zeros((), device=data["input_ids"].device), {}


class StudentTopk(_LogitReader):
    """The student's K most likely tokens at every distilled token."""

    def __init__(self, k: int, chunk_tokens: int) -> None:
        super().__init__(chunk_tokens)
        self.k = k

    def read(self, logits_TV: Tensor, positions_N: Tensor, data: Any) -> dict[str, Tensor]:
        ids_NK = distillation.student_topk(logits_TV, positions_N, self.k, chunk_tokens=self.chunk_tokens)
        return {"distil_topk_ids": ids_NK}


class TeacherTargets(_LogitReader):
    """The teacher's log-probabilities at those tokens, or at the sampled one, and its entropy.

    Args:
        chunk_tokens: as in the base class.
        dtype: of the log-probabilities; None: as they are computed.
    """

    def __init__(self, chunk_tokens: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(chunk_tokens)
        self.dtype = dtype

    def read(self, logits_TV: Tensor, positions_N: Tensor, data: Any) -> dict[str, Tensor]:
        if "distil_topk_ids" in data:
            ids_NK = data["distil_topk_ids"].values()
        else:
            ids_NK = data["input_ids"].values()[positions_N + 1, None]
        logps_NK, entropy_N = distillation.teacher_targets(
            logits_TV, positions_N, ids_NK, chunk_tokens=self.chunk_tokens
        )
        if self.dtype is not None:
            logps_NK = distillation.rounded(logps_NK, self.dtype)
        return {"distil_teacher_logps": logps_NK, "teacher_entropy": entropy_N}


def routed_positions(data: Any) -> tuple[Tensor, Tensor]:
    """Which of the T tokens of a micro-batch predict a distilled one, (N,), and the offset of each row among them, (B + 1,)."""
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
