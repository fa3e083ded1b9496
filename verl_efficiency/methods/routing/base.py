"""Routing: a router decides for each rollout whether it learns by GRPO, from the teacher, or not at all.

A router is a function ``(rollouts, settings) -> Routes``. To use your own, write its import path into the setting ``router``.
The trainer calls it several times per step, with the rows in different orders. So its decision for a rollout must depend on
its arguments only, and not on the order of the rows.
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
    """The routes of a batch.

    Attributes:
        route_B: int64, ``GRPO``, ``DISTIL`` or ``SKIP``; padding is ``SKIP``. Skipped rollouts enter no loss and no
            denominator. If all rollouts are skipped, all advantages are 0.
        source_B: int64, the demonstration in the teacher's prompt, for route ``DISTIL``: the row of a rollout of its group,
            ``REFERENCE`` (the prompt's reference solution), ``INSTRUCTION`` (no demonstration, but the teacher's question
            holds an instruction), or ``NO_SOURCE`` (feedback only).
        feedback_B: bool, whether the teacher's prompt includes the feedback on the rollout.
    """

    route_B: Tensor
    source_B: Tensor
    feedback_B: Tensor

    @property
    def distil_B(self) -> Tensor:
        """(B,) bool: the rollouts that the teacher scores."""
        return self.route_B == DISTIL


Router = Callable[[Rollouts, Any], Routes]


def router_of(own: Router, settings: Any) -> Router:
    """The router named by ``settings.router``, or ``own`` if that is unset.

    Raises:
        SettingsError: the function does not exist.
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
    """The routes of a batch, checked; by the user's router, or by the method's ``own``."""
    return check_routes(router_of(own, settings)(rollouts, settings), rollouts)


def check_routes(routes: Any, rollouts: Rollouts) -> Routes:
    """Return ``routes`` unchanged if a trainer can execute them.

    Raises:
        ValueError: wrong type or shape, a source outside the group, or neither demonstration nor feedback for a teacher.
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
            raise ValueError(f"rollout {row} has as source a REFERENCE solution, but its prompt has none")
        told = rollouts.feedback_B is not None and bool(rollouts.feedback_B[row]) and bool(routes.feedback_B[row])
        if source == NO_SOURCE and not told:
            raise ValueError(f"rollout {row} has the route DISTIL, but neither a demonstration nor feedback")
    return routes


def demonstrations(rollouts: Rollouts, settings: DistillationSettings) -> Tensor:
    """(B,) int64: the row of the correct rollout that each rollout's teacher sees, or ``NO_SOURCE``.

    ``settings.demonstration`` picks the first or the shortest correct rollout of the group. Ties go to the first. With
    ``dont_reprompt_on_self_success`` a rollout is never its own demonstration.

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
                "max_response_length: must be set with truncated_demonstrations=False, which needs it to detect truncation"
            )
        whole_B = rollouts.lengths_B
        if rollouts.responses_B is not None:  # tool output counts towards the limit too
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
    """``DISTIL`` for real rollouts in ``among_B`` with a demonstration or feedback, ``others`` for the remaining real ones."""
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
    """The group advantage over the whole group for rollouts with route ``GRPO``; 0 for the others."""
    advantages_B = group_advantage(settings.advantage, rollouts.scores_B, rollouts)
    return Outcome(
        torch.where(routes.route_B == GRPO, advantages_B, 0.0),
        {
            f"{name}_share": rollouts.average(routes.route_B == route)
            for name, route in (("grpo", GRPO), ("distil", DISTIL), ("skip", SKIP))
        },
    )
