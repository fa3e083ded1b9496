"""The rollout ``hf`` outside CPU mode, as far as it can be seen without a GPU: its registration and where its server goes."""

import asyncio
import subprocess
import types
from pathlib import Path

import pytest

pytest.importorskip("verl")
pytest.importorskip("verl.plugin", reason="verl 0.8 has no platforms")

from verl_efficiency.verl.cpu import hf_rollout

NODE = "ab" * 28
ROOT = Path(__file__).parents[2]
ASK = """
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout import base
from verl.plugin.platform import PlatformRegistry
print(RolloutReplicaRegistry.get("hf").__name__, base._ROLLOUT_REGISTRY[("hf", "async")], PlatformRegistry.registered_names())
"""


def test_verls_own_variable_registers_it_and_nothing_else_of_cpu_mode(fresh):
    modules = "verl_efficiency.verl.plugin,verl_efficiency.verl.cpu.hf"
    done = fresh(ASK, VERL_PLATFORM="", VERL_USE_EXTERNAL_MODULES=modules)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "HFReplica verl_efficiency.verl.cpu.hf_rollout.HFServerAdapter" in done.stdout
    assert "'cpu'" not in done.stdout


class Rank:
    """A trainer rank on GPU 3; ``__ray_call__`` as Ray has it on every actor."""

    class __ray_call__:
        @staticmethod
        async def remote(function, *arguments):
            assert function is hf_rollout._node_and_gpu
            assert arguments == ("GPU",)
            return NODE, "3"


def test_the_server_goes_to_the_gpu_of_its_trainer_rank(monkeypatch):
    platform = types.SimpleNamespace(
        ray_resource_name=lambda: "GPU",
        ray_noset_envvars=lambda: ["NOSET"],
        visible_devices_envvar=lambda: "CUDA_VISIBLE_DEVICES",
    )
    monkeypatch.setattr(hf_rollout, "get_device_name", lambda: "cuda")
    monkeypatch.setattr(hf_rollout, "get_platform", lambda: platform)
    replica = types.SimpleNamespace(workers=[Rank()])
    options = asyncio.run(hf_rollout.HFReplica._beside_the_trainer(replica))
    assert options["scheduling_strategy"].node_id == NODE
    assert options["runtime_env"]["env_vars"] == {"NOSET": "1", "CUDA_VISIBLE_DEVICES": "3"}


def test_on_a_cpu_ray_places_it_anywhere():
    assert asyncio.run(hf_rollout.HFReplica._beside_the_trainer(types.SimpleNamespace(workers=[]))) == {}


def test_a_recipe_asks_for_it_by_one_variable(monkeypatch, tmp_path, compose):
    known = {"MODEL": "/nowhere", "TRAIN": "/nowhere", "VAL": "/nowhere", "GPUS": "1", "ROLLOUT": "hf", "DRY_RUN": "1"}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    command = ["bash", str(ROOT / "recipes" / "verl" / "train.sh"), "token_budget"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
    config = compose(*done.stdout.splitlines())
    assert config.actor_rollout_ref.rollout.name == "hf"
    assert config.actor_rollout_ref.actor.strategy == "fsdp2"
    assert config.trainer.n_gpus_per_node == 1
    assert not config.actor_rollout_ref.model.use_remove_padding
