"""Routing: which rollout learns by which signal, as data.

A router is a function ``(rollouts, settings) -> Routes``. The trainer executes what it says; name your own router by
its import path in the setting ``router``. It is called more than once per step, with the rows in different orders: it must be a
function of its arguments alone, and decide for a rollout the same in any order.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.methods.advantages import group_advantage
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.settings import SettingsError

GRPO, DISTIL, SKIP = 0, 1, 2
NO_SOURCE, REFERENCE, INSTRUCTION = -1, -2, -3


@dataclass(frozen=True)
class Routes:
    """What each rollout learns by.

    Attributes:
        route_B: int64, ``GRPO``, ``DISTIL`` or ``SKIP``; padding is ``SKIP``. Skipped rollouts are in no loss and in no
            denominator, unless all are: then all advantages are 0.
        source_B: int64, the demonstration in the teacher's prompt of a rollout with route ``DISTIL``: the row of a rollout of
            its group, ``REFERENCE`` (the prompt's reference solution), ``INSTRUCTION`` (none: the teacher's question says
            more than the student's), or ``NO_SOURCE`` (feedback alone).
        feedback_B: bool, whether the feedback on the rollout stands in its teacher's prompt.
    """

    route_B: Tensor
    source_B: Tensor
    feedback_B: Tensor

    @property
    def distil_B(self) -> Tensor:
        """(B,) bool: the rollouts that a teacher scores."""
        return self.route_B == DISTIL


Router = Callable[[Rollouts, Any], Routes]


def router_of(own: Router, settings: Any) -> Router:
    """The router that ``settings.router`` names, or ``own``.

    Raises:
        SettingsError: there is no such function.
    """
    if settings.router is None:
        return own
    module, _, name = settings.router.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"router: {settings.router!r} cannot be imported ({error}); write package.module.function"
        ) from None
    if not callable(found):
        raise SettingsError(f"router: {settings.router!r} is a {type(found).__name__}, not a function")
    return found


def route(own: Router, rollouts: Rollouts, settings: DistillationSettings) -> Routes:
    """The routes of a batch: by the router that ``settings.router`` names, else by the method's ``own``."""
    return check_routes(router_of(own, settings)(rollouts, settings), rollouts)


def check_routes(routes: Any, rollouts: Rollouts) -> Routes:
    """``routes`` as they are, if a trainer can execute them.

    Raises:
        ValueError: wrong type or shape, a source outside the group, or a rollout whose teacher would be told nothing.
    """
    if not isinstance(routes, Routes):
        raise ValueError(f"a router must return verl_efficiency.methods.routing.Routes, got {type(routes).__name__}")
    B = len(rollouts.scores_B)
    for name in ("route_B", "source_B", "feedback_B"):
        if getattr(routes, name).shape != (B,):
            raise ValueError(f"Routes.{name} must have one entry per rollout ({B}), got {getattr(routes, name).shape}")
    for row in routes.distil_B.nonzero().flatten().tolist():
        source, group = int(routes.source_B[row]), int(rollouts.groups_B[row])
        if not rollouts.real_B[row]:
            raise ValueError(f"rollout {row} only pads the batch; its route must be SKIP")
        if source >= 0 and (source >= B or int(rollouts.groups_B[source]) != group or not rollouts.real_B[source]):
            raise ValueError(f"the demonstration of rollout {row} is {source}, which is not in its group")
        if source == REFERENCE and (rollouts.references_G is None or not rollouts.references_G[group]):
            raise ValueError(f"rollout {row} is to learn from a reference solution, but its prompt has none")
        told = rollouts.feedback_B is not None and bool(rollouts.feedback_B[row]) and bool(routes.feedback_B[row])
        if source == NO_SOURCE and not told:
            raise ValueError(f"rollout {row} is to be distilled with neither a demonstration nor feedback")
    return routes


def demonstrations(rollouts: Rollouts, settings: DistillationSettings) -> Tensor:
    """(B,) int64: the row of the correct rollout that is shown to each rollout's teacher; ``NO_SOURCE`` where there is none.

    The first or the shortest of its group (ties: the first); with ``dont_reprompt_on_self_success`` never the rollout itself.

    >>> r = Rollouts.build(torch.tensor([0., 1., 1., 0.]), torch.tensor([9, 7, 5, 4]), list("aaab"))
    >>> demonstrations(r, DistillationSettings()).tolist()
    [1, 2, 1, -1]
    >>> demonstrations(r, DistillationSettings(demonstration="shortest", dont_reprompt_on_self_success=False)).tolist()
    [2, 2, 2, -1]
    """
    rows = len(rollouts.lengths_B)
    row_B = torch.arange(rows, device=rollouts.lengths_B.device)
    order_B = row_B if settings.demonstration == "first" else rollouts.lengths_B * rows + row_B
    usable_B = rollouts.correct_B
    if not settings.truncated_demonstrations:
        if settings.max_response_length is None:
            raise SettingsError(
                "max_response_length: must be set with truncated_demonstrations=False, or no answer is seen to be cut off"
            )
        whole_B = rollouts.lengths_B
        if rollouts.responses_B is not None:  # what a tool wrote counts towards the limit too
            whole_B = torch.tensor([len(ids) for ids in rollouts.responses_B], device=whole_B.device)
        usable_B = usable_B & (whole_B < settings.max_response_length)
    best_B = rollouts.smallest(order_B, usable_B)[rollouts.groups_B]
    if settings.dont_reprompt_on_self_success:
        is_best_B = usable_B & (order_B == best_B)
        second_B = rollouts.smallest(order_B, usable_B & ~is_best_B)[rollouts.groups_B]
        best_B = torch.where(is_best_B, second_B, best_B)
    found_B = best_B.isfinite() & rollouts.real_B
    return torch.where(found_B, torch.where(found_B, best_B, 0).long() % rows, NO_SOURCE)


def route_taught(rollouts: Rollouts, settings: DistillationSettings, among_B: Tensor, others: int) -> Routes:
    """``DISTIL`` for the real rollouts of ``among_B`` whose teacher would know more than the student, ``others`` for the rest.

    It would where another rollout of the group is correct, or where the reward said something of the rollout.
    """
    source_B = demonstrations(rollouts, settings)
    said_B = torch.zeros_like(rollouts.real_B)
    if rollouts.feedback_B is not None and settings.include_environment_feedback:
        said_B = torch.tensor([bool(text) for text in rollouts.feedback_B], device=said_B.device)
    distil_B = rollouts.real_B & among_B & ((source_B != NO_SOURCE) | said_B)
    shown_B = said_B & (source_B == NO_SOURCE) if settings.environment_feedback_only_without_solution else said_B
    return Routes(
        route_B=torch.where(distil_B, DISTIL, torch.where(rollouts.real_B, others, SKIP)),
        source_B=torch.where(distil_B, source_B, NO_SOURCE),
        feedback_B=distil_B & shown_B,
    )


def routed_outcome(rollouts: Rollouts, routes: Routes, settings: DistillationSettings) -> Outcome:
    """The group advantage of the rollouts with route ``GRPO``, compared with their whole group; 0 for the others."""
    advantages_B = group_advantage(settings.advantage, rollouts.scores_B, rollouts)
    return Outcome(
        torch.where(routes.route_B == GRPO, advantages_B, 0.0),
        {
            f"{name}_share": rollouts.average(routes.route_B == route)
            for name, route in (("grpo", GRPO), ("distil", DISTIL), ("skip", SKIP))
        },
    )
