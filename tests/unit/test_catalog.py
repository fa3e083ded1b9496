"""The table of methods is right about the code, and reading it costs nothing."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS, REWARDS
from verl_efficiency.methods.page import meanings
from verl_efficiency.rewards.base import RewardSettings
from verl_efficiency.settings import MethodSettings

ROOT = Path(__file__).parents[2]
REQUIRED = {
    "TokenBudgetRewardSettings": {"b_min": 1, "b_max": 2},
    "CustomSettings": {"shaper": "verl_efficiency.methods.shaping.leash.leash"},
}  # all others work by name alone
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def test_names_are_unique():
    assert len(ESTIMATORS) + len(REWARDS) == len(METHODS), "unique per hook"
    assert {"token_budget", "variance_routing"} <= set(ESTIMATORS)
    assert {"batched_accuracy", "accuracy"} <= set(REWARDS)


@by_name
def test_the_function_and_its_settings_are_there_and_documented(method):
    assert method.function().__name__ == method.name
    settings = method.build_settings(REQUIRED.get(method.settings, {}), "here")
    assert isinstance(settings, MethodSettings if method.hook != "reward" else RewardSettings)
    described = meanings(type(settings))
    for field in fields(settings):
        assert described.get(field.name), f"{field.name} of {type(settings).__name__} is not documented"


@by_name
def test_state_is_fresh_every_time(method):
    state = method.new_state()
    assert (state is None) == (method.state is None)
    assert state is None or (state is not method.new_state() and state == method.new_state())


@pytest.mark.parametrize("method", ESTIMATORS.values(), ids=lambda method: method.name)
def test_a_method_that_keeps_state_has_a_state(method):
    assert not method.build_settings(REQUIRED.get(method.settings, {}), "here").keeps_state or method.state is not None


@by_name
def test_the_recipe_is_there_and_names_the_method(method):
    recipe = ROOT / method.recipe
    assert recipe.is_file(), f"{method.recipe} is missing"
    if method.name != "accuracy":  # the recipe of token_budget
        assert recipe.stem == method.name


def test_reading_the_table_imports_no_method_and_no_framework():
    code = """
import sys
import verl_efficiency, verl_efficiency.methods.catalog, verl_efficiency.settings
heavy = {"torch", "numpy", "pyarrow", "verl", "ray", "transformers", "verl_efficiency.methods.rollouts"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_methods_know_no_framework():
    modules = ", ".join(sorted({method.module for method in METHODS}))
    code = f"""
import sys
import verl_efficiency.data, verl_efficiency.grading, verl_efficiency.rewards, {modules}
print(sorted({{"verl", "ray", "openrlhf"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
