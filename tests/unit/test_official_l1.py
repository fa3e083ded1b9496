"""The numbers that L1's own code gives on one fixed batch.

cmu-l3/l1 93dd330, ``math_reward_fn`` of ``math_reward.py`` with its own grader, run outside of this project. Sixteen responses
``<think>so</think> \\boxed{…}``, four for each of four targets.
"""

import pytest

from verl_efficiency.rewards import lcpo_exact, lcpo_max

LENGTHS = [1200, 4800, 600, 2500, 3000, 900, 2000, 3100, 1000, 1500, 1000, 4000, 500, 700, 900, 5120]
RIGHT = [1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
TARGETS = [1000, 2500, 4000, 100]


def scores(reward, **settings):
    result = []
    for i in range(16):
        told = {"response_tokens": LENGTHS[i], "target_tokens": TARGETS[i // 4]}
        text = rf"<think>so</think> \boxed{{{4 if RIGHT[i] else 5}}}"
        result.append(reward("sums", text, "4", told, **settings)["score"])
    return result


def test_exact():
    """``RewardConfig(linear_reward=True, alpha=0.0003)``, as its ``run_l1_exact.sh``: the same."""
    official = [0.94, -0.14, -0.12, 0.55, -0.15, -0.48, 0.85, -0.18, 0.1, 0.25, 0.1, 1.0, -0.12, -0.18, -0.24, -1.506]
    assert scores(lcpo_exact) == pytest.approx(official)


@pytest.mark.parametrize(
    ("alpha", "official"),
    [
        (0.0003, [0.47, 0, 0, 0.275, 0, 0, 0.575, 0, 0.95, 0.875, 0.95, 0.5, 0, 0, 0, 0]),
        (0.002, [0.3, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0.5, 0, 0, 0, 0]),
    ],
)
def test_max(alpha, official):
    """``RewardConfig(multiplier_reward=True, alpha=…)``, limits given as negative numbers: ours with half its α, for it maps
    [−1, 1] to [0, 1]. Its ``run_l1_max.sh`` sets none of these switches, and would train on correctness alone."""
    assert scores(lcpo_max, alpha=alpha / 2) == pytest.approx(official)


def test_max_is_a_product_and_not_the_sum_that_the_code_has_too():
    """``RewardConfig(linear_reward=True, alpha=0.0003)`` with a limit adds the two instead, so that a short wrong answer earns
    up to 1: a difference by design, the paper has the product."""
    official = [1.47, 1, 0.56, 1.275, 0.425, 0.74, 1.575, 0.41, 1.95, 1.875, 1.95, 1.5, 0.44, 0.41, 0.38, 0]
    ours = scores(lcpo_max, alpha=0.0003 / 2)
    for i in range(16):
        if RIGHT[i]:
            assert ours[i] == pytest.approx(official[i] - 1)
        else:
            assert ours[i] == 0 <= official[i]
