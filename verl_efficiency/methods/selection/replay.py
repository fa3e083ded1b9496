"""Replay for T-SPMO: which rollouts of a batch to restart in the next one, and after how many of their tokens."""

import numpy as np
import torch
from torch import Tensor

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings, arrays_of, find_branches


def replay_prefixes(rollouts: Rollouts, settings: TSpmoSettings, step: int) -> tuple[Tensor, Tensor]:
    """Which rollouts to restart, (R,) int64, and after how many of their tokens, (R,) int64, at least 1; by row.

    Our reading of the paper, of which we only know that it restarts from prefixes of good and bad completions so that
    rollouts part deeper in the response. One restart for each of at most ``settings.replay`` prompts, drawn evenly among those
    with some credit: where all scores are equal there is nothing to learn. A branch at the very first token restarts nothing
    and is passed over. The continuations belong in their own group, whose prompt ends with the prefix: among its
    siblings, of which few pass that prefix, it would bend the means above it.

    >>> from dataclasses import replace
    >>> ids = (torch.tensor([7, 5, 2]), torch.tensor([7, 6, 2]))
    >>> r = Rollouts.build(torch.tensor([1., 0.]), torch.tensor([3, 3]), ["a"] * 2)
    >>> replay_prefixes(replace(r, responses_B=ids), TSpmoSettings(replay=8), step=0)
    (tensor([0]), tensor([1]))

    Args:
        rollouts: the batch, with token ids.
        settings: how many, and by which rule.
        step: training step; another one draws others.
    """
    tokens_N, lengths_B, groups_B, scores_B, real_B = arrays_of(rollouts)
    branches = find_branches(tokens_N, lengths_B, groups_B, scores_B, real_B)
    generator = np.random.default_rng((settings.replay_seed, step))
    if settings.replay_rule == "random":
        promising = np.isin(groups_B, groups_B[branches.row_E[branches.credit_E != 0]])
        row = generator.permutation(np.flatnonzero(promising & real_B & (lengths_B > 1)))
        depth = generator.integers(1, lengths_B[row])
    else:
        usable = (branches.credit_E != 0) & (branches.depth_E > 0)
        row, depth, size = branches.row_E[usable], branches.depth_E[usable], np.abs(branches.credit_E[usable])
        best = np.lexsort((row, depth, -size) if settings.replay_rule == "credit" else (row, -size, -depth))
        row, depth = row[best], depth[best]
    _, one_each = np.unique(groups_B[row], return_index=True)
    drawn = generator.permutation(one_each)[: settings.replay]
    drawn = drawn[np.argsort(row[drawn])]
    return torch.from_numpy(row[drawn]), torch.from_numpy(depth[drawn])
