"""The README says what the package is."""

import json
import re
from pathlib import Path

from verl_efficiency.methods.catalog import METHODS, markdown_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def section(name: str) -> str:
    return README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_the_table_of_methods_is_the_catalog():
    assert section("methods") == markdown_table()


def test_every_file_it_names_exists():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for method in METHODS:
        assert (ROOT / method.recipe).exists(), method.recipe


def test_every_figure_of_the_quickstart_stands_in_its_results_file():
    results = json.loads((ROOT / "benchmarks" / "results" / "quickstart.json").read_text())
    by_label = {result["label"]: result for result in results["results"]}
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) % \| ([\d.]+) \| ([\d.]+) × \|$", section("quickstart"), re.MULTILINE)
    assert [row[0] for row in rows] == list(by_label)
    for label, accuracy, tokens, ratio in rows:
        result = by_label[label]
        assert f"{100 * result['accuracy']:.1f}" == accuracy
        assert f"{result['tokens_per_problem']:.1f}" == tokens
        assert f"{result['tokens_over_shortest']:.2f}" == ratio
