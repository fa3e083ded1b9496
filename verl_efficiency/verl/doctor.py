"""``verl-efficiency doctor``: would a run do what its configuration says? One line per finding, with the fix."""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.own import offers
from verl_efficiency.settings import SettingsError

PLUGIN = "verl_efficiency.verl.plugin"
TESTED = ("0.8.0", "0.9.1")


class Finding(NamedTuple):
    """One line: ``fail`` stops a run or changes it silently, ``warn`` is worth knowing, ``ok`` was looked at and is well."""

    level: Literal["ok", "warn", "fail"]
    text: str


def examine(arguments: list[str], *, ray_worker: bool) -> Iterator[Finding]:
    """Look at verl, at the plugin here and in a Ray worker, and at the configuration made of ``arguments``.

    Args:
        arguments: YAML files and Hydra overrides (``key=value``), as verl's own command line takes them.
        ray_worker: also start a local Ray and look inside a worker of it (about 10 s).
    """
    if importlib.util.find_spec("verl") is None:
        yield Finding(
            "fail", "verl is not installed in this environment: pip install verl==0.9.1 'TransferQueue>=0.1.10'"
        )
        return
    version = importlib.metadata.version("verl")
    known = "" if version in TESTED else f" (not among the tested: {', '.join(TESTED)})"
    yield Finding(
        "warn" if known else "ok", f"verl {version}{known}, python {sys.version.split()[0]} at {sys.executable}"
    )
    if importlib.util.find_spec("transfer_queue") is None and _has_plugins(version):
        text = "TransferQueue is missing; verl's default trainer needs it: pip install 'TransferQueue>=0.1.10'"
        yield Finding("fail", text)
    yield from _loading(version)
    here = list(_registered(_probe_here(), "in this interpreter"))
    yield from here
    if any(finding.level == "fail" for finding in here):
        return
    if ray_worker:
        yield from _registered(_probe_ray(), "in a Ray worker")
    yield from _methods_of_others()
    yield from _configuration(arguments)


def _methods_of_others() -> Iterator[Finding]:
    """Methods that installed packages offer, each loaded once."""
    yield from (Finding("warn", problem) for problem in offers().problems)
    for method in offers().methods.values():
        try:
            method.settings_class()
            method.new_state()
        except SettingsError as error:
            yield Finding("warn", str(error))
        else:
            yield Finding("ok", f"method {method.owner}")


def _has_plugins(version: str) -> bool:
    """Plugin entry points and the V1 trainer came with verl 0.9."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (0, 9)


def _loading(version: str) -> Iterator[Finding]:
    """How verl will find the plugin."""
    modules = [name.strip() for name in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")]
    if PLUGIN in modules:
        yield Finding(
            "ok", f"VERL_USE_EXTERNAL_MODULES names {PLUGIN}; a running Ray cluster needs it in its own environment too"
        )
        return
    if not _has_plugins(version):
        text = f"verl {version} has no plugin entry points: export VERL_USE_EXTERNAL_MODULES={PLUGIN} before the launch"
        yield Finding("fail", text)
        return
    points = [point for point in importlib.metadata.entry_points(group="verl.plugins") if point.value == PLUGIN]
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if not points:
        yield Finding(
            "fail", "the entry point verl.plugins is missing: pip install verl-efficiency into this environment"
        )
    elif policy != "auto" and points[0].name not in [name.strip() for name in policy.split(",")]:
        yield Finding(
            "fail", f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps the plugin out: unset it, or add {points[0].name} to it"
        )
    else:
        yield Finding("ok", f"verl loads the plugin by its entry point ({points[0].name} = {PLUGIN})")


def probe() -> dict[str, Any]:
    """Import verl in this process and say what the plugin registered; run in a fresh interpreter and in a Ray worker."""
    warned: list[str] = []
    logging.getLogger("verl_efficiency").addHandler(_Collect(warned))
    import verl.experimental.reward_loop.reward_manager.registry as managers
    import verl.trainer.ppo.core_algos as core_algos
    import verl.utils.config

    from verl_efficiency.verl.cpu_switch import cpu_mode

    functions = core_algos.ADV_ESTIMATOR_REGISTRY
    return {
        "loaded": PLUGIN in sys.modules,
        "warnings": warned,
        "estimators": [name for name, fn in functions.items() if fn.__module__ == "verl_efficiency.verl.estimators"],
        "manager": "efficiency" in managers.REWARD_MANAGER,
        "checked": hasattr(verl.utils.config.validate_config, "__wrapped__"),
        "cpu": cpu_mode(),
        "accelerator": _accelerator(),
    }


def _accelerator() -> bool:
    """Whether verl would find an accelerator here, asked in its own way (plugin/platform/platform_manager.py:83)."""
    from verl.utils.device import is_cuda_available, is_npu_available

    if is_cuda_available or is_npu_available or importlib.util.find_spec("verl.plugin") is None:
        return is_cuda_available or is_npu_available
    from verl.plugin.platform import PlatformRegistry

    platforms = [PlatformRegistry.get(name) for name in PlatformRegistry.registered_names() if name != "cpu"]
    return any(platform().is_platform_available(use_smi_check=True) for platform in platforms if platform)


def _probe_here() -> dict[str, Any]:
    code = f"import json; from {__name__} import probe; print(json.dumps(probe()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(lines[-1])


def _probe_ray() -> dict[str, Any]:
    import ray

    from verl_efficiency.verl.cpu_switch import SWITCH, cpu_mode
    from verl_efficiency.verl.nodes import problems_of_nodes

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cpu_mode():  # as a launch does
        options["runtime_env"] = {"env_vars": {SWITCH: "cpu"}}
    if "RAY_ADDRESS" not in os.environ:
        options |= {"num_cpus": 1, "include_dashboard": False}
    ray.init(**options)
    try:
        problems = problems_of_nodes() if "RAY_ADDRESS" in os.environ else []
        return ray.get(ray.remote(num_cpus=0)(probe).remote(), timeout=300) | {"nodes": problems}
    except ray.exceptions.RayError as error:  # the finding is that the worker cannot; the command goes on
        return {"error": str(error).strip().splitlines()[-1]}
    finally:
        ray.shutdown()


def _registered(seen: dict[str, Any], where: str) -> Iterator[Finding]:
    """Findings about what a probe saw."""
    if "error" in seen:
        yield Finding("fail", f"{where}: verl cannot be imported: {seen['error']}")
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
        yield Finding("warn", f"{where}: somebody else has registered {', '.join(taken)}; ours are {aliases}")
    if missing:
        yield Finding("fail", f"{where}: estimators that are not registered: {', '.join(missing)}")
    if not seen["manager"]:
        yield Finding("fail", f"{where}: the reward manager 'efficiency' is not registered")
    yield from (Finding("fail", problem) for problem in seen.get("nodes", ()))
    if not seen["checked"]:
        yield Finding("fail", f"{where}: settings would not be checked at start-up (validate_config is not wrapped)")
    yield _device(seen["cpu"], seen["accelerator"], where)


def _device(cpu: bool, accelerator: bool, where: str) -> Finding:
    """What is on, and how to change it."""
    if cpu and accelerator:
        return Finding("ok", f"{where}: CPU mode is on; unset VERL_PLATFORM to use the accelerator that is here")
    if cpu:
        return Finding("ok", f"{where}: CPU mode is on (VERL_PLATFORM=cpu)")
    if accelerator:
        return Finding("ok", f"{where}: CPU mode is off, and there is an accelerator")
    return Finding(
        "warn", f"{where}: CPU mode is off, and no accelerator is found; to train on the CPU, export VERL_PLATFORM=cpu"
    )


def _configuration(arguments: list[str]) -> Iterator[Finding]:
    """Compose the configuration as verl would and ask :func:`verl_efficiency.verl.start_up.check`."""
    files = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    if not arguments:
        return
    try:
        config = compose(files, overrides)
    except SettingsError as error:
        yield Finding("fail", str(error))
        return
    from verl_efficiency.verl.checks.data import check_data
    from verl_efficiency.verl.checks.estimator import estimator_of
    from verl_efficiency.verl.start_up import advice, check

    with _warnings() as warned:
        problems = [*_near_misses(overrides), *check(config), *check_data(config, asked=True)]
    yield from (Finding("fail", problem) for problem in problems)
    yield from (Finding("warn", warning) for warning in warned)
    if problems:
        return
    yield from (Finding("warn", line) for line in [*_registered_later(config), *advice(config)])
    method = estimator_of(config)
    yield Finding("ok", f"configuration: algorithm.adv_estimator={config.algorithm.adv_estimator}")
    if method is not None:
        from verl_efficiency.verl.estimators import read_settings

        yield Finding("ok", f"settings in force: {read_settings(method, config.algorithm)}")


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """The warnings that our checks log meanwhile, which are not printed."""
    warned: list[str] = []
    handler, logger = _Collect(warned), logging.getLogger("verl_efficiency")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield warned
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


class _Collect(logging.Handler):
    """Keeps what is logged in a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def compose(files: list[str], overrides: list[str]) -> Any:
    """verl's own ``ppo_trainer`` configuration with the files merged in and the overrides applied.

    Raises:
        SettingsError: a file that is not there, or a key that verl's configuration does not have.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = _hydra(overrides)
        for file in files:
            if not Path(file).is_file():
                raise SettingsError(f"{file}: no such file; give YAML files and overrides (key=value)")
            loaded = _load_yaml(file)
            given = {key: loaded[key] for key in loaded if key not in ("defaults", "hydra")}
            _refuse_unread(OmegaConf.create(given), _schema(), file)
            OmegaConf.set_struct(config, False)
            config.merge_with(given)
        if files:  # the command line has the last word
            for override in OverridesParser.create().parse_overrides(overrides):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=False, force_add=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(f"verl refuses the configuration: {_in_one_line(error, overrides)}") from None
    return _as_launched(config)


def _in_one_line(error: Exception, overrides: list[str]) -> str:
    """What Hydra says, whose later lines tell what to write; or what it does not know: a similar key, quotes for the shell."""
    from verl_efficiency.verl.checks.moved import moved_key

    for override in overrides:
        if f"'{override.partition('=')[0]}'" in str(error):
            key = override.partition("=")[0]
            meant = moved_key(_schema(), key) or _similar_key(key)
            if meant:  # Hydra would say: add the wrong key with a +
                return f"{str(error).splitlines()[0]} Did you mean '{meant}'?"
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if line and not set(line) <= {"^"} and not line.startswith("See https://"))
    if "LexerNoViableAlt" in text:
        bad = next((override for override in overrides if override in text), "key=value")
        key, _, value = bad.partition("=")
        value = value.replace("'", "\\'")
        return f"{text}; a text with special characters takes quotes inside quotes: \"{key}='{value}'\""
    return text


def _near_misses(overrides: list[str]) -> Iterator[str]:
    """Keys that are added with a + and are nearly one that verl has: verl would read them nowhere."""
    added = [override.lstrip("+").partition("=")[0] for override in overrides if override.startswith("+")]
    for key in added:
        meant = None if key.startswith("ray_kwargs.") else _similar_key(key)  # Ray takes more than verl names
        if meant and not meant.startswith("+"):  # a place of ours is said by the start-up check, with the value
            yield f"+{key}: nobody reads this key; did you mean '{meant}'?"


def _similar_key(path: str) -> str | None:
    """The key of verl's configuration that ``path`` most likely misspells, or None if it has ``path`` or nothing similar."""
    from omegaconf import OmegaConf

    from verl_efficiency.settings import misspelt
    from verl_efficiency.verl.checks.moved import PLACES

    node: Any = _schema()
    parts = path.split(".")
    for place, part in enumerate(parts):
        parent = ".".join(parts[:place])
        ours = [name for where, name in PLACES if where == parent]
        if not isinstance(node, Mapping) or part in ours:
            return None
        if part not in node.keys():  # noqa: SIM118  # `in` is False for a mandatory value that is not set
            near = misspelt(part, [*map(str, node), *ours])
            added = "+" if near in ours else ""
            return near and added + ".".join([*parts[:place], near, *parts[place + 1 :]])
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return None


def _registered_later(config: Any) -> Iterator[str]:
    """Names that verl does not know in this process: somebody else's code may register them in the run."""
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, AdvantageEstimator

    from verl_efficiency.settings import nearest

    manager = config.reward.reward_manager
    estimators = {*ADV_ESTIMATOR_REGISTRY, *(estimator.value for estimator in AdvantageEstimator)}
    named = [("algorithm.adv_estimator", config.algorithm.adv_estimator, estimators)]
    if manager.source == "register":
        named.append(("reward.reward_manager.name", manager.name, {*REWARD_MANAGER}))
    for key, name, known in named:
        if name not in known:
            yield f"{key}: {name!r} is not registered here, so your own code must do it in the run{nearest(str(name), known)}"


@functools.cache
def _schema() -> Any:
    """verl's configuration without any override; not to be changed."""
    return _hydra([])


def _hydra(overrides: list[str]) -> Any:
    import verl
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return hydra_compose("ppo_trainer", overrides)


def _as_launched(config: Any) -> Any:
    """verl 0.8 moves keys of older versions before it looks at any (trainer/main_ppo.py:47)."""
    from verl.trainer import main_ppo

    migrate = getattr(main_ppo, "migrate_legacy_reward_impl", None)
    return migrate(config) if migrate else config


def _load_yaml(file: str) -> Any:
    """The settings in a YAML file.

    Raises:
        SettingsError: it cannot be read, or holds something else; the message names the line where it can.
    """
    yaml = importlib.import_module("yaml")  # so that no stubs are asked for
    from omegaconf import OmegaConf

    try:
        loaded = OmegaConf.load(file)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start})") from None
    except (yaml.YAMLError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SettingsError(f"{file}{line}: is not YAML ({problem})") from None
    if not OmegaConf.is_dict(loaded):
        raise SettingsError(
            f"{file}: must hold settings (name: value), got {type(loaded).__name__.removesuffix('Config')}"
        )
    return loaded


def _refuse_unread(given: Any, schema: Any, where: str, path: str = "") -> None:
    """Every key of ``given`` is one of verl's, or below a node that takes keys of its own."""
    from omegaconf import DictConfig

    from verl_efficiency.settings import unknown

    free = ("algorithm.efficiency", "data.efficiency", "reward.custom_reward_function.reward_kwargs", "ray_kwargs")
    for key in given:
        name = f"{path}{key}"
        if name in free or (schema.get(key) is None and key in schema):
            continue
        if key not in schema:
            raise SettingsError(f"{where}: {unknown('key', name, [path + str(k) for k in schema])}")
        if not path and isinstance(schema[key], DictConfig) and not isinstance(given[key], DictConfig):
            raise SettingsError(f"{where}: {name}: must hold settings (name: value), got {given[key]!r}")
        if isinstance(given[key], DictConfig) and isinstance(schema[key], DictConfig) and len(schema[key]):
            _refuse_unread(given[key], schema[key], where, name + ".")
