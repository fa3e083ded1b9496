"""Your own method, without a package: the setting ``shaper`` names the function that computes the advantages.

    algorithm.adv_estimator=custom
    +algorithm.efficiency.shaper=my_package.my_module.my_function
    +algorithm.efficiency.my_setting=0.2

The function takes ``(rollouts, settings)`` or ``(rollouts, settings, state)`` and returns an ``Outcome``. Its annotations name
the classes of its settings and state, see :mod:`verl_efficiency.methods.own`. ``docs/examples/flat_penalty`` is a complete
example. The function must be importable where the run starts, for example by ``PYTHONPATH``. An entry point gives it a name.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.own import OwnMethod, own_method
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, SettingsError, build_settings, unknown


@dataclass(frozen=True)
class CustomSettings(MethodSettings):
    """Settings of ``custom``: ``shaper``, and those of the function that it names.

    Attributes:
        shaper: ``package.module.function``.
    """

    shaper: str | None = None

    @classmethod
    def build(cls, mapping: Mapping[str, Any] | None, where: str) -> MethodSettings:
        """The settings of the function that ``mapping`` names, in its settings class plus the field ``shaper``.

        Raises:
            SettingsError: no such function, or a setting that it does not have.
        """
        given = dict(mapping or {})
        path = given.get("shaper")
        if path is None:
            for key in given:
                raise SettingsError(f"{where}: {unknown('setting', key, ['shaper'])}, which must name a function first")
            raise SettingsError(f"{where}.shaper: must be package.module.function, the path of your method")
        if not isinstance(path, str):
            raise SettingsError(f"{where}.shaper: must be package.module.function, got {path!r}")
        try:
            return _with_shaper(_method(path), given, where)
        except SettingsError as error:
            message = str(error)
            raise SettingsError(message if message.startswith(where) else f"{where}.{message}") from None


@dataclass
class CustomState:
    """State of the function from step to step.

    Attributes:
        shaper: path of the function. Another function starts with a new state.
        values: the fields of its state.
    """

    shaper: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def custom(rollouts: Rollouts, settings: CustomSettings, state: CustomState) -> Outcome:
    """The outcome of the function that ``settings.shaper`` names. Here it is ``laser`` with rewards 1 + 1/3, 1 and 0:

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([20, 21, 3]), ["a", "a", "a"])
    >>> given = {"shaper": "verl_efficiency.methods.shaping.laser.laser", "target_length": 20.0, "advantage": "dr_grpo"}
    >>> s = CustomSettings.build(given, "algorithm.efficiency")
    >>> [round(a, 4) for a in custom(r, s, CustomState()).advantages_B.tolist()]
    [0.5556, 0.2222, -0.7778]
    """
    assert settings.shaper is not None  # CustomSettings.build checks it
    method = _method(settings.shaper)
    own = method.new_state()
    if own is not None and state.shaper == settings.shaper:
        own = dataclasses.replace(own, **state.values)
    outcome = method.function()(rollouts, settings, own)
    state.shaper, state.values = settings.shaper, {} if own is None else dict(vars(own))
    return outcome


def _method(path: str) -> OwnMethod:
    return own_method("shaper", path, f"shaper: {path}")


def _with_shaper(method: OwnMethod, given: dict[str, Any], where: str) -> MethodSettings:
    settings: Any = build_settings(_settings_class(method.settings_class()), given, where)  # type: ignore[arg-type]
    return method.accepted(settings)


@functools.lru_cache
def _settings_class(own: Any) -> type:
    """``own`` with the field ``shaper``."""
    if "shaper" in {setting.name for setting in fields(own)}:
        raise SettingsError(f"shaper: {own.__name__} must not have a setting of this name")
    described = {"__doc__": "With the path of the function.\n\nAttributes:\n    shaper: ``package.module.function``.\n"}
    return dataclasses.make_dataclass(
        own.__name__, [("shaper", str, "")], bases=(own,), frozen=True, namespace=described
    )
