r"""The numbers of ``verl-efficiency evaluate offline``, each with its formula.

``c`` is the correctness of a response in [0, 1], ``L`` its tokens, ``Σ`` a sum over the N responses of a file::

    accuracy            Σ c / N                      (avg@k where each problem has k responses)
    accuracy at b       Σ c · [L ≤ b] / N            under a limit of b tokens
    area                Σ c · max(0, 1 − L/C) / N    the mean of "accuracy at b" over b from 0 to C tokens
    normalised regret   1 − area                     MRT, arXiv 2503.07572; no answer is forced before the end
    tokens per correct  Σ L / Σ c
    pass@k              mean over problems of 1 − C(n − c, k) / C(n, k)      arXiv 2107.03374
    AES                 ΔL + 3·|ΔA| if ΔA ≥ 0, else ΔL − 5·|ΔA|              arXiv 2501.12570
                        ΔL = 1 − tokens/base tokens,  ΔA = accuracy/base accuracy − 1
    OckScore            100 · accuracy − 10 · log10(tokens/10,000 + 1)       arXiv 2511.05722 and its published table

Every standard error (``…_se``) treats the responses to one problem as one draw, see :func:`ratio`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl_efficiency.evaluation.generations import Generations
from verl_efficiency.evaluation.summary import ratio
from verl_efficiency.settings import require

CURVE_POINTS = 40
CAP_LOSS = 0.01  # of accuracy, that a cap may cost
AES_LENGTH, AES_GAIN, AES_LOSS = 1.0, 3.0, 5.0
OCK_WEIGHT, OCK_TOKENS = 10.0, 10_000
CORRECT = 0.5  # responses at least this correct count as solved
LOOPING = 0.2  # responses that repeat more than this share count as looping


@dataclass(frozen=True)
class Prices:
    """Money per million tokens of the responses (``out``) and of the prompts."""

    out: float = 0.0
    prompt: float = 0.0

    def __post_init__(self) -> None:
        require(self.out >= 0, "--price-out", self.out, "at least 0")
        require(self.prompt >= 0, "--price-in", self.prompt, "at least 0")


def measure(generations: Generations, budget: int, prices: Prices | None = None) -> dict[str, Any]:
    """All numbers of one file.

    Args:
        generations: the responses.
        budget: C, the number of tokens up to which the area and the curve go.
        prices: the cost of a million tokens.

    Returns:
        Numbers by name; ``None`` if the file lacks a column for one. ``accuracy_at`` is a list of ``[budget, accuracy]``.
    """
    require(budget >= 1, "--budget", budget, "at least 1 token")
    correct_N, tokens_N = generations.correct_N, generations.tokens_N.astype(float)
    problems, responses = len(generations.keys_P), len(tokens_N)

    def per_problem(values_N: np.ndarray) -> np.ndarray:
        return np.bincount(generations.problem_N, weights=values_N, minlength=problems)

    count_P, correct_P, tokens_P = per_problem(np.ones(responses)), per_problem(correct_N), per_problem(tokens_N)
    accuracy, accuracy_se = ratio(correct_P, count_P)
    tokens, tokens_se = ratio(tokens_P, count_P)
    area, area_se = ratio(per_problem(correct_N * np.maximum(0.0, 1 - tokens_N / budget)), count_P)
    per_correct, per_correct_se = ratio(tokens_P, correct_P) if correct_P.any() else (None, None)
    solved_N = correct_N >= CORRECT
    solved_P = per_problem(solved_N.astype(float))
    cap = smallest_cap(correct_N, tokens_N)
    return {
        "label": generations.label,
        "problems": problems,
        "responses": responses,
        "accuracy": accuracy,
        "accuracy_se": accuracy_se,
        "pass_at": {str(k): pass_at(count_P, solved_P, k) for k in powers_of_two(int(count_P.min()))},
        "tokens": tokens,
        "tokens_se": tokens_se,
        "tokens_median": float(np.median(tokens_N)),
        "tokens_p90": float(np.percentile(tokens_N, 90)),
        "tokens_correct": _mean(tokens_N, solved_N),
        "tokens_wrong": _mean(tokens_N, ~solved_N),
        "truncated": _mean(generations.truncated_N),
        "budget": budget,
        "area": area,
        "area_se": area_se,
        "normalised_regret": 1 - area,
        "accuracy_at": accuracy_at(correct_N, tokens_N, budget),
        "cap": cap,
        "tokens_under_cap": float(np.minimum(tokens_N, cap).mean()),
        "tokens_per_correct": per_correct,
        "tokens_per_correct_se": per_correct_se,
        "money_per_correct": money_per_correct(generations, prices or Prices()),
        "ock_score": 100 * accuracy - OCK_WEIGHT * math.log10(tokens / OCK_TOKENS + 1),
        "repeated": _mean(generations.repeated_N),
        "looping": None if generations.repeated_N is None else _mean(generations.repeated_N > LOOPING),
        "hedging_correct": _mean(generations.hedging_N, solved_N),
        "hedging_wrong": _mean(generations.hedging_N, ~solved_N),
        "checking_correct": _mean(generations.checking_N, solved_N),
        "checking_wrong": _mean(generations.checking_N, ~solved_N),
        "by_difficulty": fit_by_difficulty(generations, count_P, solved_P),
    }


def accuracy_at(correct_N: np.ndarray, tokens_N: np.ndarray, budget: int) -> list[list[float]]:
    """``[b, accuracy at b]`` for ``CURVE_POINTS`` evenly spaced budgets up to ``budget``.

    >>> accuracy_at(np.array([1.0, 1.0, 0.0, 1.0]), np.array([10, 20, 20, 40]), 40)[9::10]
    [[10.0, 0.25], [20.0, 0.5], [30.0, 0.5], [40.0, 0.75]]
    """
    order = np.argsort(tokens_N, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(correct_N[order])])
    budgets = budget * np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS
    within = np.searchsorted(tokens_N[order], budgets, side="right")
    return [[float(b), float(value)] for b, value in zip(budgets, sums[within] / len(tokens_N), strict=True)]


def smallest_cap(correct_N: np.ndarray, tokens_N: np.ndarray, loss: float = CAP_LOSS) -> float:
    """The smallest token limit that costs at most ``loss`` of accuracy: what can be saved without training.

    >>> smallest_cap(np.ones(100), np.arange(1, 101))
    99.0
    """
    order = np.argsort(tokens_N, kind="stable")
    kept_N = np.cumsum(correct_N[order])
    enough = kept_N >= kept_N[-1] - loss * len(tokens_N) - 1e-9
    return float(tokens_N[order][int(np.argmax(enough))])


def pass_at(count_P: np.ndarray, solved_P: np.ndarray, k: int) -> float:
    """An unbiased estimate of the chance that one of ``k`` responses is correct; every problem has at least k responses.

    >>> pass_at(np.array([4.0, 4.0]), np.array([2.0, 0.0]), 2)  # 1 − 1/6 of one problem, 0 of the other
    0.4166666666666667
    """
    missed_P = np.ones(len(count_P))
    for i in range(k):
        missed_P *= np.clip(count_P - solved_P - i, 0, None) / (count_P - i)
    return float(np.mean(1 - missed_P))


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … up to ``most``."""
    return [2**i for i in range(most.bit_length())]


def money_per_correct(generations: Generations, prices: Prices) -> float | None:
    """Money per correct answer; ``None`` without prices, without correct answers, or without the tokens of priced prompts."""
    cost = prices.out * generations.tokens_N.sum()
    if prices.prompt:
        if generations.prompt_tokens_N is None:
            return None
        cost += prices.prompt * generations.prompt_tokens_N.sum()
    correct = generations.correct_N.sum()
    return float(cost / 1e6 / correct) if cost and correct else None


def fit_by_difficulty(generations: Generations, count_P: np.ndarray, solved_P: np.ndarray) -> dict[str, Any] | None:
    """The least-squares line of tokens over difficulty.

    Difficulty is the column. Without one, it is 1 − the problem's solve rate, if every problem has several responses.

    Returns:
        ``source``, ``easiest`` and ``hardest`` (tokens at both ends of the line), ``slope``, ``r2`` (of single responses);
        ``None`` without difficulties, or if all are equal.
    """
    difficulty_N, source = generations.difficulty_N, "column"
    if difficulty_N is None:
        if count_P.min() < 2:
            return None
        difficulty_N, source = (1 - solved_P / count_P)[generations.problem_N], "1 - solve rate"
    tokens_N = generations.tokens_N.astype(float)
    if np.ptp(difficulty_N) == 0:
        return None
    centred_N = difficulty_N - difficulty_N.mean()
    slope = float((centred_N * tokens_N).sum() / (centred_N**2).sum())
    spread = float(((tokens_N - tokens_N.mean()) ** 2).sum())
    easiest, hardest = (float(tokens_N.mean() + slope * end) for end in (centred_N.min(), centred_N.max()))
    r2 = float(slope**2 * (centred_N**2).sum() / spread) if spread else None
    return {"source": source, "easiest": easiest, "hardest": hardest, "slope": slope, "r2": r2}


def against(base: dict[str, Any], other: dict[str, Any]) -> dict[str, float | None]:
    """AES of ``other`` against ``base``, with its two parts."""
    if not base["accuracy"] or not base["tokens"]:
        return {"shorter": None, "better": None, "aes": None}
    shorter = 1 - other["tokens"] / base["tokens"]
    better = other["accuracy"] / base["accuracy"] - 1
    aes = AES_LENGTH * shorter + (AES_GAIN if better >= 0 else AES_LOSS) * better
    return {"shorter": shorter, "better": better, "aes": aes}


def paired(base: Generations, other: Generations) -> dict[str, float | int | None]:
    """Change of accuracy and ratio of tokens, paired over the problems of both files.

    Each problem counts once, with the mean of its responses.
    """
    shared = sorted(set(base.keys_P) & set(other.keys_P))
    if not shared:
        return {"problems": 0, "accuracy_change": None, "accuracy_change_se": None}
    (right_S, spent_S), (right_other_S, spent_other_S) = (_problem_means(file, shared) for file in (base, other))
    change, change_se = ratio(right_other_S - right_S, np.ones(len(shared)))
    tokens_ratio, tokens_ratio_se = ratio(spent_other_S, spent_S)
    return {
        "problems": len(shared),
        "accuracy_change": change,
        "accuracy_change_se": change_se,
        "tokens_ratio": tokens_ratio,
        "tokens_ratio_se": tokens_ratio_se,
    }


def _problem_means(generations: Generations, keys: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    number = {key: problem for problem, key in enumerate(generations.keys_P)}
    places = np.array([number[key] for key in keys])
    count_P = np.bincount(generations.problem_N)
    correct_P = np.bincount(generations.problem_N, weights=generations.correct_N) / count_P
    tokens_P = np.bincount(generations.problem_N, weights=generations.tokens_N.astype(float)) / count_P
    return correct_P[places], tokens_P[places]


def _mean(values_N: np.ndarray | None, mask_N: np.ndarray | None = None) -> float | None:
    if values_N is None:
        return None
    values_N = values_N if mask_N is None else values_N[mask_N]
    return float(values_N.mean()) if len(values_N) else None
