"""S-GRPO: GRPO that learns from a random part of the tokens of each rollout.

Of the response tokens t = 0, 1, … of a rollout the first ``first_tokens`` are kept, and each later one with ``probability``.
Where that makes more than ``most_tokens``, some of the later ones are dropped again, at random over the response. With T the
kept ones, L the number of all, and the group advantage A::

    A_t = A · L / |T|    t kept and rescale
    A_t = A              t kept, no rescale
    A_t = 0              t dropped

Paper: "Token-Efficient RL for LLM Reasoning", arXiv 2504.20834 (not the other S-GRPO, arXiv 2505.07686): the mean over
the kept tokens of each rollout, without clipping. We know the rule from a review of its first version and from an independent
implementation, which keeps no first tokens, draws with a probability of 0.3 to 0.5, and where more than its limit are drawn
keeps as many of them at random. The authors' values are not known to us: ours are our choice.

The draw depends on ``seed``, on the scores and lengths of the batch, and on the place of a rollout: the number of its group in
the batch and its place in the group. So the same seed on the same batch gives the same tokens in every run, also where the
trainer names groups at random, as verl does; another step of a run gives other tokens.

Denominators. verl divides by numbers that it counts on the whole response, whatever the advantages are
(``trainer/ppo/core_algos.py``, ``agg_loss``). With ``rescale`` and ``actor.loss_agg_mode=seq-mean-token-mean`` (the
recipe sets it) the mean over L becomes the paper's mean over |T|; with verl's default ``token-mean`` each rollout keeps
the weight that it has without selection. Without ``rescale`` the gradient is smaller by the kept fraction.

What it saves: nothing in stock verl. Dropped tokens have no policy gradient, but they still pass through forward and
backward, and KL and entropy terms still see them. It changes what is learned (fewer, noisier terms), which the paper
finds to regularise LoRA.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from verl_efficiency.methods.advantages import AdvantageName, group_advantage
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, require

BLOCK_ROWS = 64  # rows worked on at once, so that they stay in the processor's cache


@dataclass(frozen=True)
class SGrpoSettings(MethodSettings):
    """Settings of ``s_grpo``.

    Attributes:
        probability: share kept of the tokens behind the first ones, in [0, 1].
        first_tokens: number of tokens at the beginning that are always kept.
        most_tokens: most tokens kept of a rollout, drawn at random; the first ones are always kept. null: no limit.
        rescale: divide by the kept fraction of the rollout, see above.
        seed: another seed draws other tokens.
        advantage: grpo, dr_grpo, rloo or batch.
        correct_threshold: a score of at least this is correct (for the metrics only).
    """

    probability: float = 0.4
    first_tokens: int = 8
    most_tokens: int | None = None
    rescale: bool = True
    seed: int = 0
    advantage: AdvantageName = "grpo"
    correct_threshold: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "probability", self.probability, "in [0, 1]")
        require(self.first_tokens >= 0, "first_tokens", self.first_tokens, "a whole number of at least 0")
        most = self.most_tokens
        require(most is None or most >= 1, "most_tokens", most, "a whole number of at least 1, or null")


def s_grpo(rollouts: Rollouts, settings: SGrpoSettings, state: None = None) -> Outcome:
    """Group advantages, (B,) float64, and ``token_weights``, which draws the tokens.

    >>> r = Rollouts.build(torch.tensor([1., 0.]), torch.tensor([6, 2]), ["a", "a"])
    >>> out = s_grpo(r, SGrpoSettings(first_tokens=2, probability=0.5, most_tokens=3, advantage="dr_grpo"))
    >>> out.advantages_B.tolist()
    [0.5, -0.5]
    >>> mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    >>> out.token_weights(mask).tolist()  # the first two and one more of six, drawn by the seed: weight 6 / 3
    [[2.0, 2.0, 0.0, 0.0, 0.0, 2.0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    """
    advantages_B = group_advantage(settings.advantage, rollouts.scores_B, rollouts)
    metrics = {"solve_rate": rollouts.average(rollouts.correct_B)}
    keys_B = rollout_keys(rollouts, settings.seed)
    return Outcome(advantages_B, metrics, functools.partial(token_weights, keys_B=keys_B, settings=settings))


def rollout_keys(rollouts: Rollouts, seed: int) -> np.ndarray:
    """(B,) uint32: a number for each rollout from the seed, the batch, its group's number and its place in the group.

    Of the batch count the scores and lengths of the real rollouts, in any order; names of groups do not count.
    """
    real_B = rollouts.real_B
    content = torch.stack([rollouts.scores_B[real_B], rollouts.lengths_B[real_B].double()]).cpu().numpy()
    content = content[:, np.lexsort(content)].astype("<f8")
    digest = hashlib.blake2b(f"{seed}/".encode() + content.tobytes(), digest_size=4).digest()
    start = np.uint32(int.from_bytes(digest, "little"))
    groups_B = _scramble(start ^ rollouts.groups_B.cpu().numpy().astype(np.uint32))
    place_B = rollouts.places([]).cpu().numpy().astype(np.uint32)
    return groups_B ^ _scramble(place_B)


def token_weights(response_mask: Tensor, *, keys_B: np.ndarray, settings: SGrpoSettings) -> Tensor:
    """(B, L) float32: what to multiply the advantage of each token by, from the response mask (B, L).

    Which tokens are kept depends on the key and the mask of a rollout only: it is the same in every call, however the rows are
    cut into batches.
    """
    rows, columns = response_mask.shape
    pairs = _scramble(np.arange((columns + 1) // 2, dtype=np.uint32))  # one number serves two columns, 16 bits each
    limit = round(settings.probability * 2**16)
    # NumPy would ask for huge pages, which take long to find where memory is in pieces.
    weights_BL = torch.empty((rows, columns), dtype=torch.float32, device="cpu")
    mask_BL = response_mask.cpu().numpy()
    for start in range(0, rows, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        mask = mask_BL[block] != 0
        drawn = _scramble(pairs ^ keys_B[block, None]).astype("<u4", copy=False).view("<u2")[:, :columns]
        kept = drawn < limit
        first = mask[:, : settings.first_tokens].sum(1)
        if (first == np.minimum(mask.sum(1), settings.first_tokens)).all():
            kept[:, : settings.first_tokens] = True
        else:  # tokens of tools or padding among the first columns
            kept |= mask.cumsum(1, dtype=np.int32) <= settings.first_tokens
        kept &= mask
        if settings.most_tokens is not None:
            _drop_down_to(max(settings.most_tokens, settings.first_tokens), kept, drawn, mask, settings.first_tokens)
        scale = mask.sum(1) / np.maximum(kept.sum(1), 1) if settings.rescale else np.ones(len(mask))
        np.multiply(kept, scale[:, None].astype(np.float32), out=weights_BL[block].numpy())
    return weights_BL.to(response_mask.device)


def _drop_down_to(most: int, kept: np.ndarray, drawn: np.ndarray, mask: np.ndarray, first_tokens: int) -> None:
    """Of each row of ``kept`` with more than ``most`` tokens keep the first ones and those with the smallest drawn numbers."""
    over = kept.sum(1) > most
    if not over.any():
        return
    columns = np.arange(kept.shape[1], dtype=np.int64)
    order = drawn[over].astype(np.int64) * len(columns) + columns  # all different
    order[mask[over].cumsum(1, dtype=np.int32) <= first_tokens] = -1
    order[~kept[over]] = np.iinfo(np.int64).max
    last = np.partition(order, most - 1, axis=1)[:, most - 1, None]
    kept[over] &= order <= last


def _scramble(numbers: np.ndarray) -> np.ndarray:
    """uint32 → uint32: a bijection whose bits look random (the mixer "lowbias32" of Chris Wellons, public domain)."""
    numbers = numbers ^ (numbers >> np.uint32(16))
    numbers *= np.uint32(0x7FEB352D)
    numbers ^= numbers >> np.uint32(15)
    numbers *= np.uint32(0x846CA68B)
    numbers ^= numbers >> np.uint32(16)
    return numbers
