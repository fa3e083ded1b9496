"""A user's router: sample routing whose demonstration depends on what was said, not on the order of the rollouts.

The rollout server generates the same n responses in every run, but which of them a row gets is a matter of timing. Two runs
can be compared only if nothing hangs on that order, as the first correct sibling does.
"""

from dataclasses import replace

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import Routes
from verl_efficiency.methods.routing.sample_routing import SampleRoutingSettings, route_by_sample


def route(rollouts: Rollouts, settings: SampleRoutingSettings) -> Routes:
    """The shortest correct sibling; of two equally long ones that with the smaller token ids."""
    routes = route_by_sample(rollouts, settings)
    source_B = routes.source_B.clone()
    assert rollouts.responses_B is not None
    for row in routes.distil_B.nonzero().flatten().tolist():
        of_group_B = (rollouts.groups_B == rollouts.groups_B[row]) & rollouts.correct_B & rollouts.real_B
        siblings = [sibling for sibling in of_group_B.nonzero().flatten().tolist() if sibling != row]
        responses = {sibling: rollouts.responses_B[sibling].tolist() for sibling in siblings}
        source_B[row] = min(siblings, key=lambda sibling: (len(responses[sibling]), responses[sibling]))
    return replace(routes, source_B=source_B)
