r"""Test-time strategies, replayed from stored samples: which one costs least for an accuracy?

A draw is an ordered choice of k of a problem's n samples: all draws if there are at most 64, else 64 random ones. A strategy
pays for the tokens generated until it stops. The k samples have lengths L, sorted L₁ ≤ … ≤ L_k::

    plain          one sample                                         L
    cap b          one sample, hard cut at b tokens                   min(L, b)
    first finish   the first of k parallel samples to finish          k · L₁                 FFS, arXiv 2505.18149
    short-m@k      majority of the m first to finish                  Σ min(Lᵢ, L_m)         arXiv 2505.17813
    majority       majority of k                                      Σ Lᵢ                   arXiv 2203.11171
    early stop     majority of k, sampled one by one until no other   Σ Lᵢ of those drawn
                   answer can reach the leader
    weighted       the answer with the largest sum of weights of k    Σ Lᵢ

A thinking budget, after which the answer is asked for, cannot be computed from stored samples: no sample says what the answer
would be. ``evaluate live --strategies think@TOKENS`` asks a server.

A response without an answer does not vote. Of answers with equally many votes, the one that finished first wins.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl_efficiency.evaluation.generations import Generations
from verl_efficiency.evaluation.summary import ratio
from verl_efficiency.grading.quick import read_number
from verl_efficiency.settings import SettingsError, require

DRAWS = 64
SIZES = (2, 4, 8)  # k by default
QUANTILES = (0.25, 0.5, 0.75, 0.9)  # of the lengths: the caps by default


@dataclass(frozen=True)
class Samples:
    """Some samples of one problem, in the order in which they were drawn."""

    vote_K: np.ndarray  # int64, number of the answer, −1 for none
    correct_K: np.ndarray  # float64 in [0, 1]
    tokens_K: np.ndarray  # float64
    weight_K: np.ndarray  # float64, 1 without a verifier

    def only(self, places: np.ndarray) -> "Samples":
        return Samples(self.vote_K[places], self.correct_K[places], self.tokens_K[places], self.weight_K[places])


Strategy = Callable[[Samples], tuple[float, float]]  # correctness of the chosen answer, tokens paid


def elect(samples: Samples, *, weighted: bool = False) -> float:
    """Correctness of the answer with the most votes (or weight); 0 if no sample has an answer.

    >>> votes, correct = np.array([7, 3, 3]), np.array([1.0, 0.0, 0.0])
    >>> elect(Samples(votes, correct, np.array([9.0, 5.0, 6.0]), np.ones(3)))
    0.0
    """
    totals: dict[int, float] = {}
    first: dict[int, int] = {}
    for place in np.argsort(samples.tokens_K, kind="stable"):
        vote = int(samples.vote_K[place])
        if vote >= 0:
            totals[vote] = totals.get(vote, 0.0) + (float(samples.weight_K[place]) if weighted else 1.0)
            first.setdefault(vote, int(place))
    if not totals:
        return 0.0
    return float(samples.correct_K[first[max(totals, key=lambda vote: totals[vote])]])


def plain(samples: Samples) -> tuple[float, float]:
    """The first sample."""
    return float(samples.correct_K[0]), float(samples.tokens_K[0])


def cap(limit: float) -> Strategy:
    """The first sample, cut off at ``limit`` tokens."""

    def strategy(samples: Samples) -> tuple[float, float]:
        length = float(samples.tokens_K[0])
        return (float(samples.correct_K[0]) if length <= limit else 0.0), min(length, limit)

    return strategy


def short(m: int) -> Strategy:
    """The majority of the ``m`` samples that finish first; the others are then cancelled. First finish is m = 1."""

    def strategy(samples: Samples) -> tuple[float, float]:
        order = np.argsort(samples.tokens_K, kind="stable")[:m]
        end = samples.tokens_K[order[-1]]
        return elect(samples.only(order)), float(np.minimum(samples.tokens_K, end).sum())

    return strategy


def majority(samples: Samples) -> tuple[float, float]:
    """The majority of all samples."""
    return elect(samples), float(samples.tokens_K.sum())


def weighted(samples: Samples) -> tuple[float, float]:
    """The answer whose samples have the largest sum of weights."""
    return elect(samples, weighted=True), float(samples.tokens_K.sum())


def early_stop(samples: Samples) -> tuple[float, float]:
    """The majority, sampled one after the other until no other answer can reach it."""
    k, counts = len(samples.vote_K), dict[int, int]()
    for drawn in range(1, k + 1):
        vote = int(samples.vote_K[drawn - 1])
        if vote >= 0:
            counts[vote] = counts.get(vote, 0) + 1
        if drawn == k or decided(counts, k - drawn):
            break
    seen = samples.only(np.arange(drawn))
    return elect(seen), float(seen.tokens_K.sum())


def decided(counts: Mapping[int, int] | Mapping[str, int], left: int) -> bool:
    """Whether no other answer can reach the leader with ``left`` further votes.

    >>> decided({7: 2, 3: 1}, 1), decided({7: 3, 3: 1}, 1), decided({}, 0)
    (False, True, False)
    """
    first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
    return first > second + left


def answer_vote(answer: str | None) -> str | None:
    """The answer, spelt alike for equal numbers: 0.5 and 1/2 are one answer, 50 and 50% are not."""
    number = None if answer is None else read_number(answer)
    if answer is None or number is None:
        return answer and " ".join(answer.split())
    return f"{number.value}{'%' if number.percent else ''}"


def replay(
    generations: Generations, sizes: list[int] | None = None, caps: list[float] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Every strategy on every problem: accuracy and tokens, each a mean over draws and then over problems.

    Args:
        generations: with ``vote_N``.
        sizes: the k to try, by default those of :data:`SIZES` for which every problem has enough samples.
        caps: the token limits to try, by default :data:`QUANTILES` of the lengths.
        seed: seed of the random draws.

    Returns:
        A row for each strategy: ``strategy``, ``k``, ``accuracy``, ``accuracy_se``, ``tokens`` (for each problem),
        ``tokens_se``, ``tokens_over_plain`` (their ratio to those of ``plain``), ``pareto`` (no other strategy is at least as
        accurate for fewer tokens), sorted by tokens.

    Raises:
        SettingsError: too few samples, or no answers to vote with.
    """
    if generations.vote_N is None:
        raise SettingsError("files: strategies need the text of the responses, since their answers vote")
    count_P = np.bincount(generations.problem_N)
    if sizes is None:
        sizes = [k for k in SIZES if k <= count_P.min()] or [1]
    if caps is None:
        caps = np.unique(np.quantile(generations.tokens_N, QUANTILES).round()).tolist()
    for k in sizes:
        require(1 <= k <= count_P.min(), "--samples", k, f"from 1 to {count_P.min()}, the fewest samples of a problem")
    runs: list[tuple[str, int, Strategy]] = [("plain", 1, plain)]
    runs += [(f"cap {limit:,.0f}", 1, cap(limit)) for limit in caps]
    for k in sorted(set(sizes) - {1}):
        runs += [("first finish", k, short(1)), ("majority", k, majority), ("early stop", k, early_stop)]
        runs += [(f"short-{m}", k, short(m)) for m in (3,) if m < k]
        if generations.weight_N is not None:
            runs.append(("weighted", k, weighted))
    by_problem = np.split(np.argsort(generations.problem_N, kind="stable"), np.cumsum(count_P)[:-1])
    weight_N = np.ones(len(generations.tokens_N)) if generations.weight_N is None else generations.weight_N
    problems = [
        Samples(
            generations.vote_N[rows],
            generations.correct_N[rows],
            generations.tokens_N[rows].astype(float),
            weight_N[rows],
        )
        for rows in by_problem
    ]
    results: list[dict[str, Any]] = []
    for name, k, strategy in runs:
        rng = np.random.default_rng(seed)
        means = [
            np.mean([strategy(samples.only(places)) for places in draws(len(samples.vote_K), k, rng)], axis=0)
            for samples in problems
        ]
        accuracy_P, tokens_P = np.array(means).T
        accuracy, accuracy_se = ratio(accuracy_P, np.ones(len(accuracy_P)))
        tokens, tokens_se = ratio(tokens_P, np.ones(len(tokens_P)))
        results.append(
            {
                "strategy": name,
                "k": k,
                "accuracy": accuracy,
                "accuracy_se": accuracy_se,
                "tokens": tokens,
                "tokens_se": tokens_se,
            }
        )
    return by_cost(results)


def by_cost(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results by tokens; ``pareto`` marks those that are more accurate than every cheaper one.

    ``tokens_over_plain`` is None if ``plain`` is not among them.
    """
    results.sort(key=lambda row: (row["tokens"], -row["accuracy"]))
    plain_tokens = next((row["tokens"] for row in results if row["strategy"] == "plain"), None)
    best = -1.0
    for row in results:
        row["tokens_over_plain"] = row["tokens"] / plain_tokens if plain_tokens else None
        row["pareto"] = row["accuracy"] > best
        best = max(best, float(row["accuracy"]))
    return results


def cheapest(results: Sequence[Mapping[str, Any]], accuracy: float) -> Mapping[str, Any] | None:
    """The row with the fewest tokens among those that reach an accuracy, None if none does.

    >>> cheapest([{"accuracy": 0.7, "tokens": 5}, {"accuracy": 0.8, "tokens": 9}], 0.75)["tokens"]
    9
    """
    return min((row for row in results if row["accuracy"] >= accuracy), key=lambda row: row["tokens"], default=None)


def draws(n: int, k: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Ordered draws of k of n samples: all if they are at most ``DRAWS``, else ``DRAWS`` random ones."""
    if math.perm(n, k) <= DRAWS:
        yield from (np.array(places) for places in itertools.permutations(range(n), k))
    else:
        yield from (rng.permutation(n)[:k] for _ in range(DRAWS))
