"""``laser_d`` across a resume, and ``s_grpo``, on the stock trainer; the advantages computed again from the dumped text."""

import json
import math
import statistics
from collections import defaultdict

import pytest
from transformers import AutoTokenizer

from tests.e2e.training import small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BATCH, GROUP, LIMIT = 8, 4, 120
GRID = [LIMIT * point // 8 for point in range(1, 9)]


def groups_of(rows: list[dict], model) -> list[list[tuple[float, int]]]:
    """(score, generated tokens) of the rollouts of each group; the end-of-text token is not in the dump."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    groups = defaultdict(list)
    for row in rows:
        tokens = len(tokenizer(row["output"], add_special_tokens=False)["input_ids"])
        groups[row["uid"].rsplit("_", 2)[0]].append((row["score"], min(tokens + 1, LIMIT)))
    return list(groups.values())


def grpo(rewards: list[float]) -> list[float]:
    deviation = statistics.stdev(rewards) + 1e-6
    return [(reward - statistics.fmean(rewards)) / deviation for reward in rewards]


def assert_advantages(metrics: dict, advantages: list[float], lengths: list[int]) -> None:
    mean = sum(a * n for a, n in zip(advantages, lengths, strict=True)) / sum(lengths)
    assert metrics["critic/advantages/max"] == pytest.approx(max(advantages), abs=1e-4)
    assert metrics["critic/advantages/min"] == pytest.approx(min(advantages), abs=1e-4)
    assert metrics["critic/advantages/mean"] == pytest.approx(mean, abs=1e-4)


def band_of(group: list[tuple[float, int]]) -> str:
    share = sum(score for score, _ in group) / len(group)
    return "easy" if share >= 2 / 3 else "medium" if share >= 1 / 3 else "hard"


def choose(seen: dict[str, list[int]], targets: dict[str, int]) -> dict[str, int]:
    """The smallest length on the grid within which at least one right answer is to be expected."""
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


def test_laser_d_chooses_its_targets_from_before_and_after_a_resume(tmp_path):
    pytest.importorskip("verl")
    data = small_testbed(tmp_path / "data")
    settings = ("+algorithm.efficiency.update_every=2", "+algorithm.efficiency.grid_points=8")
    sizes = {"BATCH": BATCH, "GROUP": GROUP, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": LIMIT, "LR": 5e-4}
    first = train("laser_d", tmp_path, "trainer.save_freq=2", *settings, STEPS=2, **sizes, **data)
    second = train("laser_d", tmp_path, "trainer.save_freq=-1", *settings, STEPS=3, **sizes, **data)
    for training in (first, second):
        assert training.run.returncode == 0, training.run.log[-3000:]
    assert sorted(second.metrics) == [3]

    metrics = first.metrics | second.metrics
    targets: dict[str, int] = {}
    seen: dict[str, list[int]] = defaultdict(list)
    for step in (1, 2, 3):
        groups = groups_of(second.rollouts[step], data["MODEL"])
        for group in groups:
            seen[band_of(group)] += [length for _, length in group]
        if step in (1, 3):  # after the resume from the lengths of steps 2 and 3
            targets, seen = choose(seen, targets), defaultdict(list)
        advantages, lengths = [], []
        for group in groups:
            target = targets[band_of(group)]
            advantages += grpo([score + 0.5 * (score == 1 and length <= target) for score, length in group])
            lengths += [length for _, length in group]
        assert_advantages(metrics[step], advantages, lengths)
    saved = json.loads((tmp_path / "run" / "global_step_2" / "verl_efficiency.json").read_text())["laser_d"]
    assert saved["steps"] == 2
    assert sum(map(sum, saved["counts"])) == BATCH * GROUP, "the rollouts of step 2, not yet chosen from"


def test_s_grpo_keeps_the_mean_of_the_advantages_and_no_others(tmp_path):
    """Rescaled by all / kept tokens, so each rollout keeps its weight in the loss, and the mean over tokens stays GRPO's."""
    pytest.importorskip("verl")
    data = small_testbed(tmp_path / "data")
    sizes = {"BATCH": BATCH, "GROUP": GROUP, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": 60, "STEPS": 1}
    settings = ("+algorithm.efficiency.first_tokens=5", "+algorithm.efficiency.probability=0.25")
    training = train("s_grpo", tmp_path, "trainer.save_freq=-1", *settings, **sizes, **data)
    assert training.run.returncode == 0, training.run.log[-3000:]
    advantages, lengths = [], []
    for row in groups_of(training.rollouts[1], data["MODEL"]):
        advantages += grpo([score for score, _ in row])
        lengths += [min(length, 60) for _, length in row]
    metrics = training.metrics[1]
    mean = sum(a * n for a, n in zip(advantages, lengths, strict=True)) / sum(lengths)
    assert metrics["critic/advantages/mean"] == pytest.approx(mean, abs=1e-4)
    assert metrics["critic/advantages/max"] > 1.2 * max(advantages), "kept tokens carry the weight of the dropped ones"
    assert metrics["critic/advantages/min"] < 1.2 * min(advantages)
