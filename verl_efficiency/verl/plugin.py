"""The module that verl imports in every process of a run, and which registers our names with verl.

verl 0.9 finds it by its entry point in the group ``verl.plugins``; any version imports it with
``VERL_USE_EXTERNAL_MODULES=verl_efficiency.verl.plugin``.

It is light: each registration waits until verl imports the registry concerned, so a worker that computes no advantages imports
no estimator. It stops nobody else's run: a registration that fails is a warning with the cause, and verl's import goes on. A
run that needs the missing name is refused at start-up.
"""

import importlib
import logging
import os
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("verl_efficiency")


def _when_imported(module: str, what: str, register: Callable[[Any], Any]) -> None:
    """Call ``register(module)`` as soon as verl has imported ``module``; a failure is a warning that names ``what``."""
    import wrapt

    def hook(imported: Any) -> None:
        try:
            register(imported)
        except Exception as error:  # noqa: BLE001  # raised, it would make verl itself impossible to import
            logger.warning(
                "verl_efficiency cannot register %s: %s: %s. Runs that do not use it are not affected. "
                "`verl-efficiency doctor` says more.",
                *(what, type(error).__name__, error),
            )

    wrapt.register_post_import_hook(hook, module)


def _by(ours: str) -> Callable[[Any], Any]:
    """Import one of our modules. It registers itself, or its function after the colon is called with verl's module."""
    name, _, function = ours.partition(":")

    def register(imported: Any) -> None:
        found = importlib.import_module(f"verl_efficiency.verl.{name}")
        if function:
            getattr(found, function)(imported)

    return register


def _install() -> None:
    from verl_efficiency.verl.cpu_switch import cpu_mode

    for module, what, ours in (
        ("verl.trainer.ppo.core_algos", "its advantage estimators", "estimators:register"),
        ("verl.experimental.reward_loop.reward_manager", "the reward manager 'efficiency'", "reward_manager"),
        ("verl.experimental.agent_loop", "the agent loop of replay", "replay_loop"),
        ("verl.utils.config", "the check of settings at start-up", "start_up:patch_validate_config"),
        ("verl.trainer.ppo.v1.utils", "sessions with several outputs", "sessions:keep_keys"),
        ("verl.trainer.ppo.v1", "its trainers", "trainer"),
    ):
        _when_imported(module, what, _by(ours))
    if cpu_mode():
        from verl_efficiency.verl import cpu

        cpu.activate()


try:
    _install()
except Exception as error:
    # verl/__init__.py (0.9.1, lines 71-76) swallows what is raised here, so log it first.
    logger.warning(
        "the verl_efficiency plugin failed to load in process %d: %s: %s. None of its names will be known to verl. "
        "`verl-efficiency doctor` says more.",
        os.getpid(),
        type(error).__name__,
        error,
    )
    raise
