"""The methods once more, from the papers' formulas with plain Python loops over rollouts: what the tests compare with.

Slow and simple on purpose. Nothing here is imported from the package. ``s`` are settings (any object with the attributes of the
method's settings class), ``state`` is a dictionary that starts empty. Every function gives one advantage per row.

Rewards are on the scale of the rows' scores, ``s.score_wrong`` to ``s.score_correct``. ``unit(s, theirs)`` turns an amount of
the authors' code into one on that scale; ``theirs`` is the distance between the scores of right and wrong answers there.
"""

import hashlib
import math
import statistics
import struct
from collections.abc import Callable, Sequence
from typing import Any

from tests.unit.reference import (
    Row,
    decoupled_advantage,
    group_advantage,
    groups_of,
    percentile,
    standardise,
    whiten,
)

Numbers = list[float]


def groups(rows: Sequence[Row]) -> list[list[int]]:
    return [members for members in groups_of(rows).values() if members]


def right_of(rows: Sequence[Row], members: list[int], s: Any) -> list[int]:
    return [i for i in members if rows[i].score >= s.correct_threshold]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def unit(s: Any, theirs: float) -> float:
    return (s.score_correct - s.score_wrong) / theirs


def on_0_1(row: Row, s: Any) -> float:
    return (row.score - s.score_wrong) / unit(s, 1)


def advantage(rows: Sequence[Row], shaped: Numbers, s: Any) -> Numbers:
    """What all shaped rewards go through."""
    if s.unsolved == "leave":
        shaped = list(shaped)
        for members in groups(rows):
            if not right_of(rows, members, s):
                for i in members:
                    shaped[i] = rows[i].score
    if s.combine == "shaped_reward":
        return group_advantage(s.advantage, shaped, rows)
    terms = [value - row.score for value, row in zip(shaped, rows, strict=True)]
    return decoupled_advantage(s.advantage, terms, rows, weight=s.length_weight, threshold=s.correct_threshold)


def scores(rows: Sequence[Row]) -> Numbers:
    return [row.score for row in rows]


def arora(rows, s, state):
    shaped = scores(rows)
    limit = s.max_response_length or math.inf
    for members in groups(rows):
        right = right_of(rows, members, s)
        whole = [i for i in right if rows[i].length < limit]
        for i in right:
            if i not in whole:
                shaped[i] = min(rows[i].score, s.score_wrong)
                continue
            lengths = [rows[j].length for j in whole]
            z = (rows[i].length - mean(lengths)) / (statistics.pstdev(lengths) + 1e-7)
            factor = 1 - s.alpha / (1 + math.exp(-z))
            shaped[i] = s.score_wrong + (rows[i].score - s.score_wrong) * factor
    return advantage(rows, shaped, s)


def kimi(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        lengths = [rows[i].length for i in members]
        low, high = min(lengths), max(lengths)
        right = right_of(rows, members, s)
        for i in members:
            term = 0.0 if high == low else 0.5 - (rows[i].length - low) / (high - low)
            shaped[i] += unit(s, 1.5) * s.weight * (term if i in right else min(0.0, term))
    return advantage(rows, shaped, s)


def laser(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        for i in right_of(rows, members, s):
            if rows[i].length <= s.target_length:
                shaped[i] += unit(s, 1.5) * s.bonus
    return advantage(rows, shaped, s)


def _laser_targets(rows, s, state) -> dict[int, float]:
    """The target of every rollout; ``state``: lengths of each band since the last choice."""
    grid = [s.max_response_length * k // s.grid_points for k in range(1, s.grid_points + 1)]
    seen = state.setdefault("seen", {"hard": [], "medium": [], "easy": []})
    band_of = {}
    for members in groups(rows):
        right, n = len(right_of(rows, members, s)), len(members)
        band = "easy" if 3 * right >= 2 * n else "medium" if 3 * right >= n else "hard"
        for i in members:
            band_of[i] = band
            seen[band].append(rows[i].length)
    step = state.get("step", 0)
    state["step"] = step + 1
    targets = state.setdefault("targets", {})
    if step % s.update_every == 0:
        n = max((len(members) for members in groups(rows)), default=1)
        n_right = {"hard": 1, "medium": max(1, n // 3), "easy": max(1, 2 * n // 3)}
        for band, lengths in seen.items():
            if not lengths:
                targets.setdefault(band, s.max_response_length)
                continue
            targets[band] = s.max_response_length
            for place in reversed(grid):
                covered = sum(length <= place for length in lengths)
                expected = covered * n_right[band] // len(lengths)
                if place >= s.min_target and expected >= s.expected_correct:
                    targets[band] = place
        state["seen"] = {"hard": [], "medium": [], "easy": []}
    return {i: targets[band] for i, band in band_of.items()}


def laser_d(rows, s, state):
    targets, shaped = _laser_targets(rows, s, state), scores(rows)
    for members in groups(rows):
        for i in right_of(rows, members, s):
            if rows[i].length <= targets[i]:
                shaped[i] += unit(s, 1.5) * s.bonus
    return advantage(rows, shaped, s)


def laser_de(rows, s, state):
    targets, shaped = _laser_targets(rows, s, state), scores(rows)
    for members in groups(rows):
        right = right_of(rows, members, s)
        for i in members:
            within = rows[i].length <= targets[i]
            if (i in right and within) or (i not in right and not within and rows[i].length < s.max_response_length):
                shaped[i] += unit(s, 1.5) * s.bonus
    return advantage(rows, shaped, s)


def short_rl(rows, s, state):
    real = [row for row in rows if row.real]
    accuracy = sum(row.score >= s.correct_threshold for row in real) / max(len(real), 1)
    state["best"] = max(state.get("best", 0.0), accuracy)
    shaped = scores(rows)
    if accuracy >= state["best"] - s.accuracy_tolerance:
        for members in groups(rows):
            right = right_of(rows, members, s)
            lengths = [rows[i].length for i in right]
            for i in right:
                over = rows[i].length - min(lengths)
                term = 0.5
                if over > s.length_tolerance:
                    term -= over / (max(lengths) - min(lengths) + 1e-5)
                shaped[i] += unit(s, 3.5) * s.weight * term
    return advantage(rows, shaped, s)


def alp(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        rate = max(len(right_of(rows, members, s)) / len(members), 1 / len(members))
        for i in members:
            shaped[i] -= unit(s, 1) * s.beta * rows[i].length * rate
    return advantage(rows, shaped, s)


def dast(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        right = right_of(rows, members, s)
        rate = len(right) / len(members)
        budget = (1 - rate) * s.max_response_length
        if right:
            budget += rate * mean([rows[i].length for i in right])
        budget = max(budget, 1.0)
        for i in members:
            over = (rows[i].length - budget) / budget
            value = max(-0.5 * over + 0.5, 0.1) if i in right else min(0.9 * over - 0.1, -0.1)
            shaped[i] = s.score_wrong + unit(s, 1) * value
    return advantage(rows, shaped, s)


def shorter_better(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        right = right_of(rows, members, s)
        best = min(rows[i].length for i in right) if right else mean([rows[i].length for i in members])
        for i in members:
            away = unit(s, 1) * s.beta * abs(rows[i].length - best)
            shaped[i] = s.score_wrong + s.alpha * (rows[i].score - s.score_wrong) - away
    return advantage(rows, shaped, s)


def grpo_lead(rows, s, state):
    shaped = scores(rows)
    rates = {}
    for members in groups(rows):
        right = right_of(rows, members, s)
        lengths = [rows[i].length for i in right]
        three = sorted(rows[i].length for i in members)[:3]
        for i in members:
            rates[i] = len(right) / len(members)
            if i not in right:
                shaped[i] = s.score_wrong + unit(s, 2) * (1 + s.wrong_reward)
                continue
            deviation = statistics.stdev(lengths) if len(lengths) > 1 else 1.0
            z = (rows[i].length - mean(lengths)) / (deviation + 1e-6)
            value = math.exp(-s.alpha * z) if not s.shape_above or mean(three) > s.shape_above else 1.0
            shaped[i] = s.score_correct + unit(s, 2) * (value - 1)
    plain = advantage(rows, shaped, s)

    def weight(x):
        return s.lightest + (s.heaviest - s.lightest) / (1 + math.exp(s.steepness * (x - s.midpoint)))

    return [
        value * (weight(rates[i]) if value > 0 else weight(1 - rates[i])) if i in rates else 0.0
        for i, value in enumerate(plain)
    ]


def gr3(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        average = mean([rows[i].length for i in members]) or 1.0
        for i in members:
            above = rows[i].score - s.score_wrong
            if above > 0:
                shaped[i] = s.score_wrong + above / (1 + s.alpha * rows[i].length / average)
    return advantage(rows, shaped, s)


def hapo(rows, s, state):
    """The prompt of a group is its label here."""
    shaped, news = scores(rows), []
    for label, members in groups_of(rows).items():
        right = right_of(rows, members, s)
        h = state.get(label)
        for i in members:
            if h is None:
                continue
            term = math.cos(rows[i].length / h * math.pi / 2) if rows[i].length < 2 * h else -1.0
            shaped[i] += unit(s, 1) * s.weight * (max(-0.7, term) if i in right else min(0.0, term))
        news += [(label, rows[i].length) for i in right if rows[i].length > 0]
    for label, length in news:
        state[label] = min(state.get(label, length), length)
    return advantage(rows, shaped, s)


def leash(rows, s, state):
    price = state.get("price", s.initial_price)
    shaped = []
    for row in rows:  # a score between the two of the scale stays between them; one outside stays there
        value = row.score - unit(s, 2) * price * max(0.0, row.length / s.target_length - 1)
        lowest, highest = min(s.score_wrong, row.score), max(s.score_correct, row.score)
        shaped.append(min(highest, max(lowest, value)))
    lengths = [row.length for row in rows if row.real]
    if lengths:
        violation = mean(lengths) / s.target_length - 1
        price = min(max(price + s.step * violation, 0.0), s.max_price)
    state["price"] = price
    return advantage(rows, shaped, s)


def a_dlp(rows, s, state):
    price = state.get("price", s.initial_price)
    shaped = [row.score - unit(s, 1) * price * row.length for row in rows]
    real = [row for row in rows if row.real]
    if real:
        accuracy = sum(row.score >= s.correct_threshold for row in real) / len(real)
        price = max(0.0, price + s.step * (accuracy - s.reference_accuracy))
    state["price"] = price
    return advantage(rows, shaped, s)


def drpo(rows, s, state):
    out = [0.0] * len(rows)
    for members in groups(rows):
        right = right_of(rows, members, s)
        if not right or len(right) == len(members):
            continue
        weights = {i: math.exp((1 - rows[i].length / s.max_response_length) / s.temperature) for i in right}
        for i in members:
            if i in right:
                out[i] = len(members) * weights[i] / math.fsum(weights.values())
            else:
                out[i] = -len(members) / (len(members) - len(right))
    return out


def cosine(rows, s, state):
    shaped = scores(rows)
    for i, row in enumerate(rows):
        if row.length + s.margin >= s.max_response_length:
            shaped[i] = s.score_wrong + unit(s, 1) * s.exceed
            continue
        if row.score >= s.correct_threshold:
            short, long = s.correct_shortest, s.correct_longest
        else:
            short, long = s.wrong_shortest, s.wrong_longest
        value = long + 0.5 * (short - long) * (1 + math.cos(row.length / s.max_response_length * math.pi))
        shaped[i] = s.score_wrong + unit(s, 1) * value
    return advantage(rows, shaped, s)


def truncation(rows, s, state):
    shaped = scores(rows)
    for i, row in enumerate(rows):
        if row.length >= s.max_response_length:
            if s.truncated_value is not None:
                shaped[i] = s.score_wrong + unit(s, 1) * s.truncated_value
            elif row.score > s.score_wrong:
                shaped[i] = s.score_wrong + (row.score - s.score_wrong) * s.truncated_factor
    plain = advantage(rows, shaped, s)
    return [
        value + s.correct_boost if row.real and row.score >= s.score_correct - 1e-5 * unit(s, 1) else value
        for value, row in zip(plain, rows, strict=True)
    ]


def overlong(rows, s, state):
    shaped = scores(rows)
    buffer = s.max_response_length / 5 if s.buffer is None else s.buffer
    for i, row in enumerate(rows):
        over = row.length - (s.max_response_length - buffer)
        if row.real and over > 0:
            shaped[i] -= unit(s, 2) * s.factor * min(1.0, over / buffer)
    return advantage(rows, shaped, s)


def toggle(rows, s, state):
    """The prompt of a group is its label here."""
    shaped, budgets, step = scores(rows), state.setdefault("budgets", {}), state.get("step", 0)
    for label, members in groups_of(rows).items():
        right = right_of(rows, members, s)
        if right and label not in budgets:
            budgets[label] = percentile([rows[i].length for i in right], s.percentile / 100)
        if step // s.phase_steps % 2 or not members or mean([on_0_1(rows[i], s) for i in members]) < s.threshold:
            continue
        for i in members:
            if rows[i].length > budgets.get(label, math.inf) and on_0_1(rows[i], s) > 0:
                shaped[i] = s.score_wrong
    state["step"] = step + any(row.real for row in rows)
    return advantage(rows, shaped, s)


def pass_rate(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        rate = max(0.0, mean([on_0_1(rows[i], s) for i in members]))
        for weight, count in (
            (s.output_weight, lambda row: row.length),
            (s.context_weight, lambda row: row.context),
            (s.turns_weight, lambda row: row.turns),
        ):
            largest = max(1, *(count(rows[i]) for i in members))
            for i in members:
                shaped[i] -= unit(s, 1) * rate * weight * count(rows[i]) / largest
    return advantage(rows, shaped, s)


def grlc(rows, s, state):
    shaped = scores(rows)
    for members in groups(rows):
        ranked = sorted((rows[i].score for i in members), reverse=True)
        needed = ranked[max(0, math.floor(len(members) * s.top_share) - 1)]
        for weight, bonus, count in (
            (s.thinking_weight, s.thinking_bonus, lambda row: row.thinking),
            (s.answer_weight, s.answer_bonus, lambda row: row.length - row.thinking),
        ):
            counts = [count(rows[i]) for i in members]
            low, high = min(counts), max(counts)
            terms = [0.0 if high == low else 1 - (one - low) / (high - low) for one in counts]
            for i, term in zip(members, terms, strict=True):
                shaped[i] += unit(s, 1) * weight * (term - mean(terms))
            written = [i for i in members if count(rows[i])]
            if len(members) > 1 and written:
                shortest = min(written, key=lambda i: count(rows[i]))
                if rows[shortest].score >= needed:
                    shaped[shortest] += unit(s, 1) * bonus
    return advantage(rows, shaped, s)


def among(rows: Sequence[Row], kept: set[int], name: str) -> Numbers:
    """The group advantage among the kept; 0 for the others."""
    out = [0.0] * len(rows)
    for members in groups(rows):
        chosen = [i for i in members if i in kept]
        values = [rows[i].score for i in chosen]
        centred = standardise("dr_grpo" if name == "batch" else name, values)
        for i, value in zip(chosen, values if len(values) == 1 else centred, strict=True):
            out[i] = value
    if name == "batch":
        white = whiten([out[i] for i in sorted(kept)], [rows[i].length for i in sorted(kept)])
        for i, value in zip(sorted(kept), white, strict=True):
            out[i] = value
    return out


def gfpo(rows, s, state):
    kept: set[int] = set()
    seen = state.setdefault("seen", [])  # the mean score of every group of the run
    seen += [round(mean([rows[i].score for i in members]), 3) for members in groups(rows)]
    for members in groups(rows):
        wanted = math.ceil(len(members) / 2) if s.keep is None else s.keep
        if s.adaptive:
            own = round(mean([rows[i].score for i in members]), 3)
            middle = sum(other < own for other in seen) + sum(other == own for other in seen) / 2
            shares = [s.keep_hardest, s.keep_hard, s.keep_easy, s.keep_easiest]
            wanted = math.ceil(len(members) * shares[math.floor(4 * middle / len(seen))] - 1e-9)

        def worst(i):
            length = rows[i].length
            key = length if s.metric == "length" else -rows[i].score / max(length, 1)
            return (key, -rows[i].score, i)

        kept |= set(sorted(members, key=worst)[:wanted])
    return among(rows, kept, s.advantage)


def grpo_roc(rows, s, state):
    kept: set[int] = set()
    for members in groups(rows):
        wanted = math.ceil(len(members) / 2) if s.keep is None else s.keep
        if len(members) <= wanted:
            kept |= set(members)
            continue
        right = sorted(right_of(rows, members, s), key=lambda i: (rows[i].length, i))
        wrong = [i for i in members if i not in right]
        n_wrong = round(len(wrong) * wanted / len(members))
        n_right = round(len(right) * wanted / len(members))
        if n_wrong < s.min_wrong and n_right < s.min_correct:
            kept |= set(members)
            continue
        if n_wrong <= min(s.min_wrong, len(wrong)):
            n_wrong = min(s.min_wrong, len(wrong))
            n_right = wanted - n_wrong
        if n_right <= min(s.min_correct, len(right)):
            n_right = min(s.min_correct, len(right))
            n_wrong = wanted - n_right
        kept |= set(right[: max(n_right, 0)] + wrong[: max(n_wrong, 0)])
    return among(rows, kept, s.advantage)


def s_grpo(rows, s, state):
    return group_advantage(s.advantage, scores(rows), rows)


def mixed(number: int) -> int:
    """lowbias32 (Chris Wellons, public domain) in plain integers."""
    number ^= number >> 16
    number = number * 0x7FEB352D % 2**32
    number ^= number >> 15
    number = number * 0x846CA68B % 2**32
    return number ^ number >> 16


def batch_number(rows, seed) -> int:
    """Of ``s_grpo``: a number from the seed and the lengths and scores of the batch, sorted."""
    content = sorted((row.length, row.score) for row in rows)
    numbers = [score for _, score in content] + [float(length) for length, _ in content]
    text = f"{seed}/".encode() + struct.pack(f"<{len(numbers)}d", *numbers)
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def token_weights(rows, mask, *, probability, first_tokens, most_tokens, rescale, seed, start=None, group_numbers=None):
    """Of ``s_grpo``: the rule of the paper, token by token, with the numbers of the seed and the batch.

    ``mask``: a list of marks per row, 1 for a response token. The place of a row in its group is the order of ``rows``.
    ``start``: ``batch_number`` of the whole batch and ``group_numbers``: of each group, where ``rows`` are only some of it.
    """
    start = batch_number(rows, seed) if start is None else start
    group_numbers = group_numbers or {
        label: number for number, label in enumerate(dict.fromkeys(r.group for r in rows))
    }
    out, places = [], {}
    for row, marks in zip(rows, mask, strict=True):
        place = places.get(row.group, 0)
        places[row.group] = place + 1
        key = mixed(start ^ group_numbers[row.group]) ^ mixed(place)
        position, first, drawn = 0, [], []
        for column, mark in enumerate(marks):
            if not mark:
                continue
            number = mixed(mixed(column // 2) ^ key)
            number = number // 2**16 if column % 2 else number % 2**16
            if position < first_tokens:
                first.append(column)
            elif number < probability * 2**16:
                drawn.append((number, column))
            position += 1
        if most_tokens is not None:
            drawn = sorted(drawn)[: max(most_tokens - len(first), 0)]
        kept = first + [column for _, column in drawn]
        scale = position / len(kept) if rescale and kept else 1.0
        out.append([scale if column in kept else 0.0 for column in range(len(marks))])
    return out


FORMULAS: dict[str, Callable[..., Numbers]] = {
    function.__name__: function
    for function in (
        *(arora, kimi, laser, laser_d, laser_de, short_rl, alp, dast, shorter_better, grpo_lead, gr3, hapo, leash),
        *(a_dlp, drpo, cosine, truncation, overlong, toggle, pass_rate, grlc, gfpo, grpo_roc, s_grpo),
    )
}
