"""Running stock verl 0.9.1 on a machine without a GPU: for tests, for the quickstart and for trying a method on a laptop.

On a machine with an accelerator nothing here runs: :func:`wanted` is false there and changes nothing.
"""

import functools
import os


def wanted() -> bool:
    """Whether verl finds no accelerator here, or the user chose the CPU with verl's own ``VERL_PLATFORM=cpu``.

    Asks the platforms that are registered with verl, in verl's own way (plugin/platform/platform_manager.py:83), but keeps
    no answer: verl's detection runs later, undisturbed. False for verl < 0.9, which has no platforms.
    """
    override = os.environ.get("VERL_PLATFORM", "").strip().lower()
    if override:
        return override == "cpu"
    try:
        from verl.plugin.platform import PlatformRegistry
        from verl.utils.device import is_cuda_available, is_npu_available
    except ModuleNotFoundError:
        return False
    if is_cuda_available or is_npu_available:  # known since `import verl`; spares the call of nvidia-smi
        return False
    platforms = [PlatformRegistry.get(name) for name in PlatformRegistry.registered_names() if name != "cpu"]
    return not any(platform().is_platform_available(use_smi_check=True) for platform in platforms if platform)


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
