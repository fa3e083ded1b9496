"""Everything that exists only to run stock verl 0.9.1 without a GPU: tests, the quickstart, a first try on a laptop.

:func:`verl_efficiency.verl.cpu_switch.cpu_mode` decides whether this package is imported at all.
"""

import functools


def tell_ray_workers(config: object) -> None:
    """Add ``VERL_PLATFORM=cpu`` to ``ray_kwargs.ray_init.runtime_env``.

    A local Ray inherits the environment of the launch. The workers of a Ray cluster that is already running do not.
    """
    from omegaconf import OmegaConf

    from verl_efficiency.verl.cpu_switch import SWITCH

    OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{SWITCH}", "cpu", force_add=True)  # type: ignore[arg-type]


@functools.cache
def activate() -> None:
    """Register the CPU platform and the rollout ``hf`` with verl, and apply the patches. A second call does nothing.

    Every Ray process calls it at the end of ``import verl``.

    Raises:
        RuntimeError: a place to be patched does not look as in verl 0.9.1.
    """
    from verl_efficiency.verl.cpu import patches, platform

    platform.register()
    patches.apply_all()
