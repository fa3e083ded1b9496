"""variance_routing: numbers by hand, equality with the plain loops of ``reference``, and what its docstring says."""

import dataclasses
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import reference
from tests.unit.reference import Row
from tests.unit.test_rollouts import build
from tests.unit.test_token_budget import batches, random_rows
from verl_efficiency.methods.routing.variance_routing import VarianceRoutingSettings, variance_routing

checked = settings(max_examples=50, deadline=None, derandomize=True)


def run(rows, chosen):
    return variance_routing(build(rows, correct_threshold=chosen.correct_threshold), chosen)


def test_by_hand():
    rows = [
        *(Row(1.0, length, "right") for length in (30, 20, 20, 40)),
        *(Row(0.0, length, "wrong") for length in (3, 2)),
        *(Row(score, 9, "mixed") for score in (1.0, 0.0, 0.0, 0.0)),
        Row(1.0, 50, "alone"),
        Row(0.0, 0, "pad", real=False),
    ]
    outcome = run(rows, VarianceRoutingSettings(advantage="rloo", reference_weight=0.5))
    assert outcome.advantages_B.tolist() == pytest.approx(
        [
            *(0, 0.5, 0, 0),  # everybody right: the first of the two shortest
            *(0, 0),  # nobody right: skipped
            *(1, -1 / 3, -1 / 3, -1 / 3),  # variance ¼ · ¾ = 0.1875: each against the mean of the others
            0.5,  # a group of one has no variance
            0,
        ]
    )
    assert outcome.metrics == {"grpo_groups": 0.25, "reference_groups": 0.5, "skipped_groups": 0.25}


def test_variance_of_correctness_does_not_see_a_shaped_score():
    # Shaped by length: 1.0 and 0.4 are both right. Population variance of the scores 0.3² = 0.09, of correctness 0.
    rows = [Row(1.0, 10, "a"), Row(0.4, 90, "a")]
    by_score = VarianceRoutingSettings(correct_threshold=0.3, advantage="dr_grpo")
    assert run(rows, by_score).advantages_B.tolist() == pytest.approx([0.3, -0.3])
    by_correctness = dataclasses.replace(by_score, signal="correctness")
    assert run(rows, by_correctness).advantages_B.tolist() == [1, 0]


def test_a_group_of_nearly_equal_scores_learns_from_its_shortest_correct_rollout():
    # variance 0.05² = 0.0025; only the second is right, though it is the longest
    rows = [Row(0.45, 3, "a"), Row(0.55, 90, "a")]
    assert run(rows, VarianceRoutingSettings()).advantages_B.tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(100))
def test_equals_plain_loops(seed):
    rng = random.Random(seed)
    chosen = VarianceRoutingSettings(
        variance_threshold=rng.choice([0.0, 0.05, 0.2, 1.0]),
        signal=rng.choice(["score", "correctness"]),
        reference_weight=rng.choice([0.0, 1.0, 2.5]),
        advantage=rng.choice(["grpo", "dr_grpo", "rloo"]),
        correct_threshold=rng.choice([0.5, 1.0]),
    )
    rows = random_rows(rng)
    outcome = run(rows, chosen)
    expected, routes = reference.variance_routing(rows, chosen)
    assert outcome.advantages_B.tolist() == pytest.approx(expected, abs=1e-9)
    for route in ("grpo", "reference", "skipped"):
        assert outcome.metrics[f"{route}_groups"] == pytest.approx(list(routes.values()).count(route) / len(routes))


def test_up_to_how_many_rollouts_the_default_threshold_means_all_right_or_all_wrong():
    """One odd rollout among n has variance (n − 1) / n². It is 17/324 = 0.0525 for 18 and 18/361 = 0.0499 for 19."""

    def is_grpo(count):
        rows = [Row(1.0, 5, "a"), *(Row(0.0, 5, "a") for _ in range(count - 1))]
        return run(rows, VarianceRoutingSettings()).metrics["grpo_groups"] == 1

    assert all(is_grpo(count) for count in range(2, 19))
    assert not is_grpo(19)


@checked
@given(batches(), st.floats(0, 0.5), st.sampled_from(["score", "correctness"]))
def test_a_group_below_the_threshold_has_at_most_one_rollout_that_learns(rows, threshold, signal):
    chosen = VarianceRoutingSettings(variance_threshold=threshold, signal=signal, reference_weight=2.0)
    outcome, (_, routes) = run(rows, chosen), reference.variance_routing(rows, chosen)
    advantages = outcome.advantages_B.tolist()
    assert all(math.isfinite(advantage) for advantage in advantages)
    for label, members in reference.groups_of(rows).items():
        learning = [n for n in members if advantages[n] != 0]
        if routes.get(label) == "skipped":
            assert learning == []
        elif routes.get(label) == "reference":
            (best,) = learning
            assert advantages[best] == 2
            assert rows[best].correct(0.5)
            assert all(rows[best].length <= rows[n].length for n in members if rows[n].correct(0.5))
    assert all(row.real or advantage == 0 for row, advantage in zip(rows, advantages, strict=True))


@checked
@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_groups_do_not_matter(rows, rng):
    rows = [
        dataclasses.replace(row, length=number) for number, row in enumerate(rows)
    ]  # no ties: the first of equals wins
    order = rng.sample(range(len(rows)), len(rows))
    shuffled = [dataclasses.replace(rows[n], group=f"new {rows[n].group}") for n in order]
    plain = run(rows, VarianceRoutingSettings()).advantages_B.tolist()
    assert run(shuffled, VarianceRoutingSettings()).advantages_B.tolist() == pytest.approx([plain[n] for n in order])


@checked
@given(batches(scores=(0.0, 1.0)))
def test_the_length_of_a_wrong_answer_never_matters(rows):
    others = [row if row.correct(0.5) else dataclasses.replace(row, length=7) for row in rows]
    chosen = VarianceRoutingSettings()
    assert run(rows, chosen).advantages_B.tolist() == run(others, chosen).advantages_B.tolist()


def test_a_threshold_of_zero_is_plain_grpo():
    rows = random_rows(random.Random(3))
    outcome = run(rows, VarianceRoutingSettings(variance_threshold=0.0))
    plain = reference.group_advantage("grpo", [row.score for row in rows], rows)
    assert outcome.advantages_B.tolist() == pytest.approx(plain, abs=1e-9)
