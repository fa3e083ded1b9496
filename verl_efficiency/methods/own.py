"""Methods of your own: a function named by its import path, or offered by an installed package.

A method is a function ``(rollouts, settings)`` or ``(rollouts, settings, state)`` that returns an
:class:`~verl_efficiency.methods.outcome.Outcome`. Its annotations say the rest: the class of ``settings`` (a frozen dataclass
derived from ``ShapingSettings``, which is also what a function without the annotation gets) and the class of ``state`` (a
dataclass of plain data whose fields all have defaults; saved with the checkpoints if ``settings.keeps_state``).

A package offers a method by an entry point of the group ``verl_efficiency.methods``::

    [project.entry-points."verl_efficiency.methods"]
    flat_penalty = "my_package.penalties:flat_penalty"

It is imported only when a run, ``doctor`` or ``methods`` asks for it, so that a broken package stops no other run.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import inspect
import typing
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS, Method
from verl_efficiency.settings import MethodSettings, SettingsError, require

GROUP = "verl_efficiency.methods"


@dataclass(frozen=True)
class OwnMethod(Method):
    """A method that is not in the catalog; everything but its name is found when it is loaded.

    Attributes:
        attribute: name of the function in ``module``.
        owner: who offers it, for messages.
    """

    attribute: str = ""
    owner: str = ""

    def function(self) -> Callable:
        """The method, whose result is checked.

        Raises:
            SettingsError: it cannot be loaded; the message names the owner.
        """
        return _checked(self._load(), self.owner)

    def settings_class(self) -> type[Any]:
        from verl_efficiency.methods.shaping.base import ShapingSettings

        cls = self._annotation("settings", ShapingSettings)
        fits = isinstance(cls, type) and issubclass(cls, MethodSettings) and dataclasses.is_dataclass(cls)
        if not fits or not all(hasattr(cls, name) for name in ("advantage", "correct_threshold")):
            raise SettingsError(
                f"{self.owner}: the settings must be a dataclass derived from ShapingSettings, got {cls!r}"
            )
        return cls

    def build_settings(self, mapping: Any, where: str) -> MethodSettings:
        return self.accepted(super().build_settings(mapping, where))

    def accepted(self, settings: MethodSettings) -> MethodSettings:
        """``settings``, if the method can run with them.

        Raises:
            SettingsError: they ask for a self-teacher, or do not say that there is a state to save.
        """
        if settings.needs_trainer:
            raise SettingsError(
                f"{self.owner}: a method of your own is an estimator; derive its settings from ShapingSettings"
            )
        if self.new_state() is not None and not settings.keeps_state:
            raise SettingsError(
                f"{self.owner}: it has a state, which is saved only if {type(settings).__name__}.keeps_state is a property "
                "that returns True"
            )
        return settings

    def new_state(self) -> Any:
        cls = self._annotation("state", None)
        if cls is None or cls is type(None):
            return None
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise SettingsError(f"{self.owner}: the state must be a dataclass whose fields have defaults, got {cls!r}")
        return cls()

    def described(self) -> "OwnMethod":
        """With the first line of the function's docstring as its summary; loads it."""
        return dataclasses.replace(self, summary=(inspect.getdoc(self._load()) or "").partition("\n")[0])

    def _annotation(self, parameter: str, default: Any) -> Any:
        function = self._load()
        try:
            return typing.get_type_hints(function).get(parameter, default)
        except (NameError, TypeError) as error:
            raise SettingsError(f"{self.owner}: its annotations cannot be read: {error}") from None

    def _load(self) -> Callable:
        try:
            found = getattr(importlib.import_module(self.module), self.attribute)
        except (Exception, SystemExit) as error:  # whatever the import of somebody else's package does
            raise SettingsError(f"{self.owner} cannot be loaded: {type(error).__name__}: {error}") from error
        if not inspect.isfunction(found) or inspect.iscoroutinefunction(found):
            raise SettingsError(f"{self.owner} must be a plain function (rollouts, settings, state), got {found!r}")
        if len(inspect.signature(found).parameters) not in (2, 3):
            raise SettingsError(f"{self.owner} must take (rollouts, settings) or (rollouts, settings, state)")
        return found


@dataclass(frozen=True)
class Offers:
    """What the installed packages offer.

    Attributes:
        methods: by name.
        refused: name → why nobody gets it.
        problems: one line for each refusal, for the log.
    """

    methods: dict[str, OwnMethod]
    refused: dict[str, str]
    problems: tuple[str, ...]


def own_method(name: str, path: str, owner: str) -> OwnMethod:
    """The method behind ``package.module.function`` or ``package.module:function``, not loaded yet.

    Raises:
        SettingsError: ``path`` is not of that form.
    """
    module, _, attribute = path.replace(":", ".").rpartition(".")
    names = [*module.split("."), attribute]
    require(all(part.isidentifier() for part in names), name, path, "package.module.function")
    return OwnMethod(name, "estimator", "", "", module, None, None, "", attribute=attribute, owner=owner)


@functools.cache
def offers() -> Offers:
    """The methods that installed packages offer; reads their metadata and imports none of them."""
    by_name: dict[str, dict[str, OwnMethod]] = defaultdict(dict)
    refused, problems = {}, []
    try:
        points = list(importlib.metadata.entry_points(group=GROUP))
    except Exception as error:  # noqa: BLE001  # unreadable metadata of any package must stop no run
        return Offers({}, {}, (f"the entry points {GROUP} cannot be read: {type(error).__name__}: {error}",))
    for point in points:
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "a package without a name"
        owner = f"{point.name} of {package} ({point.value})"
        try:
            require(point.name.isidentifier(), GROUP, point.name, "a name made of letters, digits and _")
            by_name[point.name][owner] = own_method(point.name, point.value, owner)
        except SettingsError as error:
            problems.append(f"{owner}: {error}")
    ours = {method.name for method in METHODS}
    for name, methods in by_name.items():
        owners = [*(["verl-efficiency itself"] if name in ours else []), *methods]
        if len(owners) > 1:
            keeps = "verl-efficiency keeps it" if name in ours else "neither gets it"
            refused[name] = (
                f"the method {name!r} has several owners: {'; '.join(owners)}; {keeps}. Rename one or uninstall it"
            )
    problems += refused.values()
    return Offers({n: next(iter(m.values())) for n, m in by_name.items() if n not in refused}, refused, tuple(problems))


def all_estimators() -> dict[str, Method]:
    """The estimators of the catalog and those of installed packages, by name."""
    return {**ESTIMATORS, **offers().methods}


def _checked(function: Callable, owner: str) -> Callable:
    """``function`` as an adapter calls it, which refuses a result that no trainer could use."""
    takes_state = len(inspect.signature(function).parameters) == 3

    @functools.wraps(function)
    def call(rollouts: Any, settings: Any, state: Any = None) -> Any:
        from verl_efficiency.methods.outcome import Outcome

        outcome = function(rollouts, settings, state) if takes_state else function(rollouts, settings)
        if not isinstance(outcome, Outcome):
            raise TypeError(f"{owner} must return an Outcome, got {type(outcome).__name__}")
        shape, wanted = tuple(outcome.advantages_B.shape), tuple(rollouts.scores_B.shape)
        if shape != wanted:
            raise ValueError(f"{owner} must return one advantage per rollout, {wanted}, got {shape}")
        if not bool(outcome.advantages_B.isfinite().all()):
            raise ValueError(f"{owner} returned an advantage that is not a finite number")
        return outcome

    return call
