"""s_grpo: which tokens are drawn, that they stay the same, and the denominators."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from tests.unit.reference import Row, group_advantage
from tests.unit.shaping.batches import run, settings_of
from tests.unit.shaping.formulas import token_weights
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.selection.s_grpo import BLOCK_ROWS
from verl_efficiency.verl.estimators import make_estimator

ROWS = [Row(float(number % 3 == 0), 20 + number, f"g{number // 4}") for number in range(16)]


def mask_of(rows, columns=40):
    return torch.tensor([[int(column < row.length) for column in range(columns)] for row in rows])


def weights_of(rows, mask, **given):
    return run("s_grpo", rows, settings_of("s_grpo", **given)).token_weights(mask)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"probability": 0.0},
        {"probability": 1.0},
        {"first_tokens": 0, "seed": 7},
        {"first_tokens": 3, "most_tokens": 5, "probability": 0.5},
        {"first_tokens": 9, "most_tokens": 2},
        {"rescale": False},
    ],
)
@pytest.mark.parametrize("holes", [False, True], ids=["one turn", "tool tokens between"])
def test_equal_to_the_rule_token_by_token(given, holes):
    rng, mask = random.Random(1), mask_of(ROWS)
    if holes:
        mask *= torch.tensor([[int(rng.random() < 0.7) for _ in range(40)] for _ in ROWS])
    expected = torch.tensor(rule_of(ROWS, mask, **given))
    torch.testing.assert_close(weights_of(ROWS, mask, **given), expected)


def test_the_advantages_are_those_of_the_group():
    for advantage in ("grpo", "dr_grpo", "rloo"):
        values = run("s_grpo", ROWS, settings_of("s_grpo", advantage=advantage)).advantages_B.tolist()
        assert values == pytest.approx(group_advantage(advantage, [row.score for row in ROWS], ROWS), abs=1e-9)


def test_drawn_once_and_the_same_however_the_batch_is_cut():
    mask, outcome = mask_of(ROWS), run("s_grpo", ROWS, settings_of("s_grpo"))
    weights = outcome.token_weights(mask)
    torch.testing.assert_close(outcome.token_weights(mask), weights, rtol=0, atol=0)
    torch.testing.assert_close(weights_of(ROWS, mask), weights, rtol=0, atol=0)
    # the rows of the mask in parts, as they are worked on
    wide = [dataclasses.replace(row, group=f"{copy}{row.group}") for copy in range(9) for row in ROWS]
    outcome, mask = run("s_grpo", wide, settings_of("s_grpo")), mask_of(wide)
    weights = outcome.token_weights(mask)
    assert len(wide) > 2 * BLOCK_ROWS
    torch.testing.assert_close(weights, torch.tensor(rule_of(wide, mask)))


def rule_of(rows, mask, **given):
    rule = {"probability": 0.4, "first_tokens": 8, "most_tokens": None, "rescale": True, "seed": 0, **given}
    return token_weights(rows, mask.tolist(), **rule)


def test_the_names_of_groups_draw_nothing():
    """verl names groups at random: with the same seed, another run on the same batch keeps the same tokens."""
    mask = mask_of(ROWS)
    renamed = [dataclasses.replace(row, group=f"uuid {row.group[::-1]}") for row in ROWS]
    torch.testing.assert_close(weights_of(renamed, mask), weights_of(ROWS, mask), rtol=0, atol=0)
    other_seed = weights_of(renamed, mask, seed=1)
    assert (other_seed != weights_of(ROWS, mask)).any()


def test_the_limit_drops_tokens_anywhere_in_the_response():
    """512 tokens, about 205 drawn, 40 kept: as many in each quarter, not the first ones; 3 first tokens always."""
    rows = [Row(1.0, 512, f"g{number // 8}") for number in range(256)]
    kept = weights_of(rows, mask_of(rows, 512), first_tokens=3, most_tokens=40) > 0
    assert kept.sum(1).tolist() == [40] * 256
    assert kept[:, :3].all()
    quarters = kept[:, 3:].double().split([127, 127, 127, 128], dim=1)
    for quarter in quarters:  # 256 · 37 / 4 = 2,368 of 9,472: σ = 42
        assert quarter.sum().item() == pytest.approx(256 * 37 / 4, abs=200)


def test_the_draw_is_random_in_rollouts_tokens_seeds_and_names():
    rows = [Row(1.0, 512, f"g{number // 8}") for number in range(256)]
    kept = weights_of(rows, mask_of(rows, 512), first_tokens=0) > 0
    assert kept.double().mean().item() == pytest.approx(0.4, abs=0.005)  # 131,072 draws: σ = 0.0014
    assert (kept.double().mean(0) - 0.4).abs().max() < 0.14  # each column: 256 draws, σ = 0.031
    assert (kept.double().mean(1) - 0.4).abs().max() < 0.10  # each rollout: 512 draws, σ = 0.022
    agree = (kept[1:] == kept[:-1]).double().mean().item()  # independent: 0.4² + 0.6²
    assert agree == pytest.approx(0.52, abs=0.005)
    neighbours = (kept[:, 1:] == kept[:, :-1]).double().mean().item()
    assert neighbours == pytest.approx(0.52, abs=0.005)
    other_seed = weights_of(rows, mask_of(rows, 512), first_tokens=0, seed=1) > 0
    assert (other_seed == kept).double().mean().item() == pytest.approx(0.52, abs=0.005)
    longer = [*rows[:-1], dataclasses.replace(rows[-1], length=511)]  # another batch
    other_step = weights_of(longer, mask_of(rows, 512), first_tokens=0) > 0
    assert (other_step == kept).double().mean().item() == pytest.approx(0.52, abs=0.005)


def test_denominators():
    """With verl's mean over each response, the weights give the mean over the kept tokens, which is the paper's objective; with
    its mean over all tokens, the mean weight of a rollout's tokens stays 1."""
    mask = mask_of(ROWS)
    weights = weights_of(ROWS, mask, probability=0.3, first_tokens=2)
    term = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0))
    by_response = (term * weights * mask).sum(1) / mask.sum(1)
    kept = weights > 0
    torch.testing.assert_close(by_response, (term * kept).sum(1) / kept.sum(1))
    torch.testing.assert_close(weights.sum(1) / mask.sum(1), torch.ones(len(ROWS)))
    plain = weights_of(ROWS, mask, probability=0.3, first_tokens=2, rescale=False)
    torch.testing.assert_close(plain, kept.float())


def test_as_verl_calls_it():
    mask, outcome = mask_of(ROWS), run("s_grpo", ROWS, settings_of("s_grpo"))
    rewards = torch.zeros(mask.shape)
    rewards[torch.arange(16), mask.sum(1) - 1] = torch.tensor([row.score for row in ROWS])
    uids = np.array([f"another name of {row.group}" for row in ROWS], dtype=object)
    advantages, returns = make_estimator(ESTIMATORS["s_grpo"])(rewards, mask, uids, config=None)
    expected = outcome.advantages_B.float()[:, None] * outcome.token_weights(mask)
    torch.testing.assert_close(advantages, expected)
    assert returns is advantages
    assert advantages.dtype == torch.float32
