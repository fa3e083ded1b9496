"""S-GRPO: GRPO on a random subset of the tokens of each rollout.

The first ``first_tokens`` response tokens of a rollout are kept. Each later token is kept with ``probability``. If more than
``most_tokens`` are kept, randomly chosen later tokens are dropped. T is the set of kept tokens, L the number of response
tokens, A the group advantage::

    A_t = A · L / |T|    t kept and rescale
    A_t = A              t kept, no rescale
    A_t = 0              t dropped

Paper: "Token-Efficient RL for LLM Reasoning", arXiv 2504.20834 (not the other S-GRPO, arXiv 2505.07686). Its loss is the mean
over the kept tokens of each rollout, without clipping. We know the rule from a review of its first version and from an
independent implementation. That implementation keeps no first tokens and draws with a probability of 0.3 to 0.5. If it draws
more than its limit, it keeps that many of them at random. We do not know the authors' values; the defaults are our choice.

The draw depends on ``seed``, on the scores and lengths of the batch, on the index of the group and on the index of the rollout
in its group. The same seed on the same batch keeps the same tokens in every run, even though verl names groups at random. Each
step keeps other tokens.

Denominators. verl counts its denominators on the whole response (``trainer/ppo/core_algos.py``, ``agg_loss``). With ``rescale``
and ``actor.loss_agg_mode=seq-mean-token-mean`` (set by the recipe), the mean over L becomes the paper's mean over |T|. With
``rescale`` and verl's default ``token-mean``, each rollout keeps the weight that it has in GRPO. Without ``rescale``, the
gradient shrinks by the kept fraction.

Stock verl saves no computation: dropped tokens have no policy gradient, but they still pass through forward and backward, and
KL and entropy terms still see them. The method changes what is learned (fewer, noisier terms). The paper finds that this
regularises LoRA.
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
        probability: probability of keeping a token after the first ones, in [0, 1].
        first_tokens: number of tokens at the start of a response that are always kept.
        most_tokens: maximum number of kept tokens per rollout; the first ones are kept in any case. null: no limit.
        rescale: divide the weights by the kept fraction of the rollout, see above.
        seed: seed of the draw.
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

    @property
    def weighs_tokens(self) -> bool:
        return True

    @property
    def aggregation(self) -> str | None:
        return "seq-mean-token-mean" if self.rescale else None


def s_grpo(rollouts: Rollouts, settings: SGrpoSettings, state: None = None) -> Outcome:
    """Group advantages (B,) float64, and ``token_weights``, which draws the kept tokens.

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
    """(B,) uint32: the random key of each rollout, from the seed, the batch, its group's index and its index in the group.

    The batch enters by the scores and lengths of its real rollouts, in any order. The names of groups do not.
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
    """(B, L) float32: the factor on the advantage of each token, from the response mask (B, L).

    Kept tokens depend only on a rollout's key and mask, so splitting a batch does not change them.
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
    """Reduce rows of ``kept`` to ``most`` tokens, in place: the first ones, then those with the smallest drawn numbers."""
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
