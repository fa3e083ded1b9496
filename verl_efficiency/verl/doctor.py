"""``verl-efficiency doctor``: would a run do what its configuration says? One line per finding, with the fix."""

import contextlib
import importlib.metadata
import importlib.util
import inspect
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.own import offers
from verl_efficiency.settings import SettingsError, nearest
from verl_efficiency.verl.compatibility import VERLS, lines, untested
from verl_efficiency.verl.compose import compose, near_misses
from verl_efficiency.verl.nodes import PLUGIN
from verl_efficiency.verl.probe import Collect, probe_here, probe_ray

logger = logging.getLogger("verl_efficiency")
# Published algorithms that verl has under another name than an estimator of its own.
_ELSEWHERE = {
    "dr_grpo": "Dr. GRPO is algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=False",
    "dapo": "DAPO is algorithm.adv_estimator=grpo reward.reward_manager.name=dapo",
    "gspo": "GSPO is algorithm.adv_estimator=grpo actor_rollout_ref.actor.policy_loss.loss_mode=gspo",
}


class Finding(NamedTuple):
    """One line. ``fail`` stops a run or changes it silently, ``warn`` is worth knowing, ``ok`` was checked and is fine."""

    level: Literal["ok", "warn", "fail"]
    text: str


def examine(arguments: list[str], *, ray_worker: bool) -> Iterator[Finding]:
    """Check verl, the plugin here and in a Ray worker, and the configuration that ``arguments`` compose.

    Args:
        arguments: YAML files and Hydra overrides (``key=value``), as verl's own command line takes them.
        ray_worker: also look inside a Ray worker (about 10 s).
    """
    if importlib.util.find_spec("verl") is None:
        text = "verl is not installed in this environment: pip install verl==0.9.1 'TransferQueue>=0.1.10'"
        yield Finding("fail", text)
        return
    version = importlib.metadata.version("verl")
    yield from _versions(version, ".".join(map(str, sys.version_info[:2])))
    if importlib.util.find_spec("transfer_queue") is None and _has_plugins(version):
        text = "TransferQueue is missing; verl's default trainer needs it: pip install 'TransferQueue>=0.1.10'"
        yield Finding("fail", text)
    yield _loading(version)
    here = list(_registered(probe_here(), "in this interpreter"))
    yield from here
    if any(finding.level == "fail" for finding in here):
        return
    if ray_worker:
        yield from _registered(probe_ray(), "in a Ray worker")
    yield from offered_methods()
    if arguments:
        yield from examine_configuration(arguments)


def _versions(verl: str, python: str) -> Iterator[Finding]:
    """What is installed, and what works with it."""
    yield Finding("ok", f"verl {verl}, python {sys.version.split()[0]} at {sys.executable}")
    if problem := untested(verl, python):
        yield Finding("warn", problem)
    if verl in VERLS:
        works, fails = lines(verl)
        where = " on Python 3.11" if problem else ""
        yield Finding("ok", f"works with verl {verl}{where}: {works}")
        if fails:
            yield Finding("warn", f"does not work with verl {verl}: {fails}")


def offered_methods() -> Iterator[Finding]:
    """The methods that installed packages offer. Each is loaded."""
    yield from (Finding("warn", problem) for problem in offers().problems)
    for method in offers().methods.values():
        try:
            method.settings_class()
            method.new_state()
        except SettingsError as error:
            yield Finding("warn", str(error))
        else:
            yield Finding("ok", f"method {method.owner}")


def examine_configuration(arguments: list[str]) -> Iterator[Finding]:
    """Compose the configuration as verl does, and run the start-up checks on it."""
    overrides = [argument for argument in arguments if "=" in argument]
    try:
        config = compose([argument for argument in arguments if "=" not in argument], overrides)
    except SettingsError as error:
        yield Finding("fail", str(error))
        return
    yield from examine_composed(config, overrides)


def examine_composed(config: Any, overrides: list[str]) -> Iterator[Finding]:
    """The start-up checks of this package and of verl, on a composed configuration.

    Args:
        overrides: those that were composed; a key that they add may be misspelt.
    """
    from verl_efficiency.verl.checks.data import check_data, check_rows
    from verl_efficiency.verl.checks.estimator import estimator_of, settings_of
    from verl_efficiency.verl.checks.values import check_choices, check_types, check_values
    from verl_efficiency.verl.start_up import advice, check

    problems = list(check_types(config))  # the other checks compute with the values
    with _warnings() as warned:
        if not problems:
            problems = [*near_misses(overrides), *check_values(config), *check(config)]
            problems += [*check_data(config, asked=True), *check_rows(config), *verls_own_check(config)]
    yield from (Finding("fail", problem) for problem in problems)
    yield from (Finding("warn", warning) for warning in [*warned, *check_choices(config)])
    if problems:
        return
    yield from (Finding("warn", line) for line in [*_registered_later(config), *advice(config)])
    yield Finding("ok", f"configuration: algorithm.adv_estimator={config.algorithm.adv_estimator}")
    method = estimator_of(config)
    if method is not None:
        yield Finding("ok", f"settings in force: {settings_of(method, config)}")


def verls_own_check(config: Any) -> Iterator[str]:
    """What verl's ``validate_config`` says before Ray starts. It needs a whole launch, which names a model."""
    from verl.trainer.ppo.utils import need_reference_policy
    from verl.utils.config import validate_config

    from verl_efficiency.verl.checks.values import names_a_model

    if names_a_model(config) is None:
        return
    verls = inspect.unwrap(validate_config)  # ours has run
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # without the critic, whose check loads a model
            verls(config=config, use_reference_policy=need_reference_policy(config), use_critic=False)
    except Exception as error:  # noqa: BLE001  # asserts, ValueErrors, those of its data classes and imports
        text = " ".join(str(error).split())
        if importlib.util.find_spec("vllm") is None and "vllm" in text:  # it asks vLLM for the ranks of LoRA
            logger.warning("verl's own check of the launch needs vLLM, which is not installed here: %s", text)
        else:
            yield f"verl refuses the configuration: {text}"


def _has_plugins(version: str) -> bool:
    """Plugin entry points and the V1 trainer came with verl 0.9."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (0, 9)


def _loading(version: str) -> Finding:
    """How verl will find the plugin."""
    modules = [name.strip() for name in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")]
    points = [point for point in importlib.metadata.entry_points(group="verl.plugins") if point.value == PLUGIN]
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if PLUGIN in modules:
        text = f"VERL_USE_EXTERNAL_MODULES names {PLUGIN}; a running Ray cluster needs it in its own environment too"
        return Finding("ok", text)
    if not _has_plugins(version):
        text = f"verl {version} has no plugin entry points: export VERL_USE_EXTERNAL_MODULES={PLUGIN} before the launch"
        return Finding("fail", text)
    if not points:
        text = "the entry point verl.plugins is missing: pip install verl-efficiency into this environment"
        return Finding("fail", text)
    if policy != "auto" and points[0].name not in [name.strip() for name in policy.split(",")]:
        text = f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps the plugin out: unset it, or add {points[0].name} to it"
        return Finding("fail", text)
    return Finding("ok", f"verl loads the plugin by its entry point ({points[0].name} = {PLUGIN})")


def _registered(seen: dict[str, Any], where: str) -> Iterator[Finding]:
    """What a probe has seen."""
    if "error" in seen:
        yield Finding("fail", f"{where}: {seen['error']}")
        return
    if not seen["loaded"]:
        cause = " ".join(seen["warnings"]) or "verl did not import it"
        yield Finding("fail", f"{where}: the plugin is not loaded: {cause}")
        return
    names = seen["estimators"]
    missing = [name for name in ESTIMATORS if f"efficiency.{name}" not in names]
    taken = [name for name in ESTIMATORS if name not in names and name not in missing]
    yield Finding("ok", f"{where}: estimators {', '.join(name for name in names if '.' not in name)}")
    yield from (Finding("warn", f"{where}: {warning}") for warning in seen["warnings"])
    if taken:
        aliases = ", ".join(f"efficiency.{name}" for name in taken)
        yield Finding("warn", f"{where}: other code has registered {', '.join(taken)}; ours are {aliases}")
    if missing:
        yield Finding("fail", f"{where}: estimators that are not registered: {', '.join(missing)}")
    if not seen["manager"]:
        yield Finding("fail", f"{where}: the reward manager 'efficiency' is not registered")
    if not seen["checked"]:
        yield Finding("fail", f"{where}: settings would not be checked at start-up (validate_config is not wrapped)")
    yield _device(seen["cpu"], seen["accelerator"], where)


def _device(cpu: bool, accelerator: bool, where: str) -> Finding:
    """Where the run would compute, and how to change it."""
    if cpu:
        hint = "; unset VERL_PLATFORM to use the accelerator of this machine" if accelerator else " (VERL_PLATFORM=cpu)"
        return Finding("ok", f"{where}: CPU mode is on{hint}")
    if accelerator:
        return Finding("ok", f"{where}: CPU mode is off, and there is an accelerator")
    fix = "to train on the CPU, export VERL_PLATFORM=cpu"
    return Finding("warn", f"{where}: CPU mode is off, and there is no accelerator; {fix}")


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings of our checks instead of printing them."""
    collected, logger = Collect(), logging.getLogger("verl_efficiency")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collected)
    try:
        yield collected.messages
    finally:
        logger.removeHandler(collected)
        logger.propagate = propagate


def _registered_later(config: Any) -> Iterator[str]:
    """Names that verl does not know in this process. The user's own code may register them in the run."""
    from omegaconf import OmegaConf
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, AdvantageEstimator
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    manager = config.reward.reward_manager
    estimators = {*ADV_ESTIMATOR_REGISTRY, *(estimator.value for estimator in AdvantageEstimator)}
    rollout = OmegaConf.select(config, "actor_rollout_ref.rollout.name")  # mandatory, and may not be set yet
    named = [
        ("algorithm.adv_estimator", config.algorithm.adv_estimator, estimators),
        ("actor_rollout_ref.rollout.name", rollout, {*RolloutReplicaRegistry._registry}),
    ]
    if manager.source == "register":
        named.append(("reward.reward_manager.name", manager.name, {*REWARD_MANAGER}))
    for key, name, known in named:
        if name is not None and name not in known:
            elsewhere = _ELSEWHERE.get(name) if key == "algorithm.adv_estimator" else None
            hint = f"; {elsewhere}" if elsewhere else nearest(str(name), known)
            yield f"{key}: {name!r} is not registered here, so your own code must do it in the run{hint}"
