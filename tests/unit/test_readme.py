"""The README says what the package is."""

import json
import re
import statistics
from pathlib import Path

from verl_efficiency.methods.catalog import markdown_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guides" / "self_distillation.md").read_text()


def section(name: str) -> str:
    return README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_the_table_of_methods_is_the_catalog():
    assert section("methods") == markdown_table(), "run: python -m verl_efficiency.methods.catalog"


def test_every_file_it_names_exists():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_figure_of_the_quickstart_stands_in_its_results_file():
    results = json.loads((ROOT / "benchmarks" / "results" / "quickstart.json").read_text())["results"]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) % \| ([\d.]+) \| ([\d.]+) × \|$", section("quickstart"), re.MULTILINE)
    assert [row[0] for row in rows] == [result["label"] for result in results]
    for (_, accuracy, tokens, ratio), result in zip(rows, results, strict=True):
        summary = result["summary"]
        assert f"{100 * summary['accuracy']:.1f}" == accuracy
        assert f"{summary['tokens_per_problem']:.1f}" == tokens
        assert f"{summary['over_shortest']:.2f}" == ratio


def test_what_the_guide_says_of_self_distillation_stands_in_its_results_file():
    curves = json.loads((ROOT / "benchmarks" / "results" / "routing.json").read_text())["curves"]
    of_arm = {row["arm"]: (row["accuracy"][0], row["accuracy"][-1]) for row in curves}
    said = re.search(
        r"accuracy goes from (\d+) % to (\d+) % in 100 steps, that of GRPO from (\d+) % to (\d+) %",
        " ".join(GUIDE.split()),
    )
    assert said
    expected = [*of_arm["self_distillation"], *of_arm["grpo"]]
    assert said.groups() == tuple(f"{100 * share:.0f}" for share in expected)


def test_what_the_guide_says_of_a_gpu_stands_in_its_results_files():
    results = ROOT / "benchmarks" / "results"
    text = " ".join((ROOT / "docs" / "guides" / "verl.md").read_text().split())
    passes = json.loads((results / "gpu_distillation_cuda.json").read_text())["passes"]
    said = re.search(
        r"takes ([\d,]+) MiB beside .* against ([\d,]+) MiB .* It takes ([\d.]+) s against ([\d.]+) s", text
    )
    assert said
    mib = tuple(f"{passes[form]['bytes'] / 2**20:,.0f}" for form in ("ours", "shared"))
    assert said.groups() == (*mib, *(f"{passes[form]['seconds']:.2f}" for form in ("ours", "shared")))

    found = json.loads((results / "gpu_estimators_cuda.json").read_text())
    said = re.search(r"calls (\d+) estimators of ours\. .* takes (\d+) ms\. .* `s_grpo`, takes (\d+) ms", text)
    assert said
    assert max(found["differences"].values()) == 0
    times = (found["milliseconds"][name] for name in ("grpo_vectorized", "s_grpo"))
    assert said.groups() == (f"{len(found['differences']) - 1}", *(f"{time:.0f}" for time in times))

    found = json.loads((results / "gpu_training_cuda.json").read_text())
    assert all(row["ok"] for row in found["rows"])
    assert set(found["planned"]) - set(found["runs"]) == {"sample_routing"}
    assert "`sample_routing` trained and resumed, but our check of it" in text
    assert {name for name, run in found["runs"].items() if "loss_error" in run} == {"grpo", "self_distillation"}
    arms = json.loads((results / "gpu_smollm2_cuda_cut.json").read_text())["runs"]
    said = re.search(r"trains at (\d+) to (\d+) s a step.* after (\d+) to (\d+) of 30 steps", text)
    assert said
    steps = [len(arm) for arm in arms.values()]
    seconds = [statistics.median(step["seconds_step"] for step in arm[1:]) for arm in arms.values()]
    assert said.groups() == tuple(f"{end:.0f}" for end in (min(seconds), max(seconds), min(steps), max(steps)))
