"""The templates of recipes/cluster, run with stand-ins for Slurm, Ray and Python that write their arguments down."""

import concurrent.futures
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from recipes.cluster.launch import overrides
from recipes.cluster.table import RECIPES

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/bash
line="$(basename "$0") $*"
[[ $line == "ray start --block"* ]] && trap 'echo "ray ended" >> "$RECORD"; exit' TERM # before its line says that it runs
printf '%s\\n' "${line//$'\\n'/ }" >> "$RECORD" # one write: the Ray nodes start at the same time
case $line in
  scontrol*) printf 'one\\ntwo\\n' ;;
  *ray.nodes*)
    starts="ray start" && [[ -n ${SRUNS:-} ]] && starts=srun
    until (($(grep -c "^$starts" "$RECORD") >= ${SRUNS:-1})); do /bin/sleep 0.05; done
    echo "${ALIVE:-2}" ;;
  "ray start --block"*) while [[ -z ${SRUNS:-} ]]; do /bin/sleep 0.05; done ;;
  sleep*) exec /bin/sleep 0.02 ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Run bash with the stand-ins first on the path; the lines that they wrote."""
    for name in ("srun", "scontrol", "ray", "python", "sleep"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").touch()

    def lines(*command, code=0, **environment):
        known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record"), "VENV": str(tmp_path)}
        done = subprocess.run(
            ["bash", *command], env=os.environ | known | environment, cwd=ROOT, check=False, timeout=60
        )
        assert done.returncode == code
        written = (tmp_path / "record").read_text().splitlines()
        return [line for line in written if not line.startswith("sleep")]

    return lines


def test_slurm_starts_one_ray_node_per_machine_and_launches_on_the_first(run):
    slurm = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NODELIST": "one,two", "SLURM_GPUS_ON_NODE": "8", "SRUNS": "2"}
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
    assert set(environment) <= {"pip", "excludes", "working_dir", "py_modules"}  # Ray refuses others
    sky = yaml.safe_load((ROOT / "recipes/cluster/sky.yaml").read_text())
    assert sky["envs"]["RECIPE"] in RECIPES
    subprocess.run(["bash", "-n"], input=sky["setup"] + sky["run"], text=True, check=True, timeout=30)


def test_ray_merges_the_environment_of_the_job_with_that_of_the_launch():
    """By Ray's own function; it refuses a field or a variable that both name."""
    yaml = pytest.importorskip("yaml")
    merge = pytest.importorskip("ray.runtime_env.runtime_env")._merge_runtime_env
    of_job = yaml.safe_load((ROOT / "recipes/cluster/runtime_env.yaml").read_text()) | {
        "working_dir": "gcs://checkout.zip"
    }
    told = [override.partition("env_vars.")[2] for override in overrides("s_grpo_svamp", RECIPES["s_grpo_svamp"])]
    variables = dict(line.split("=", 1) for line in told if line)
    assert "VERL_USE_EXTERNAL_MODULES" in variables
    merged = merge(of_job, {"env_vars": variables})
    assert merged == of_job | {"env_vars": variables}
    assert (
        merge(of_job | {"env_vars": dict.fromkeys(variables, "")}, {"env_vars": variables}) is None
    )  # what it refuses


@pytest.fixture
def sky(tmp_path):
    """The commands of the SkyPilot template as a script, and the variables that SkyPilot sets on two nodes."""
    yaml = pytest.importorskip("yaml")
    script = tmp_path / "sky.sh"
    script.write_text(yaml.safe_load((ROOT / "recipes/cluster/sky.yaml").read_text())["run"])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    known = {"SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    return (
        str(script),
        port,
        known | {"RECIPE": "token_budget_qwen3_14b_2nodes", "RAY_PORT": str(port), "WAIT_SECONDS": "20"},
    )


def ray_has_ended(record):
    for _ in range(200):
        if "ray ended" in record.read_text():
            return True
        time.sleep(0.05)
    return False


def test_sky_launches_on_the_first_node_and_ends_its_ray(run, sky, tmp_path):
    script, port, known = sky
    lines = run(script, SKYPILOT_NODE_RANK="0", **known)
    assert f"ray start --block --num-gpus=8 --head --port={port}" in lines
    assert "python -m recipes.cluster.launch token_budget_qwen3_14b_2nodes" in lines
    assert ray_has_ended(tmp_path / "record")


def test_sky_does_not_launch_with_too_few_nodes(run, sky, tmp_path):
    script, _, known = sky
    lines = run(script, code=1, SKYPILOT_NODE_RANK="0", ALIVE="1", **known)
    assert not [line for line in lines if "recipes.cluster.launch" in line]
    assert ray_has_ended(tmp_path / "record")


def test_sky_ends_a_worker_when_the_ray_of_the_first_node_ends(run, sky, tmp_path):
    script, port, known = sky
    record = tmp_path / "record"
    with socket.create_server(("127.0.0.1", port)) as head, concurrent.futures.ThreadPoolExecutor(1) as threads:
        head.settimeout(30)
        worker = threads.submit(run, script, SKYPILOT_NODE_RANK="1", **known)
        while not (record.exists() and "ray start" in record.read_text()):
            head.accept()[0].close()
        for _ in range(3):
            head.accept()[0].close()
        assert not worker.done()
        head.close()
        lines = worker.result(timeout=30)
    assert f"ray start --block --num-gpus=8 --address=127.0.0.1:{port}" in lines
    assert not [line for line in lines if "recipes.cluster.launch" in line]
    assert ray_has_ended(record)


def test_sky_ends_a_worker_without_a_first_node(run, sky):
    script, _, known = sky
    lines = run(script, code=1, SKYPILOT_NODE_RANK="1", **known)
    assert not [line for line in lines if line.startswith("ray start")]
