"""Methods that route each rollout to GRPO, to a self-teacher, or to no loss.

Import the names for your own router from here; see :mod:`verl_efficiency.methods.routing.base`.
"""

from verl_efficiency.methods.routing.base import (
    DISTIL,
    GRPO,
    INSTRUCTION,
    NO_SOURCE,
    REFERENCE,
    SKIP,
    Router,
    Routes,
    check_routes,
    demonstrations,
    route,
    route_taught,
    routed_outcome,
    router_of,
)

__all__ = [
    "DISTIL",
    "GRPO",
    "INSTRUCTION",
    "NO_SOURCE",
    "REFERENCE",
    "SKIP",
    "Router",
    "Routes",
    "check_routes",
    "demonstrations",
    "route",
    "route_taught",
    "routed_outcome",
    "router_of",
]
