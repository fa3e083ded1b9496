"""Every recipe for real machines composes with verl, passes the start-up check, and fits its card by the formulas."""

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

from omegaconf import OmegaConf

from recipes.cluster import launch
from recipes.cluster.estimate import estimate
from recipes.cluster.launch import dry_run, variables
from recipes.cluster.table import MACHINES, MODELS, RECIPES, Machine, Model, Recipe
from verl_efficiency.verl import doctor, start_up

every_recipe = pytest.mark.parametrize("name", RECIPES)
HAS_V1 = importlib.util.find_spec("verl.trainer.ppo.v1") is not None
NEED_V1 = ("srpo_qwen3_8b", "t_spmo_svamp", "t_spmo_multiplication")  # as recipes/cluster/README.md says


@pytest.fixture
def launched(monkeypatch, data_file, tmp_path):
    """The overrides of a recipe, with data that is there."""
    monkeypatch.setenv("TRAIN", str(data_file))
    monkeypatch.setenv("VAL", str(data_file))
    monkeypatch.setenv("RUNS", str(tmp_path))
    for variable in ("VERL_PLATFORM", "VERL_USE_EXTERNAL_MODULES", "ROLLOUT", "GPUS"):
        monkeypatch.delenv(variable, raising=False)
    return lambda name, *more: dry_run(name, RECIPES[name], tmp_path, list(more))


@pytest.mark.skipif(not HAS_V1, reason="the next test is for this verl")
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


@pytest.mark.skipif(HAS_V1, reason="the test above is for this verl")
@every_recipe
def test_on_verl_080_doctor_accepts_it_or_names_the_trainer_that_is_missing(name, launched):
    overrides = launched(name, "actor_rollout_ref.model.path=a/model")
    failures = [finding.text for finding in doctor.examine_configuration(overrides) if finding.level == "fail"]
    if name not in NEED_V1:
        assert failures == []
        return
    (line,) = failures
    wanted = "trainer.v1.trainer_mode: verl 0.8.0 has no V1 trainer; pip install 'verl>=0.9.1,<0.10'"
    assert line == f"verl refuses the configuration: {wanted}"


def test_the_readme_says_which_recipes_need_the_v1_trainer():
    readme = (Path(__file__).parents[2] / "recipes" / "cluster" / "README.md").read_text()
    (sentence,) = [line for line in readme.split("\n\n") if "verl 0.8.0" in line]
    assert [name for name in RECIPES if f"`{name}`" in sentence] == list(NEED_V1)


WITHOUT_GPU = [("hf", "1"), ("hf", None), (None, "0"), (None, None)]


@pytest.mark.parametrize(("rollout", "gpus"), WITHOUT_GPU)
@pytest.mark.parametrize("name", ["token_budget_qwen3_1.7b_lora", "token_budget_qwen3_14b_2nodes", "t_spmo_svamp"])
@pytest.mark.skipif(not HAS_V1, reason="the rollout hf needs verl 0.9.1")
def test_driver_and_workers_import_the_same_modules(monkeypatch, launched, compose, tmp_path, name, rollout, gpus):
    """The environment in which bash would start verl, beside the one that verl gives the workers."""
    shim = tmp_path / "bin" / "python3"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/bash\n[[ "$*" == *verl_efficiency.methods.launch* ]] && exec {sys.executable} "$@"\n'
        'printf %s "$VERL_USE_EXTERNAL_MODULES" > "$RECORD"\nprintf "%s\\n" "${@:3}" > "$RECORD.arguments"\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    for variable, value in (("ROLLOUT", rollout), ("GPUS", gpus)):
        if value:
            monkeypatch.setenv(variable, value)
    hf = ["verl_efficiency.verl.cpu.hf"] if rollout == "hf" else []
    for own in ("", "my.module, verl_efficiency.verl.plugin", "my.module,other"):
        monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", own)
        assert launch.run(name, RECIPES[name], tmp_path, []).returncode == 0
        config = compose(*(tmp_path / "record.arguments").read_text().splitlines())
        named = own.replace(" ", "").split(",") if own else []
        wanted = [*named, *(["verl_efficiency.verl.plugin"] if "plugin" not in own else []), *hf]
        assert (tmp_path / "record").read_text().split(",") == wanted
        assert config.ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES.split(",") == wanted
    if gpus == "0":
        monkeypatch.setenv("VERL_PLATFORM", "cpu")
    assert start_up.check(config) == []
    actor = config.actor_rollout_ref
    assert actor.rollout.name == (rollout or ("hf" if gpus == "0" else "vllm"))
    own_copy = actor.rollout.name == "hf"
    assert actor.model.lora.merge == own_copy
    assert actor.rollout.tensor_model_parallel_size == (1 if own_copy else RECIPES[name].tensor_parallel)
    assert actor.rollout.layered_summon == (RECIPES[name].lora > 0 and not own_copy)


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
