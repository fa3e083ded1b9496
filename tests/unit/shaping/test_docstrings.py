"""The examples in the docstrings run, and every page says what the issue of a method page is: formula, paper, choices."""

import doctest
import importlib
import re

import pytest

from tests.unit.shaping.batches import NAMES
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.page import page

MODULES = sorted({method.module for method in ESTIMATORS.values()})


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_the_paper_of_the_catalog_and_shows_a_formula(name):
    method = ESTIMATORS[name]
    text = (importlib.import_module(method.module).__doc__ or "") + (method.function().__doc__ or "")
    number = re.search(r"\d{4}\.\d{5}", method.paper)
    assert number or name in ("pass_rate", "grlc"), "these two are known from code only"
    assert (number[0] if number else "github.com/") in text
    assert ">>>" in text
    assert "::" in text or "``" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_formula_is_not_wrapped_in_a_terminal_of_80_columns(name):
    """``verl-efficiency methods NAME`` sets it between two blanks."""
    for formula in re.findall(r"```text\n(.*?)```", page(ESTIMATORS[name]), re.DOTALL):
        assert max(map(len, formula.splitlines())) <= 78
