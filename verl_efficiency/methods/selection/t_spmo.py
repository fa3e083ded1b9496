"""T-SPMO: credit only the tokens at which the rollouts of a prompt diverge.

The rollouts of a group form a tree of token ids. U is the set of unique pairs of a prefix p and a next token v in it::

    A(p, v) = mean score of the rollouts through p·v − mean score of the rollouts through p
    J = 1/|U| · Σ_{(p, v) ∈ U} π(v | p) / sg(π(v | p)) · A(p, v)

Each pair counts once: the first rollout in row order that contains it gets the credit. If all rollouts through p continue with
v, A(p, v) is 0. EOS is a token like any other. A rollout that ends at p counts in the mean of p.

Paper: "Token-Efficient RL for LLM Reasoning", arXiv 2504.20834. We know T-SPMO only from reviews. The formula for A, the
choices in ``TSpmoSettings`` and replay (``methods/selection/replay.py``) are our reading.

Denominators. The token weights are A · N / |U|, where N is the number of generated tokens of the batch. verl's
``actor.loss_agg_mode=token-mean`` (set by the recipe) divides by N, which leaves 1/|U|. With ``normalise: none`` the weights
are A. Then ``seq-mean-token-sum`` gives Σ A divided by the number of rollouts, and ``token-sum``, where verl has it, gives Σ A.
With several mini-batches per step, each one estimates J from its share of the pairs. The ratio in the formula is 1, so clipping
does nothing in the first update of a step.

Tool output inside a response belongs to the prefixes. Its pairs are in the tree and in U, but the response mask drops their
credit.
"""

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, require

FIRST_WINDOW, MOST_WINDOW = 16, 1024  # tokens compared at once: most rollouts diverge early, some very late
MOST_COMPARED = 2**17  # numbers compared at once, so that they fit into the processor's cache


@dataclass(frozen=True)
class TSpmoSettings(MethodSettings):
    """Settings of ``t_spmo``, which has its own advantage.

    Attributes:
        normalise: where U is counted. ``batch``: over the whole batch. ``prompt``: per prompt, and J is the mean over prompts.
            ``none``: no factor 1/|U|. The paper treats one prompt at a time, where the first two are equal.
        counted: the pairs that |U| counts. ``all``: every unique pair, as in the formula; most have no credit. ``branched``:
            only pairs (p, v) that some rollout through p does not follow. For one prompt both give the same gradient direction.
            ``branched`` gives a larger gradient, which does not shrink when responses grow.
        correct_threshold: a score of at least this is correct (for the metrics only).
        replay: number of prompts per step, at most half the batch, that restart from a prefix of a rollout of the previous
            step; our reading of the paper. 0: no replay. verl's trainer only.
        replay_rule: where to restart. ``credit``: before the token with the largest |A|, the earliest if tied. ``deepest``:
            before the deepest token with credit. ``random``: a uniform rollout, after a uniform number of its tokens (at least
            1, not all).
        replay_seed: seed of the choice of prompts.
    """

    advantage: ClassVar[str] = "t_spmo"  # type: ignore[misc]
    normalise: Literal["batch", "prompt", "none"] = "batch"
    counted: Literal["all", "branched"] = "all"
    correct_threshold: float = 0.5
    replay: int = 0
    replay_rule: Literal["credit", "deepest", "random"] = "credit"
    replay_seed: int = 0

    def __post_init__(self) -> None:
        require(self.replay >= 0, "replay", self.replay, "a number of prompts, 0 for no replay")
        require(self.replay_seed >= 0, "replay_seed", self.replay_seed, "a whole number of at least 0")

    @property
    def needs_trainer(self) -> bool:
        return True

    @property
    def weighs_tokens(self) -> bool:
        return True

    @property
    def reads_responses(self) -> bool:
        return True

    @property
    def single_output(self) -> str:
        return "t_spmo compares rollouts token by token after the same prompt, and later outputs have other prompts"

    @property
    def reads(self) -> frozenset[str]:
        return super().reads | ({"scores", "masks", "prompts"} if self.replay else set())


@dataclass(frozen=True)
class Branches:
    """The branched pairs (p, v): some rollout through p does not follow them. All other pairs have no credit.

    Attributes:
        row_E: int64, the first rollout that contains the pair.
        depth_E: int64, the number of tokens in p, which is the index of v in that rollout.
        credit_E: float64, A(p, v).
        prefix_E: int64 in [0, prefixes), the id of p.
        first_B: int64, the number of unique pairs that this rollout is the first to contain. They are its last tokens.
    """

    row_E: np.ndarray
    depth_E: np.ndarray
    credit_E: np.ndarray
    prefix_E: np.ndarray
    first_B: np.ndarray


def t_spmo(rollouts: Rollouts, settings: TSpmoSettings, state: None = None) -> Outcome:
    """Advantage 1 for every real rollout, (B,) float64; ``token_weights`` holds the credit of each token.

    >>> from dataclasses import replace
    >>> ids = (torch.tensor([7, 5, 2]), torch.tensor([7, 6, 2]), torch.tensor([7, 6, 2]))
    >>> r = Rollouts.build(torch.tensor([1., 0., 0.]), torch.tensor([3, 3, 3]), ["a"] * 3)
    >>> out = t_spmo(replace(r, responses_B=ids), TSpmoSettings(normalise="none"))
    >>> weights = out.token_weights(torch.tensor([[1, 1, 1, 0]] * 3))
    >>> [[round(w, 3) for w in row] for row in weights.tolist()]  # A(7, 5) = 1 − 1/3, A(7, 6) = 0 − 1/3
    [[0.0, 0.667, 0.0, 0.0], [0.0, -0.333, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]

    Raises:
        ValueError: the rollouts carry no token ids, or fewer than ``lengths_B`` says.
    """
    tokens_N, lengths_B, groups_B, scores_B, real_B = arrays_of(rollouts)
    branches = find_branches(tokens_N, lengths_B, groups_B, scores_B, real_B)
    group_E = groups_B[branches.row_E]
    pairs_G = np.bincount(groups_B, branches.first_B, rollouts.G)
    branched_G = np.bincount(group_E, minlength=rollouts.G)
    prompts = max(int((rollouts.count() > 0).sum()), 1)
    generated = int(rollouts.lengths_B[rollouts.real_B].sum())

    counted_G = pairs_G if settings.counted == "all" else branched_G
    scale_G = np.ones(rollouts.G)
    if settings.normalise == "batch":
        scale_G *= generated / max(counted_G.sum(), 1)  # max: a batch may have no pairs
    elif settings.normalise == "prompt":
        scale_G *= generated / prompts / np.maximum(counted_G, 1)

    metrics = {
        "solve_rate": rollouts.average(rollouts.correct_B),
        "credited_tokens": np.count_nonzero(branches.credit_E) / max(generated, 1),
        "unique_pairs": float(pairs_G.sum()),
        "branched_pairs": float(branched_G.sum()),
        "branch_points": float(len(np.unique(branches.prefix_E))),
        "branched_prompts": np.count_nonzero(branched_G) / prompts,
        "branch_depth": float(branches.depth_E.mean()) if len(branches.depth_E) else 0.0,
    }
    weights_E = branches.credit_E * scale_G[group_E]
    weights = functools.partial(token_weights, branches=branches, weights_E=weights_E, lengths_B=lengths_B)
    return Outcome(rollouts.real_B.double(), metrics, weights)


def token_weights(response_mask: Tensor, *, branches: Branches, weights_E: np.ndarray, lengths_B: np.ndarray) -> Tensor:
    """(B, L) float32: ``weights_E`` at the tokens of the pairs; 0 elsewhere and outside the response mask (B, L).

    Column t of a row is token t of its response.

    Raises:
        ValueError: the mask is set beyond the end of a response, or ends before it.
    """
    mask_BL = (response_mask != 0).cpu().numpy()
    columns = mask_BL.shape[1]
    beyond_B = (mask_BL & (np.arange(columns) >= lengths_B[:, None])).any(1)
    if beyond_B.any():
        row = int(beyond_B.argmax())
        raise ValueError(f"the mask of rollout {row} reaches beyond its response of {lengths_B[row]} tokens")
    if (lengths_B > columns).any():
        row = int(lengths_B.argmax())
        raise ValueError(f"the response of rollout {row} has {lengths_B[row]} tokens, the mask {columns} columns")
    weights_BL = np.zeros(mask_BL.shape, dtype=np.float32)
    weights_BL[branches.row_E, branches.depth_E] = weights_E * mask_BL[branches.row_E, branches.depth_E]
    return torch.from_numpy(weights_BL).to(response_mask.device)


def prefix_credit(tokens_N: Tensor, lengths_B: Tensor, groups_B: Tensor, scores_B: Tensor, real_B: Tensor) -> Tensor:
    """(N,) float64: the credit A of every token. Only the first rollout that contains a pair gets it; the others get 0.

    >>> tokens = torch.tensor([7, 5, 2,   7, 6, 2,   7])  # the third ends where the others diverge
    >>> lengths, groups, real = torch.tensor([3, 3, 1]), torch.zeros(3).long(), torch.ones(3).bool()
    >>> prefix_credit(tokens, lengths, groups, torch.tensor([1.0, 0.5, 0.0]), real).tolist()
    [0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]

    Args:
        tokens_N: integers, the token ids of all rollouts, concatenated.
        lengths_B: tokens of each rollout; may be 0.
        groups_B: integers of at least 0, the prompt that each rollout answers.
        scores_B: the score of each rollout.
        real_B: False for rows that only pad the batch.

    Raises:
        ValueError: the lengths do not add up to the number of tokens.
    """
    lengths = lengths_B.cpu().numpy()
    if lengths.sum() != len(tokens_N):
        raise ValueError(f"the lengths add up to {lengths.sum()}, but there are {len(tokens_N)} tokens")
    arrays = (values.cpu().numpy() for values in (tokens_N, lengths_B, groups_B, scores_B.double(), real_B.bool()))
    branches = find_branches(*arrays)
    credit_N = np.zeros(len(tokens_N))
    credit_N[(np.cumsum(lengths) - lengths)[branches.row_E] + branches.depth_E] = branches.credit_E
    return torch.from_numpy(credit_N)


def find_branches(
    tokens_N: np.ndarray, lengths_B: np.ndarray, groups_B: np.ndarray, scores_B: np.ndarray, real_B: np.ndarray
) -> Branches:
    """Find the branched pairs of every group; arguments as in :func:`prefix_credit`.

    A node is a set of rollouts with a common prefix. Its rollouts are compared with the first one, the lead. At the first
    position where a rollout diverges from the lead or ends, the node splits by the next token. Each child without the lead gets
    a new lead. Apart from window tails, no token is compared twice. So the work is linear in the tokens that rollouts share,
    plus the number of rollouts times the depth of splits, which is at most n − 1 for a group of n.
    """
    tokens_N = np.concatenate([tokens_N, np.zeros(MOST_WINDOW, tokens_N.dtype)])  # a window may begin at the last token
    starts_B = np.cumsum(lengths_B) - lengths_B
    first_B = np.zeros_like(lengths_B)
    found: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int64),) * 2 + (np.zeros(0), np.zeros(0, np.int64))]
    prefixes = 0

    row = np.flatnonzero(real_B)
    _, first, node = np.unique(groups_B[row], return_index=True, return_inverse=True)
    lead = row[first]
    first_B[lead] = lengths_B[lead]
    depth = np.zeros_like(row)  # tokens known to be shared by the rollouts of a node
    reach = np.zeros_like(row)  # tokens in common with the lead, where the lead is not new
    new = row != lead[node]  # rollouts to compare with a new lead
    while (together := np.bincount(node)[node] > 1).any():
        row, node, depth, reach, new = (values[together] for values in (row, node, depth, reach, new))
        one, other, known = row[new], lead[node[new]], depth[new]
        reach[new] = known + _common_tokens(
            tokens_N,
            starts_B[one] + known,
            starts_B[other] + known,
            np.minimum(lengths_B[one], lengths_B[other]) - known,
        )
        split = np.full(len(lead), np.iinfo(np.int64).max)
        follows = row != lead[node]
        np.minimum.at(split, node[follows], reach[follows])

        # Relative to the lead's score: if all scores are equal, every credit is exactly 0.
        score = scores_B[row] - scores_B[lead[node]]
        mean = np.bincount(node, score) / np.maximum(np.bincount(node), 1)
        goes_on = lengths_B[row] > split[node]
        row, parent, reach, score = (values[goes_on] for values in (row, node, reach, score))
        depth = split[parent]
        tokens, token = np.unique(tokens_N[starts_B[row] + depth], return_inverse=True)
        _, first, node = np.unique(parent * len(tokens) + token, return_index=True, return_inverse=True)
        credit = np.bincount(node, score) / np.bincount(node) - mean[parent[first]]
        found.append((row[first], depth[first], credit, parent[first] + prefixes))
        prefixes += len(lead)

        old_lead, lead = lead[parent], row[first]
        changed = old_lead[first] != lead
        first_B[lead[changed]] = (lengths_B[lead] - depth[first])[changed]
        new = changed[node] & (row != lead[node])
        depth = depth + 1
    row_E, depth_E, credit_E, prefix_E = (np.concatenate(values) for values in zip(*found, strict=True))
    return Branches(row_E, depth_E, credit_E, prefix_E, first_B)


def _common_tokens(tokens_N: np.ndarray, one_R: np.ndarray, other_R: np.ndarray, most_R: np.ndarray) -> np.ndarray:
    """(R,): length of the common run of tokens that starts at ``one_R`` and at ``other_R``, at most ``most_R``."""
    common_R = np.zeros_like(one_R)
    todo, width = np.arange(len(one_R)), FIRST_WINDOW
    while len(todo):
        window = sliding_window_view(tokens_N, width)
        differs = window[one_R[todo] + common_R[todo]] != window[other_R[todo] + common_R[todo]]
        place = differs.argmax(1)
        equal = ~differs[np.arange(len(todo)), place]
        common_R[todo] += np.where(equal, width, place)
        todo = todo[equal & (common_R[todo] < most_R[todo])]
        width = max(FIRST_WINDOW, min(2 * width, MOST_WINDOW, MOST_COMPARED // max(len(todo), 1)))
    return np.minimum(common_R, most_R)


def arrays_of(rollouts: Rollouts) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of :func:`find_branches`."""
    if rollouts.responses_B is None:
        raise ValueError("t_spmo compares rollouts token by token, but these came without their token ids (responses_B): "
                         "run it where they are available, as the trainer of `verl-efficiency train` does")  # fmt: skip
    responses, real_B = rollouts.responses_B, rollouts.real_B.cpu().numpy()
    lengths_B = np.fromiter(map(len, responses), dtype=np.int64, count=len(responses))
    short_B = real_B & (lengths_B < rollouts.lengths_B.cpu().numpy())
    if short_B.any():
        row = int(short_B.argmax())
        raise ValueError(
            f"responses_B[{row}] has {lengths_B[row]} tokens, of which {rollouts.lengths_B[row]} are said to be generated"
        )
    tokens_N = torch.cat([torch.zeros(0, dtype=torch.int64), *(ids.cpu() for ids in responses)]).numpy()
    return tokens_N, lengths_B, rollouts.groups_B.cpu().numpy(), rollouts.scores_B.cpu().numpy(), real_B
