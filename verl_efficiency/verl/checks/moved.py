"""Keys that verl has moved below ``reward``, so that nobody reads them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

ROOTS = ("custom_reward_function", "reward_model", "sandbox_fusion")


def check_moved_keys(config: Any) -> Iterator[str]:
    """Keys that verl 0.8 moves below ``reward``. verl 0.9 leaves them in place and ignores them."""
    for root in ROOTS:
        for leaf, value in set_leaves(config.get(root), root):
            place = moved_key(config, leaf)
            advice = f"write {written(place, value)}" if place else "leave it out; it has no new place"
            yield f"{leaf}: this verl ignores the key silently; {advice}"


def moved_key(config: Any, leaf: str) -> str | None:
    """Where verl itself moves ``leaf`` (experimental/reward_loop/reward_loop.py:39); None if nowhere.

    We put a mark in the place of the value, run verl's own function on a copy, and look for the mark. The result begins with
    ``+`` if verl's configuration does not have the new key.
    """
    if leaf.split(".")[0] not in ROOTS:
        return None
    from omegaconf import OmegaConf
    from verl.experimental.reward_loop import migrate_legacy_reward_impl

    kept = {key: OmegaConf.to_container(config[key], resolve=False) for key in ("reward", *ROOTS) if key in config}
    copy = OmegaConf.create(kept)
    mark = "<moved>"
    OmegaConf.update(copy, "reward_model.reward_loop_source", "importlib")  # otherwise verl does not move the module
    OmegaConf.update(copy, leaf, mark)
    moved: Any = OmegaConf.to_container(migrate_legacy_reward_impl(copy).reward, resolve=False)
    place = next((path for path, value in set_leaves(moved, "reward") if value == mark), None)
    return place and ("" if _has(config, place) else "+") + place


def written(place: str, value: Any) -> str:
    """The override; its value is left out where it would need quotes."""
    plain = isinstance(value, bool | int | float) or (isinstance(value, str) and re.fullmatch(r"[\w./:-]+", value))
    return f"{place}={value}" if plain else f"{place} with the same value"


def set_leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of everything below ``node`` that is not null."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from set_leaves(child, f"{path}.{key}")
    elif node is not None:
        yield path, node


def _has(node: Any, path: str) -> bool:
    """Whether a configuration has the key, with or without a value."""
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node.keys():  # noqa: SIM118  # `in` is False for a value that is missing
            return False
        node = node.get(part)
    return True
