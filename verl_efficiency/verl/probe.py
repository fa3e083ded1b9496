"""Reports what the plugin registers, in a fresh interpreter and in a Ray worker."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from typing import Any

from verl_efficiency.verl.nodes import PLUGIN

PATIENCE = 300  # seconds
LATE = f"no answer within {PATIENCE} s; if the machine is busy, try again"


def probe() -> dict[str, Any]:
    """Import verl in this process and report what the plugin has registered."""
    collected = Collect()
    logging.getLogger("verl_efficiency").addHandler(collected)
    import verl.experimental.reward_loop.reward_manager.registry as managers
    import verl.trainer.ppo.core_algos as core_algos
    import verl.utils.config

    from verl_efficiency.verl.cpu_switch import cpu_mode

    functions = core_algos.ADV_ESTIMATOR_REGISTRY
    return {
        "loaded": PLUGIN in sys.modules,
        "warnings": collected.messages,
        "estimators": [name for name, fn in functions.items() if fn.__module__ == "verl_efficiency.verl.estimators"],
        "manager": "efficiency" in managers.REWARD_MANAGER,
        "checked": hasattr(verl.utils.config.validate_config, "__wrapped__"),
        "cpu": cpu_mode(),
        "accelerator": _accelerator(),
    }


def probe_here() -> dict[str, Any]:
    """:func:`probe` in a fresh interpreter; only ``error`` where verl cannot be imported or the answer is late."""
    code = f"import json; from {__name__} import probe; print(json.dumps(probe()))"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return {"error": LATE}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": f"verl cannot be imported: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"}
    return json.loads(lines[-1])


def probe_ray() -> dict[str, Any]:
    """:func:`probe` in a worker of the Ray cluster that a launch would use, or of a local Ray; ``error`` as above."""
    import ray

    from verl_efficiency.verl.cpu_switch import SWITCH, cpu_mode

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cpu_mode():  # as a launch does
        options["runtime_env"] = {"env_vars": {SWITCH: "cpu"}}
    if "RAY_ADDRESS" not in os.environ:
        options |= {"num_cpus": 1, "include_dashboard": False}
    ray.init(**options)
    try:
        return ray.get(ray.remote(num_cpus=0)(probe).remote(), timeout=PATIENCE)
    except ray.exceptions.GetTimeoutError:
        return {"error": LATE}
    except ray.exceptions.RayError as error:
        return {"error": f"verl cannot be imported: {str(error).strip().splitlines()[-1]}"}
    finally:
        ray.shutdown()


class Collect(logging.Handler):
    """Keeps the warnings that are logged in ``messages``."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _accelerator() -> bool:
    """Whether verl finds an accelerator here, by its own test (plugin/platform/platform_manager.py:83)."""
    from verl.utils.device import is_cuda_available, is_npu_available

    if is_cuda_available or is_npu_available or importlib.util.find_spec("verl.plugin") is None:
        return is_cuda_available or is_npu_available
    from verl.plugin.platform import PlatformRegistry

    platforms = [PlatformRegistry.get(name) for name in PlatformRegistry.registered_names() if name != "cpu"]
    return any(platform().is_platform_available(use_smi_check=True) for platform in platforms if platform)
