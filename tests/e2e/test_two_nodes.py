"""Two Ray nodes: a launch is refused while the second node lacks the plugin, and trains across both once it has it.

Both raylets run on this machine, each with its own folder and Python environment. The second environment links to all packages
of the first except the plugin.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.run_tree import run_tree
from tests.e2e.training import ROOT, small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# Ray asks for a token when a cluster is started by hand. This cluster runs on this machine only, for three minutes.
OPEN = {"RAY_AUTH_MODE": "disabled"}
SIZES = {"BATCH": 4, "GROUP": 2, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": 40, "LR": 5e-4, "STEPS": 1}
# Variables that a running cluster must not have.
CLUSTER = [f"ray_kwargs.ray_init.{name}=null" for name in ("num_cpus", "num_gpus", "object_store_memory")]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


class Environment:
    """A second virtual environment, without the plugin until :meth:`install` is called."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
        self.python = folder / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / version / "site-packages"
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if "verl_efficiency" not in entry.name:
                (self.packages / entry.name).symlink_to(entry)

    def install(self) -> None:
        """What ``pip install -e`` does: the metadata with the entry point, and a path to the source."""
        (metadata,) = Path(sysconfig.get_path("purelib")).glob("verl_efficiency-*.dist-info")
        (self.packages / metadata.name).symlink_to(metadata)
        (self.packages / "verl_efficiency.pth").write_text(f"{ROOT}\n")


@contextlib.contextmanager
def raylet(name: str, folder: Path, python: Path, *options: str, source: bool) -> Iterator[None]:
    """Run ``ray start --block`` inside the context. On exit, end all of its processes.

    Args:
        source: whether the node inherits PYTHONPATH, by which these tests may find the plugin's source.
    """
    environment = OPEN | {"RAY_ADDRESS": "", "RAY_prestart_worker_first_driver": "0", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "") if source else ""
    stop = threading.Event()
    for attempt in "123":  # a raylet gives up when its agents take longer than 15 s, as on a very busy machine
        here = folder.with_name(folder.name + attempt)
        here.mkdir()
        command = [
            *(str(python), "-m", "ray.scripts.scripts", "start", "--block", *options),
            *(f"--node-name={name}", f"--temp-dir={here}", "--num-cpus=8", "--num-gpus=1", "--disable-usage-stats"),
            *("--object-store-memory=134217728", f"--dashboard-agent-listen-port={free_port()}"),
        ]
        known = {"timeout": 180, "log": here / "log.txt", "env": environment, "stop": stop, "grace": 1.0, "poll": 3.0}
        runner = threading.Thread(target=run_tree, args=(command,), kwargs=known)
        runner.start()
        if started(here / "log.txt", runner):
            break
    try:
        assert runner.is_alive(), (here / "log.txt").read_text()[-3000:]
        yield
    finally:
        stop.set()
        runner.join(60)


def started(log: Path, runner: threading.Thread) -> bool:
    """Wait until the raylet is up (True) or has ended (False)."""
    while runner.is_alive():
        if log.exists() and "Ray runtime started" in log.read_text(errors="replace"):
            return True
        time.sleep(0.2)
    return False


def test_a_node_without_the_plugin_is_named_and_with_it_both_nodes_train(request, monkeypatch):
    pytest.importorskip("verl")
    ray = pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="n"))  # short: Ray's socket paths below it may have at most 107 characters
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    testbed = small_testbed(folder / "data")
    second = Environment(folder / "env")
    port = free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"

    def launch(name: str, timeout: int) -> object:
        # From its own folder: Ray adds the driver's folder to the path of every worker.
        return train(
            "token_budget",
            folder / name,
            *CLUSTER,
            *("trainer.nnodes=2", "trainer.save_freq=-1", "actor_rollout_ref.actor.use_dynamic_bsz=False"),
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4",
            "+algorithm.efficiency.b_min=10",
            "+algorithm.efficiency.b_max=40",
            # Processes of a running cluster do not inherit the environment of the launch.
            f"+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH={folder / name / 'run' / 'metrics.jsonl'}",
            timeout=timeout,
            **(testbed | SIZES),
            RAY_ADDRESS=address,
            **OPEN,
            VERL_USE_EXTERNAL_MODULES="",
        )

    head = ("--head", f"--port={port}", "--include-dashboard=false")
    monkeypatch.chdir(folder)
    with (
        raylet("first", folder / "a", Path(sys.executable), *head, source=True),
        raylet("second", folder / "b", second.python, f"--address={address}", source=False),
    ):
        refused = launch("refused", 60)
        assert refused.run.returncode == 1, refused.run.log[-3000:]
        (line,) = refused.lines("not installed")
        assert "node second" in line
        assert refused.metrics == {}

        second.install()  # Ray starts new workers for a new job, so the node keeps running
        trained = launch("trained", 145)
    assert trained.run.returncode == 0, trained.run.log[-5000:]
    assert sorted(trained.metrics) == [1]
    assert len(trained.rollouts[1]) == 8
    assert trained.lines("[token_budget]")
