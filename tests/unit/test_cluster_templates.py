"""The templates of recipes/cluster, run with stand-ins for Slurm, Ray and Python that write their arguments down."""

import os
import subprocess
from pathlib import Path

import pytest

from recipes.cluster.table import RECIPES

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/bash
line="$(basename "$0") $*"
printf '%s\\n' "${line//$'\\n'/ }" >> "$RECORD" # one write: the Ray nodes start at the same time
case $line in
  scontrol*) printf 'one\\ntwo\\n' ;;
  *ray.nodes*) until (($(grep -c ^srun "$RECORD") == 2)); do sleep 0.05; done; echo 2 ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Run bash with the stand-ins first on the path; the lines that they wrote."""
    for name in ("srun", "scontrol", "ray", "python"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").touch()

    def lines(*command, **environment):
        known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record"), "VENV": str(tmp_path)}
        done = subprocess.run(
            ["bash", *command], env=os.environ | known | environment, cwd=ROOT, check=False, timeout=60
        )
        assert done.returncode == 0
        return (tmp_path / "record").read_text().splitlines()

    return lines


def test_slurm_starts_one_ray_node_per_machine_and_launches_on_the_first(run):
    slurm = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NODELIST": "one,two", "SLURM_GPUS_ON_NODE": "8"}
    lines = run("recipes/cluster/slurm.sh", "bcr_justrl_1.5b", "data.seed=1", **slurm)
    first, second = sorted(line for line in lines if line.startswith("srun"))
    assert "--nodelist=one" in first
    assert "--head --port=6379" in first
    assert "--nodelist=two" in second
    assert "--address=one:6379" in second
    assert lines[-1].rstrip() == "python -m recipes.cluster.launch bcr_justrl_1.5b --data data data.seed=1"


def test_a_ray_job_carries_the_plugin(run):
    (line,) = run(
        "recipes/cluster/ray_job.sh", "srpo_qwen3_8b", "data.seed=1", ADDRESS="http://head:8265", DATA="", RUNS=""
    )
    assert line.startswith("ray job submit --address http://head:8265")
    assert "--runtime-env recipes/cluster/runtime_env.yaml" in line
    launch = "env RUNS=/mnt/data/runs python -m recipes.cluster.launch srpo_qwen3_8b --data /mnt/data data.seed=1"
    assert line.rstrip().endswith(f" -- {launch}")


def test_the_yaml_files_say_what_their_readers_know():
    yaml = pytest.importorskip("yaml")
    environment = yaml.safe_load((ROOT / "recipes/cluster/runtime_env.yaml").read_text())
    assert set(environment) <= {"pip", "env_vars", "excludes", "working_dir", "py_modules"}  # Ray refuses others
    assert environment["env_vars"]["VERL_USE_EXTERNAL_MODULES"] == "verl_efficiency.verl.plugin"
    sky = yaml.safe_load((ROOT / "recipes/cluster/sky.yaml").read_text())
    assert sky["envs"]["RECIPE"] in RECIPES
    subprocess.run(["bash", "-n"], input=sky["setup"] + sky["run"], text=True, check=True, timeout=30)
