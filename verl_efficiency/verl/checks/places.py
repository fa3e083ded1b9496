"""Find settings in places where nothing reads them. The run would use the default instead.

Other people's keys must pass. So a node is refused only if its name is one of ours, and every key in it is a setting of the
estimator or reward of the run. A single key that has the name of such a setting is worth a warning, no more.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from verl_efficiency.adapter.checks import setting_names
from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS, Method
from verl_efficiency.methods.own import own_method
from verl_efficiency.settings import SettingsError, misspelt
from verl_efficiency.verl.checks.estimator import SETTINGS, estimator_of
from verl_efficiency.verl.checks.moved import set_leaves, written
from verl_efficiency.verl.checks.reward import FUNCTION, KWARGS, reward_of

PLACES = (SETTINGS, "data.efficiency", KWARGS)
VERLS_KWARGS = "reward.reward_kwargs"  # read by reward managers
# Where a setting may stand alone that belongs into one of our places. Others have keys there too.
_ALONE = {SETTINGS: ("", "algorithm"), KWARGS: ("", "reward", VERLS_KWARGS)}


class Owner(NamedTuple):
    """A method, and where its settings stand."""

    name: str
    place: str
    settings: frozenset[str]

    def owns(self, node: str) -> bool:
        """Whether a node of this path is named after the method or its place, or stands beside the reward's settings."""
        parent, _, name = node.rpartition(".")
        if node in (VERLS_KWARGS, *PLACES):
            return False
        beside = parent == FUNCTION and not misspelt(name, ["reward_kwargs"])  # that is reported by check_near_keys
        return name in ("efficiency", self.name) or (self.place == KWARGS and (name == "reward_kwargs" or beside))

    def keys_in(self, path: str, node: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of a node that can only be meant for the method."""
        own = {key: value for key, value in node.items() if key in self.settings}
        everything = self.owns(path) and len(own) == len(node)
        return own if everything or (path == FUNCTION and self.place == KWARGS) else {}


def check_near_keys(config: Any) -> Iterator[str]:
    """Misspelt nodes of our settings, such as ``algorithm.effciency``: nobody reads them."""
    from omegaconf import OmegaConf

    for place in PLACES:
        parent, _, name = place.rpartition(".")
        node = OmegaConf.select(config, parent)
        for key in node or ():
            if key != name and misspelt(str(key), [name]):
                settings = _overrides(node.get(key), place)
                yield f"{parent}.{key}: nobody reads this key; did you mean '{name}'? Then write {settings}"


def check_misplaced(config: Any) -> Iterator[str]:
    """Settings of the run's estimator or reward in a node that nobody else reads, such as ``algorithm.kimi``."""
    owners = _owners_in(config)
    for path, node in _nodes(config):
        found = ((one, keys) for one in owners if (keys := one.keys_in(path, node)))
        for one, keys in itertools.islice(found, 1):
            yield f"{path}: nobody reads {', '.join(keys)} here; write {_overrides(keys, one.place)}"


def advise_on_places(config: Any) -> Iterator[str]:
    """Single keys with the name of a setting of the run's estimator or reward. They may be somebody else's."""
    owners = _owners_in(config)
    for path, node in _nodes(config):
        for one in owners:
            for key in sorted(one.settings.intersection(node)) if path in _ALONE[one.place] else ():
                yield (f"{path}.{key}".lstrip(".") + f": {one.name} does not read this key; if it is meant for it, write "
                       f"{_overrides({key: node[key]}, one.place)}")  # fmt: skip


def right_place(path: str) -> str | None:
    """Where the setting of ours belongs that stands at ``path``; None for a path that is not meant for us.

    >>> right_place("efficiency.length_weight"), right_place("reward.marker")
    ('algorithm.efficiency.length_weight', 'reward.custom_reward_function.reward_kwargs.marker')
    >>> right_place("actor_rollout_ref.rollout.temperature"), right_place("algorithm.efficiency.penalty")
    (None, None)
    """
    parent, _, key = path.rpartition(".")
    owners = [_owner(method, SETTINGS) for method in ESTIMATORS.values()]
    owners += [_owner(method, KWARGS) for method in REWARDS.values()]
    for one in owners:
        near = parent in _ALONE[one.place] or one.owns(parent) or (parent == FUNCTION and one.place == KWARGS)
        if near and key in one.settings:
            return f"{one.place}.{key}"
    return None


def _owners_in(config: Any) -> list[Owner]:
    """The estimator and the reward of a run, as far as they are ours."""
    method, reward = estimator_of(config), reward_of(config)
    try:
        owners = [_owner(method, SETTINGS)] if method else []
        if method and method.name == "custom" and (own := _shaper_in(config)):
            owners = [owners[0]._replace(settings=owners[0].settings.union(setting_names(own)))]
    except SettingsError:  # a function that cannot be loaded; checks/estimator.py reports it
        owners = []
    return owners + ([_owner(reward.method, KWARGS)] if reward else [])


def _shaper_in(config: Any) -> Method | None:
    """The function that ``custom`` runs, if the configuration names one."""
    from omegaconf import OmegaConf

    path = OmegaConf.select(config, f"{SETTINGS}.shaper")
    return own_method("shaper", path, f"shaper: {path}") if isinstance(path, str) else None


def _owner(method: Method, place: str) -> Owner:
    return Owner(method.name, place, frozenset(setting_names(method)))


def _nodes(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node of a configuration with its path, but for our places."""
    from omegaconf import OmegaConf

    left: list[tuple[str, Any]] = [("", OmegaConf.to_container(config, resolve=False))]
    while left:
        path, node = left.pop(0)
        if path not in PLACES:
            yield path, node
            left += [(f"{path}.{key}".lstrip("."), one) for key, one in node.items() if isinstance(one, Mapping)]


def _overrides(node: Any, place: str) -> str:
    """The settings in ``node``, as overrides in the right place."""
    leaves = set_leaves(node, f"+{place}") if isinstance(node, Mapping) else ()
    return " ".join(written(leaf, value) for leaf, value in leaves) or f"+{place}.SETTING=VALUE"
