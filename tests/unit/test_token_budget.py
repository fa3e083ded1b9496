"""token_budget: numbers by hand, equality with the plain loops of ``reference``, and every promise of its docstring."""

import dataclasses
import itertools
import json
import math
import random

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.unit import reference
from tests.unit.reference import Row
from tests.unit.test_rollouts import build
from verl_efficiency.methods.advantages import group_advantage
from verl_efficiency.methods.shaping.token_budget import TokenBudgetSettings, TokenBudgetState, token_budget

TINY = 1e-9
checked = settings(max_examples=50, deadline=None, derandomize=True)


def run(rows, chosen, state=None, *, difficulty=None, prompts=None):
    """Outcome of one step; ``difficulty`` and ``prompts`` per group label."""
    rollouts = build(rows, correct_threshold=chosen.correct_threshold)
    if difficulty is not None:
        known = [difficulty.get(label, math.nan) for label in rollouts.labels_G]
        rollouts = dataclasses.replace(rollouts, difficulty_G=torch.tensor(known, dtype=torch.float64))
    if prompts is not None:
        rollouts = dataclasses.replace(
            rollouts, prompt_ids_G=tuple(prompts.get(label, "") for label in rollouts.labels_G)
        )
    return token_budget(rollouts, chosen, TokenBudgetState() if state is None else state)


def advantages(rows, chosen, **known):
    return run(rows, chosen, **known).advantages_B.tolist()


def unshaped(rows, name):
    return reference.group_advantage(name, [row.score for row in rows], rows)


# By hand ------------------------------------------------------------------------------------------------------------------

# Three of four right: d = 1 − (3 + ½)/(4 + 1) = 0.3, so b = 100 + 100 · 0.3 = 130 tokens.
FOUR = [Row(1.0, 100, "a"), Row(1.0, 143, "a"), Row(1.0, 520, "a"), Row(0.0, 20, "a")]
FIXED = TokenBudgetSettings(b_min=100.0, b_max=200.0)
SHAPED = dataclasses.replace(FIXED, combine="shaped_reward")


def test_shaped_reward_by_hand():
    outcome = run(FOUR, SHAPED)
    # overruns 0, 13/130 = 0.1 and 390/130 = 3, held at 2; penalties 0, 0.03, 0.6; shaped 1, 0.97, 0.4, 0; mean 0.5925
    assert outcome.advantages_B.tolist() == pytest.approx([0.4075, 0.3775, -0.1925, -0.5925])
    assert outcome.metrics == pytest.approx(
        {
            **{"b_min": 100, "b_max": 200, "budget": 130, "difficulty": 0.3, "over_budget": 0.5, "penalty": 0.63 / 4},
            **{"solve_rate": 0.75, "length_term": -0.63 / 4, "unsolved_share": 0},
            # one group has no spread: its accuracy is as uncertain as can be, ½, and nothing is surely reached
            **{"length_share": 1, "running_accuracy": 0.75, "best_accuracy": 0},
        }
    )


def test_scores_of_1_and_minus_1_by_hand():
    """Told so, a penalty is twice as large on this scale: the advantages are twice those of the test above."""
    rows = [dataclasses.replace(row, score=2 * row.score - 1) for row in FOUR]
    outcome = run(rows, dataclasses.replace(SHAPED, score_wrong=-1.0))
    assert outcome.advantages_B.tolist() == pytest.approx([0.815, 0.755, -0.385, -1.185])


def test_a_correct_one_stays_above_the_best_wrong_one_by_hand():
    rows = [Row(1.0, 520, "a"), Row(0.6, 520, "a"), Row(0.45, 5, "a"), Row(0.0, 5, "a")]
    # penalty 2 · 2 = 4 and more: both would be negative; held at 0.45 + 0.1 = 0.55; mean (0.55 + 0.55 + 0.45) / 4
    steep = dataclasses.replace(SHAPED, penalty=2.0, budget_floor=None)
    held = advantages(rows, dataclasses.replace(steep, margin=0.1))
    assert held == pytest.approx([0.55 - 0.3875, 0.55 - 0.3875, 0.45 - 0.3875, -0.3875])
    # the second one leads by 0.15 only: a wider margin does not lift it
    held = advantages(rows, dataclasses.replace(steep, margin=0.3))
    assert held == pytest.approx([0.75 - 0.45, 0.6 - 0.45, 0.0, -0.45])


def test_a_budget_is_never_below_the_floor_by_hand():
    """All are over 100 + 100 · ⅙ tokens. Of two, number ⌊¼ · 1⌋ = 0 is the floor: 500. The other one pays for 100 over 500."""
    rows = [Row(1.0, 500, "a"), Row(1.0, 600, "a")]
    # penalties 0 and 0.3 · 0.2 = 0.06; mean of the shaped scores 0.97
    assert advantages(rows, SHAPED) == pytest.approx([0.03, -0.03])
    # overruns 3.29 and 4.14, both held at 2: without the floor they pay the same, so nobody gains by being shorter
    assert advantages(rows, dataclasses.replace(SHAPED, budget_floor=None)) == pytest.approx([0, 0])
    # a wrong answer does not lower the floor, however short it is
    outcome = run([*rows, Row(0.0, 5, "a")], SHAPED)
    assert (outcome.metrics["penalty"], outcome.metrics["budget"]) == pytest.approx((0.06 / 3, 500))
    # of five, number ⌊¼ · 4⌋ = 1: a single short one, perhaps a guess, does not set the budget of the others
    rows = [Row(1.0, length, "a") for length in (600, 250, 1000, 500, 500)]
    assert run(rows, SHAPED).metrics["budget"] == 500
    assert run(rows, dataclasses.replace(SHAPED, budget_floor=0.0)).metrics["budget"] == 250
    assert run(rows, dataclasses.replace(SHAPED, budget_floor=1.0)).metrics["budget"] == 1000
    # of eight, number ⌊¼ · 7⌋ = 1: one that is shorter than all its siblings gains nothing, unless the shortest counts
    rows = [Row(1.0, 500, "a"), *[Row(1.0, 600, "a")] * 7]
    assert advantages(rows, SHAPED) == pytest.approx([0] * 8)
    # penalties 0 and 0.3 · 0.2 = 0.06
    shortest = dataclasses.replace(SHAPED, budget_floor=0.0)
    assert advantages(rows, shortest) == pytest.approx([0.06 * 7 / 8, *[-0.06 / 8] * 7])


def test_decoupled_by_hand():
    chosen = FIXED
    # accuracy ¼, ¼, ¼, −¾; length rewards of the correct 0, −0.03, −0.6, mean −0.21
    expected = [0.25 + 0.5 * 0.21, 0.25 + 0.5 * 0.18, 0.25 - 0.5 * 0.39, -0.75]
    assert advantages(FOUR, chosen) == pytest.approx(expected)
    chosen = dataclasses.replace(chosen, length_weight=1.0)
    assert advantages(FOUR, chosen) == pytest.approx([0.25 + 0.21, 0.25 + 0.18, 0.0, -0.75])  # ¼ − 0.39 is held at 0


def test_apply_to_all_by_hand():
    rows = [Row(1.0, 130, "a"), Row(0.0, 130, "a"), Row(0.0, 260, "a")]
    # d = 1 − 1.5/4 = 0.625, b = 162.5; overrun 97.5/162.5 = 0.6; penalty 0.18; mean (1 − 0.18) / 3
    shaped = advantages(rows, dataclasses.replace(SHAPED, apply_to="all"))
    assert shaped == pytest.approx([1 - 0.82 / 3, -0.82 / 3, -0.18 - 0.82 / 3])


def test_difficulty_sources_by_hand():
    def penalty(**options):
        known = {"difficulty": {"a": 0.8}, "prompts": {"a": "p"}}
        return run(FOUR, TokenBudgetSettings(b_min=100.0, b_max=200.0, **options), **known).metrics["difficulty"]

    assert penalty(difficulty="group") == pytest.approx(0.3)
    assert penalty(difficulty="group", smoothing=0.0) == pytest.approx(0.25)
    assert penalty(difficulty="data") == 0.8
    assert penalty(difficulty="blend") == pytest.approx(0.55)
    assert penalty(difficulty="blend", blend_weight=0.25) == pytest.approx(0.25 * 0.8 + 0.75 * 0.3)
    assert penalty(difficulty="running") == pytest.approx(0.3)


def test_running_difficulty_by_hand():
    state, chosen = TokenBudgetState(), TokenBudgetSettings(b_min=10.0, b_max=20.0, difficulty="running")
    half = [Row(1.0, 5, "a"), Row(0.0, 5, "a")]
    full = [Row(1.0, 5, "x"), Row(1.0, 5, "x")]
    assert run(half, chosen, state, prompts={"a": "p"}).metrics["difficulty"] == pytest.approx(0.5)
    # (2 + ½) / (2 + 1) = 5/6; 0.7 · 0.5 + 0.3 · 5/6 = 0.6
    assert run(full, chosen, state, prompts={"x": "p"}).metrics["difficulty"] == pytest.approx(0.4)
    assert run(full, chosen, state, prompts={"x": "q"}).metrics["difficulty"] == pytest.approx(1 / 6)
    assert state.solve_rates == pytest.approx({"p": 0.6, "q": 5 / 6})


def test_a_budget_that_follows_the_run_by_hand():
    state, chosen = TokenBudgetState(), TokenBudgetSettings()
    wrong = [Row(0.0, 999, "a"), Row(0.0, 1, "a")]
    outcome = run(wrong, chosen, state)
    assert (state.low, state.high) == (None, None)
    assert math.isnan(outcome.metrics["b_min"])
    assert math.isnan(outcome.metrics["budget"])
    # 10, 20, 30: the 10th percentile lies 0.2 of the way from 10 to 20, the 90th 0.8 of the way from 20 to 30
    outcome = run([Row(1.0, 30, "a"), Row(1.0, 10, "b"), Row(1.0, 20, "b"), *wrong], chosen, state)
    assert (outcome.metrics["b_min"], outcome.metrics["b_max"]) == pytest.approx((12, 28))
    run([Row(1.0, 110, "a"), Row(1.0, 120, "a"), Row(1.0, 130, "a")], chosen, state)
    assert (state.low, state.high) == pytest.approx((0.9 * 12 + 0.1 * 112, 0.9 * 28 + 0.1 * 128))
    run(wrong, chosen, state)  # a step in which nobody is right changes nothing
    assert (state.low, state.high) == pytest.approx((22, 38))


def test_a_budget_that_the_run_crosses_stays_where_the_user_set_it():
    rows = [Row(1.0, 1000, "a"), Row(1.0, 2000, "a"), Row(0.0, 5, "a")]
    outcome = run(rows, TokenBudgetSettings(b_max=50.0))  # the run's 10th percentile is 1100
    assert (outcome.metrics["b_min"], outcome.metrics["b_max"]) == (50, 50)
    outcome = run(rows, TokenBudgetSettings(b_min=5000.0))
    assert (outcome.metrics["b_min"], outcome.metrics["b_max"]) == (5000, 5000)


def ten_groups(right: int, *, name: str) -> list[Row]:
    """Ten groups of two, of which the first ``right`` are right (10 and 30 tokens) and the others wrong."""
    return [Row(float(g < right), length, f"{name}{g}") for g in range(10) for length in (10, 30)]


def test_the_guard_by_hand():
    """Budget 10: lengths 10 and 30, overrun 2, penalty 0.6, centred ±0.3, of which half counts: ±0.15 in a right group."""
    state = TokenBudgetState()
    chosen = TokenBudgetSettings(b_min=10.0, b_max=10.0, accuracy_guard=0.2)
    full = run(ten_groups(10, name="a"), chosen, state)
    assert full.advantages_B.tolist()[:2] == pytest.approx([0.15, -0.15])
    # all right, no spread: accuracy 1, surely reached
    assert (state.accuracy, state.accuracy_variance, state.best_accuracy) == (1, 0, 1)
    # five of ten: 0.9 + 0.05 = 0.95, which is 0.05 of 0.2 below: three quarters are left
    faded = run(ten_groups(5, name="b"), chosen, state)
    assert faded.metrics["length_share"] == pytest.approx(0.75)
    assert faded.advantages_B.tolist()[:2] == pytest.approx([0.75 * 0.15, -0.75 * 0.15])
    # rates 1 and 0, five times each: sample variance 10 · ¼ / 9, over 10 groups; weighed by 0.1²
    assert state.accuracy_variance == pytest.approx(0.01 * 2.5 / 9 / 10)
    # none of ten, twice: 0.9 · 0.9 · 0.95 = 0.7695; all of ten: 0.79255, more than 0.2 below: off
    run(ten_groups(0, name="c"), chosen, state)
    run(ten_groups(0, name="d"), chosen, state)
    assert (state.accuracy, state.best_accuracy) == pytest.approx((0.7695, 1))
    off = run(ten_groups(10, name="e"), chosen, state)
    assert off.metrics["length_share"] == 0
    assert off.advantages_B.tolist() == [0.0] * 20
    # it comes back with the accuracy: 20 batches later 1 − 0.20745 · 0.9^20 = 0.97478
    for step in range(20):
        back = run(ten_groups(10, name=f"f{step}"), chosen, state)
    assert back.metrics["length_share"] == pytest.approx(1 - (1 - 0.97478) / 0.2, abs=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"combine": "shaped_reward", "advantage": "grpo"}, {"advantage": "rloo"}, {"advantage": "batch"}]
)
def test_what_the_guard_leaves_is_the_advantage_of_the_score(options):
    state = TokenBudgetState(accuracy=0.5, best_accuracy=0.9)
    chosen = TokenBudgetSettings(b_min=10.0, b_max=10.0, **options)
    rows = [Row(1.0, 10, "m"), Row(1.0, 30, "m"), Row(0.0, 5, "m")]
    plain = unshaped(rows, chosen.advantage)
    assert advantages(rows, dataclasses.replace(chosen, accuracy_guard=None)) != pytest.approx(plain)
    assert advantages(rows, chosen, state=state) == pytest.approx(plain)


def test_the_guard_does_not_take_noise_for_a_loss():
    """Accuracy that only fluctuates (a batch of 16 prompts that are all right or all wrong, 70 %) leaves the length term on."""
    rng, state, chosen = random.Random(1), TokenBudgetState(), TokenBudgetSettings(b_min=10.0, b_max=10.0)
    shares = []
    for step in range(200):
        rows = []
        for group in range(16):
            right = float(rng.random() < 0.7)
            rows += [Row(right, 10, f"{step}.{group}"), Row(right, 30, f"{step}.{group}")]
        shares.append(run(rows, chosen, state).metrics["length_share"])
    assert sum(shares) / len(shares) > 0.7


def test_without_the_guard_nothing_is_kept_of_the_accuracy():
    state, chosen = TokenBudgetState(), dataclasses.replace(FIXED, accuracy_guard=None)
    assert not chosen.keeps_state
    assert FIXED.keeps_state
    outcome = run(FOUR, chosen, state)
    assert state == TokenBudgetState(low=state.low, high=state.high)
    assert outcome.metrics["length_share"] == 1
    assert "best_accuracy" not in outcome.metrics


def test_gate_by_hand():
    gated = dataclasses.replace(SHAPED, gate_solve_rate=0.8)
    assert advantages(FOUR, gated) == pytest.approx([0.25, 0.25, 0.25, -0.75])
    at_the_gate = dataclasses.replace(SHAPED, gate_solve_rate=0.75)
    assert advantages(FOUR, at_the_gate) == pytest.approx([0.4075, 0.3775, -0.1925, -0.5925])


def test_empty_correct_responses_do_not_make_a_budget_of_zero():
    outcome = run([Row(1.0, 0, "a"), Row(1.0, 0, "a"), Row(0.0, 7, "a")], TokenBudgetSettings())
    assert (outcome.metrics["b_min"], outcome.metrics["b_max"]) == (1, 1)
    assert torch.isfinite(outcome.advantages_B).all()


def test_padding_is_in_no_metric():
    rows = [*FOUR, Row(0.0, 900, "a", real=False), Row(1.0, 900, "pad", real=False)]
    for chosen in (FIXED, dataclasses.replace(SHAPED, apply_to="all")):
        assert run(rows, chosen).metrics == run(FOUR, chosen).metrics


def test_missing_inputs_are_named():
    with pytest.raises(ValueError, match="needs difficulty_G"):
        run(FOUR, TokenBudgetSettings(difficulty="data"))
    with pytest.raises(ValueError, match="difficulty=running needs prompt_ids_G"):
        run(FOUR, TokenBudgetSettings(difficulty="running"))


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan])
def test_a_difficulty_out_of_range_is_named(bad):
    with pytest.raises(ValueError, match=r"difficulty of group a is .*must be in \[0, 1\]"):
        run(FOUR, TokenBudgetSettings(difficulty="data"), difficulty={"a": bad})


def test_the_difficulty_of_padding_does_not_matter():
    rows = [*FOUR, Row(0.0, 0, "pad", real=False)]
    outcome = run(rows, TokenBudgetSettings(difficulty="data"), difficulty={"a": 0.3})  # nan for the group "pad"
    assert torch.isfinite(outcome.advantages_B).all()
    assert outcome.metrics["difficulty"] == pytest.approx(0.3)


# Against plain loops ------------------------------------------------------------------------------------------------------


def random_settings(rng):
    b_min, b_max = sorted([rng.uniform(1, 120), rng.uniform(1, 120)])
    combine, apply_to = rng.choice([("shaped_reward", "correct"), ("shaped_reward", "all"), ("decoupled", "correct")])
    return TokenBudgetSettings(
        difficulty=rng.choice(["group", "data", "running", "blend"]),
        smoothing=rng.choice([0.0, 1.0, 2.5]),
        running_decay=rng.choice([0.0, 0.7]),
        blend_weight=rng.random(),
        b_min=rng.choice([None, b_min]),
        b_max=rng.choice([None, b_max]),
        budget_floor=rng.choice([None, 0.0, 0.25, 0.7, 1.0]),
        budget_decay=rng.choice([0.0, 0.9]),
        penalty=rng.choice([0.0, 0.3, 3.0]),
        overrun_max=rng.choice([0.0, 0.5, 2.0]),
        margin=rng.choice([0.0, 0.05, 0.5]),
        apply_to=apply_to,
        gate_solve_rate=rng.choice([0.0, 0.0, 0.5, 1.0]),
        combine=combine,
        length_weight=rng.choice([0.0, 0.5, 3.0]),
        advantage=rng.choice(["grpo", "dr_grpo", "rloo", "batch"]),
        accuracy_guard=rng.choice([None, 0.01, 0.2, 1.0]),
        correct_threshold=rng.choice([0.5, 1.0]),
    )


def random_rows(rng):
    """Ties, all-right and all-wrong groups, groups of one, empty responses, fractional scores, padding."""
    rows = []
    for group in range(rng.randrange(1, 9)):
        scores = rng.choice([[0.0], [1.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.25, 0.5, 0.75, 1.0, 1.1]])
        lengths = rng.choice([[0, 1, 2], [40], range(200)])
        rows += [Row(rng.choice(scores), rng.choice(lengths), f"g{group}") for _ in range(rng.randrange(1, 9))]
    rows += [Row(0.0, 0, "pad", real=False)] * rng.randrange(3)
    rng.shuffle(rows)
    return rows


@pytest.mark.parametrize("seed", range(150))
def test_equals_plain_loops_over_three_steps(seed):
    rng = random.Random(seed)
    chosen = random_settings(rng)
    state, expected_state = TokenBudgetState(), {}
    for _ in range(3):
        rows = random_rows(rng)
        difficulty = {row.group: rng.choice([0.0, 1.0, rng.random()]) for row in rows}
        prompts = {group: f"prompt of {group}" for group in difficulty}
        outcome = run(rows, chosen, state, difficulty=difficulty, prompts=prompts)
        expected, difficulties = reference.token_budget(
            rows, chosen, expected_state, known_difficulty=difficulty, prompts=prompts
        )
        assert outcome.advantages_B.tolist() == pytest.approx(expected, abs=TINY)
        real = sum(row.real for row in rows)
        assert outcome.metrics["difficulty"] == pytest.approx(math.fsum(difficulties) / real, abs=TINY)
        right = sum(row.correct(chosen.correct_threshold) for row in rows)
        assert outcome.metrics["solve_rate"] == pytest.approx(right / real)
        assert (state.low, state.high) == pytest.approx((expected_state.get("low"), expected_state.get("high")))
        assert state.solve_rates == pytest.approx(expected_state.get("rates", {}))


# Promises -----------------------------------------------------------------------------------------------------------------


@st.composite
def batches(draw, scores=(0.0, 1.0, -1.0, 0.25, 0.45, 0.5, 0.75, 1.1), padding=True):
    rows = []
    for group in range(draw(st.integers(1, 4))):
        members = draw(st.lists(st.tuples(st.sampled_from(scores), st.integers(0, 300)), min_size=1, max_size=6))
        rows += [Row(score, length, f"g{group}") for score, length in members]
    if padding:
        rows += [Row(0.0, 0, "pad", real=False)] * draw(st.integers(0, 2))
    return draw(st.permutations(rows))


@st.composite
def settings_with_fixed_budget(draw, **given_ones):
    b_min = draw(st.floats(1, 150))
    options = {
        "b_min": b_min,
        "b_max": b_min + draw(st.floats(0, 150)),
        "budget_floor": draw(st.sampled_from([None, 0.0, 0.25, 1.0])),
        "penalty": draw(st.floats(0, 3)),
        "overrun_max": draw(st.floats(0, 4)),
        "margin": draw(st.floats(0, 0.5)),
        "combine": draw(st.sampled_from(["shaped_reward", "decoupled"])),
        "length_weight": draw(st.floats(0, 3)),
        "advantage": draw(st.sampled_from(["grpo", "dr_grpo", "rloo"])),
        "gate_solve_rate": draw(st.sampled_from([0.0, 0.5])),
        "accuracy_guard": draw(st.sampled_from([None, 0.01, 1.0])),
    }
    return TokenBudgetSettings(**{**options, **given_ones})


def pairs(rows):
    """Numbers of every correct and wrong rollout of one group."""
    for right, one in enumerate(rows):
        for wrong, other in enumerate(rows):
            if one.group == other.group and other.real and one.correct(0.5) and not other.correct(0.5):
                yield right, wrong


def longer(rows, number, tokens):
    return [dataclasses.replace(row, length=row.length + tokens) if n == number else row for n, row in enumerate(rows)]


@checked
@given(batches(), settings_with_fixed_budget(), st.booleans(), st.randoms(use_true_random=False))
def test_the_length_of_a_wrong_answer_never_matters(rows, chosen, follow, rng):
    if follow:
        chosen = dataclasses.replace(chosen, b_min=None, b_max=None)
    others = [row if row.correct(0.5) else dataclasses.replace(row, length=rng.randrange(300)) for row in rows]
    assert advantages(rows, chosen) == advantages(others, chosen)


@checked
@given(batches(), settings_with_fixed_budget(combine="shaped_reward", advantage="dr_grpo"))
def test_a_correct_answer_leads_every_wrong_one_by_the_margin(rows, chosen):
    """Or by its own lead, where that is smaller. With dr_grpo a difference of advantages is one of shaped scores."""
    shaped = advantages(rows, chosen)
    for right, wrong in pairs(rows):
        lead = min(chosen.margin, rows[right].score - rows[wrong].score)
        assert shaped[right] - shaped[wrong] >= lead - TINY


@checked
@given(batches(scores=(0.0, 1.0)), settings_with_fixed_budget())
def test_a_correct_answer_is_above_every_wrong_one_in_any_combination(rows, chosen):
    chosen = dataclasses.replace(chosen, margin=max(chosen.margin, 0.01))
    shaped = advantages(rows, chosen)
    for right, wrong in pairs(rows):
        assert shaped[right] > shaped[wrong]


@checked
@given(batches(), settings_with_fixed_budget(combine="decoupled"))
@example(
    [Row(0.5, 300, "a"), Row(0.75, 10, "a"), Row(0.45, 10, "a"), Row(-1.0, 10, "a")],
    TokenBudgetSettings(b_min=10.0, b_max=10.0, combine="decoupled", penalty=1.0, advantage="dr_grpo"),
)
def test_decoupled_keeps_every_correct_answer_above_every_wrong_one(rows, chosen):
    shaped = advantages(rows, chosen)
    for right, wrong in pairs(rows):
        assert shaped[right] >= shaped[wrong]


@checked
@given(batches(), settings_with_fixed_budget(), st.data())
def test_more_tokens_never_pay(rows, chosen, data):
    assume(any(row.correct(0.5) for row in rows))
    number = data.draw(st.sampled_from([n for n, row in enumerate(rows) if row.correct(0.5)]))
    more = longer(rows, number, data.draw(st.integers(1, 300)))
    assert advantages(more, chosen)[number] <= advantages(rows, chosen)[number] + 1e-7


@checked
@given(batches(), settings_with_fixed_budget(apply_to="all", combine="shaped_reward"), st.data())
def test_more_tokens_never_pay_when_wrong_answers_are_shaped_too(rows, chosen, data):
    number = data.draw(st.sampled_from([n for n, row in enumerate(rows) if row.real]))
    more = longer(rows, number, data.draw(st.integers(1, 300)))
    assert advantages(more, chosen)[number] <= advantages(rows, chosen)[number] + 1e-7


@checked
@given(batches(), settings_with_fixed_budget())
def test_at_or_under_budget_nothing_changes(rows, chosen):
    rows = [dataclasses.replace(row, length=min(row.length, math.floor(chosen.b_min))) for row in rows]
    assert advantages(rows, chosen) == pytest.approx(unshaped(rows, chosen.advantage), abs=TINY)


@checked
@given(batches(), settings_with_fixed_budget(combine="shaped_reward", advantage="dr_grpo"), st.floats(0, 1))
def test_the_shortest_correct_answer_of_a_group_never_pays(rows, chosen, floor):
    """So its distance to others that do not pay, the wrong ones too, stays that of the scores."""
    shaped = advantages(rows, dataclasses.replace(chosen, budget_floor=floor))
    for members in reference.groups_of(rows).values():
        right = [n for n in members if rows[n].correct(0.5)]
        least = min((rows[n].length for n in right), default=0)
        free = [n for n in members if n not in right or rows[n].length == least]
        for one, other in itertools.combinations(free, 2):
            assert shaped[one] - shaped[other] == pytest.approx(rows[one].score - rows[other].score)


@checked
@given(batches(), settings_with_fixed_budget(combine="shaped_reward", advantage="dr_grpo"))
def test_an_answer_under_budget_keeps_its_score_whatever_its_siblings_do(rows, chosen):
    shaped = advantages(rows, chosen)
    kept = [n for n, row in enumerate(rows) if row.real and (row.length <= chosen.b_min or not row.correct(0.5))]
    for one in kept:
        for other in kept:
            if rows[one].group == rows[other].group:
                assert shaped[one] - shaped[other] == pytest.approx(rows[one].score - rows[other].score)


@checked
@given(
    batches(),
    settings_with_fixed_budget(difficulty="data", combine="shaped_reward", advantage="dr_grpo"),
    st.floats(0, 1),
    st.floats(0, 1),
)
@example(FOUR, dataclasses.replace(SHAPED, difficulty="data"), 0.0, 1.0)
def test_a_higher_difficulty_is_never_stricter(rows, chosen, one, other):
    easy, hard = ({row.group: d for row in rows} for d in sorted([one, other]))
    shaped_easy, shaped_hard = advantages(rows, chosen, difficulty=easy), advantages(rows, chosen, difficulty=hard)
    for right, wrong in pairs(rows):
        assert shaped_hard[right] - shaped_hard[wrong] >= shaped_easy[right] - shaped_easy[wrong] - TINY
    penalty_easy, penalty_hard = (run(rows, chosen, difficulty=d).metrics["penalty"] for d in (easy, hard))
    assert penalty_hard <= penalty_easy + TINY


@checked
@given(batches(), settings_with_fixed_budget(), st.sampled_from(["correct", "all"]))
def test_groups_in_which_nobody_is_right_and_groups_below_the_gate_are_left_alone(rows, chosen, apply_to):
    if chosen.combine == "shaped_reward":
        chosen = dataclasses.replace(chosen, apply_to=apply_to)
    shaped, plain = advantages(rows, chosen), unshaped(rows, chosen.advantage)
    for members in reference.groups_of(rows).values():
        right = sum(rows[n].correct(0.5) for n in members)
        if right == 0 or right / len(members) < chosen.gate_solve_rate:
            assert [shaped[n] for n in members] == pytest.approx([plain[n] for n in members], abs=TINY)


@checked
@given(batches(), settings_with_fixed_budget(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_groups_do_not_matter(rows, chosen, rng):
    order = rng.sample(range(len(rows)), len(rows))
    shuffled = [dataclasses.replace(rows[n], group=f"new {rows[n].group}") for n in order]
    plain = advantages(rows, chosen)
    assert advantages(shuffled, chosen) == pytest.approx([plain[n] for n in order], abs=TINY)


@checked
@given(batches(), batches(), settings_with_fixed_budget())
def test_with_a_fixed_budget_groups_do_not_see_each_other(rows, others, chosen):
    others = [dataclasses.replace(row, group="other " + row.group) for row in others]
    together = advantages([*rows, *others], chosen)
    assert together == pytest.approx(advantages(rows, chosen) + advantages(others, chosen), abs=TINY)


@checked
@given(batches(), settings_with_fixed_budget(), st.integers(0, 300))
def test_equal_lengths_change_nothing_while_the_budget_follows_them(rows, chosen, length):
    """At the first step both percentiles are that length, so nobody is over budget."""
    rows = [dataclasses.replace(row, length=length) for row in rows]
    chosen = dataclasses.replace(chosen, b_min=None, b_max=None)
    assert advantages(rows, chosen) == pytest.approx(unshaped(rows, chosen.advantage), abs=TINY)


@checked
@given(batches(), settings_with_fixed_budget(combine="decoupled"), st.integers(0, 300))
def test_equal_lengths_change_nothing_when_decoupled(rows, chosen, length):
    """Whatever the budget: among equals there is no shorter one. (A shaped reward over budget does shrink.)"""
    rows = [dataclasses.replace(row, length=length) for row in rows]
    assert advantages(rows, chosen) == pytest.approx(unshaped(rows, chosen.advantage), abs=1e-8)


@checked
@given(batches(), settings_with_fixed_budget(), st.booleans())
def test_advantages_are_finite_and_zero_on_padding(rows, chosen, follow):
    if follow:
        chosen = dataclasses.replace(chosen, b_min=None, b_max=None)
    for row, advantage in zip(rows, advantages(rows, chosen), strict=True):
        assert math.isfinite(advantage)
        assert row.real or advantage == 0


@checked
@given(batches(), settings_with_fixed_budget())
def test_without_a_penalty_it_is_the_group_advantage(rows, chosen):
    chosen, rollouts = dataclasses.replace(chosen, penalty=0.0), build(rows)
    plain = group_advantage(chosen.advantage, rollouts.scores_B, rollouts).tolist()
    assert advantages(rows, chosen) == pytest.approx(plain, abs=TINY)


# State --------------------------------------------------------------------------------------------------------------------


@checked
@given(st.lists(batches(), min_size=1, max_size=4))
def test_the_budget_moves_only_towards_what_was_observed(steps):
    state = TokenBudgetState()
    for rows in steps:
        before = dataclasses.replace(state)
        run(rows, TokenBudgetSettings(), state)
        lengths = [max(row.length, 1) for row in rows if row.correct(0.5)]
        for name, share in (("low", 0.1), ("high", 0.9)):
            old, new = getattr(before, name), getattr(state, name)
            if not lengths:
                assert new == old
                continue
            seen = reference.percentile(lengths, share)
            bounds = sorted([seen if old is None else old, seen])
            assert bounds[0] - TINY <= new <= bounds[1] + TINY
        assert state.low is None or state.low <= state.high + TINY


def test_a_state_that_was_saved_and_loaded_goes_on_as_if_nothing_had_happened():
    rng, chosen = random.Random(5), TokenBudgetSettings(difficulty="running")
    steps = [random_rows(rng) for _ in range(6)]
    prompts = {f"g{group}": f"prompt {group}" for group in range(8)}

    def go_on(state, rows):
        return run(rows, chosen, state, prompts=prompts).advantages_B.tolist()

    whole = TokenBudgetState()
    uninterrupted = [go_on(whole, rows) for rows in steps]
    first = TokenBudgetState()
    resumed = [go_on(first, rows) for rows in steps[:3]]
    second = TokenBudgetState(**json.loads(json.dumps(dataclasses.asdict(first))))
    resumed += [go_on(second, rows) for rows in steps[3:]]
    assert resumed == uninterrupted
    assert second == whole
    assert second != first
