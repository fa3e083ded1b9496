"""The row types of the table of methods, :mod:`verl_efficiency.methods.catalog`.

A row holds only what cannot be derived. Its name gives the file, the function and the page. The function's annotations give the
settings class and the state class. Modules are imported on first use.
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
    """The fields of both row types.

    Attributes:
        name: the name in the configuration, which is also that of the file and of the function in it.
        paper: the publication.
        summary: what the method does, in one sentence.
    """

    name: str
    paper: str
    summary: str

    @property
    def hook(self) -> Literal["estimator", "trainer", "reward"]:
        """Where users name it: ``algorithm.adv_estimator``, the same with our trainer, or ``reward.custom_reward_function``."""
        raise NotImplementedError

    @property
    def module(self) -> str:
        """The module that defines it."""
        raise NotImplementedError

    def function(self) -> Callable:
        """The function of the method."""
        return getattr(importlib.import_module(self.module), self.name)

    def settings_class(self) -> type[Any]:
        """The class of its settings, a frozen dataclass."""
        raise NotImplementedError

    def build_settings(self, mapping: Any, where: str) -> MethodSettings:
        """Its settings from the user's mapping; see :func:`verl_efficiency.settings.build_settings`."""
        cls = self.settings_class()
        return cls.build(mapping, where) if hasattr(cls, "build") else build_settings(cls, mapping, where)


@dataclass(frozen=True)
class Estimator(Method):
    """A function ``(rollouts, settings, state) -> Outcome`` that computes advantages.

    Attributes:
        family: its folder in ``methods/``. ``shaping`` changes the reward by length, ``selection`` learns from some of the
            rollouts or tokens, ``routing`` sends each rollout to GRPO or to a self-teacher. Empty: none of these.
        trainer: whether it needs one of our trainers, ``trainer.v1.trainer_mode=efficiency_sync`` for example.
        router: name of the router in its module, or None.
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
        """The method's router, ``(rollouts, settings) -> Routes``."""
        assert self.router is not None, f"{self.name} routes nothing"
        return getattr(importlib.import_module(self.module), self.router)

    def new_state(self) -> Any:
        """A new state, or None for a method without state."""
        cls = self.annotation("state")
        return None if cls is types.NoneType else cls()

    def restored_state(self, saved: Mapping[str, Any]) -> Any:
        """Rebuild the state from ``saved``, the result of ``dataclasses.asdict``.

        Raises:
            SettingsError: ``saved`` has a field that this version does not have.
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
        """The annotated class of a parameter: X for ``X | None``, NoneType without an annotation."""
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
