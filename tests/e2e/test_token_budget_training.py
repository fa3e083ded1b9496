"""``algorithm.adv_estimator=token_budget`` with default settings on the stock trainer: two steps, one more after a resume.

The test recomputes all expected values in plain Python from the text of verl's dumped rollouts.
"""

import json
import math
import re
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.training import read_jsonl, small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BATCH, GROUP, RESPONSE_TOKENS = 8, 4, 190


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(first run of 2 steps, resumed run to step 3, its folder)."""
    pytest.importorskip("verl")
    folder = tmp_path_factory.mktemp("token_budget")
    common = dict(
        BATCH=BATCH,
        GROUP=GROUP,
        PROMPT_TOKENS=64,
        RESPONSE_TOKENS=RESPONSE_TOKENS,
        LR=5e-4,
        **small_testbed(folder / "data"),
    )
    overrides = [
        f"reward.custom_reward_function.path={Path(__file__).parent / 'recording_reward.py'}",
        "reward.custom_reward_function.name=compute_score",
        "+reward.custom_reward_function.reward_kwargs.reward=accuracy",
        f"+reward.custom_reward_function.reward_kwargs.record={folder / 'rewards.jsonl'}",
    ]
    first = train("token_budget", folder, "trainer.save_freq=2", *overrides, STEPS=2, **common)
    second = train("token_budget", folder, "trainer.save_freq=-1", *overrides, STEPS=3, **common)
    return first, second, folder


@pytest.fixture(scope="module")
def count_tokens(runs):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(runs[2] / "data" / "model")

    def count(text: str) -> int:
        """Generated tokens of a dumped response. The dump leaves out the EOS token."""
        tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        return tokens if tokens == RESPONSE_TOKENS else tokens + 1

    return count


def test_both_runs_end_well_and_leave_nothing(runs):
    for training in runs[:2]:
        assert training.run.returncode == 0, training.run.log[-3000:]
    assert sorted(runs[0].metrics) == [1, 2]
    assert sorted(runs[1].metrics) == [3], "the second run resumes at step 3"


def test_one_process_makes_the_same_run(runs, tmp_path):
    """The launch of the benchmarks leaves out Ray and TransferQueue. It must not change what is trained."""
    data = runs[2] / "data"
    variables = {"MODEL": data / "model", "TRAIN": data / "train.parquet", "VAL": data / "test.parquet"}
    sizes = {"BATCH": BATCH, "GROUP": GROUP, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": RESPONSE_TOKENS, "LR": 5e-4}
    alone = train("token_budget", tmp_path, one_process=True, STEPS=2, **sizes, **variables)
    assert alone.run.returncode == 0, alone.run.log[-3000:]

    def drawn(training, step):
        return Counter((row["input"], row["output"], row["score"]) for row in training.rollouts[step])

    for step in (1, 2):
        assert drawn(alone, step) == drawn(runs[0], step)
        theirs = runs[0].metrics[step]
        names = [name for name in theirs if name.startswith(("actor/", "critic/", "response_length/"))]
        names = [name for name in names if "perf" not in name]
        assert {"actor/loss", "actor/grad_norm", "actor/ppo_kl", "critic/advantages/max"} <= set(names)
        ours = {name: alone.metrics[step][name] for name in names}
        assert ours == pytest.approx({name: theirs[name] for name in names}, rel=1e-4, abs=1e-6)


def test_every_sample_is_there(runs):
    assert sorted(runs[1].rollouts) == [1, 2, 3]
    for step, rows in runs[1].rollouts.items():
        assert len(rows) == BATCH * GROUP, f"step {step}"
        groups = Counter(row["uid"].rsplit("_", 2)[0] for row in rows)
        assert len(groups) == BATCH
        assert set(groups.values()) == {GROUP}


def test_each_part_runs_in_its_process(runs):
    records = read_jsonl(runs[2] / "rewards.jsonl")
    assert all(record["process"].startswith("ray::RewardLoopWorker") for record in records)
    estimates = runs[0].lines("[token_budget]")
    assert len(estimates) == 2
    assert all("TaskRunnerV1" in line for line in estimates)


def test_the_reward_is_told_what_the_response_cost(runs, count_tokens):
    records = read_jsonl(runs[2] / "rewards.jsonl")
    assert len(records) == 3 * BATCH * GROUP
    names = set()
    for record in records:
        told = record["extra_info"]
        assert told["response_tokens"] == count_tokens(record["solution"])
        assert told["truncated"] == (told["response_tokens"] == RESPONSE_TOKENS)
        names.add((told["index"], told["prompt_id"]))
    assert len(names) == len({index for index, _ in names}) == len({name for _, name in names}), (
        "a name for each prompt"
    )


def score(row: dict) -> float:
    boxes = re.findall(r"\\boxed\{(\d)\}", row["output"])
    return float(bool(boxes) and boxes[-1] == row["gts"])


def groups_of(rows: list[dict], count_tokens) -> list[list[tuple[float, int]]]:
    """(score, length) of the rollouts of each group."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"].rsplit("_", 2)[0]].append((score(row), count_tokens(row["output"])))
    return list(groups.values())


def expected_advantages(
    rows: list[dict], low: float, high: float, count_tokens, share: float = 1.0
) -> list[tuple[float, int]]:
    """(advantage, length) of each rollout: the definition of token_budget with its defaults, one rollout at a time.

    ``share``: the share of the length term that the guard keeps.
    """
    result = []
    for members in groups_of(rows, count_tokens):
        solved = sum(s for s, _ in members)
        difficulty = 1 - (solved + 0.5) / (len(members) + 1)
        right = sorted(length for s, length in members if s == 1)
        floor = right[math.floor(0.25 * (len(right) - 1))] if right else 0
        budget = max(low + (high - low) * difficulty, floor)
        penalties = [0.3 * min(max(0, length - budget) / budget, 2.0) for _, length in members]
        of_correct = [penalty for penalty, (s, _) in zip(penalties, members, strict=True) if s == 1]
        for penalty, (s, length) in zip(penalties, members, strict=True):
            advantage = s - solved / len(members)
            if s == 1:
                shorter = 0.5 * (statistics.fmean(of_correct) - penalty)
                lowest = 0.0 if solved < len(members) else -math.inf  # beside wrong ones it stays at 0 or above
                advantage += share * (max(advantage + shorter, lowest) - advantage)
            result.append((advantage, length))
    return result


def share_left(steps: list[list[dict]], count_tokens) -> float:
    """The share of the length term that the guard keeps at the last step."""
    accuracy = variance = best = 0.0
    for number, rows in enumerate(steps):
        rates = [statistics.fmean(s for s, _ in members) for members in groups_of(rows, count_tokens)]
        new = 1.0 if number == 0 else 0.1
        accuracy = (1 - new) * accuracy + new * statistics.fmean(rates)
        variance = (1 - new) ** 2 * variance + new**2 * statistics.variance(rates) / len(rates)
        best = max(best, accuracy - 2 * math.sqrt(variance))
        share = 1 - (best - accuracy) / max(0.01, 2 * math.sqrt(variance))
    return min(1.0, max(0.0, share))


def percentiles(rows: list[dict], count_tokens) -> tuple[float, float]:
    lengths = [count_tokens(row["output"]) for row in rows if score(row) == 1]
    return float(np.percentile(lengths, 10)), float(np.percentile(lengths, 90))


def test_step_1_equals_a_recomputation(runs, count_tokens):
    rows, metrics = runs[0].rollouts[1], runs[0].metrics[1]
    assert [row["score"] for row in rows] == [score(row) for row in rows]
    assert metrics["critic/score/mean"] == pytest.approx(statistics.fmean(score(row) for row in rows))
    low, high = percentiles(rows, count_tokens)
    expected = expected_advantages(rows, low, high, count_tokens)
    tokens = sum(length for _, length in expected)
    assert metrics["response_length/mean"] == pytest.approx(tokens / len(expected))
    assert metrics["critic/advantages/max"] == pytest.approx(max(a for a, _ in expected), abs=1e-4)
    assert metrics["critic/advantages/min"] == pytest.approx(min(a for a, _ in expected), abs=1e-4)
    assert metrics["critic/advantages/mean"] == pytest.approx(sum(a * n for a, n in expected) / tokens, abs=1e-4)


def test_the_running_percentiles_are_saved_and_restored(runs, count_tokens):
    first, second, folder = runs
    low, high = percentiles(first.rollouts[1], count_tokens)
    share = share_left([second.rollouts[step] for step in (1, 2, 3)], count_tokens)
    for step in (2, 3):
        if step == 3:  # step 3 continues from the checkpoint of step 2
            saved = json.loads((folder / "run" / "global_step_2" / "verl_efficiency.json").read_text())["token_budget"]
            assert (saved["low"], saved["high"]) == pytest.approx((low, high))
        now = percentiles(second.rollouts[step], count_tokens)
        low, high = 0.9 * low + 0.1 * now[0], 0.9 * high + 0.1 * now[1]
    expected = expected_advantages(second.rollouts[3], low, high, count_tokens, share)
    assert second.metrics[3]["critic/advantages/max"] == pytest.approx(max(a for a, _ in expected), abs=1e-4)
    assert second.metrics[3]["critic/advantages/min"] == pytest.approx(min(a for a, _ in expected), abs=1e-4)
