"""What works with the Python and the verl of this environment: runs the tests of each part, and keeps their counts.

    python -m benchmarks.compatibility [PART …]      parts: base, and those of verl_efficiency/verl/compatibility.py

``benchmarks/compatibility.sh`` makes the environments and runs this in each. The outcome goes into
``benchmarks/results/compatibility.json``, under "python 3.11, verl 0.9.1" or "python 3.11" (no verl: part ``base``).
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "compatibility.json"
# Without a framework: methods, grading, rewards, data, the command line.
BASE = tuple(
    f"tests/unit/test_{name}.py"
    for name in (
        "advantages",
        "token_budget",
        "batched_accuracy",
        "grading_equality",
        "grading_extract",
        "catalog",
        "cli",
    )
)
TESTS = {
    "base": BASE,
    "estimators": ("test_estimators_verl.py",),
    "rewards": ("test_reward_manager.py", "test_reward_extras.py"),
    "start_up": ("test_start_up.py::test_one_line_with_the_place_and_the_fix",),
    "packed": ("test_dataset_verl.py",),
    "entry_point": ("test_plugin.py::test_verl_finds_the_plugin_by_its_entry_point_and_loads_nothing_heavy",),
    "trainers": ("test_trainer_verl.py", "test_replay_verl.py"),
    "filter": ("test_group_filter.py",),
    "state": ("test_checkpoint_state.py",),
    "cpu": ("test_verl_cpu.py",),
}
LEFT_OUT = ("test_train_prints_verls_configuration", "test_the_mode_is_known_to_a_stock_launch")  # four launches


def count(parts: list[str], timeout: int) -> dict[str, dict[str, int]]:
    """Run the tests of these parts in one process. Per part: how many passed, were skipped, and failed.

    A file that cannot be collected is one failure.
    """
    wanted = {part: [test if "/" in test else f"tests/contract/{test}" for test in TESTS[part]] for part in parts}
    environment = {"VERL_PLATFORM": "cpu"} | os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as work:
        report = Path(work) / "report.xml"
        options = ("-q", "-m", "not e2e", "-p", "no:cacheprovider", "-W", "ignore", "--timeout", "900")
        options += ("--continue-on-collection-errors", f"--junitxml={report}")
        options += tuple(f"--deselect=tests/contract/test_trainer_verl.py::{test}" for test in LEFT_OUT)
        command = [sys.executable, "-m", "pytest", *options, *(test for tests in wanted.values() for test in tests)]
        subprocess.run(command, cwd=ROOT, env=environment, timeout=timeout, check=False)
        cases = [*ElementTree.parse(report).iter("testcase")]
    return {part: outcome([case for case in cases if belongs(case, tests)]) for part, tests in wanted.items()}


def belongs(case: ElementTree.Element, tests: list[str]) -> bool:
    """Whether a test case is one of these files or functions; one of a file that could not be collected has its name alone."""
    place = f"{case.get('classname')}.{case.get('name')}".strip(".").partition("[")[0]
    named = [test.replace("/", ".").replace(".py", "").replace("::", ".") for test in tests]
    return any(place == name or place.startswith(f"{name}.") or name.startswith(f"{place}.") for name in named)


def outcome(cases: list[ElementTree.Element]) -> dict[str, int]:
    """Counts of passed, skipped and failed cases."""
    skipped = sum(case.find("skipped") is not None for case in cases)
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    return {"passed": len(cases) - skipped - failed, "skipped": skipped, "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="default: base without verl, all others with it")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds")
    options = parser.parse_args()
    verl = importlib.metadata.version("verl") if importlib.util.find_spec("verl") else None
    name = f"python {sys.version_info.major}.{sys.version_info.minor}" + (f", verl {verl}" if verl else "")
    found = count(options.parts or [part for part in TESTS if (part == "base") != bool(verl)], options.timeout)
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    known[name] = known.get(name, {}) | found
    RESULTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    print(name, *(f"{part}: {counts}" for part, counts in found.items()), sep="\n")


if __name__ == "__main__":
    main()
