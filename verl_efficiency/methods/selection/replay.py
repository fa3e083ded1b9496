"""Replay for T-SPMO: choose which rollouts to restart in the next step, and from which prefix."""

import numpy as np
import torch
from torch import Tensor

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings, arrays_of, find_branches


def replay_prefixes(rollouts: Rollouts, settings: TSpmoSettings, step: int) -> tuple[Tensor, Tensor]:
    """The rows to restart, (R,) int64 ascending, and the prefix length of each in tokens, (R,) int64, at least 1.

    At most ``settings.replay`` prompts get one restart each. They are drawn uniformly among the prompts with non-zero credit,
    since equal scores teach nothing. A branch at the first token has no prefix, so it is ignored. The continuations form their
    own group, whose prompt ends with the prefix. Inside the old group they would bias the mean scores of shorter prefixes.

    This is our reading of the paper. All we know of it is that it restarts from prefixes of good and bad completions, so that
    rollouts diverge deeper in the response.

    >>> from dataclasses import replace
    >>> ids = (torch.tensor([7, 5, 2]), torch.tensor([7, 6, 2]))
    >>> r = Rollouts.build(torch.tensor([1., 0.]), torch.tensor([3, 3]), ["a"] * 2)
    >>> replay_prefixes(replace(r, responses_B=ids), TSpmoSettings(replay=8), step=0)
    (tensor([0]), tensor([1]))

    Args:
        rollouts: the batch, with token ids.
        settings: number of restarts, and the rule.
        step: training step; part of the seed.
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
