"""The loss and the trainer of the actor.

For subclasses of yours: derive them from these instead of ``PolicyLoss`` and ``ActorPPOTrainer``.
"""

from openrlhf.models import PolicyLoss
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer


class EfficiencyPolicyLoss(PolicyLoss):
    """OpenRLHF's policy loss."""


class EfficiencyActorTrainer(ActorPPOTrainer):
    """OpenRLHF's trainer of the actor."""
