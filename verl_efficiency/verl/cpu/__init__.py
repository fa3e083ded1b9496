"""Running stock verl 0.9.1 on a machine without a GPU: for tests, for the quickstart and for trying a method on a laptop.

CPU mode is asked for, never guessed: it is on where the environment says ``VERL_PLATFORM=cpu``, which is verl's own variable
for its platform. A machine without a GPU is no reason to turn it on, because the head of a GPU cluster may be one. Without the
variable nothing here runs.
"""

import functools
import importlib.util
import os

SWITCH = "VERL_PLATFORM"


def wanted() -> bool:
    """Whether CPU mode is on. False for verl < 0.9, which has no platforms and does not read the variable."""
    return os.environ.get(SWITCH, "").strip().lower() == "cpu" and importlib.util.find_spec("verl.plugin") is not None


def tell_ray_workers(config: object) -> None:
    """Put the variable into ``ray_kwargs.ray_init.runtime_env``.

    A local Ray inherits the environment of the launch. The workers of a cluster that is running already do not.
    """
    from omegaconf import OmegaConf

    OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{SWITCH}", "cpu", force_add=True)  # type: ignore[arg-type]


@functools.cache
def activate() -> None:
    """Register the CPU platform and the rollout ``hf`` with verl and apply the patches; a second call does nothing.

    Runs in every Ray process, at the end of ``import verl``. Call it only where :func:`wanted` is true.

    Raises:
        RuntimeError: a place that is to be patched is not what verl 0.9.1 has there.
    """
    from verl_efficiency.verl.cpu import patches, platform

    platform.register()
    patches.apply_all()
