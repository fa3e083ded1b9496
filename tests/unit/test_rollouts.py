"""Rollouts: numbering of groups, what is correct, and the group statistics, against plain loops."""

import math
import random
import statistics

import numpy as np
import pytest
import torch

from tests.unit.reference import Row, groups_of
from verl_efficiency.methods.rollouts import Rollouts


def build(rows, **options):
    return Rollouts.build(
        torch.tensor([row.score for row in rows], dtype=torch.float64),
        torch.tensor([row.length for row in rows], dtype=torch.int64),
        [row.group for row in rows],
        real_B=torch.tensor([row.real for row in rows], dtype=torch.bool),
        **options,
    )


# group a: scores 1, 0, ½ and lengths 4, 6, 2; group b: one rollout; the last row only pads.
ROWS = [
    Row(1.0, 4, "a"),
    Row(0.25, 9, "b"),
    Row(0.0, 6, "a"),
    Row(0.5, 2, "a"),
    Row(0.0, 0, "pad", real=False),
]


def test_groups_are_numbered_in_order_of_appearance():
    rollouts = build(ROWS)
    assert rollouts.labels_G == ("a", "b", "pad")
    assert rollouts.groups_B.tolist() == [0, 1, 0, 0, 2]
    assert rollouts.G == 3


def test_a_score_at_the_threshold_is_correct_and_padding_never_is():
    assert build(ROWS).correct_B.tolist() == [True, False, False, True, False]
    assert build(ROWS, correct_threshold=0.0).correct_B.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_at_any_threshold_is_correct_in_the_precision_of_the_scores(dtype):
    """verl's scores are float32, and 0.9 is less there than in float64, in which a threshold is read from the settings."""
    for percent in range(101):
        threshold = percent / 100
        scores = torch.tensor([threshold, threshold - 0.001], dtype=dtype)
        rollouts = Rollouts.build(scores, torch.tensor([5, 5]), ["a", "a"], correct_threshold=threshold)
        assert rollouts.correct_B.tolist() == [True, False], threshold


def test_statistics_by_hand():
    rollouts = build(ROWS)
    scores, lengths = rollouts.scores_B, rollouts.lengths_B
    assert rollouts.count().tolist() == [3, 1, 0]
    assert rollouts.total(scores).tolist() == [1.5, 0.25, 0]
    assert rollouts.mean(lengths).tolist() == [4, 9, 0]
    # (1 + 0 + ½) / 3 = ½: squares of the distances ¼ + ¼ + 0 = ½; over 3 and over 2
    assert rollouts.variance(scores).tolist() == pytest.approx([0.5 / 3, 0, 0])
    assert rollouts.variance(scores, correction=1).tolist() == pytest.approx([0.25, 0, 0])
    assert rollouts.smallest(lengths).tolist() == [2, 9, math.inf]
    assert rollouts.largest(lengths).tolist() == [6, 9, -math.inf]
    assert rollouts.smallest(lengths, ~rollouts.correct_B).tolist() == [6, 9, math.inf]
    # two of three right: 2/3; with a prior of one rollout (2 + ½) / 4; nobody right in b: ½ / 2
    assert rollouts.solve_rate().tolist() == pytest.approx([2 / 3, 0, 0.5])
    assert rollouts.solve_rate(smoothing=1).tolist() == pytest.approx([2.5 / 4, 0.25, 0.5])


@pytest.mark.parametrize("seed", range(20))
def test_statistics_equal_plain_loops(seed):
    rng = random.Random(seed)
    rows = [
        Row(
            rng.choice([0.0, 0.0, 0.3, 1.0, rng.random()]),
            rng.randrange(50),
            f"g{rng.randrange(12)}",
            rng.random() > 0.2,
        )
        for _ in range(rng.randrange(1, 60))
    ]
    rollouts = build(rows)
    mask = [rng.random() > 0.4 for _ in rows]
    for masked in (None, torch.tensor(mask)):
        kept = [
            [n for n in members if masked is None or mask[n]]
            for members in groups_of(rows).values()  # the same order as labels_G
        ]
        scores = [[rows[n].score for n in members] for members in kept]
        lengths = [[rows[n].length for n in members] for members in kept]
        assert rollouts.count(masked).tolist() == [len(members) for members in kept]
        assert rollouts.total(rollouts.scores_B, masked).tolist() == pytest.approx([math.fsum(s) for s in scores])
        means = [statistics.fmean(s) if s else 0 for s in scores]
        assert rollouts.mean(rollouts.scores_B, masked).tolist() == pytest.approx(means, abs=1e-12)
        population = [statistics.pvariance(s) if s else 0 for s in scores]
        assert rollouts.variance(rollouts.scores_B, masked).tolist() == pytest.approx(population, abs=1e-12)
        sample = [statistics.variance(s) if len(s) > 1 else 0 for s in scores]
        assert rollouts.variance(rollouts.scores_B, masked, correction=1).tolist() == pytest.approx(sample, abs=1e-12)
        assert rollouts.smallest(rollouts.lengths_B, masked).tolist() == [min(x, default=math.inf) for x in lengths]
        assert rollouts.largest(rollouts.lengths_B, masked).tolist() == [max(x, default=-math.inf) for x in lengths]


def test_any_hashable_label_will_do():
    scores, lengths = torch.ones(4), torch.ones(4, dtype=torch.int64)
    for labels in (
        ["x", "y", "x", "y"],
        np.array(["x", "y", "x", "y"], dtype=object),
        np.array([7, 3, 7, 3]),
        torch.tensor([7, 3, 7, 3]),
        [(1, 2), None, (1, 2), None],
    ):
        assert Rollouts.build(scores, lengths, labels).groups_B.tolist() == [0, 1, 0, 1]


def test_inputs_in_the_types_that_frameworks_use():
    rollouts = Rollouts.build(
        torch.tensor([0.1, 1.0], dtype=torch.float32), torch.tensor([3.0, 4.0]), ["a", "a"], real_B=torch.tensor([1, 1])
    )
    assert rollouts.scores_B.dtype == torch.float64
    assert rollouts.lengths_B.dtype == torch.int64
    assert rollouts.real_B.dtype == torch.bool


def test_an_empty_batch_has_no_groups():
    rollouts = build([])
    assert rollouts.G == 0
    assert (
        rollouts.count().tolist()
        == rollouts.solve_rate().tolist()
        == rollouts.smallest(rollouts.scores_B).tolist()
        == []
    )


def test_inputs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one entry per rollout, got 2, 2 and 1"):
        Rollouts.build(torch.ones(2), torch.ones(2), ["a"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="the score of rollout 1 is"):
        Rollouts.build(torch.tensor([0.0, bad]), torch.ones(2), ["a", "a"])
