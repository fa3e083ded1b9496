"""``laser_d`` and ``s_grpo`` on the stock trainer.

The test recomputes the advantage of every token from verl's dumped text, and compares it with that in verl's policy loss.
"""

import itertools
import math
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.e2e.recomputed import groups_of
from tests.e2e.test_token_budget_training import score
from tests.e2e.training import ROOT, read_jsonl, small_testbed, train
from tests.unit.reference import Row
from tests.unit.shaping.formulas import batch_number, token_weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BATCH, GROUP, LIMIT = 8, 4, 120
GRID = [LIMIT * point // 8 for point in range(1, 9)]


def train_steps(
    recipe: str, folder: Path, *settings: str, steps: int
) -> tuple[dict[int, list[list[Row]]], dict[int, list]]:
    """Train in one process, where the trainer is verl's and Ray is not.

    Returns:
        of each step the groups of rollouts, from their text, and what the policy loss was given: a list of advantages, one for
        each token, of every rollout.
    """
    data = small_testbed(folder / "data")
    record = folder / "advantages.jsonl"
    options = {
        **data,
        **{"BATCH": BATCH, "GROUP": GROUP, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": LIMIT, "LR": 5e-4},
        **{"PYTHONPATH": ROOT, "RECORD_ADVANTAGES": record},
        "VERL_USE_EXTERNAL_MODULES": "verl_efficiency.verl.plugin,tests.e2e.recording_loss",
    }
    settings = ("actor_rollout_ref.actor.policy_loss.loss_mode=recording", *settings)
    training = train(recipe, folder, *settings, one_process=True, STEPS=steps, **options)
    assert training.run.returncode == 0, training.run.log[-3000:]
    assert sorted(training.metrics) == list(range(1, steps + 1))

    tokenizer = AutoTokenizer.from_pretrained(data["MODEL"])
    assert all(row["score"] == score(row) for rows in training.rollouts.values() for row in rows)
    found = {step: groups_of(rows, tokenizer, LIMIT) for step, rows in training.rollouts.items()}
    assert all([len(group) for group in groups] == [GROUP] * BATCH for groups in found.values())
    recorded, size = read_jsonl(record), BATCH * GROUP
    assert len(recorded) == len(found) * size
    return found, {step: recorded[(step - 1) * size : step * size] for step in found}


def grpo(rewards: list[float]) -> list[float]:
    deviation = statistics.stdev(rewards) + 1e-6
    return [(reward - statistics.fmean(rewards)) / deviation for reward in rewards]


def take(expected: list[list[float]], recorded: list[list[float]]) -> bool:
    """Whether ``recorded`` holds every rollout of ``expected``. If so, removes them from ``recorded``."""
    left = list(recorded)
    for row in expected:
        found = next((k for k, other in enumerate(left) if other == pytest.approx(row, rel=1e-5, abs=1e-5)), None)
        if found is None:
            return False
        del left[found]
    recorded[:] = left
    return True


def band_of(group: list[Row]) -> str:
    share = sum(row.score for row in group) / len(group)
    return "easy" if share >= 2 / 3 else "medium" if share >= 1 / 3 else "hard"


def choose(seen: dict[str, list[int]], targets: dict[str, int]) -> dict[str, int]:
    """The smallest length on the grid within which at least one correct answer is expected."""
    right = {"easy": 2 * GROUP // 3, "medium": GROUP // 3, "hard": 1}
    chosen = {}
    for band, fewest in right.items():
        lengths = seen[band]
        if not lengths:
            chosen[band] = targets.get(band, LIMIT)
            continue
        enough = [point for point in GRID if math.floor(sum(n <= point for n in lengths) / len(lengths) * fewest) >= 1]
        chosen[band] = enough[0] if enough else LIMIT
    return chosen


def test_laser_d_chooses_its_targets_every_second_step(tmp_path):
    """That its state is saved: tests/contract/test_checkpoint_state.py, and of token_budget on the trainer."""
    pytest.importorskip("verl")
    settings = ("+algorithm.efficiency.update_every=2", "+algorithm.efficiency.grid_points=8")
    steps, recorded = train_steps("laser_d", tmp_path, *settings, steps=3)

    targets: dict[str, int] = {}
    seen: dict[str, list[int]] = defaultdict(list)
    for step, groups in sorted(steps.items()):
        for group in groups:
            seen[band_of(group)] += [row.length for row in group]
        if step in (1, 3):  # at step 3 from the lengths of steps 2 and 3
            targets, seen = choose(seen, targets), defaultdict(list)
        given = []
        for group in groups:
            target = targets[band_of(group)]
            rewards = [row.score + 0.5 / 1.5 * (row.score == 1 and row.length <= target) for row in group]
            given += rewards
            expected = [[a] * row.length for a, row in zip(grpo(rewards), group, strict=True)]
            assert take(expected, recorded[step]), f"step {step}: {group}"
        assert recorded[step] == []
        assert {1.0, 1 + 0.5 / 1.5} <= set(given), "right answers on both sides of a target, or it would not matter"


def test_s_grpo_gives_every_token_what_the_rule_gives_it(tmp_path):
    """The draw depends on the order of the batch, which verl does not dump. So one of the 8 indices
    of the group and one of the 24 orders of its rollouts must give the advantages of all tokens of all four."""
    pytest.importorskip("verl")
    settings = ("+algorithm.efficiency.first_tokens=5", "+algorithm.efficiency.probability=0.25")
    steps, recorded = train_steps("s_grpo", tmp_path, *settings, steps=2)
    rule = {"probability": 0.25, "first_tokens": 5, "most_tokens": None, "rescale": True, "seed": 0}

    def expected_of(group: list[Row], number: int, start: int) -> list[list[float]]:
        numbers = {group[0].group: number}
        masks = [[1] * row.length for row in group]
        weights = token_weights(group, masks, **rule, start=start, group_numbers=numbers)
        advantages = grpo([row.score for row in group])
        return [[a * w for w in row] for a, row in zip(advantages, weights, strict=True)]

    for step, groups in sorted(steps.items()):
        if step == 1:
            assert any(len({row.score for row in group}) > 1 for group in groups), "a group to learn from"
        start = batch_number([row for group in groups for row in group], rule["seed"])
        for group in groups:
            tries = itertools.product(itertools.permutations(group), range(BATCH))
            found = any(take(expected_of(list(order), number, start), recorded[step]) for order, number in tries)
            assert found, f"step {step}: {group}"
        assert recorded[step] == []
