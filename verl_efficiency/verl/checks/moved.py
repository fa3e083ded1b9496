"""Keys that nobody reads: keys that verl has moved below ``reward``, and misspelt places of our settings."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from verl_efficiency.settings import misspelt

ROOTS = ("custom_reward_function", "reward_model", "sandbox_fusion")
# Where our settings stand: parent and name.
PLACES = (("algorithm", "efficiency"), ("data", "efficiency"), ("reward.custom_reward_function", "reward_kwargs"))


def check_moved_keys(config: Any) -> Iterator[str]:
    """verl 0.8 moves these keys below ``reward``. verl 0.9 keeps them and reads them nowhere."""
    for root in ROOTS:
        for leaf, value in _set_leaves(config.get(root), root):
            place = moved_key(config, leaf)
            advice = f"write {_written(place, value)}" if place else "leave it out, it has no other place"
            yield f"{leaf}: this verl ignores the key silently; {advice}"


def check_near_keys(config: Any) -> Iterator[str]:
    """Nobody reads ``algorithm.effciency``."""
    from omegaconf import OmegaConf

    for parent, name in PLACES:
        node = OmegaConf.select(config, parent)
        for key in node or ():
            if key != name and misspelt(str(key), [name]):
                place = f"+{parent}.{name}"
                leaves = _set_leaves(node.get(key), place) if isinstance(node.get(key), Mapping) else ()
                settings = " ".join(_written(leaf, value) for leaf, value in leaves) or f"{place}.SETTING=VALUE"
                yield f"{parent}.{key}: nobody reads this key; did you mean '{name}'? Then write {settings}"


def moved_key(config: Any, leaf: str) -> str | None:
    """Where verl itself moves ``leaf`` (experimental/reward_loop/reward_loop.py:39); None if nowhere.

    The value is replaced by a mark, verl's own function runs, and the mark is searched. The answer begins with a + if verl's
    configuration does not have that key.
    """
    if leaf.split(".")[0] not in ROOTS:
        return None
    from omegaconf import OmegaConf
    from verl.experimental.reward_loop import migrate_legacy_reward_impl

    kept = {key: OmegaConf.to_container(config[key], resolve=False) for key in ("reward", *ROOTS) if key in config}
    copy = OmegaConf.create(kept)
    mark = "<moved>"
    OmegaConf.update(copy, "reward_model.reward_loop_source", "importlib")  # without it the module stays where it is
    OmegaConf.update(copy, leaf, mark)
    moved: Any = OmegaConf.to_container(migrate_legacy_reward_impl(copy).reward, resolve=False)
    place = next((path for path, value in _set_leaves(moved, "reward") if value == mark), None)
    return place and ("" if _has(config, place) else "+") + place


def _written(place: str, value: Any) -> str:
    """The override; its value is left out where it would need quotes."""
    plain = isinstance(value, bool | int | float) or (isinstance(value, str) and re.fullmatch(r"[\w./:-]+", value))
    return f"{place}={value}" if plain else f"{place} with the same value"


def _set_leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of everything below ``node`` that is not null."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _set_leaves(child, f"{path}.{key}")
    elif node is not None:
        yield path, node


def _has(node: Any, path: str) -> bool:
    """Whether a configuration has the key, with or without a value."""
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node.keys():  # noqa: SIM118  # `in` is False for a value that is missing
            return False
        node = node.get(part)
    return True
