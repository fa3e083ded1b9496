"""Methods that route: each rollout learns by GRPO, from a self-teacher, or not at all.

Names for your own router; see :mod:`verl_efficiency.methods.routing.base`.
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
