"""Start-up rules that hold in every framework.

The functions take plain values, and the names under which users of the framework write them. A rule yields one line per
problem: the setting, what is wrong, the fix.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS, Estimator, Method, Reward
from verl_efficiency.methods.own import all_estimators, offers
from verl_efficiency.settings import MethodSettings, SettingsError, misspelt, nearest, unknown

_LEARNS_WHERE_ALL_ARE_RIGHT = ("variance_routing", "self_distillation", "concise_teacher")
# Settings in tokens that sort responses into those above and those below, and what each is.
_TO_EXCEED = {"b_min": "the smallest budget", "target_length": "the target", "min_target": "the lowest target"}
# Settings that stand for the longest response.
_TO_REACH = ("max_response_length", "max_tokens")
# Why a method with a self-teacher takes no KL term.
KL_TO_REFERENCE = "a KL to the reference pulls routed rollouts away from their teacher; the papers have none"


class Need(NamedTuple):
    """What a method needs of a setting of the framework; ``allowed[0]`` is the fix."""

    key: str
    value: Any
    allowed: tuple[Any, ...]
    reason: str


def unmet(who: str, needs: Iterable[Need], write: Callable[[str, Any], str]) -> Iterator[str]:
    """One line for each need that is not met; ``write(key, value)`` is how a user sets the key."""
    for key, value, allowed, reason in needs:
        if value not in allowed:
            wanted = " or ".join(map(str, allowed[:2]))
            yield f"{key}: {who} needs {wanted}, not {value}; {write(key, allowed[0])} ({reason})"


def wrong_method(name: str, what: str, known: Iterable[str], write_reward: Callable[[str], str]) -> str | None:
    """Why ``name`` is not a method. None if it does not resemble any of our names.

    Args:
        name: what the user wrote.
        what: what the framework calls it, for example "estimator".
        known: the names that it may have.
        write_reward: how a user asks for a reward by its name.
    """
    if name in offers().refused:
        return offers().refused[name]
    if misspelt(name, all_estimators()):
        return unknown(what, name, known)
    reward = misspelt(name, REWARDS)
    return f"unknown {what} {name!r}; {reward} is a reward: write {write_reward(reward)}" if reward else None


def methods_with(keys: Iterable[str]) -> list[str]:
    """The estimators that have all these settings."""
    wanted = set(keys)
    return [name for name, method in ESTIMATORS.items() if wanted <= set(setting_names(method))]


def build_settings(method: Estimator, given: Any, where: str) -> MethodSettings:
    """The settings of ``method``. If an unknown setting belongs to other methods, the error names them.

    Raises:
        SettingsError: an unknown setting, or a wrong value.
    """
    try:
        return method.build_settings(given, where)
    except SettingsError as error:
        raise SettingsError(f"{error}{_elsewhere(method, given)}") from None


def _elsewhere(method: Estimator, given: Any) -> str:
    try:
        own = setting_names(method)
    except SettingsError:  # a method of another package that cannot be loaded; the caller reports that
        return ""
    for key in given if isinstance(given, Mapping) else ():
        if key not in own and not nearest(str(key), own) and methods_with([str(key)]):
            return f" ({key!r} is a setting of {', '.join(methods_with([str(key)]))})"
    return ""


def setting_names(method: Method) -> list[str]:
    """The names of the settings of a method."""
    return [field.name for field in dataclasses.fields(method.settings_class())]


def has_teacher(method: Estimator, settings: MethodSettings) -> bool:
    """Whether a self-teacher scores rollouts."""
    return method.router is not None and settings.needs_trainer


def check_router(method: Estimator, settings: Any, where: str) -> Iterator[str]:
    """A line if the routing function that the settings name cannot be imported."""
    from verl_efficiency.methods.routing.base import router_of

    try:
        router_of(method.own_router(), settings)
    except SettingsError as error:
        yield f"{where}.{error}"


def check_aggregation(
    method: Estimator, settings: MethodSettings, mode: str, key: str, fix: str, unscaled: str
) -> Iterator[str]:
    """A line if the method scales its token weights for a mean over all tokens, and the loss is another mean.

    Args:
        method, settings: who runs.
        mode: how the framework averages the loss; ``token-mean`` is always right.
        key: the setting that holds ``mode``.
        fix: how a user sets it to ``token-mean``.
        unscaled: how a user turns the method's own scaling off.
    """
    if mode == "token-mean":
        return
    if has_teacher(method, settings):
        reason = "both terms of its loss share one denominator, the number of tokens"
        yield f"{key}: {method.name} needs token-mean, not {mode}; {fix} ({reason})"
    elif getattr(settings, "normalise", "none") != "none":
        yield f"{key}: {method.name} is scaled for token-mean, not {mode}; {fix}, or {unscaled}"


def check_loss(
    method: Estimator, settings: MethodSettings, loss: str, key: str, of_rollouts: Mapping[str, str], fix: str
) -> Iterator[str]:
    """A line if the method weights single tokens, and the policy loss treats all tokens of a rollout alike.

    Args:
        method, settings: who runs.
        loss: the framework's policy loss.
        key: the setting that holds ``loss``.
        of_rollouts: the losses that treat all tokens of a rollout alike, and what each does.
        fix: how a user gets a loss that works token by token.
    """
    if loss in of_rollouts and (settings.needs_trainer or settings.weighs_tokens):
        yield f"{key}: {method.name} works token by token, but {loss} {of_rollouts[loss]}; {fix}"


def check_shares(values: Iterable[Any], path: str, where: str, file: Any) -> Iterator[str]:
    """A line for the first value of a difficulty column that is not a number in [0, 1]."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            yield f"{where}: {path} must be a number in [0, 1] in every row, but {file} has {value!r}"
            return


def check_budget(settings: Any, limit: int | None, where: str, limit_key: str) -> Iterator[str]:
    """A line for each budget, target or limit among the settings that the responses of the run cannot reach."""
    from verl_efficiency.methods.cost import most_per_token  # torch, which the plugin must not load

    if limit is None:
        return
    highest = limit * most_per_token(getattr(settings, "cost", "generated"))
    for name, what in _TO_EXCEED.items():
        value = getattr(settings, name, None)
        if isinstance(value, int | float) and value >= highest:
            yield (f"{where}.{name}: no response can exceed {value:g} with {limit_key} = {limit}, so {what} tells none apart; "
                   f"set it below {highest:g}")  # fmt: skip
    for name in _TO_REACH:
        value = getattr(settings, name, None)
        if isinstance(value, int | float) and value > highest:
            yield (f"{where}.{name}: no response can reach {value:g} with {limit_key} = {limit}; leave it out, or set it to at "
                   f"most {highest:g}")  # fmt: skip


def check_keep(settings: Any, rollouts: int, where: str, group_key: str) -> Iterator[str]:
    """A line if a method that learns from a part of each group keeps all of it."""
    from verl_efficiency.methods.selection.base import SelectionSettings  # torch, which the plugin must not load

    if isinstance(settings, SelectionSettings) and settings.keep is not None and 1 < rollouts <= settings.keep:
        yield (f"{where}.keep: {settings.keep} keeps every rollout of a group with {group_key} = {rollouts}, so none is left "
               f"out; set it below {rollouts}, or leave it out to keep half")  # fmt: skip


def check_limit(method: Estimator, given: Any, settings: Any, limit: Any, where: str) -> Iterator[str]:
    """A line if a setting does not fit the response limit that :func:`with_limit` will add."""
    limited = with_limit(given, settings, limit)
    if limited is None:
        return
    try:
        method.build_settings(limited, where)
    except SettingsError as error:
        yield str(error)


def with_limit(given: Mapping[str, Any] | None, settings: Any, limit: int) -> dict[str, Any] | None:
    """``given`` plus the response limit of the run, if the method needs a limit and the user set none; else None."""
    if getattr(settings, "max_response_length", 0) is not None:
        return None
    return {**(given or {}), "max_response_length": limit}


def learns_where_all_are_right(method: Estimator, settings: Any) -> bool:
    """Whether a method learns from a group in which every rollout is correct, for example to be shorter."""
    from verl_efficiency.methods.shaping.base import ShapingSettings

    of_ours = method.family == "shaping"
    return of_ours or isinstance(settings, ShapingSettings) or method.name in _LEARNS_WHERE_ALL_ARE_RIGHT


def only_a_term(reward: Reward) -> str | None:
    """Why a reward cannot be used alone. None if it can."""
    reason = reward.settings_class().only_as_term
    return f"{reward.name} alone {reason}; make it a term of composition" if reason else None


def state_is_lost(method: Estimator, where: str, fix: str) -> str:
    """The line for a run that cannot save the state which the method carries from step to step."""
    return f"{where}: {method.name} carries state from step to step, and a resumed run would lose it; {fix}"
