"""The types of a row in the table of methods, :mod:`verl_efficiency.methods.catalog`.

A row holds what cannot be derived. The name gives the file, the function and the page. The annotations of the function give
its settings class and its state class. Nothing is imported before it is asked for.
"""

import importlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from verl_efficiency.settings import MethodSettings, SettingsError, build_settings, unknown


@dataclass(frozen=True)
class Method:
    """What a row of either type has.

    Attributes:
        name: what the user writes in the configuration; also the name of the file and of the function in it.
        paper: where it is published.
        summary: what it does, in one sentence.
    """

    name: str
    paper: str
    summary: str

    @property
    def hook(self) -> Literal["estimator", "trainer", "reward"]:
        """``algorithm.adv_estimator``, the same with our trainer mode, or ``reward.custom_reward_function``."""
        raise NotImplementedError

    @property
    def module(self) -> str:
        """The module that defines it."""
        raise NotImplementedError

    def function(self) -> Callable:
        """The method itself."""
        return getattr(importlib.import_module(self.module), self.name)

    def settings_class(self) -> type[Any]:
        """Its settings, a frozen dataclass."""
        raise NotImplementedError

    def build_settings(self, mapping: Any, where: str) -> MethodSettings:
        """Its settings from what the user wrote; see :func:`verl_efficiency.settings.build_settings`."""
        cls = self.settings_class()
        return cls.build(mapping, where) if hasattr(cls, "build") else build_settings(cls, mapping, where)


@dataclass(frozen=True)
class Estimator(Method):
    """A function ``(rollouts, settings, state) -> Outcome`` that computes advantages.

    Attributes:
        family: its folder in ``methods/``. ``shaping`` changes the reward by length, ``selection`` learns from a part of the
            rollouts or tokens, ``routing`` sends each rollout to GRPO or to a self-teacher. Empty: none of these.
        trainer: whether it needs ``trainer.v1.trainer_mode=efficiency_sync``.
        router: name of the function in its module that routes rollouts to the self-teacher, or None.
    """

    family: str = ""
    trainer: bool = False
    router: str | None = None

    @property
    def hook(self) -> Literal["estimator", "trainer", "reward"]:
        return "trainer" if self.trainer else "estimator"

    @property
    def module(self) -> str:
        return ".".join(filter(None, ("verl_efficiency.methods", self.family, self.name)))

    def settings_class(self) -> type[Any]:
        return self.annotation("settings")

    def own_router(self) -> Callable:
        """Its router: ``(rollouts, settings) -> Routes``."""
        assert self.router is not None, f"{self.name} routes nothing"
        return getattr(importlib.import_module(self.module), self.router)

    def new_state(self) -> Any:
        """A fresh state, or None for a method that keeps none."""
        cls = self.annotation("state")
        return None if cls is types.NoneType else cls()

    def restored_state(self, saved: Mapping[str, Any]) -> Any:
        """The state that ``dataclasses.asdict`` made ``saved`` of.

        Raises:
            SettingsError: a field that this version does not have.
        """
        state = self.new_state()
        known = [field.name for field in fields(state)] if state is not None else []
        for name in saved:
            if name not in known:
                raise SettingsError(
                    f"the checkpoint's state of {self.name} is from another version: {unknown('field', name, known)}; resume "
                    "with the version that wrote it"
                )
        return replace(state, **saved)

    def annotation(self, parameter: str) -> Any:
        """The class that annotates a parameter of the function; for ``X | None`` it is X, without an annotation NoneType."""
        hint = typing.get_type_hints(self.function()).get(parameter, types.NoneType)
        return next((option for option in typing.get_args(hint) if option is not types.NoneType), hint)


@dataclass(frozen=True)
class Reward(Method):
    """A function that scores one response, as verl calls it."""

    @property
    def hook(self) -> Literal["estimator", "trainer", "reward"]:
        return "reward"

    @property
    def module(self) -> str:
        return f"verl_efficiency.rewards.{self.name}"

    def settings_class(self) -> type[Any]:
        return self.function().settings  # type: ignore[attr-defined]  # from the decorator in rewards/base.py
