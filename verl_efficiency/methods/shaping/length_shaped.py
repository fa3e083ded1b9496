"""One name for all of this family: ``shaper`` names the method, everything else are that method's settings.

    algorithm.adv_estimator=length_shaped +algorithm.efficiency.shaper=kimi +algorithm.efficiency.weight=0.2

is ``algorithm.adv_estimator=kimi +algorithm.efficiency.weight=0.2``: one word to change when methods are compared.
``verl-efficiency methods <shaper>`` lists the settings of a shaper.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verl_efficiency.methods.catalog import ESTIMATORS, SHAPERS, Method
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.arora import AroraSettings
from verl_efficiency.settings import MethodSettings, SettingsError, build_settings, unknown


@dataclass(frozen=True)
class LengthShapedSettings(AroraSettings):
    """Settings of ``length_shaped``: ``shaper``, and those of the shaper (shown here: of the default one).

    Attributes:
        shaper: name of a method of this family.
        alpha: see ``arora``.
        advantage: grpo, dr_grpo, rloo, or decoupled with ``length_weight``.
        correct_threshold: a score of at least this is correct.
        max_response_length: see ``arora``.
    """

    shaper: str = "arora"

    @classmethod
    def build(cls, mapping: Mapping[str, Any] | None, where: str) -> MethodSettings:
        """The settings of the shaper named in ``mapping``, with its name in the field ``shaper``.

        Raises:
            SettingsError: no such shaper, or a setting that it does not have.
        """
        name = (mapping or {}).get("shaper", cls.shaper)
        if name not in SHAPERS:
            raise SettingsError(f"{where}.shaper: {unknown('shaper', name, SHAPERS)}")
        base = ESTIMATORS[name].settings_class()
        chosen = dataclasses.make_dataclass("LengthShapedSettings", [("shaper", str, name)], bases=(base,), frozen=True)
        return build_settings(chosen, mapping, where)


@dataclass
class LengthShapedState:
    """What the shaper carries from step to step.

    Attributes:
        shaper: whose it is. Another shaper starts anew.
        values: the fields of its state.
    """

    shaper: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def length_shaped(rollouts: Rollouts, settings: Any, state: LengthShapedState) -> Outcome:
    """The outcome of the method ``settings.shaper``.

    >>> import torch
    >>> r = Rollouts.build(torch.tensor([1., 1., 0.]), torch.tensor([20, 21, 3]), ["a", "a", "a"])
    >>> given = {"shaper": "laser", "target_length": 20.0, "advantage": "dr_grpo"}
    >>> s = LengthShapedSettings.build(given, "algorithm.efficiency")
    >>> [round(a, 4) for a in length_shaped(r, s, LengthShapedState()).advantages_B.tolist()]
    [0.6667, 0.1667, -0.8333]
    >>> LengthShapedSettings.build({"shaper": "lazer"}, "here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: here.shaper: unknown shaper 'lazer'; did you mean 'laser'? ...
    """
    method: Method = ESTIMATORS[settings.shaper]
    own = method.new_state()
    if own is not None and state.shaper == method.name:
        own = dataclasses.replace(own, **state.values)
    outcome = method.function()(rollouts, settings, own)
    state.shaper, state.values = method.name, {} if own is None else dict(vars(own))
    return outcome
