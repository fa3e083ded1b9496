"""verl's asynchronous trainer modes with our trainer: sessions of several outputs, and a self-teacher."""

import math
import statistics
from collections import defaultdict

import pytest

from tests.e2e.test_token_budget_training import score
from tests.e2e.training import ROOT, read_jsonl, small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIMIT = 70
SIZES = {"GROUP": 4, "PROMPT_TOKENS": 80, "RESPONSE_TOKENS": LIMIT, "LR": 5e-4}


def session_of(row: dict) -> str:
    return row["uid"].rpartition("_")[0]


def kimi(scores: list[float], lengths: list[int]) -> list[float]:
    """Advantages of a group, by ``dr_grpo``, at weight 0.6 on the authors' scale of 1 and −0.5: 0.4 at scores of 1 and 0."""
    low, high = min(lengths), max(lengths)
    rewards = []
    for value, length in zip(scores, lengths, strict=True):
        bonus = 0.5 - (length - low) / (high - low) if high > low else 0.0
        rewards.append(value + 0.4 * (bonus if value == 1 else min(0.0, bonus)))
    return [reward - statistics.fmean(rewards) for reward in rewards]


def test_separate_async_with_sessions_of_one_or_two_outputs(tmp_path):
    """Every token of every output has the advantage of its session, whose length is the sum of its outputs.

    Two updates between two weight syncs. The rollouts come from a pool of their own and lag behind the trainer's weights.
    """
    pytest.importorskip("verl")
    (tmp_path / "loops.yaml").write_text("- name: two_outputs\n  _target_: tests.e2e.two_output_loop.TwoOutputs\n")
    agent, record = "actor_rollout_ref.rollout.agent", tmp_path / "advantages.jsonl"
    training = train(
        "kimi",
        tmp_path,
        *("trainer.v1.trainer_mode=efficiency_separate_async", "trainer.save_freq=-1"),
        *("trainer.v1.separate_async.parameter_sync_step=2", "actor_rollout_ref.actor.ppo_mini_batch_size=4"),
        *(f"{agent}.agent_loop_config_path={tmp_path / 'loops.yaml'}", f"{agent}.default_agent_loop=two_outputs"),
        *("+algorithm.efficiency.weight=0.6", "+algorithm.efficiency.advantage=dr_grpo"),
        "+algorithm.efficiency.unsolved=as_published",
        "actor_rollout_ref.actor.policy_loss.loss_mode=recording",
        **small_testbed(tmp_path / "data"),
        **(SIZES | {"BATCH": 8, "STEPS": 2, "ROLLOUT_GPUS": 1}),
        PYTHONPATH=ROOT,
        RECORD_ADVANTAGES=record,
        VERL_USE_EXTERNAL_MODULES="verl_efficiency.verl.plugin,tests.e2e.recording_loss",
    )
    assert training.run.returncode == 0, training.run.log[-3000:]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "data" / "model")
    given = [row for row in read_jsonl(record) if row]
    several = 0
    for step, rows in training.rollouts.items():
        groups: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if not row["uid"].startswith("pad"):
                groups[session_of(row).rpartition("_")[0]][session_of(row)].append(row)
        assert [len(sessions) for sessions in groups.values()] == [SIZES["GROUP"]] * 8
        for sessions in groups.values():
            outputs = [by_output(rows) for rows in sessions.values()]
            tokens = [[tokens_of(row, tokenizer) for row in rows] for rows in outputs]
            several += sum(len(rows) == 2 for rows in outputs)
            expected = kimi([score(rows[-1]) for rows in outputs], [sum(row) for row in tokens])
            for advantage, lengths in zip(expected, tokens, strict=True):
                for length in lengths:
                    place = next(
                        k for k, row in enumerate(given) if row == pytest.approx([advantage] * length, abs=1e-5)
                    )
                    del given[place]
        metrics = training.metrics[step]
        assert math.isfinite(metrics["actor/grad_norm"])
        right = [score(rows[-1]) for sessions in groups.values() for rows in map(by_output, sessions.values())]
        # Of two batches, whose means verl weights by their rows, not by their sessions.
        assert metrics["kimi/solve_rate"] == pytest.approx(statistics.fmean(right), abs=0.05)
        assert metrics["reward/acc"] == pytest.approx(metrics["kimi/solve_rate"])
    assert given == []
    assert several > 8
    assert training.metrics[2]["training/off_policy/trajectory_staleness_worst/max"] >= 1


def by_output(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: row["uid"])


def tokens_of(row: dict, tokenizer) -> int:
    """Generated tokens. The dump leaves out the EOS token."""
    return min(len(tokenizer(row["output"], add_special_tokens=False)["input_ids"]) + 1, LIMIT)


def test_colocate_async_with_a_self_teacher(tmp_path):
    pytest.importorskip("verl")
    training = train(
        "sample_routing",
        tmp_path,
        *("trainer.v1.trainer_mode=efficiency_colocate_async", "trainer.save_freq=-1"),
        "+algorithm.efficiency.distillation_topk=20",
        **small_testbed(tmp_path / "data"),
        **(SIZES | {"BATCH": 8, "STEPS": 2}),
    )
    assert training.run.returncode == 0, training.run.log[-3000:]
    for step in (1, 2):
        metrics = training.metrics[step]
        assert metrics["sample_routing/distil_share"] > 0
        assert metrics["sample_routing/teacher_updated"] == 1
        assert metrics["actor/distil_kl"] > 0
        assert 0 <= metrics["reward/acc"] <= 1
    assert training.metrics[2]["training/off_policy/trajectory_staleness_worst/max"] >= 1
