"""The Ray actors: OpenRLHF's own, which build our experience maker, actor trainer and loss instead of the stock ones.

Ray sends an actor's class to its process by value, unless the class says that it has been prepared for that already; and copies
of OpenRLHF's methods cannot call ``super()`` (``TrainingActor.broadcast_to_vllm`` would die of it). So a subclass is made of
``modified_class``, the class that Ray has prepared, and travels by reference. This is Ray's inside, hence the check of its
version at start-up.
"""

from typing import Any

import openrlhf.trainer.ppo_trainer as stock_trainer
import openrlhf.trainer.ppo_trainer_async as stock_async
import openrlhf.trainer.ray.ppo_actor as stock_actor
import ray

from verl_efficiency.openrlhf.actor import EfficiencyActorTrainer, EfficiencyPolicyLoss
from verl_efficiency.openrlhf.experience import EfficiencyExperienceMaker

STATE = "verl_efficiency"


def prepared(actor_class: Any) -> Any:
    """The class behind a ``@ray.remote`` class, as a base that Ray sends by reference."""
    return actor_class.__ray_metadata__.modified_class


class _WithOurMaker:
    """What both trainers share: our experience maker, and its state in the checkpoints."""

    experience_maker: EfficiencyExperienceMaker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        stock_trainer.RemoteExperienceMaker = EfficiencyExperienceMaker  # in this process; BasePPOTrainer builds it
        super().__init__(*args, **kwargs)
        print(f"[verl-efficiency] {type(self).__name__} uses {type(self.experience_maker).__name__}", flush=True)

    def init_checkpoint_states(self) -> dict:
        states = super().init_checkpoint_states()  # type: ignore[misc]
        if states.get("global_step", 0) > 0:
            self.experience_maker.load_state(states.get(STATE))
        return states

    def save_logs_and_checkpoints(self, global_step: int, logs_dict: Any = None, client_states: Any = None) -> None:
        states = {**(client_states or {}), STATE: self.experience_maker.dump_state()}
        super().save_logs_and_checkpoints(global_step, logs_dict, states)  # type: ignore[misc]

    def save_best_checkpoint(self, eval_metrics: Any, global_step: int, client_states: Any = None) -> None:
        states = {**(client_states or {}), STATE: self.experience_maker.dump_state()}
        super().save_best_checkpoint(eval_metrics, global_step, states)  # type: ignore[misc]


class EfficiencyPPOTrainer(_WithOurMaker, prepared(stock_trainer.PPOTrainer)):  # type: ignore[misc]
    """The trainer of the synchronous loop."""


class EfficiencyTrainingActor(_WithOurMaker, prepared(stock_async.TrainingActor)):  # type: ignore[misc]
    """The trainer of the asynchronous loop."""


class EfficiencyPolicyModelActor(prepared(stock_actor.PolicyModelActor)):  # type: ignore[misc]
    """The policy and its optimiser."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        stock_actor.ActorPPOTrainer = EfficiencyActorTrainer  # in this process; the stock method builds both
        stock_actor.PolicyLoss = EfficiencyPolicyLoss
        super().init_model_from_pretrained(*args, **kwargs)
        names = [type(part).__name__ for part in (self, self.trainer, self.trainer.actor_loss_fn)]
        print(f"[verl-efficiency] {names[0]} uses {names[1]} with {names[2]}", flush=True)


def install() -> None:
    """Have the stock command line start these actors."""
    stock_trainer.PPOTrainer = ray.remote(EfficiencyPPOTrainer)
    stock_async.TrainingActor = ray.remote(EfficiencyTrainingActor)  # PPOTrainerAsync takes it from its module
    stock_actor.PolicyModelActor = ray.remote(num_gpus=1)(EfficiencyPolicyModelActor)
