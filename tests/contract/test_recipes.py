"""verl and our start-up check accept every launch ``recipes/verl/train.sh NAME``: no key is misspelt or dead.

The script is run by bash as it stands, with a ``python3`` in front of the real one that writes its arguments down. All go
through ``verl.trainer.main_ppo`` with ``--cfg job``, one after the other in one process (12 s for its imports, 0.6 s for
each), and what that prints goes through :func:`verl_efficiency.verl.start_up.check`.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS
from verl_efficiency.verl import start_up

FOLDER = Path(__file__).parents[2] / "recipes" / "verl"
NAMES = sorted({method.name for method in METHODS})
every_name = pytest.mark.parametrize("name", NAMES)
SHIM = f"""#!/bin/bash
[[ "$*" == *verl_efficiency.methods.launch* ]] && exec {sys.executable} "$@"
printf '%s\\0' "$@" > "$RECORD"
"""


MAIN_PPO = """
import contextlib, io, json, os, sys
from verl.trainer.main_ppo import main
printed = {}
for name, arguments in json.load(open(os.environ["LAUNCHES"])).items():
    sys.argv = ["main_ppo", *arguments, "--cfg", "job"]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        printed[name] = {"refused": None, "config": out.getvalue()}
    except SystemExit:  # what Hydra does with an override that it refuses
        printed[name] = {"refused": err.getvalue()}
json.dump(printed, open(os.environ["PRINTED"], "w"))
"""


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """Run ``train.sh``, once for equal arguments: the arguments that it gives to ``python3``, or the failed process."""
    folder = tmp_path_factory.mktemp("launch")
    shim = folder / "bin" / "python3"
    shim.parent.mkdir()
    shim.write_text(SHIM)
    shim.chmod(0o755)

    @functools.cache
    def arguments(name, *more, **environment):
        record = folder / "arguments"
        known = {"PATH": f"{shim.parent}:{os.environ['PATH']}", "RECORD": str(record), "RUNS": str(folder / "runs")}
        known |= {"MODEL": "/nowhere/model", "TRAIN": "/nowhere/train.parquet", "VAL": "/nowhere/val.parquet"}
        command = ["bash", str(FOLDER / "train.sh"), name, *more]
        done = subprocess.run(
            command, env={**os.environ, **known, **environment}, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            return done
        return record.read_text().split("\0")[:-1]

    return arguments


@pytest.fixture(scope="session")
def printed(launch, fresh, tmp_path_factory):
    """What ``main_ppo --cfg job`` makes of every method, of one on the CPU in both ways, and of two mistakes."""
    launches = {name: launch(name)[2:] for name in NAMES}
    launches["on the CPU"] = launch("laser", GPUS="0")[2:]
    launches["on the CPU with vLLM"] = launch("laser", GPUS="0", ROLLOUT="vllm")[2:]
    pool = {"ROLLOUT_GPUS": "2"}
    launches["a pool"] = launch("laser", "trainer.v1.trainer_mode=efficiency_separate_async", **pool)[2:]
    launches["a pool on the CPU"] = launch("laser", GPUS="0", **pool)[2:]
    launches["misspelt"] = launch("laser", "algorithm.adv_estimater=grpo")[2:]
    launches["added twice"] = launch("laser", "+algorithm.gamma=1.0")[2:]
    folder = tmp_path_factory.mktemp("main_ppo")
    (folder / "launches.json").write_text(json.dumps(launches))
    done = fresh(MAIN_PPO, cwd=folder, LAUNCHES=str(folder / "launches.json"), PRINTED=str(folder / "printed.json"))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "printed.json").read_text())


@pytest.fixture(scope="session")
def common_paths(launch):
    """The keys that all launches set."""
    return set.intersection(*({path_of(override) for override in launch(name)[2:]} for name in NAMES))


def path_of(override: str) -> str:
    return override.partition("=")[0]


def config_of(printed, name):
    assert printed[name]["refused"] is None, printed[name]["refused"]
    config = OmegaConf.create(printed[name]["config"])
    OmegaConf.set_struct(config, True)
    return config


@every_name
def test_verl_and_the_start_up_check_accept_it(name, launch, printed):
    assert launch(name)[1] == "verl.trainer.main_ppo"
    config = config_of(printed, name)
    assert start_up.check(config) == []
    assert config.algorithm.adv_estimator in ADV_ESTIMATOR_REGISTRY
    assert config.trainer.experiment_name == name
    if name in ESTIMATORS:
        assert config.algorithm.adv_estimator == name
    elif name != "repetition":  # a term of composition
        assert config.reward.custom_reward_function.name == name


@pytest.mark.parametrize("way", ["on the CPU", "on the CPU with vLLM"])
def test_a_recipe_without_a_gpu_is_accepted_too(way, printed):
    config = config_of(printed, way)
    assert start_up.check(config) == []
    assert config.trainer.device == "cpu"


@pytest.mark.parametrize(("name", "backend", "ray_gpus"), [("a pool", "nccl", None), ("a pool on the CPU", "cpu", 3)])
def test_rollouts_may_have_a_pool_of_their_own(printed, name, backend, ray_gpus):
    config = config_of(printed, name)
    rollout = config.actor_rollout_ref.rollout
    assert (rollout.nnodes, rollout.n_gpus_per_node, rollout.checkpoint_engine.backend) == (1, 2, backend)
    assert config.ray_kwargs.ray_init.get("num_gpus") == ray_gpus
    assert list(start_up.check(config)) == []


def test_main_ppo_refuses_what_is_misspelt_or_added_twice(printed):
    assert "Key 'adv_estimater' is not in struct" in printed["misspelt"]["refused"]
    assert "An item is already at 'algorithm.gamma'" in printed["added twice"]["refused"]


@every_name
def test_each_key_of_its_own_would_be_caught_misspelt(name, launch, common_paths, compose):
    """By verl's configuration, or, where the recipe adds the key (``+``), by the start-up check with the right name."""
    common, own = [], []
    for override in launch(name)[2:]:
        path = path_of(override)
        (common if path in common_paths and path not in map(path_of, common) else own).append(override)
    assert own
    for override in own:
        path, _, value = override.partition("=")
        parent, _, key = path.rpartition(".")
        misspelt = f"{parent}.{key[:-2]}{key[-1]}{key[-2]}={value}"
        others = [other for other in own if other != override]
        if override.startswith("+"):
            (message,) = start_up.check(compose(*common, *others, misspelt))
            assert f"did you mean '{key}'" in message
        else:
            with pytest.raises(ConfigAttributeError, match=f"Key '{misspelt.partition('=')[0].rpartition('.')[2]}'"):
                compose(*common, *others, misspelt)


@every_name
def test_doctor_finds_a_wrong_value_of_each_setting(name, launch, data_file, tmp_path, missed):
    there = {"/nowhere/model": str(tmp_path)} | {
        f"/nowhere/{split}.parquet": str(data_file) for split in ("train", "val")
    }
    overrides = launch(name)[2:]
    for nowhere, path in there.items():
        overrides = [override.replace(nowhere, path) for override in overrides]
    assert missed(overrides) == []


@pytest.mark.parametrize(
    "folder", ["lr=1e-6,bs=32", "été (2)", "it's #1", "my runs", "7", "True", "null", "a~b&c;d!^e`f<g>h"]
)
def test_a_path_may_hold_any_character(folder, launch, compose):
    paths = {name: f"/data/{folder}/{name.lower()}" for name in ("MODEL", "TRAIN", "VAL", "RUNS")}
    config = compose(*launch("laser", **paths, NAME=folder)[2:])
    assert config.actor_rollout_ref.model.path == paths["MODEL"]
    assert (config.data.train_files, config.data.val_files) == (paths["TRAIN"], paths["VAL"])
    assert config.trainer.experiment_name == folder
    assert config.trainer.default_local_dir == f"{paths['RUNS']}/{folder}"


def test_several_files_stay_a_list(launch, compose):
    config = compose(*launch("laser", TRAIN="[/data/a.parquet,/data/b.parquet]")[2:])
    assert config.data.train_files == ["/data/a.parquet", "/data/b.parquet"]


@every_name
def test_what_comes_on_the_command_line_has_the_last_word(name, launch):
    assert launch(name, "data.train_batch_size=4")[-1] == "data.train_batch_size=4"


@pytest.mark.parametrize(
    ("name", "words"),
    [("kimmi", ["'kimmi'", "'kimi'"]), ("batched_acuracy", ["'batched_accuracy'"]), ("length_shaped", ["kimi"]),
     ("train", ["'train'"]), ("_common", ["'_common'"])],
)  # fmt: skip
def test_a_wrong_name_stops_with_the_closest_one(name, words, launch):
    done = launch(name)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words)


def test_without_a_name_it_prints_the_names(launch):
    done = launch("")
    assert done.returncode == 2
    assert set(NAMES) <= set(done.stdout.split())


def test_a_script_of_its_own_belongs_to_a_method():
    assert {path.stem for path in FOLDER.glob("[a-z]*.sh")} - {"train"} <= set(NAMES)
