"""Every method's launch, ``recipes/openrlhf/train.sh NAME``, is one that OpenRLHF's command line and our checks accept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS
from verl_efficiency.openrlhf.start_up import reward_file

from .conftest import ROOT, WARM_START
from .launching import parse

FOLDER = ROOT / "recipes" / "openrlhf"
NAMES = sorted({method.name for method in METHODS})
SHIM = f"""#!/bin/bash
[[ "$*" == *verl_efficiency.methods.launch* ]] && exec {sys.executable} "$@"
printf '%s\\0' "$@" > "$RECORD"
"""


def launch_of(name: str, folder: Path, *more: str, **variables: str) -> list[str]:
    """Run the script as it stands, with a ``python3`` in front of the real one that writes its arguments down."""
    shim = folder / "python3"
    shim.write_text(SHIM)
    shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "RECORD": str(folder / "arguments"),
        "MODEL": str(WARM_START),
        "RUNS": str(folder / "runs"),
        **variables,
    }
    subprocess.run(["bash", str(FOLDER / "train.sh"), name, *more], env=environment, check=True, timeout=30)
    return (folder / "arguments").read_text().split("\0")[:-1]


@pytest.mark.parametrize("gpus", ["0", "8"])
@pytest.mark.parametrize("name", NAMES)
def test_launch_is_accepted(name, gpus, tmp_path, data):
    arguments = launch_of(name, tmp_path, TRAIN=str(data), GPUS=gpus, STEPS="5", BATCH="8")
    launcher = 1 if gpus == "0" else 2  # cpu/launch.py, or -m and the module
    if gpus == "8":
        assert arguments[:2] == ["-m", "verl_efficiency.openrlhf.train"]
        assert "cpu" not in " ".join(arguments)  # no shim in the path of a GPU user
    args = parse(arguments[launcher:])
    assert args.efficiency.method == (name if name in ESTIMATORS else None)
    assert args.algo.advantage.estimator == "group_norm"
    assert args.train.agent_func_path
    assert args.data.max_samples == 40
    assert args.train.batch_size == 8 * args.rollout.n_samples_per_prompt


@pytest.mark.parametrize(
    ("recipe", "reward"),
    [("token_budget", "accuracy"), ("length_levels", "length_levels"), ("repetition", "composition")],
)
def test_reward_of_a_recipe(recipe, reward, tmp_path, data):
    arguments = launch_of(recipe, tmp_path, TRAIN=str(data))
    assert parse(arguments[2:]).train.agent_func_path == reward_file(reward)


def test_what_the_user_adds_comes_last(tmp_path, data):
    arguments = launch_of("token_budget", tmp_path, "--efficiency.penalty", "0.5", TRAIN=str(data), LR="2e-6")
    args = parse(arguments[2:])
    assert args.efficiency.build_settings().penalty == 0.5
    assert args.actor.adam.lr == 2e-6


def test_a_reward_of_ones_own(tmp_path, data):
    own = FOLDER / "composition_reward.py"
    args = parse(launch_of("composition", tmp_path, TRAIN=str(data), REWARD=str(own))[2:])
    assert args.train.agent_func_path == str(own)
    from openrlhf.trainer.ray.vllm_engine import _load_agent_executor

    assert type(_load_agent_executor(str(own))).__name__ == "AgentExecutor"


def test_the_quickstart_is_accepted(tmp_path, data):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wide").symlink_to(WARM_START)
    (tmp_path / "data" / "train.jsonl").symlink_to(data)
    known = os.environ | {"DRY_RUN": "1", "RUNS": str(tmp_path)}
    command = ["bash", str(FOLDER / "quickstart_cpu.sh")]
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=60, check=True)
    args = parse(done.stdout.splitlines())
    assert args.efficiency.method == "token_budget"
    settings = args.efficiency.build_settings()
    assert (settings.difficulty, settings.b_min, settings.b_max) == ("data", 11, 41)
    assert (args.data.max_samples, args.train.seed) == (34 * 16, 42)


def test_an_odd_number_of_gpus_is_refused(tmp_path, data):
    with pytest.raises(subprocess.CalledProcessError):
        launch_of("token_budget", tmp_path, TRAIN=str(data), GPUS="1")


def test_a_wrong_name_stops_with_the_closest_one(tmp_path, data):
    with pytest.raises(subprocess.CalledProcessError) as stopped:
        launch_of("kimmi", tmp_path, TRAIN=str(data))
    assert stopped.value.returncode == 2


def test_a_script_of_its_own_belongs_to_a_method():
    own = {path.stem for path in FOLDER.glob("[a-z]*.sh")} - {"train", "quickstart_cpu"}
    assert own <= set(NAMES)
