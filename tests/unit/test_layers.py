"""Imports point one way: frameworks → adapter → rewards, data, evaluation → grading, methods."""

import ast
from pathlib import Path

import pytest

import verl_efficiency

ROOT = Path(verl_efficiency.__file__).parent
CORE = {"methods", "grading"}
MIDDLE = {*CORE, "rewards", "data", "evaluation"}
ALLOWED = {
    "methods": CORE,
    "grading": CORE,
    "rewards": MIDDLE,
    "data": MIDDLE,
    "evaluation": MIDDLE,
    "adapter": {*MIDDLE, "adapter"},
    "verl": {*MIDDLE, "adapter", "verl"},
    "openrlhf": {*MIDDLE, "adapter", "openrlhf"},
}
FRAMEWORKS = {"verl", "openrlhf", "ray", "deepspeed"}
ON_REQUEST = {
    ("evaluation", "ray"),
    ("grading", "ray"),
    ("rewards", "ray"),
}  # `--ray`: Ray Data, imported inside a function


def imported(package):
    """(file, module) for every import statement below a package."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from ((file.name, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_is_below_it(package):
    own_files = {file.stem for file in ROOT.glob("*.py")}
    for file, module in imported(package):
        first, *rest = module.split(".")
        if first == "verl_efficiency":
            assert rest[0] in ALLOWED[package] | own_files, f"{package}/{file} imports {module}"
        elif package not in ("verl", "openrlhf"):
            assert first not in FRAMEWORKS or (package, first) in ON_REQUEST, f"{package}/{file} imports {module}"
        else:
            assert first not in {"verl", "openrlhf"} - {package}, f"{package}/{file} imports {module}"
