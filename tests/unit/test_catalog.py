"""The table of methods is right about the code, and reading it costs nothing."""

import doctest
import importlib
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS, REWARDS
from verl_efficiency.methods.page import meanings
from verl_efficiency.rewards.base import RewardSettings
from verl_efficiency.settings import MethodSettings

REQUIRED = {  # all others work by name alone
    ("token_budget", "reward"): {"b_min": 1, "b_max": 2},
    ("custom", "estimator"): {"shaper": "verl_efficiency.methods.shaping.leash.leash"},
}
by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{method.hook}")


def settings_of(method):
    return method.build_settings(REQUIRED.get((method.name, method.hook), {}), "here")


def test_names_are_unique():
    assert len(ESTIMATORS) + len(REWARDS) == len(METHODS), "unique per type of row"
    assert {"token_budget", "variance_routing"} <= set(ESTIMATORS)
    assert {"batched_accuracy", "accuracy"} <= set(REWARDS)


@by_name
def test_what_follows_from_the_name_is_there(method):
    assert method.function().__name__ == method.name
    settings = settings_of(method)
    assert isinstance(settings, RewardSettings if method.hook == "reward" else MethodSettings)
    described = meanings(type(settings))
    for field in fields(settings):
        assert described.get(field.name), f"{field.name} of {type(settings).__name__} is not documented"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_method_that_needs_our_trainer_says_so(name):
    """The adapters refuse it on verl's own trainer, by its settings. The table of methods tells it beforehand."""
    method = ESTIMATORS[name]
    settings = settings_of(method)
    assert method.trainer == (settings.needs_trainer or "thinking" in settings.parts)


@by_name
def test_the_examples_of_its_file_run(method):
    failed, tried = doctest.testmod(importlib.import_module(method.module))
    assert tried > 0, f"{method.module} has no example"
    assert failed == 0


@pytest.mark.parametrize("method", ESTIMATORS.values(), ids=lambda method: method.name)
def test_state_is_fresh_every_time_and_there_if_it_is_saved(method):
    state = method.new_state()
    assert state is None or (state is not method.new_state() and state == method.new_state())
    assert state is not None or not settings_of(method).keeps_state


@pytest.mark.parametrize("method", ESTIMATORS.values(), ids=lambda method: method.name)
def test_every_file_of_a_family_is_a_method_or_shared(method):
    if method.family:
        folder = Path(importlib.import_module(method.module).__file__).parent
        names = {row.name for row in ESTIMATORS.values() if row.family == method.family}
        assert {file.stem for file in folder.glob("*.py")} - names <= {"__init__", "base", "replay"}


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
