"""The methods once more, written from their definitions with plain Python loops: what the tests compare with.

Slow and simple on purpose. Nothing here is imported from the package, so that a mistake cannot be made twice the same way.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EPSILON = 1e-6


@dataclass(frozen=True)
class Row:
    """One rollout. ``real=False`` marks a row that only pads the batch."""

    score: float
    length: int
    group: str
    real: bool = True

    @property
    def thinking(self) -> int:
        """Generated tokens inside the thinking. This and the next two are made up from the length."""
        return self.length // 3

    @property
    def turns(self) -> int:
        return self.length // 100 + (self.length > 0)

    @property
    def context(self) -> int:
        return 40 + 30 * self.turns if self.real else 0

    def correct(self, threshold: float) -> bool:
        return self.real and self.score >= threshold


def groups_of(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Numbers of the real rows of each group, in order of appearance; a group of padding has an empty list."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        members = groups.setdefault(row.group, [])
        if row.real:
            members.append(number)
    return groups


def standardise(name: str, values: list[float]) -> list[float]:
    """grpo, dr_grpo or rloo of two or more values; fewer have nothing to be compared with and give 0."""
    count = len(values)
    if count < 2:
        return [0.0] * count
    mean = math.fsum(values) / count
    if name == "dr_grpo":
        return [value - mean for value in values]
    if name == "grpo":
        deviation = statistics.stdev(values)
        return [(value - mean) / (deviation + EPSILON) for value in values]
    assert name == "rloo"
    return [value - (math.fsum(values) - value) / (count - 1) for value in values]  # against the mean of the others


def whiten(values: list[float], lengths: list[int]) -> list[float]:
    """``values`` with mean 0 and variance 1 over the tokens: each counts as often as its rollout has tokens."""
    tokens = [value for value, length in zip(values, lengths, strict=True) for _ in range(length)]
    mean = math.fsum(tokens) / max(len(tokens), 1)
    variance = statistics.variance(tokens) if len(tokens) > 1 else 0.0
    return [(value - mean) / math.sqrt(variance + 1e-8) for value in values]


def whitened(advantages: list[float], rows: Sequence[Row]) -> list[float]:
    """``whiten`` over the real rows; padding gets 0."""
    real = [number for number, row in enumerate(rows) if row.real]
    white = whiten([advantages[number] for number in real], [rows[number].length for number in real])
    out = [0.0] * len(rows)
    for number, value in zip(real, white, strict=True):
        out[number] = value
    return out


def group_advantage(name: str, rewards: Sequence[float], rows: Sequence[Row]) -> list[float]:
    """One advantage per row; a group of one keeps its reward, padding gets 0."""
    if name == "batch":
        return whitened(group_advantage("dr_grpo", rewards, rows), rows)
    advantages = [0.0] * len(rows)
    for members in groups_of(rows).values():
        values = [rewards[number] for number in members]
        for number, value in zip(members, values if len(values) == 1 else standardise(name, values), strict=True):
            advantages[number] = value
    return advantages


def decoupled_advantage(
    name: str, length_rewards: Sequence[float], rows: Sequence[Row], *, weight: float, threshold: float = 0.5
) -> list[float]:
    """A(score) + weight · A(length reward among the correct), but no lower than 0 or, if that is higher, the best wrong one."""
    if name == "batch":
        return whitened(decoupled_advantage("dr_grpo", length_rewards, rows, weight=weight, threshold=threshold), rows)
    advantages = group_advantage(name, [row.score for row in rows], rows)
    for members in groups_of(rows).values():
        right = [number for number in members if rows[number].correct(threshold)]
        best_wrong = max((advantages[number] for number in members if number not in right), default=None)
        length_terms = standardise(name, [length_rewards[number] for number in right])
        for number, length_term in zip(right, length_terms, strict=True):
            accuracy_term = advantages[number]
            total = accuracy_term + weight * length_term
            if best_wrong is not None:
                total = max(total, min(accuracy_term, max(best_wrong, 0.0)))
            advantages[number] = total
    return advantages


def percentile(values: Sequence[float], share: float) -> float:
    """With linear interpolation between the two nearest of the sorted values."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def token_budget(
    rows: Sequence[Row],
    settings: Any,
    state: dict[str, Any],
    *,
    known_difficulty: dict[str, float] | None = None,
    prompts: dict[str, str] | None = None,
) -> tuple[list[float], list[float]]:
    """Advantages and difficulties per row; ``state`` (``low``, ``high``, ``rates``) is brought up to date.

    Args:
        rows: the batch.
        settings: any object with the attributes of ``TokenBudgetSettings``.
        state: ``{}`` before the first step.
        known_difficulty: per group, for ``data`` and ``blend``.
        prompts: lasting name of each group's prompt, for ``running``.
    """
    threshold, known, names = settings.correct_threshold, known_difficulty or {}, prompts or {}
    groups = {label: members for label, members in groups_of(rows).items() if members}

    lengths = [max(row.length, 1) for row in rows if row.correct(threshold)]
    if lengths:
        for key, share in (("low", 0.1), ("high", 0.9)):
            new, old, decay = percentile(lengths, share), state.get(key), settings.budget_decay
            state[key] = new if old is None else decay * old + (1 - decay) * new
    b_min = state.get("low") if settings.b_min is None else settings.b_min
    b_max = state.get("high") if settings.b_max is None else settings.b_max
    if b_min is not None and b_max is not None and b_min > b_max:  # the one that the user set holds
        b_min = b_max = b_max if settings.b_min is None else b_min

    penalties = [0.0] * len(rows)
    shaped = [row.score for row in rows]
    difficulties = [0.0] * len(rows)
    for label, members in groups.items():
        right = [number for number in members if rows[number].correct(threshold)]
        wrong = [number for number in members if number not in right]
        smoothed_rate = (len(right) + settings.smoothing / 2) / (len(members) + settings.smoothing)
        if settings.difficulty == "group":
            difficulty = 1 - smoothed_rate
        elif settings.difficulty == "data":
            difficulty = known[label]
        elif settings.difficulty == "blend":
            own = 1 - smoothed_rate
            difficulty = settings.blend_weight * known[label] + (1 - settings.blend_weight) * own
        else:
            rates, prompt = state.setdefault("rates", {}), names[label]
            decay = settings.running_decay
            rates[prompt] = decay * rates[prompt] + (1 - decay) * smoothed_rate if prompt in rates else smoothed_rate
            difficulty = 1 - rates[prompt]
        for number in members:
            difficulties[number] = difficulty

        solve_rate = len(right) / len(members)
        if not right or solve_rate < settings.gate_solve_rate or b_min is None or b_max is None:
            continue
        of_wrong = of_right = b_min + (b_max - b_min) * difficulty
        if settings.budget_floor is not None:
            lengths = sorted(rows[number].length for number in right)
            of_right = max(of_right, lengths[math.floor(settings.budget_floor * (len(lengths) - 1))])
        floor = max([rows[number].score for number in wrong], default=0.0) + settings.margin
        for number in members if settings.apply_to == "all" else right:
            row = rows[number]
            budget = of_right if number in right else of_wrong
            overrun = max(0.0, row.length - budget) / budget
            penalties[number] = settings.penalty * min(overrun, settings.overrun_max)
            shaped[number] = row.score - penalties[number]
            if number in right:
                shaped[number] = max(shaped[number], min(row.score, floor))

    if settings.combine == "shaped_reward":
        advantages = group_advantage(settings.advantage, shaped, rows)
    else:
        length_rewards = [-penalty for penalty in penalties]
        advantages = decoupled_advantage(
            settings.advantage, length_rewards, rows, weight=settings.length_weight, threshold=threshold
        )
    share = guard(rows, settings, state)
    plain = group_advantage(settings.advantage, [row.score for row in rows], rows)
    advantages = [(1 - share) * a + share * b for a, b in zip(plain, advantages, strict=True)]
    return advantages, difficulties


def guard(rows: Sequence[Row], settings: Any, state: dict[str, Any]) -> float:
    """The share of the length term that the guard of ``token_budget`` leaves.

    ``state`` holds ``accuracies``, ``variances`` and ``best``. The running accuracy is written out as a weighted sum
    over all steps so far: the first weighs 0.9 to the number of steps since, a later one 0.1 times that.
    """
    if settings.accuracy_guard is None:
        return 1.0
    right, rates = [], []
    for members in groups_of(rows).values():
        if members:
            correct = [rows[number].correct(settings.correct_threshold) for number in members]
            right += correct
            rates.append(sum(correct) / len(correct))
    accuracies, variances = state.setdefault("accuracies", []), state.setdefault("variances", [])
    if right:
        accuracies.append(sum(right) / len(right))
        variances.append(statistics.variance(rates) / len(rates) if len(rates) > 1 else 0.25)
    last = len(accuracies) - 1
    weights = [(1.0 if step == 0 else 0.1) * 0.9 ** (last - step) for step in range(last + 1)]
    average = math.fsum(w * a for w, a in zip(weights, accuracies, strict=True))
    error = math.sqrt(math.fsum(w * w * v for w, v in zip(weights, variances, strict=True)))
    state["best"] = max(state.get("best", 0.0), average - 2 * error)
    width = max(settings.accuracy_guard, 2 * error)
    return min(1.0, max(0.0, 1 - (state["best"] - average) / width))


def variance_routing(rows: Sequence[Row], settings: Any) -> tuple[list[float], dict[str, str]]:
    """Advantages per row, and the route of each group: ``grpo``, ``reference`` or ``skipped``."""
    advantages = group_advantage(settings.advantage, [row.score for row in rows], rows)
    routes = {}
    for label, members in groups_of(rows).items():
        if not members:
            continue
        right = [number for number in members if rows[number].correct(settings.correct_threshold)]
        if settings.signal == "score":
            signal = [rows[number].score for number in members]
        else:
            signal = [float(number in right) for number in members]
        if statistics.pvariance(signal) >= settings.variance_threshold:
            routes[label] = "grpo"
            continue
        routes[label] = "reference" if right else "skipped"
        for number in members:
            advantages[number] = 0.0
        if right:
            best = min(right, key=lambda number: (rows[number].length, number))
            advantages[best] = settings.reference_weight
    return advantages, routes
