"""Your own methods: a function named by its import path, or offered by an installed package.

A method is a function ``(rollouts, settings)`` or ``(rollouts, settings, state)`` that returns an
:class:`~verl_efficiency.methods.outcome.Outcome`. Its annotations name two classes:

* ``settings``: a frozen dataclass derived from ``ShapingSettings``; without the annotation, ``ShapingSettings``.
* ``state``: a dataclass of plain data, in which every field has a default. Checkpoints hold it if ``settings.keeps_state``.

A package offers a method by an entry point::

    [project.entry-points."verl_efficiency.methods"]
    flat_penalty = "my_package.penalties:flat_penalty"

It is imported only when a run, ``doctor`` or ``methods`` asks for it, so a broken package stops no other run.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import inspect
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verl_efficiency.methods.catalog import ESTIMATORS, METHODS, REMOVED
from verl_efficiency.methods.row import Estimator
from verl_efficiency.settings import MethodSettings, SettingsError, require

GROUP = "verl_efficiency.methods"


@dataclass(frozen=True)
class OwnMethod(Estimator):
    """A method that is not in the catalog.

    Attributes:
        path: ``package.module.function``.
        owner: where the method comes from, for messages.
    """

    path: str = ""
    owner: str = ""

    @property
    def module(self) -> str:
        return self.path.rpartition(".")[0]

    def function(self) -> Callable:
        """The function, wrapped so that it raises an error if its result is unusable.

        Raises:
            SettingsError: the function cannot be loaded; the message names the owner.
        """
        return _checked(self._load(), self.owner)

    def settings_class(self) -> type[Any]:
        from verl_efficiency.methods.shaping.base import ShapingSettings

        cls = self._annotated("settings")
        cls = ShapingSettings if cls is type(None) else cls
        fits = isinstance(cls, type) and issubclass(cls, MethodSettings) and dataclasses.is_dataclass(cls)
        if not fits or not all(hasattr(cls, name) for name in ("advantage", "correct_threshold")):
            raise SettingsError(
                f"{self.owner}: the settings must be a dataclass derived from ShapingSettings, got {cls!r}"
            )
        return cls

    def build_settings(self, mapping: Any, where: str) -> MethodSettings:
        return self.accepted(super().build_settings(mapping, where))

    def accepted(self, settings: MethodSettings) -> MethodSettings:
        """Return ``settings`` if the method can run with them.

        Raises:
            SettingsError: the settings need a self-teacher, or ``keeps_state`` is False for a method with a state.
        """
        if settings.needs_trainer:
            raise SettingsError(
                f"{self.owner}: your own method is an estimator; derive its settings from ShapingSettings"
            )
        if self.new_state() is not None and not settings.keeps_state:
            raise SettingsError(
                f"{self.owner}: it has a state, which is saved only if {type(settings).__name__}.keeps_state is a property "
                "that returns True"
            )
        return settings

    def new_state(self) -> Any:
        cls = self._annotated("state")
        if cls is type(None):
            return None
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise SettingsError(f"{self.owner}: the state must be a dataclass whose fields have defaults, got {cls!r}")
        return cls()

    def described(self) -> "OwnMethod":
        """A copy whose summary is the first line of the function's docstring. Loads the function."""
        return dataclasses.replace(self, summary=(inspect.getdoc(self._load()) or "").partition("\n")[0])

    def _annotated(self, parameter: str) -> Any:
        self._load()
        try:
            return self.annotation(parameter)
        except (NameError, TypeError) as error:
            raise SettingsError(f"{self.owner}: its annotations cannot be read: {error}") from None

    def _load(self) -> Callable:
        try:
            found = getattr(importlib.import_module(self.module), self.path.rpartition(".")[2])
        except (Exception, SystemExit) as error:  # the import of another package may raise anything
            raise SettingsError(f"{self.owner} cannot be loaded: {type(error).__name__}: {error}") from error
        if not inspect.isfunction(found) or inspect.iscoroutinefunction(found):
            raise SettingsError(f"{self.owner} must be a plain function (rollouts, settings, state), got {found!r}")
        if len(inspect.signature(found).parameters) not in (2, 3):
            raise SettingsError(f"{self.owner} must take (rollouts, settings) or (rollouts, settings, state)")
        return found


@dataclass(frozen=True)
class Offers:
    """The methods of all installed packages.

    Attributes:
        methods: by name.
        refused: name → why it names no method: several packages offer it, or it was removed.
        problems: for the log, one line per method that is not available.
    """

    methods: dict[str, OwnMethod]
    refused: dict[str, str]
    problems: tuple[str, ...]


def own_method(name: str, path: str, owner: str) -> OwnMethod:
    """The method at ``package.module.function`` or ``package.module:function``. Does not load it.

    Raises:
        SettingsError: ``path`` has another form.
    """
    dotted = path.replace(":", ".")
    valid = "." in dotted and all(part.isidentifier() for part in dotted.split("."))
    require(valid, name, path, "package.module.function")
    return OwnMethod(name, paper="", summary="", path=dotted, owner=owner)


@functools.cache
def offers() -> Offers:
    """The methods of all installed packages. Reads metadata only; imports no package."""
    by_name: dict[str, dict[str, OwnMethod]] = defaultdict(dict)
    refused, problems = {}, []
    try:
        points = list(importlib.metadata.entry_points(group=GROUP))
    except Exception as error:  # noqa: BLE001  # unreadable metadata of any package must stop no run
        return Offers({}, REMOVED, (f"the entry points {GROUP} cannot be read: {type(error).__name__}: {error}",))
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
    found = {name: next(iter(methods.values())) for name, methods in by_name.items() if name not in refused}
    removed = {name: answer for name, answer in REMOVED.items() if name not in found}
    return Offers(found, {**removed, **refused}, tuple(problems))


def all_estimators() -> dict[str, Estimator]:
    """The estimators of the catalog and those of installed packages, by name."""
    return {**ESTIMATORS, **offers().methods}


def _checked(function: Callable, owner: str) -> Callable:
    """``function`` with three arguments, as adapters call it; raises an error if the result is unusable."""
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
