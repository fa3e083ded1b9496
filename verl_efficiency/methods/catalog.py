"""The table of methods. README, command line, adapters and tests read it; importing it imports no method and no torch."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from verl_efficiency.settings import MethodSettings, build_settings


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: the word in a user's configuration, the file's name and the recipe's name.
        hook: ``estimator`` (``algorithm.adv_estimator``) or ``reward`` (``reward.custom_reward_function.name``).
        summary: the method in one sentence.
        paper: where it is published.
        module: the module that defines the function ``name``.
        settings: name of its settings class in ``module``; None for a reward whose settings are its keyword arguments.
        state: name of the class in ``module`` that carries something from step to step, or None.
        recipe: a script that runs it.
    """

    name: str
    hook: Literal["estimator", "reward"]
    summary: str
    paper: str
    module: str
    settings: str | None
    state: str | None
    recipe: str

    def function(self) -> Callable:
        """The method itself."""
        return getattr(importlib.import_module(self.module), self.name)

    def settings_class(self) -> type[Any]:
        """Its settings class."""
        assert self.settings is not None, f"{self.name} has no settings class"
        return getattr(importlib.import_module(self.module), self.settings)

    def build_settings(self, mapping: Any, where: str) -> MethodSettings:
        """Its settings from what the user wrote; see :func:`verl_efficiency.settings.build_settings`."""
        return build_settings(self.settings_class(), mapping, where)

    def new_state(self) -> Any:
        """A fresh state, or None for a method that keeps none."""
        return getattr(importlib.import_module(self.module), self.state)() if self.state else None


METHODS = (
    Method(
        name="token_budget",
        hook="estimator",
        summary="A correct answer pays for the tokens it spends over a budget that grows with the problem's difficulty.",
        paper="ours; after arXiv 2604.02322, 2503.04472, 2505.15612",
        module="verl_efficiency.methods.shaping.token_budget",
        settings="TokenBudgetSettings",
        state="TokenBudgetState",
        recipe="recipes/verl/token_budget.sh",
    ),
    Method(
        name="variance_routing",
        hook="estimator",
        summary="GRPO where the rewards of a group vary; imitation of its shortest correct rollout where they do not.",
        paper="ours; compare SRPO, arXiv 2604.02288",
        module="verl_efficiency.methods.routing",
        settings="VarianceRoutingSettings",
        state=None,
        recipe="recipes/verl/variance_routing.sh",
    ),
    Method(
        name="batched_accuracy",
        hook="reward",
        summary="N problems share one prompt and one token limit; the reward is the mean accuracy over the problems.",
        paper="Batched Contextual Reinforcement, arXiv 2604.02322",
        module="verl_efficiency.rewards.batched_accuracy",
        settings="BatchedAccuracySettings",
        state=None,
        recipe="recipes/verl/batched_accuracy.sh",
    ),
    Method(
        name="accuracy",
        hook="reward",
        summary="One problem, one answer in \\boxed{}: 1 if it equals the ground truth, else 0.",
        paper="",
        module="verl_efficiency.rewards.accuracy",
        settings="AccuracySettings",
        state=None,
        recipe="recipes/verl/token_budget.sh",
    ),
)

BY_NAME = {method.name: method for method in METHODS}
ESTIMATORS = tuple(method for method in METHODS if method.hook == "estimator")


def markdown_table() -> str:
    """The table of methods for the README; a test keeps the two equal."""
    rows = ["| name | where | what it does | paper |", "|---|---|---|---|"]
    where = {"estimator": "`algorithm.adv_estimator`", "reward": "`reward.custom_reward_function.name`"}
    for method in METHODS:
        rows.append(f"| [`{method.name}`]({method.recipe}) | {where[method.hook]} | {method.summary} | {method.paper or '–'} |")
    return "\n".join(rows)
