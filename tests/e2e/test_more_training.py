"""Difficulty by prompt over epochs, and routing on two ranks with padding rows, on the stock trainer."""

import re
import statistics
from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from tests.e2e.training import small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def groups_of(rows: list[dict]) -> dict[str, list[dict]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"].rsplit("_", 2)[0]].append(row)
    return groups


def test_running_difficulty_knows_a_prompt_in_the_next_epoch(tmp_path):
    """8 problems, 8 per step: every step has all of them under new uids, so only their text identifies them."""
    pytest.importorskip("verl")
    data = small_testbed(tmp_path / "data")
    pq.write_table(pq.read_table(data["TRAIN"]).slice(0, 8), tmp_path / "eight.parquet")
    training = train(
        "token_budget",
        tmp_path,
        "+algorithm.efficiency.difficulty=running",
        "+algorithm.efficiency.running_decay=0.5",
        **data | {"TRAIN": tmp_path / "eight.parquet"},
        BATCH=8,
        GROUP=4,
        PROMPT_TOKENS=64,
        RESPONSE_TOKENS=60,
        STEPS=3,
        one_process=True,
    )
    assert training.run.returncode == 0, training.run.log[-3000:]
    rates: dict[str, float] = {}
    for step in (1, 2, 3):
        groups = groups_of(training.rollouts[step])
        assert len(groups) == 8
        for rows in groups.values():
            own = (sum(row["score"] for row in rows) + 0.5) / 5
            prompt = rows[0]["input"]
            rates[prompt] = 0.5 * rates.get(prompt, own) + 0.5 * own
        assert len(rates) == 8
        said = float(re.search(r"difficulty=([\d.]+)", training.lines("[token_budget]")[step - 1])[1])
        assert said == pytest.approx(1 - statistics.fmean(rates.values()), abs=1e-3)


def test_variance_routing_on_two_ranks_with_padding_rows(tmp_path):
    """5 prompts × 3 rollouts in mini-batches of 2 × 3 on two ranks: verl adds padding rows until the mini-batches are full."""
    pytest.importorskip("verl")
    training = train(
        "variance_routing",
        tmp_path,
        "trainer.n_gpus_per_node=2",
        "ray_kwargs.ray_init.num_gpus=2",
        "trainer.save_freq=-1",
        "algorithm.norm_adv_by_std_in_grpo=False",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        **small_testbed(tmp_path / "data"),
        BATCH=5,
        GROUP=3,
        PROMPT_TOKENS=64,
        RESPONSE_TOKENS=70,
        STEPS=1,
    )
    assert training.run.returncode == 0, training.run.log[-3000:]
    rows = [row for row in training.rollouts[1] if not row["uid"].startswith("pad")]
    assert len(rows) == 15
    expected = []
    kinds = {"grpo_groups": 0, "reference_groups": 0, "skipped_groups": 0}
    for members in groups_of(rows).values():
        scores = [row["score"] for row in members]
        if len(set(scores)) > 1:
            kinds["grpo_groups"] += 1
            expected += [score - statistics.fmean(scores) for score in scores]
        elif scores[0] == 1:
            kinds["reference_groups"] += 1
            expected += [1.0, 0.0, 0.0]
        else:
            kinds["skipped_groups"] += 1
            expected += [0.0] * 3
    (line,) = training.lines("[variance_routing]")
    for kind, count in kinds.items():
        assert float(re.search(rf"{kind}=([\d.]+)", line)[1]) == pytest.approx(count / 5, abs=1e-3)
    assert training.metrics[1]["critic/advantages/max"] == pytest.approx(max(expected), abs=1e-6)
    assert training.metrics[1]["critic/advantages/min"] == pytest.approx(min(expected), abs=1e-6)
