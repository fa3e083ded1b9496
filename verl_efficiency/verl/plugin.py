"""The module that verl imports in every process of a run: entry point of the group ``verl.plugins`` (verl 0.9 and later), or
``VERL_USE_EXTERNAL_MODULES=verl_efficiency.verl.plugin`` (any version).

It stays light: the registrations wait until verl itself imports the registry they belong to, so a worker that never computes
an advantage never imports an estimator. verl logs a plugin that fails only at DEBUG; here it is a warning with the cause.
"""

import importlib
import logging
import os

logger = logging.getLogger("verl_efficiency")


def _install() -> None:
    import wrapt

    from verl_efficiency.verl import cpu

    @wrapt.when_imported("verl.trainer.ppo.core_algos")
    def _estimators(core_algos) -> None:
        from verl_efficiency.verl import estimators

        estimators.register(core_algos)

    @wrapt.when_imported("verl.experimental.reward_loop.reward_manager")
    def _reward_manager(package) -> None:
        importlib.import_module("verl_efficiency.verl.reward_manager")  # registers itself

    @wrapt.when_imported("verl.experimental.agent_loop")
    def _agent_loop(package) -> None:
        importlib.import_module("verl_efficiency.verl.replay_loop")  # registers itself

    @wrapt.when_imported("verl.utils.config")
    def _start_up(module) -> None:
        from verl_efficiency.verl import start_up

        start_up.patch_validate_config(module)

    @wrapt.when_imported("verl.trainer.ppo.v1")
    def _trainer(package) -> None:
        importlib.import_module("verl_efficiency.verl.trainer")  # registers itself

    if cpu.wanted():
        cpu.activate()


try:
    _install()
except Exception as error:
    # verl/__init__.py (0.9.1, lines 71-76) swallows what is raised here, so it is said before it is raised.
    logger.warning(
        "the verl_efficiency plugin failed to load in process %d: %s: %s. None of its names will be known to verl. "
        "`verl-efficiency doctor` says more.",
        os.getpid(),
        type(error).__name__,
        error,
    )
    raise
