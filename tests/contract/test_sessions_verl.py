"""Sessions with several outputs at verl's own call site: our estimators do what verl's ``grpo`` does."""

import random

import pytest

pytest.importorskip("verl.trainer.ppo.v1.utils")

import numpy as np
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.v1 import utils

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.verl import run

WIDTH = 7


@pytest.fixture(autouse=True)
def _fresh_state():
    run.reset()


def batch(rng: random.Random):
    """Rows of random sessions in random order, with their keys. All outputs of a session have its score, as in verl."""
    rows = []
    for uid in ("a_b", "c", "d"):  # a uid may hold the separator
        for session in range(rng.randrange(2, 5)):
            score = rng.choice([0.0, 1.0, 0.25])
            for output in range(rng.choice([1, 1, 2, 3, 11])):
                rows.append((f"{uid}_{session}_{output}", uid, score, rng.randrange(1, WIDTH)))
    rng.shuffle(rows)
    return rows


def advantages(rows, name, **efficiency):
    rewards, mask = torch.zeros(len(rows), WIDTH), torch.zeros(len(rows), WIDTH, dtype=torch.int64)
    for number, (_, _, score, length) in enumerate(rows):
        mask[number, :length] = 1
        rewards[number, length - 1] = score
    data = DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask},
        non_tensors={"uid": np.array([uid for _, uid, _, _ in rows], dtype=object)},
    )
    config = OmegaConf.create({"adv_estimator": name, "efficiency": efficiency})
    utils.compute_advantage_for_multi_trajectories(data, [key for key, *_ in rows], adv_estimator=name, config=config)
    return data.batch["advantages"]


@pytest.mark.parametrize("seed", range(8))
def test_without_a_length_term_we_are_verls_grpo(seed):
    rows = batch(random.Random(seed))
    assert len(rows) > len({key.rpartition("_")[0] for key, *_ in rows})
    ours = advantages(rows, "token_budget", advantage="grpo", penalty=0.0)
    torch.testing.assert_close(ours, advantages(rows, "grpo"), atol=1e-5, rtol=0)


def test_the_tokens_of_all_outputs_count():
    """Three right sessions of 4, 6 and 8 tokens in one, two and three outputs: kimi's λ is ½, 0 and −½, its weight 0.4."""
    rows = [("u_2_1", "u", 1.0, 3), ("u_0_0", "u", 1.0, 4), ("u_1_0", "u", 1.0, 1), ("u_2_2", "u", 1.0, 3)]
    rows += [("u_1_1", "u", 1.0, 5), ("u_2_0", "u", 1.0, 2)]
    ours = advantages(rows, "kimi", weight=0.6, advantage="dr_grpo")
    expected = [-0.2, 0.2, 0.0, -0.2, 0.0, -0.2]
    assert ours[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_each_output_of_s_grpo_carries_the_weights_of_its_session():
    """The first tokens are those of the session, so its later outputs have none of their own."""
    rows = [("u_0_0", "u", 1.0, 3), ("u_0_1", "u", 1.0, 4), ("u_1_0", "u", 0.0, 5)]
    ours = advantages(rows, "s_grpo", first_tokens=3, probability=0.0, advantage="dr_grpo")
    kept = [[1, 1, 1, 0, 0, 0, 0], [0] * 7, [1, 1, 1, 0, 0, 0, 0]]
    scale = torch.tensor([0.5 * 7 / 3, 0.5 * 7 / 3, -0.5 * 5 / 3])
    torch.testing.assert_close(ours, torch.tensor(kept) * scale[:, None])


def test_the_keys_are_known_during_the_call_only():
    advantages([("u_0_0", "u", 1.0, 3), ("u_0_1", "u", 1.0, 4)], "kimi")
    assert run.current_step().sessions is None


def test_one_output_per_session_is_one_rollout_per_row():
    rows = [(f"u_{number}_0", "u", float(number % 2), number + 1) for number in range(4)]
    plain = advantages(rows, "kimi")
    run.reset()
    assert torch.equal(advantages([(f"{key[:-2]}_1", *rest) for key, *rest in rows], "kimi"), plain)


@pytest.mark.parametrize("method", ["sample_routing", "t_spmo"])
def test_methods_that_take_one_output_stop_the_run(method, monkeypatch):
    rows = [("u_0_0", "u", 1.0, 3), ("u_0_1", "u", 1.0, 4)]
    monkeypatch.setattr(run, "_step", run.step(responses_B=(torch.arange(3), torch.arange(4)), feedback_B=(None, None)))
    with pytest.raises(RuntimeError, match="an agent loop returned several outputs for one session"):
        advantages(rows, method)
    assert ESTIMATORS[method].build_settings({}, "here").single_output
