"""One name for all of this family: ``shaper`` names the method, everything else are that method's settings.

    algorithm.adv_estimator=length_shaped +algorithm.efficiency.shaper=kimi
    +algorithm.efficiency.weight=0.2

is ``algorithm.adv_estimator=kimi +algorithm.efficiency.weight=0.2``: one word to change when methods are compared.
``verl-efficiency methods <shaper>`` lists the settings of a shaper.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from verl_efficiency.methods.catalog import ESTIMATORS, SHAPERS
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.settings import MethodSettings, SettingsError, unknown

METHOD_OF = {ESTIMATORS[name].settings: ESTIMATORS[name] for name in SHAPERS}  # by the name of its settings class


@dataclass(frozen=True)
class LengthShapedSettings(MethodSettings):
    """Settings of ``length_shaped``: ``shaper``, and beside it those of the shaper.

    Attributes:
        shaper: name of a method of this family.
    """

    shaper: str = "arora"

    @classmethod
    def build(cls, mapping: Mapping[str, Any] | None, where: str) -> MethodSettings:
        """The settings of the shaper named in ``mapping``, in its own class.

        Raises:
            SettingsError: no such shaper, or a setting that it does not have.
        """
        given = dict(mapping or {})
        name = given.pop("shaper", cls.shaper)
        if name not in SHAPERS:
            raise SettingsError(f"{where}.shaper: {unknown('shaper', name, SHAPERS)}")
        known = ["shaper", *(setting.name for setting in fields(ESTIMATORS[name].settings_class()))]
        for key in given:
            if key not in known:
                raise SettingsError(f"{where}: {unknown('setting', key, known)}")
        return ESTIMATORS[name].build_settings(given, where)


@dataclass
class LengthShapedState:
    """What the shaper carries from step to step.

    Attributes:
        shaper: whose it is. Another shaper starts again.
        values: the fields of its state.
    """

    shaper: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def length_shaped(rollouts: Rollouts, settings: MethodSettings, state: LengthShapedState) -> Outcome:
    """The outcome of the method whose ``settings`` these are.

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([20, 21, 3]), ["a", "a", "a"])
    >>> given = {"shaper": "laser", "target_length": 20.0, "advantage": "dr_grpo"}
    >>> s = LengthShapedSettings.build(given, "algorithm.efficiency")
    >>> [round(a, 4) for a in length_shaped(r, s, LengthShapedState()).advantages_B.tolist()]
    [0.5556, 0.2222, -0.7778]
    >>> LengthShapedSettings.build({"shaper": "lazer"}, "here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: here.shaper: unknown shaper 'lazer'; did you mean 'laser'? ...
    >>> LengthShapedSettings.build({"shapre": "laser"}, "here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: here: unknown setting 'shapre'; did you mean 'shaper'? ...
    """
    method = METHOD_OF[type(settings).__name__]
    own = method.new_state()
    if own is not None and state.shaper == method.name:
        own = dataclasses.replace(own, **state.values)
    outcome = method.function()(rollouts, settings, own)
    state.shaper, state.values = method.name, {} if own is None else dict(vars(own))
    return outcome
