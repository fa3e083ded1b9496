"""verl's configuration, composed as its own launch does it; and keys that nobody reads."""

import functools
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verl_efficiency.settings import SettingsError, misspelt, unknown
from verl_efficiency.verl.checks.moved import moved_key, set_leaves
from verl_efficiency.verl.checks.places import PLACES, right_place
from verl_efficiency.verl.modes import v1_is_missing

# Nodes with keys that verl does not list.
_FREE = ("algorithm.efficiency", "data.efficiency", "reward.custom_reward_function.reward_kwargs", "ray_kwargs")


def compose(files: list[str], overrides: list[str]) -> Any:
    """verl's ``ppo_trainer`` configuration with the files merged in. The overrides win over the files.

    Raises:
        SettingsError: a file that is missing or is not YAML, or a key that verl does not have.
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
            _refuse_unread(OmegaConf.create(given), verls_configuration(), file)
            OmegaConf.set_struct(config, False)
            config.merge_with(given)
        if files:
            for override in OverridesParser.create().parse_overrides(overrides):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=False, force_add=True)
    except SettingsError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: a number as a group
        raise SettingsError(f"verl refuses the configuration: {_in_one_line(error, overrides)}") from None
    return _as_launched(config)


def near_misses(overrides: list[str]) -> Iterator[str]:
    """Keys added with a + that most likely misspell a key of verl, so nobody reads them."""
    added = [override.lstrip("+").partition("=")[0] for override in overrides if override.startswith("+")]
    for key in added:
        meant = None if key.startswith("ray_kwargs.") else _similar_key(key)  # Ray takes more keys than verl lists
        if meant and not meant.startswith("+"):  # checks/places.py reports our places, with the value
            yield f"+{key}: nobody reads this key; did you mean '{meant}'?"


def _in_one_line(error: Exception, overrides: list[str]) -> str:
    """Hydra's error in one line, with a fix of our own for a misspelt key and for a value that needs quotes."""
    for override in overrides:
        key = override.partition("=")[0]
        if f"'{key}'" in str(error):
            if key.startswith(("trainer.v1.", "trainer.use_v1")) and (problem := v1_is_missing()):
                return f"{key}: {problem}"
            meant = moved_key(verls_configuration(), key) or _similar_key(key)
            if meant:  # Hydra's own advice is to add the wrong key with a +
                return f"{str(error).splitlines()[0]} Did you mean '{meant}'?"
    if unread := _unread(overrides):
        return unread
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("See https://"))


def _unread(overrides: list[str]) -> str:
    """The first override that is not in Hydra's grammar, with the fix; empty if all are. Hydra's error does not name it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for override in overrides:
        key, equals, value = override.partition("=")
        fix = "takes quotes inside quotes: \"{}='{}'\"".format(key, value.replace("'", "\\'"))
        try:
            if parser.parse_override(override).is_sweep_override():
                return f"{override}: a text with a comma {fix}; a list takes brackets: {key}=[{value}]"
        except HydraException as error:
            if not equals:
                return f"{override}: is not an override; write key=value"
            why = str(error).splitlines()[0]
            return f"{override}: Hydra cannot read this ({why}); a text with special characters {fix}"
    return ""


def _similar_key(path: str) -> str | None:
    """The key of verl that ``path`` most likely misspells; None if verl has ``path``, or nothing similar."""
    from omegaconf import OmegaConf

    node: Any = verls_configuration()
    parts = path.split(".")
    for place, part in enumerate(parts):
        parent = ".".join(parts[:place])
        ours = [name for where, _, name in (one.rpartition(".") for one in PLACES) if where == parent]
        if not isinstance(node, Mapping) or part in ours:
            return None
        if part not in node.keys():  # noqa: SIM118  # `in` is False for a mandatory value that is not set
            if meant := right_place(path):
                return f"+{meant}"
            near = misspelt(part, [*map(str, node), *ours])
            added = "+" if near in ours else ""
            return near and added + ".".join([*parts[:place], near, *parts[place + 1 :]])
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return None


@functools.cache
def verls_configuration() -> Any:
    """verl's configuration without overrides. Do not change it."""
    return _hydra([])


def _hydra(overrides: list[str]) -> Any:
    import verl
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return hydra_compose("ppo_trainer", overrides)


def _as_launched(config: Any) -> Any:
    """verl 0.8 moves keys of older versions before it reads any (trainer/main_ppo.py:47)."""
    from verl.trainer import main_ppo

    migrate = getattr(main_ppo, "migrate_legacy_reward_impl", None)
    return migrate(config) if migrate else config


def _load_yaml(file: str) -> Any:
    """The settings in a YAML file.

    Raises:
        SettingsError: it cannot be read, or holds no settings; the message names the line if it is known.
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
    """Refuse a key that verl does not have, outside of nodes with free keys."""
    from omegaconf import DictConfig

    for key in given:
        name = f"{path}{key}"
        if name in _FREE or (schema.get(key) is None and key in schema):
            continue
        if key not in schema:
            meant = next((place for leaf, _ in set_leaves(given[key], name) if (place := right_place(leaf))), None)
            if meant:
                raise SettingsError(f"{where}: unknown key {name!r}; did you mean {meant!r}?")
            raise SettingsError(f"{where}: {unknown('key', name, [path + str(k) for k in schema])}")
        if not path and isinstance(schema[key], DictConfig) and not isinstance(given[key], DictConfig):
            raise SettingsError(f"{where}: {name}: must hold settings (name: value), got {given[key]!r}")
        if isinstance(given[key], DictConfig) and isinstance(schema[key], DictConfig) and len(schema[key]):
            _refuse_unread(given[key], schema[key], where, name + ".")
