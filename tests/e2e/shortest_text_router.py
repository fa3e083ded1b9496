"""A user's router: sample routing whose demonstration does not depend on the order of the rollouts.

The rollout server generates the same n responses in every run, but timing decides which row gets which. The first correct
sibling depends on that order, so runs that show it cannot be compared.
"""

from dataclasses import replace

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import Routes
from verl_efficiency.methods.routing.sample_routing import SampleRoutingSettings, route_by_sample


def route(rollouts: Rollouts, settings: SampleRoutingSettings) -> Routes:
    """The shortest correct sibling; ties go to the smaller token ids."""
    routes = route_by_sample(rollouts, settings)
    source_B = routes.source_B.clone()
    assert rollouts.responses_B is not None
    for row in routes.distil_B.nonzero().flatten().tolist():
        of_group_B = (rollouts.groups_B == rollouts.groups_B[row]) & rollouts.correct_B & rollouts.real_B
        siblings = [sibling for sibling in of_group_B.nonzero().flatten().tolist() if sibling != row]
        responses = {sibling: rollouts.responses_B[sibling].tolist() for sibling in siblings}
        source_B[row] = min(siblings, key=lambda sibling: (len(responses[sibling]), responses[sibling]))
    return replace(routes, source_B=source_B)
