"""The module that verl imports in every process: found, light, and loud when it fails."""

import json
import os
import re

import pytest

pytest.importorskip("verl")

import verl
from packaging.version import Version

VERL_080 = os.environ.get("VERL_EFFICIENCY_VERL080")

ADDED = """
import json, sys, time
import verl
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
import verl_efficiency.verl.plugin
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"added": sorted(set(sys.modules) - before), "wall": wall, "cpu": cpu}))
"""

SEEN = """
import json, sys
import verl
heavy = [name for name in sys.modules if name.startswith("verl_efficiency") or name == "verl.trainer.ppo.core_algos"]
import verl.utils.config
from verl.trainer.ppo import core_algos
ours = {name for name, f in core_algos.ADV_ESTIMATOR_REGISTRY.items() if f.__module__ == "verl_efficiency.verl.estimators"}
checked = hasattr(verl.utils.config.validate_config, "__wrapped__")
print(json.dumps({"after_import_verl": heavy, "ours": sorted(ours), "checked": checked}))
"""


def last_line(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_plugin_is_light(fresh):
    """Measured against a process that has imported verl without it."""
    seen = last_line(fresh(ADDED, VERL_USE_EXTERNAL_PLUGINS="none", VERL_USE_EXTERNAL_MODULES=""))
    print(f"the plugin adds {1000 * seen['cpu']:.0f} ms of CPU time, {1000 * seen['wall']:.0f} ms of wall time")
    assert seen["cpu"] < 0.25, "50 ms on an idle core; this bound is for a busy one"
    of_verl = r"plugin|start_up|nodes|modes|hdfs|cpu_switch|cpu(\.\w+)?|checks(\.\w+)?"
    ours = rf"settings|own_code|adapter(\.checks)?|methods(\.(catalog|row|own))?|verl(\.({of_verl}))?"
    light = rf"verl_efficiency(\.({ours}))?|wrapt(\..*)?"
    assert [name for name in seen["added"] if not re.fullmatch(light, name)] == []


@pytest.mark.skipif(Version(verl.__version__) < Version("0.9"), reason="verl 0.8 knows no entry points")
def test_verl_finds_the_plugin_by_its_entry_point_and_loads_nothing_heavy(fresh):
    seen = last_line(fresh(SEEN, VERL_USE_EXTERNAL_PLUGINS="auto", VERL_USE_EXTERNAL_MODULES=""))
    assert "verl_efficiency.verl.plugin" in seen["after_import_verl"]
    heavy = {
        f"verl_efficiency.{name}" for name in ("verl.estimators", "verl.reward_manager", "methods.rollouts", "grading")
    }
    assert not {"verl.trainer.ppo.core_algos", *heavy} & set(seen["after_import_verl"])
    assert {"token_budget", "efficiency.token_budget", "variance_routing"} <= set(seen["ours"])
    assert seen["checked"]


@pytest.fixture
def broken(tmp_path):
    """Environment in which the plugin cannot load."""
    (tmp_path / "wrapt.py").write_text("raise ImportError('this wrapt is broken')\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}


@pytest.mark.skipif(Version(verl.__version__) < Version("0.9"), reason="verl 0.8 stops by itself")
def test_a_plugin_that_fails_is_seen_and_verl_goes_on(fresh, broken):
    code = "import verl, sys; print('verl_efficiency.verl.plugin' in sys.modules)"
    done = fresh(code, VERL_USE_EXTERNAL_MODULES="", **broken)
    assert done.stdout.splitlines()[-1] == "False"
    (warning,) = [line for line in done.stderr.splitlines() if "verl_efficiency plugin failed" in line]
    assert "ImportError: this wrapt is broken" in warning
    assert "verl-efficiency doctor" in warning


@pytest.mark.skipif(Version(verl.__version__) < Version("0.9"), reason="once is enough")
def test_doctor_names_the_cause_and_fails(fresh, broken):
    command = "import sys; from verl_efficiency.cli import main; sys.argv[1:] = ['doctor', '--no-ray']; main()"
    done = fresh(command, VERL_USE_EXTERNAL_MODULES="", COLUMNS="300", **broken)
    assert done.returncode == 1
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert "in this interpreter: the plugin is not loaded" in failed
    assert "ImportError: this wrapt is broken" in failed


def test_a_plugin_that_is_named_in_the_environment_and_fails_is_not_swallowed(fresh, broken):
    """verl lets errors of VERL_USE_EXTERNAL_MODULES through, if we do."""
    done = fresh("import verl_efficiency.verl.plugin", **broken)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "ImportError: this wrapt is broken"


@pytest.mark.e2e
@pytest.mark.skipif(
    not VERL_080, reason="VERL_EFFICIENCY_VERL080 names no folder with verl 0.8.0 (tests/run.sh makes one)"
)
@pytest.mark.skipif(Version(verl.__version__) < Version("0.9"), reason="this is verl 0.8")
def test_estimators_rewards_recipes_and_start_up_check_on_verl_080(fresh):
    """The same tests again, in a process whose verl is 0.8.0 beside the dependencies of 0.9.1."""
    environment = {"PYTHONPATH": VERL_080, "VERL_USE_EXTERNAL_MODULES": "verl_efficiency.verl.plugin"}
    folder = os.path.dirname(__file__)
    tests = [
        f"{folder}/test_estimators_verl.py",
        f"{folder}/test_reward_manager.py",
        f"{folder}/test_reward_extras.py",
        f"{folder}/test_cluster_recipes.py",
        f"{folder}/test_start_up.py::test_one_line_with_the_place_and_the_fix",
    ]
    code = "import sys, pytest, verl; print(verl.__version__); sys.exit(pytest.main(sys.argv[1:]))"
    done = fresh("-c", code, "-q", "-m", "not e2e", "-p", "no:cacheprovider", "-W", "ignore", *tests, **environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == "0.8.0"
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 60
