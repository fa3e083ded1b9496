"""Every recipe for real machines composes with verl, passes the start-up check, and fits its card by the formulas."""

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("verl")

from omegaconf import OmegaConf

from recipes.cluster.estimate import estimate
from recipes.cluster.launch import dry_run, variables
from recipes.cluster.table import MACHINES, MODELS, RECIPES, Machine, Model, Recipe
from verl_efficiency.verl import start_up

every_recipe = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture
def launched(monkeypatch, data_file, tmp_path):
    """The overrides of a recipe, with data that is there."""
    monkeypatch.setenv("TRAIN", str(data_file))
    monkeypatch.setenv("VAL", str(data_file))
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    return lambda name, *more: dry_run(name, RECIPES[name], tmp_path, list(more))


@every_recipe
def test_verl_and_the_start_up_check_accept_it_and_doctor_finds_each_wrong_value(name, launched, compose, missed):
    recipe, machine = RECIPES[name], MACHINES[RECIPES[name].machine]
    overrides = launched(name)
    config = compose(*overrides)
    OmegaConf.set_struct(config, True)
    assert start_up.check(config) == []
    assert config.trainer.n_gpus_per_node == machine.gpus
    assert config.trainer.nnodes == machine.nodes
    assert config.data.max_response_length == recipe.response
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= recipe.prompt + recipe.response
    assert config.actor_rollout_ref.model.lora_rank == recipe.lora
    assert machine.gpus % config.actor_rollout_ref.rollout.tensor_model_parallel_size == 0
    assert (recipe.batch * recipe.group) % (machine.gpus * machine.nodes) == 0
    if recipe.method == "batched_accuracy":
        assert config.data.efficiency.problems == 3
    assert missed(overrides) == []


@every_recipe
def test_it_fits_its_card(name):
    assert estimate(RECIPES[name]).fits


def test_what_is_set_in_the_environment_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL", "/my/model")
    values = variables("t_spmo_svamp", RECIPES["t_spmo_svamp"], tmp_path)
    assert "MODEL" not in values
    assert values["TRAIN"] == str(tmp_path / "svamp.parquet")


def test_a_dry_run_starts_nothing(launched, tmp_path):
    launched("s_grpo_svamp")
    assert list(Path(tmp_path).iterdir()) == []


# By hand. 1e9 parameters, 4 layers of 1,000 units and 2,000 feed-forward units, one key-value head of 100, 1,000 tokens in the
# vocabulary; one card of 100 GiB, 1 TB/s, 100 TFLOP/s.
MODEL = Model("none", 1e9, 4, 1000, 2000, kv_heads=1, head_size=100, vocabulary=1000)
CARD = Machine(1, 1, 100, 1.0, 100, "none")
SMALL = Recipe(
    "", "token_budget", "small", "card", "svamp", "svamp_test", prompt=100, response=900, batch=2, group=5,
    lr=1e-6, steps=1, length=400, vllm_share=0.5,
)  # fmt: skip


@pytest.fixture
def reckoned(monkeypatch):
    monkeypatch.setitem(MODELS, "small", MODEL)
    monkeypatch.setitem(MACHINES, "card", CARD)
    monkeypatch.setitem(MACHINES, "two", dataclasses.replace(CARD, gpus=2))
    return lambda **changed: estimate(dataclasses.replace(SMALL, **changed))


def test_the_estimate_by_hand(reckoned):
    found = reckoned()
    assert found.states == pytest.approx(16e9 / 2**30)
    # 1,000 tokens: 2 · 1000 · (4·1000 + 8·1000 + 3·2000) bytes of activations, 8 bytes for each of 1000 · 1000 logits
    assert found.update == pytest.approx((36e6 + 8e6) / 2**30)
    assert found.rollout == 50
    assert found.peak == pytest.approx(2 + 16e9 / 2**30 + 50)
    # ten rollouts at once; a decode step reads 2e9 bytes of weights and 10 · (100 + 200) · 1,600 bytes of cache at 0.6e12 / s
    step, alone = (2e9 + 4.8e6) / 0.6e12, 2e9 / 0.6e12
    assert found.rollout_seconds == pytest.approx(400 * step + 500 * alone)
    # 10 · (50 + 400) tokens, 10 · 1e9 operations each, at 40 % of 100e12 / s
    assert found.update_seconds == pytest.approx(4500 * 1e10 / 0.4e14)


def test_what_changes_the_estimate(reckoned):
    plain = reckoned()
    assert reckoned(machine="two").states == pytest.approx(plain.states / 2)
    # base weights in fp32, and an adapter of 2 · 8 · 4 · (8·1000 + 3·2000) weights
    assert reckoned(lora=8).states == pytest.approx((4e9 + 16 * 896e3) / 2**30)
    assert reckoned(method="sample_routing").states == pytest.approx(20e9 / 2**30)
    assert reckoned(method="sample_routing").update == pytest.approx(2 * plain.update)
    assert reckoned(method="sample_routing").update_seconds == pytest.approx(1.2 * plain.update_seconds)
    assert not reckoned(vllm_share=0.9).fits
