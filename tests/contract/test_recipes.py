"""Every recipe is a launch that verl and our start-up check accept: no key is misspelt or dead.

A recipe is run by bash as it stands, with a ``python3`` in front of the real one that writes its arguments down. The
overrides go through Hydra's grammar into verl's own configuration, as in ``python -m verl.trainer.main_ppo --cfg job``
(20 s each), and then through :func:`verl_efficiency.verl.start_up.check`. One recipe goes through Hydra itself, to see
that nothing differs.
"""

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("verl")

from omegaconf.errors import ConfigAttributeError
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl import doctor, start_up

RECIPES = sorted(
    path for path in (Path(__file__).parents[2] / "recipes" / "verl").glob("*.sh") if not path.name.startswith("_")
)
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
SHIM = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD"
"""


@pytest.fixture
def launch(tmp_path):
    """Run a recipe; the arguments that it gives to ``python3``."""
    shim = tmp_path / "bin" / "python3"
    shim.parent.mkdir()
    shim.write_text(SHIM)
    shim.chmod(0o755)

    def arguments(recipe, *more, **environment):
        record = tmp_path / "arguments"
        known = {"PATH": f"{shim.parent}:{os.environ['PATH']}", "RECORD": str(record), "RUNS": str(tmp_path / "runs")}
        known |= {"MODEL": "/nowhere/model", "TRAIN": "/nowhere/train.parquet", "VAL": "/nowhere/val.parquet"}
        subprocess.run(["bash", str(recipe), *more], env={**os.environ, **known, **environment}, check=True, timeout=60)
        return record.read_text().split("\0")[:-1]

    return arguments


@every_recipe
def test_verl_and_the_start_up_check_accept_it(recipe, launch, compose):
    module, *overrides = launch(recipe)[1:]
    assert module == "verl.trainer.main_ppo"
    config = compose(*overrides)
    assert start_up.check(config) == []
    assert config.algorithm.adv_estimator in ADV_ESTIMATOR_REGISTRY
    assert config.trainer.experiment_name == recipe.stem
    if recipe.stem in ESTIMATORS:
        assert config.algorithm.adv_estimator == recipe.stem


@every_recipe
def test_what_comes_on_the_command_line_has_the_last_word(recipe, launch):
    assert launch(recipe, "data.train_batch_size=4")[-1] == "data.train_batch_size=4"


def test_every_method_has_a_recipe_and_every_recipe_a_method():
    assert {f"recipes/verl/{recipe.name}" for recipe in RECIPES} == {method.recipe for method in METHODS}


@pytest.mark.parametrize("shaper", ["kimi", "laser_d", "hapo"])
def test_length_shaped_takes_any_shaper(shaper, launch, compose):
    recipe = next(recipe for recipe in RECIPES if recipe.stem == "length_shaped")
    config = compose(*launch(recipe, SHAPER=shaper)[2:])
    assert config.algorithm.efficiency.shaper == shaper
    assert start_up.check(config) == []


def test_through_hydra_itself(launch, compose):
    recipe = next(recipe for recipe in RECIPES if recipe.stem == "laser")
    overrides = launch(recipe)[2:]
    config, quick = doctor.compose([], overrides), compose(*overrides)
    assert config.algorithm == quick.algorithm
    assert config.data == quick.data
    assert config.reward == quick.reward
    with pytest.raises(SettingsError, match="refuses"):
        doctor.compose([], [*overrides, "algorithm.adv_estimater=grpo"])


def test_a_misspelt_key_would_be_seen(launch, compose):
    recipe = next(recipe for recipe in RECIPES if recipe.stem == "laser")
    with pytest.raises(ConfigAttributeError, match="adv_estimater"):
        compose(*launch(recipe, "algorithm.adv_estimater=grpo")[2:])
    config = compose(*launch(recipe, "+algorithm.efficiency.target_lenght=5")[2:])
    assert "did you mean 'target_length'" in start_up.check(config)[0]
