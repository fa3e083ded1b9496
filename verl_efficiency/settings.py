"""Settings: one frozen dataclass per method, built from the user's mapping. A wrong setting is refused early, by its name.

A settings class is a ``@dataclass(frozen=True)`` that checks its own ranges in ``__post_init__`` with :func:`require`.
:func:`build_settings` turns a mapping (a YAML node, command-line flags) into it and refuses unknown keys and wrong types.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Demo:
...     weight: float = 0.5
...     def __post_init__(self):
...         require(self.weight >= 0, "weight", self.weight, "a number of at least 0")
>>> build_settings(Demo, {"weight": 1}, where="algorithm.efficiency")
Demo(weight=1.0)
>>> build_settings(Demo, {"wieght": 1}, where="algorithm.efficiency")
Traceback (most recent call last):
verl_efficiency.settings.SettingsError: algorithm.efficiency: unknown setting 'wieght'; did you mean 'weight'? Known: weight
"""

import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting is wrong. The message says what is wrong, where, the closest valid name, and the fix."""


class MethodSettings:
    """The interface between adapters and the settings of every method. Methods override these defaults."""

    correct_threshold: float
    advantage: str

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the data set that the method reads: role (``difficulty``, ``prompt``, ``reference``) → path."""
        return {}

    @property
    def names_prompts(self) -> bool:
        """Whether the method needs names of prompts that stay the same across epochs."""
        return False

    @property
    def keeps_state(self) -> bool:
        """Whether the method carries state from step to step, which checkpoints must hold."""
        return False

    @property
    def needs_trainer(self) -> bool:
        """Whether the method needs our trainer, because an estimator is not enough."""
        return False

    @property
    def reads_responses(self) -> bool:
        """Whether the method needs the token ids of the responses."""
        return False

    @property
    def reads(self) -> frozenset[str]:
        """What verl's driver must fetch of every rollout for the method: ``scores``, ``masks``, ``responses``, ``prompts``.

        Each of these is a tensor over all tokens of the batch (1 GiB for 16,384 rollouts of 8,192 tokens). An advantage
        estimator gets scores and mask from verl, so a method needs them here only if it acts before the advantages.
        """
        thinking = {"masks", "responses", "prompts"} if "thinking" in self.parts else set()
        return frozenset({"responses"} if self.reads_responses else ()) | thinking

    @property
    def parts(self) -> frozenset[str]:
        """Counts per rollout that the method needs besides generated tokens: ``thinking``, ``turns``, ``context``."""
        return frozenset()

    @property
    def weighs_tokens(self) -> bool:
        """Whether the tokens of a rollout have different advantages (``token_weights`` of the outcome)."""
        return False

    @property
    def aggregation(self) -> str | None:
        """The mean over tokens that the paper's loss takes, by verl's name, if another mean changes the method."""
        return None

    @property
    def reads_feedback(self) -> bool:
        """Whether the method uses the reward's feedback texts."""
        return False

    @property
    def single_output(self) -> str:
        """Why the method cannot take a rollout of several outputs, each with its own prompt; empty if it can."""
        return ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about these settings, each logged once at start-up."""
        return ()


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise :class:`SettingsError` if ``condition`` is False; ``expected`` completes "must be …"."""
    if not condition:
        raise SettingsError(f"{name}: must be {expected}, got {value!r}")


def require_at_least_0(settings: object, *names: str) -> None:
    """Raise :class:`SettingsError` for the first of these settings that is negative."""
    for name in names:
        require(getattr(settings, name) >= 0, name, getattr(settings, name), "a number of at least 0")


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest name in ``known``, or ``""`` if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """The name in ``known`` that ``name`` most likely misspells, or None.

    Stricter than :func:`nearest`, because other people's names may resemble ours (``dapo`` and ``drpo``, ``my_cosine``).

    >>> misspelt("Token-Bugdet", ["token_budget", "drpo"]), misspelt("dapo", ["token_budget", "drpo"])
    ('token_budget', None)
    """
    close = difflib.get_close_matches(name.strip().lower().replace("-", "_"), list(known), n=1, cutoff=0.85)
    return close[0] if close else None


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The message for an unknown name: the closest valid name, and all valid names.

    >>> unknown("fruit", "aple", ["apple", "pear"])
    "unknown fruit 'aple'; did you mean 'apple'? Known: apple, pear"
    """
    names = sorted(known)
    return f"unknown {what} {name!r}{nearest(str(name), names) or '.'} Known: {', '.join(names)}"


def build_settings(cls: type[T], mapping: Mapping[str, Any] | None, where: str) -> T:
    """Build ``cls`` from ``mapping``; errors name the full path ``where.key``.

    Args:
        cls: a frozen dataclass whose fields are ``bool``, ``int``, ``float``, ``str``, ``Literal`` or ``X | None`` of these.
        mapping: the user's settings; ``None`` gives all defaults.
        where: the path of the mapping in the user's configuration, for example ``algorithm.efficiency``.

    Raises:
        SettingsError: unknown key, wrong type, or a value that ``cls`` refuses.
    """
    if not isinstance(mapping, Mapping | None):
        raise SettingsError(f"{where}: must hold settings (name: value), got {mapping!r}")
    hints = _type_hints(cls)  # type: ignore[arg-type]  # mypy does not see that classes are hashable
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in (mapping or {}).items():
        if key not in known:
            raise SettingsError(f"{where}: {unknown('setting', key, known)}")
        values[key] = _convert(value, hints[key], f"{where}.{key}")
    try:
        return cls(**values)
    except SettingsError as error:
        raise SettingsError(f"{where}.{error}") from None


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)  # rewards build their settings for every response, and this is most of the cost


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (inner,) = [option for option in options if option is not type(None)]
        return _convert(value, inner, where)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingsError(f"{where}: {unknown('value', value, map(str, choices))}")
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise SettingsError(f"{where}: must be a finite number, got {value!r}")
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{where}: must be {hint.__name__}, got {value!r} ({type(value).__name__})")
    return value
