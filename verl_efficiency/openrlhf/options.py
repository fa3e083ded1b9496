"""Our flags, ``--efficiency.…``, on a command line of OpenRLHF.

::

    --efficiency.method token_budget      the method that computes the advantages; null: OpenRLHF itself
    --efficiency.penalty 0.5              one of its settings; names and defaults as in verl's algorithm.efficiency
    --efficiency.reward accuracy          one of our rewards, with its defaults

Values are JSON (``0.5``, ``null``, ``[1, 2]``), else plain text. True, false and null may be written in any case.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from verl_efficiency.adapter.checks import build_settings, has_teacher, wrong_method
from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS, Estimator
from verl_efficiency.methods.own import all_estimators
from verl_efficiency.settings import MethodSettings, SettingsError, nearest, unknown

ROOT = "--efficiency"


@dataclass(frozen=True)
class Options:
    """What a user asks for with our flags. It is plain data, so Ray can send it to every actor.

    Attributes:
        method: name of the method; None: OpenRLHF computes the advantages.
        settings: the method's settings, as the user wrote them.
        reward: name of one of our rewards; None: the user brings a reward.
    """

    method: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    reward: str | None = None

    def row(self) -> Estimator | None:
        """The method's row of the catalog."""
        return None if self.method is None else all_estimators()[self.method]

    def build_settings(self) -> MethodSettings | None:
        """The settings as the method's own class.

        Raises:
            SettingsError: an unknown setting, or a wrong value; the message begins with the flag.
        """
        row = self.row()
        return None if row is None else build_settings(row, self.settings, ROOT)


def teaches(options: Options) -> bool:
    """Whether a self-teacher scores rollouts."""
    settings, row = options.build_settings(), options.row()
    return settings is not None and row is not None and has_teacher(row, settings)


def take_options(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """Our flags, checked, and all other arguments in their order.

    Raises:
        SettingsError: an unknown method, reward or setting; a wrong value; a flag that is given twice or without a value.

    >>> take_options(["--efficiency.method", "kimi", "--efficiency.weight=0.2", "--train.batch_size", "8"])
    (Options(method='kimi', settings={'weight': 0.2}, reward=None), ['--train.batch_size', '8'])
    >>> take_options(["--efficiency.method", "kimmi"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verl_efficiency.settings.SettingsError: --efficiency.method: unknown method 'kimmi'; did you mean 'kimi'? Known: ...
    """
    given: dict[str, Any] = {}
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        root, dot, name = flag.partition(".")
        if root != ROOT:
            if root.startswith("--") and nearest(root, [ROOT]):
                raise SettingsError(
                    f"{flag}: unknown flag; ours are {ROOT}.<name>, for example {ROOT}.method token_budget"
                )
            rest.append(argument)
            continue
        if not dot or not name:
            raise SettingsError(f"{flag}: must be {ROOT}.<name>, for example {ROOT}.method token_budget")
        if not equals:
            value = next(left, "--")
            if value.startswith("--"):
                raise SettingsError(f"{flag}: needs a value; a switch is written {flag} true")
        if name in given:
            raise SettingsError(f"{flag}: is given twice")
        given[name] = _read(value)
    return _checked(given), rest


def _read(text: str) -> Any:
    if text.lower() in ("true", "false", "null"):
        text = text.lower()
    try:
        return json.loads(text)
    except ValueError:  # most texts are not JSON
        return text


def _checked(given: dict[str, Any]) -> Options:
    settings = dict(given)
    method, reward = settings.pop("method", None), settings.pop("reward", None)
    if "method" not in given and reward is None:
        raise SettingsError(
            f"{ROOT}.method: is missing; write one of {', '.join(ESTIMATORS)}, or null for OpenRLHF's own advantages"
        )
    if method is not None and method not in all_estimators():
        problem = wrong_method(str(method), "method", all_estimators(), lambda name: f"{ROOT}.reward {name}")
        raise SettingsError(f"{ROOT}.method: {problem or unknown('method', method, all_estimators())}")
    if reward is not None and reward not in REWARDS:
        raise SettingsError(f"{ROOT}.reward: {unknown('reward', reward, REWARDS)}")
    if method is None and settings:
        raise SettingsError(
            f"{ROOT}.{next(iter(settings))}: would be ignored without {ROOT}.method. Settings of a reward go into your own "
            "reward file, see verl_efficiency.openrlhf.reward"
        )
    options = Options(method, settings, reward)
    options.build_settings()
    return options
