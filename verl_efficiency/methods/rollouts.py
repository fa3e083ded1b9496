"""The input of every method: a batch of rollouts, and statistics over its groups.

Shapes: ``B`` rollouts of one training batch, ``G`` groups (rollouts of the same prompt). All code is vectorised over rows and
groups. It computes in float64: ``B`` numbers are cheap beside the ``(B, L)`` token tensors that an adapter reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollouts:
    """A batch of rollouts.

    Attributes:
        scores_B: float64, the score of each rollout as the reward gave it.
        lengths_B: what each rollout pays for. By default int64, generated tokens (without tool tokens, with EOS; 0 for an
            empty response). float64 if the setting ``cost`` counts something else.
        groups_B: int64 in ``[0, G)``, the group of each rollout.
        correct_B: bool, score at or above the threshold; False for padding.
        real_B: bool, False for padding rows, which no statistic counts.
        labels_G: the name of each group, in order of first appearance (verl's ``uid``).
        difficulty_G: float64 in [0, 1], the difficulty from a column of the data set.
        prompt_ids_G: a name for each prompt that is the same in every epoch.
        references_G: a correct solution of each prompt from outside the batch; None if it has none.
        responses_B: int64 token ids of each response, tool tokens included.
        feedback_B: the reward's feedback on each response in words; None if it gave none.
        thinking_B: int64, generated tokens of the thinking.
        turns_B: int64, how many times the policy wrote; 0 for an empty response.
        context_B: int64, prompt tokens plus tool tokens before the last generated token.
        generated_B: int64, generated tokens if ``lengths_B`` counts something else.
        final_B: int64, generated tokens of the last output of each rollout, if an agent loop returned several for some of them.

    The fields from ``difficulty_G`` on are None if the method does not need them.
    """

    scores_B: Tensor
    lengths_B: Tensor
    groups_B: Tensor
    correct_B: Tensor
    real_B: Tensor
    labels_G: tuple
    difficulty_G: Tensor | None = None
    prompt_ids_G: tuple[str, ...] | None = None
    references_G: tuple[str | None, ...] | None = None
    responses_B: tuple[Tensor, ...] | None = None
    feedback_B: tuple[str | None, ...] | None = None
    thinking_B: Tensor | None = None
    turns_B: Tensor | None = None
    context_B: Tensor | None = None
    generated_B: Tensor | None = None
    final_B: Tensor | None = None

    @classmethod
    def build(
        cls,
        scores_B: Tensor,
        lengths_B: Tensor,
        labels_B: Sequence | np.ndarray,
        *,
        correct_threshold: float = 0.5,
        real_B: Tensor | None = None,
    ) -> "Rollouts":
        """Number the groups and mark what is correct.

        Args:
            scores_B: score per rollout.
            lengths_B: generated tokens per rollout.
            labels_B: any hashable label per rollout; equal labels are one group.
            correct_threshold: a score of at least this is correct, compared in the precision of the scores (float32 0.9 is
                at least 0.9).
            real_B: False for padding rows. None: all are real.

        Raises:
            ValueError: the three inputs differ in length, or a score is not finite.
        """
        if not len(scores_B) == len(lengths_B) == len(labels_B):
            raise ValueError(
                f"scores, lengths and labels must have one entry per rollout, "
                f"got {len(scores_B)}, {len(lengths_B)} and {len(labels_B)}"
            )
        reached_B, scores_B = scores_B >= correct_threshold, scores_B.double()
        if not bool(scores_B.isfinite().all()):
            row = int((~scores_B.isfinite()).nonzero()[0])
            raise ValueError(f"the score of rollout {row} is {scores_B[row].item()}; a reward must be a finite number")
        lengths_B = lengths_B.long()
        real_B = torch.ones_like(lengths_B, dtype=torch.bool) if real_B is None else real_B.bool()
        labels = labels_B.tolist() if isinstance(labels_B, np.ndarray | Tensor) else list(labels_B)
        number = {label: group for group, label in enumerate(dict.fromkeys(labels))}
        groups = np.fromiter(map(number.__getitem__, labels), dtype=np.int64, count=len(labels))
        return cls(
            scores_B=scores_B,
            lengths_B=lengths_B,
            groups_B=torch.from_numpy(groups).to(scores_B.device),
            correct_B=reached_B & real_B,
            real_B=real_B,
            labels_G=tuple(number),
        )

    @property
    def G(self) -> int:
        """Number of groups, padding groups included."""
        return len(self.labels_G)

    def reached(self, tokens: int) -> Tensor:
        """(B,) bool: rollouts of at least ``tokens`` generated tokens, whatever ``lengths_B`` counts.

        The token limit holds for each output, so of several outputs the last one counts: its end is the end of the rollout.
        """
        known = (self.final_B, self.generated_B, self.lengths_B)
        return next(count_B for count_B in known if count_B is not None) >= tokens

    def count(self, mask_B: Tensor | None = None) -> Tensor:
        """(G,) float64: real rollouts per group; with ``mask_B``, only those in it."""
        return self.total(torch.ones_like(self.scores_B), mask_B)

    def total(self, values_B: Tensor, mask_B: Tensor | None = None) -> Tensor:
        """(G,) float64: sum of ``values_B`` over the real rollouts of each group."""
        counted_B = self.real_B if mask_B is None else self.real_B & mask_B
        values_B = torch.where(counted_B, values_B.double(), 0.0)
        return torch.zeros(self.G, dtype=torch.float64, device=values_B.device).index_add_(0, self.groups_B, values_B)

    def mean(self, values_B: Tensor, mask_B: Tensor | None = None) -> Tensor:
        """(G,) float64: mean over the real rollouts of each group; 0 if there is none."""
        return self.total(values_B, mask_B) / self.count(mask_B).clamp_min(1)

    def variance(self, values_B: Tensor, mask_B: Tensor | None = None, *, correction: int = 0) -> Tensor:
        """(G,) float64: variance in each group, divided by ``count − correction`` (0: population, 1: sample)."""
        centred_B = values_B.double() - self.mean(values_B, mask_B)[self.groups_B]
        return self.total(centred_B.square(), mask_B) / (self.count(mask_B) - correction).clamp_min(1)

    def smallest(self, values_B: Tensor, mask_B: Tensor | None = None) -> Tensor:
        """(G,) float64: minimum in each group; +inf if there is none."""
        counted_B = self.real_B if mask_B is None else self.real_B & mask_B
        values_B = torch.where(counted_B, values_B.double(), torch.inf)
        out_G = torch.full((self.G,), torch.inf, dtype=torch.float64, device=values_B.device)
        return out_G.scatter_reduce_(0, self.groups_B, values_B, reduce="amin")

    def largest(self, values_B: Tensor, mask_B: Tensor | None = None) -> Tensor:
        """(G,) float64: maximum in each group; −inf if there is none."""
        return -self.smallest(-values_B.double(), mask_B)

    def average(self, values_B: Tensor) -> float:
        """Mean over all real rollouts, or their share in a mask; 0 if there is none."""
        return torch.where(self.real_B, values_B, 0).sum().item() / max(int(self.real_B.sum()), 1)

    def solve_rate(self, *, smoothing: float = 0.0) -> Tensor:
        """(G,) float64: ``(correct + smoothing/2) / (count + smoothing)``; ½ for a group without real rollouts.

        ``smoothing`` is the weight, in rollouts, of the prior solve rate ½.
        """
        correct_G, count_G = self.count(self.correct_B), self.count()
        rate_G = (correct_G + smoothing / 2) / (count_G + smoothing).clamp_min(1e-12)
        return torch.where(count_G > 0, rate_G, 0.5)

    def places(self, keys: Sequence[Tensor]) -> Tensor:
        """(B,) int64: rank 0, 1, … of each real rollout in its group, by the first key, then the next keys, then the row."""
        group_B = torch.where(self.real_B, self.groups_B, self.G)  # padding comes after all groups
        order = torch.arange(len(group_B), device=group_B.device)
        for key_B in [*reversed(keys), group_B]:
            order = order[torch.argsort(key_B[order], stable=True)]
        sizes = torch.bincount(group_B, minlength=self.G + 1)
        starts = sizes.cumsum(0) - sizes
        place_B = torch.empty_like(order)
        place_B[order] = torch.arange(len(order), device=order.device) - starts[group_B[order]]
        return place_B
