"""Imports point one way: frameworks → adapter → rewards, data, evaluation → grading, methods."""

import ast
from pathlib import Path

import pytest

import verl_efficiency

ROOT = Path(verl_efficiency.__file__).parent
LAYERS = ({"methods", "grading"}, {"rewards", "data", "evaluation"}, {"adapter"}, {"verl", "openrlhf"})
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
FRAMEWORKS = {"verl", "openrlhf", "ray", "deepspeed"}
ON_REQUEST = {  # `--ray`: Ray Data, imported inside a function
    ("evaluation", "ray"),
    ("grading", "ray"),
    ("rewards", "ray"),
}


def imported(package):
    """(file, module) for every import statement below a package."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{package}/{file.name} has a relative import, which this test cannot place"
                yield from ((file.name, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("package", sorted(LAYER))
def test_a_package_imports_only_what_is_below_it(package):
    seen = 0
    for file, module in imported(package):
        first, *rest = module.split(".")
        if first == "verl_efficiency" and rest[0] in LAYER:
            seen += 1
            below = rest[0] == package or LAYER[rest[0]] <= LAYER[package] < len(LAYERS) - 1
            assert below or LAYER[rest[0]] < LAYER[package], f"{package}/{file} imports {module}"
        elif first in FRAMEWORKS:
            own = {"verl": FRAMEWORKS - {"openrlhf"}, "openrlhf": FRAMEWORKS - {"verl"}}.get(package, set())
            assert first in own or (package, first) in ON_REQUEST, f"{package}/{file} imports {module}"
    assert seen
