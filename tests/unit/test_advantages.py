"""Group advantages: numbers by hand, and against plain loops."""

import math
import random

import pytest
import torch

from tests.unit import reference
from tests.unit.reference import Row
from tests.unit.test_rollouts import build
from verl_efficiency.methods.advantages import decoupled_advantage, group_advantage

NAMES = ("grpo", "dr_grpo", "rloo", "batch")

# a: scores 1, 0, 0, 0 (mean ¼); b: alone; c: all right; the last row only pads.
ROWS = [
    *(Row(score, 5, "a") for score in (1.0, 0.0, 0.0, 0.0)),
    Row(0.75, 5, "b"),
    *(Row(1.0, 5, "c") for _ in range(3)),
    Row(0.0, 0, "pad", real=False),
]


def test_by_hand():
    rollouts = build(ROWS)

    def advantage(name):
        return group_advantage(name, rollouts.scores_B, rollouts).tolist()

    # centred: ¾, −¼, −¼, −¼
    assert advantage("dr_grpo") == [0.75, -0.25, -0.25, -0.25, 0.75, 0, 0, 0, 0]
    # times 4/3: 1 against the mean 0 of the others; 0 against ⅓
    assert advantage("rloo") == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3, 0.75, 0, 0, 0, 0])
    # squares 9/16 + 3/16 = 12/16, over 3 = ¼, root ½: 1.5 and −0.5
    assert advantage("grpo") == pytest.approx([1.5, -0.5, -0.5, -0.5, 0.75, 0, 0, 0, 0], abs=1e-5)
    assert advantage("grpo")[0] == pytest.approx(0.75 / (0.5 + 1e-6), abs=1e-12)


def test_batch_by_hand():
    """Group a: ½ and −½ with 3 and 1 tokens; group b: 0 and 0 with 2 tokens each."""
    rows = [Row(1.0, 3, "a"), Row(0.0, 1, "a"), Row(1.0, 2, "b"), Row(1.0, 2, "b"), Row(9.0, 7, "b", real=False)]
    rollouts = build(rows)
    # 8 tokens: mean (3 · ½ − ½) / 8 = ⅛; squares 3 · (⅜)² + (⅝)² + 4 · (⅛)² = 56/64, over 7 = ⅛
    root = math.sqrt(0.125 + 1e-8)
    expected = [0.375 / root, -0.625 / root, -0.125 / root, -0.125 / root, 0.0]
    assert group_advantage("batch", rollouts.scores_B, rollouts).tolist() == pytest.approx(expected, abs=1e-12)


def test_decoupled_by_hand():
    # two right of lengths 10 and 30, one wrong; length rewards 0 and −0.6, centred +0.3 and −0.3
    rows = [Row(1.0, 10, "a"), Row(1.0, 30, "a"), Row(0.0, 5, "a")]
    rollouts, length_rewards = build(rows), torch.tensor([0.0, -0.6, -9.0], dtype=torch.float64)

    def advantage(weight):
        return decoupled_advantage(
            "dr_grpo", rollouts.scores_B, length_rewards, rollouts, length_weight=weight
        ).tolist()

    # accuracy: mean ⅔, so ⅓, ⅓, −⅔; the wrong one's length reward is read by nobody
    assert advantage(0.5) == pytest.approx([1 / 3 + 0.15, 1 / 3 - 0.15, -2 / 3])
    assert advantage(5.0) == pytest.approx([1 / 3 + 1.5, 0.0, -2 / 3])  # ⅓ − 1.5 is held at 0


def test_decoupled_may_go_below_zero_where_everybody_is_right():
    rollouts = build([Row(1.0, 10, "a"), Row(1.0, 30, "a")])
    length_rewards = torch.tensor([0.0, -0.6], dtype=torch.float64)
    advantages = decoupled_advantage("dr_grpo", rollouts.scores_B, length_rewards, rollouts, length_weight=1.0)
    assert advantages.tolist() == pytest.approx([0.3, -0.3])


def test_decoupled_leaves_a_sole_correct_rollout_alone():
    rows = [Row(1.0, 99, "a"), Row(0.0, 5, "a"), Row(1.0, 99, "b")]
    rollouts, length_rewards = build(rows), torch.tensor([-0.6, 0.0, -0.6], dtype=torch.float64)
    advantages = decoupled_advantage("rloo", rollouts.scores_B, length_rewards, rollouts, length_weight=1.0)
    assert advantages.tolist() == group_advantage("rloo", rollouts.scores_B, rollouts).tolist() == [1.0, -1.0, 1.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(25))
def test_equal_plain_loops(name, seed):
    rng = random.Random(seed)
    rows = [
        Row(rng.choice([0.0, 1.0, 1.0, rng.random()]), rng.randrange(9), f"g{rng.randrange(15)}", rng.random() > 0.15)
        for _ in range(rng.randrange(1, 80))
    ]
    rewards, length_rewards = ([rng.uniform(-2, 2) for _ in rows] for _ in range(2))
    rollouts = build(rows)
    ours = group_advantage(name, torch.tensor(rewards, dtype=torch.float64), rollouts)
    assert ours.dtype == torch.float64
    assert ours.tolist() == pytest.approx(reference.group_advantage(name, rewards, rows), abs=1e-9)
    ours = decoupled_advantage(
        name, rollouts.scores_B, torch.tensor(length_rewards, dtype=torch.float64), rollouts, length_weight=0.7
    )
    expected = reference.decoupled_advantage(name, length_rewards, rows, weight=0.7)
    assert ours.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_equal_rewards_that_are_no_round_numbers_give_nothing(name):
    score = float(torch.tensor(0.1, dtype=torch.float32))  # what a float32 reward becomes; its mean is not exact
    rollouts = build([Row(score, 5, "a") for _ in range(7)])
    assert group_advantage(name, rollouts.scores_B, rollouts).abs().max() < 1e-9


def test_an_unknown_name_is_refused():
    rollouts = build(ROWS)
    with pytest.raises(ValueError, match=r"unknown group advantage 'gae'.*grpo, dr_grpo, rloo, batch"):
        group_advantage("gae", rollouts.scores_B, rollouts)


def test_padding_with_a_reward_gets_nothing_and_gives_nothing():
    rows = [Row(1.0, 5, "a"), Row(0.0, 5, "a")]
    padded = [*rows, Row(50.0, 5, "a", real=False), Row(50.0, 5, "pad", real=False)]
    for name in NAMES:
        alone = group_advantage(name, build(rows).scores_B, build(rows)).tolist()
        assert group_advantage(name, build(padded).scores_B, build(padded)).tolist() == [*alone, 0.0, 0.0]
    assert all(math.isfinite(value) for value in alone)
