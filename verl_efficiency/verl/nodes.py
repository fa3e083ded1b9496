"""Refuse to start on a Ray cluster where a node would run without this plugin.

A worker looks up rewards, trainers and platforms in its own process. On a node without the plugin it fails minutes after the
start, and with another version it trains by other rules. So the driver asks every node once, right after ``ray.init``: one
tiny task per node, all at the same time (about a second). A Ray that the launch itself starts is one node in the same
environment and is not asked.
"""

import functools
import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from verl_efficiency.settings import SettingsError

logger = logging.getLogger("verl_efficiency")

PLUGIN = "verl_efficiency.verl.plugin"
WAIT_SECONDS = 60
USED = ("CPU", "GPU", "NPU")


class Installed(NamedTuple):
    """What one Python environment has of this package."""

    found: bool
    """it can be imported"""
    loads: bool
    """``import verl`` would load the plugin: by its entry point, or by VERL_USE_EXTERNAL_MODULES"""
    version: str | None
    """as installed; None for a bare source tree"""


def check_when_connected() -> None:
    """Check the nodes right after the next ``ray.init`` of this process, or now if Ray is connected.

    verl has no hook between ``ray.init`` and its first worker (main_ppo.py, run_ppo), so ``ray.init`` is wrapped for one call.
    """
    import ray

    if ray.is_initialized():
        check_nodes(asked=False)
        return
    original = ray.init
    if hasattr(original, "checks_nodes"):
        return

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        ray.init = original
        connected = original(*args, **kwargs)
        check_nodes(asked=bool(args or kwargs.get("address") or os.environ.get("RAY_ADDRESS")))
        return connected

    init.checks_nodes = True  # type: ignore[attr-defined]
    ray.init = init


def check_nodes(*, asked: bool) -> None:
    """Raise if :func:`problems_of_nodes` finds any.

    Args:
        asked: the launch named a cluster, so one node alone may also be somebody else's.

    Raises:
        SettingsError: the nodes that lack the plugin, one line each.
    """
    import ray

    if len(_nodes()) == 1 and not asked:
        return
    problems = problems_of_nodes()
    if problems:
        address = ray.get_runtime_context().gcs_address
        raise SettingsError("\n".join([f"the Ray cluster {address} cannot run this launch:", *problems]))


def problems_of_nodes() -> list[str]:
    """Ask every node that can run a worker of verl; one line for each that would not do what the driver does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(_question())
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
        for node in _nodes()
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=WAIT_SECONDS)
    for ref in late:
        logger.warning("%s gave no answer in %d s: the plugin is not checked there.", _name(asked[ref]), WAIT_SECONDS)
    answers: dict[str, Installed | str] = {}
    for ref in ready:
        try:
            answers[_name(asked[ref])] = Installed(*ray.get(ref))
        except ray.exceptions.RayError as error:  # becomes the line of this node
            answers[_name(asked[ref])] = str(error).strip().splitlines()[-1]
    return compare(Installed(*_question()()), answers)


def compare(driver: Installed, answers: Mapping[str, Installed | str]) -> list[str]:
    """One line per node whose answer differs from the driver's environment in what matters.

    Args:
        answers: by the name of the node; a text is an error that kept the node from answering.
    """
    install = (
        f"pip install verl-efficiency=={driver.version}" if driver.version else "put this checkout on its PYTHONPATH"
    )
    lines = []
    for name, there in answers.items():
        if isinstance(there, str):
            lines.append(f"{name}: Ray cannot start a worker there: {there}")
        elif not there.found:
            lines.append(
                f"{name}: verl_efficiency is not installed there. {install} in the environment of that node and start its "
                "Ray again, or ship it with the launch (ray_kwargs.ray_init.runtime_env.pip or .py_modules)"
            )
        elif not there.loads:
            lines.append(
                f"{name}: verl_efficiency can be imported there, but verl would not load it. Add "
                f"+ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES={PLUGIN}"
            )
        elif driver.version and there.version and there.version != driver.version:
            lines.append(
                f"{name}: verl_efficiency is {there.version} there and {driver.version} at the driver. {install} on that node"
            )
    return lines


def _question() -> Any:
    """The function that a node runs. It is local, so Ray sends its code: a node without this package could not import it."""

    def installed() -> tuple[bool, bool, str | None]:
        import importlib.metadata
        import importlib.util
        import os

        plugin = "verl_efficiency.verl.plugin"
        named = plugin in [name.strip() for name in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")]
        policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
        allowed = [name.strip() for name in policy.split(",")]
        points = importlib.metadata.entry_points(group="verl.plugins")
        loads = any(point.value == plugin and (policy == "auto" or point.name in allowed) for point in points)
        try:
            version = importlib.metadata.version("verl-efficiency")
        except importlib.metadata.PackageNotFoundError:
            version = None
        return importlib.util.find_spec("verl_efficiency") is not None, named or loads, version

    return installed


def _nodes() -> list[dict[str, Any]]:
    """The living nodes that can run a worker: a head without CPUs and GPUs runs none."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and any(node["Resources"].get(kind) for kind in USED)]


def _name(node: Mapping[str, Any]) -> str:
    """A node as its owner knows it."""
    name, address = str(node.get("NodeName") or ""), str(node["NodeManagerAddress"])
    return f"node {address}" if name in ("", address) else f"node {name} ({address})"
