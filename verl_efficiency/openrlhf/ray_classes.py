"""Subclasses of OpenRLHF's Ray actors that build our experience maker, actor trainer and loss.

Ray copies an actor's class to the actor's process, and copies of OpenRLHF's methods cannot call ``super()``
(``TrainingActor.broadcast_to_vllm`` would fail). A class that Ray has already prepared (``modified_class``) is sent by
reference instead, so our subclasses derive from that. This is an internal of Ray, hence the check of Ray's version at start-up.
"""

from pathlib import Path
from typing import Any

import openrlhf.trainer.ppo_trainer as stock_trainer
import openrlhf.trainer.ppo_trainer_async as stock_async
import openrlhf.trainer.ray.ppo_actor as stock_actor
import ray
import torch

from verl_efficiency.adapter.average import moves
from verl_efficiency.methods import distillation
from verl_efficiency.openrlhf.actor import EfficiencyActorTrainer, EfficiencyPolicyLoss
from verl_efficiency.openrlhf.average import WeightAverage
from verl_efficiency.openrlhf.experience import EfficiencyExperienceMaker
from verl_efficiency.openrlhf.options import teaches
from verl_efficiency.openrlhf.self_teacher import Passage

STATE = "verl_efficiency"


def prepared(actor_class: Any) -> Any:
    """The class behind a ``@ray.remote`` class, as a base that Ray sends by reference."""
    return actor_class.__ray_metadata__.modified_class


def latest(path: str) -> Path:
    """The folder of the latest checkpoint of the actor below ``--ckpt.path``, from which OpenRLHF resumes."""
    folder = Path(path) / "_actor"
    return folder / (folder / "latest").read_text().strip()


class _WithOurMaker:
    """What both trainers share: our experience maker, and its state in the checkpoints.

    Attributes:
        maker_class: the experience maker; your own subclass of the trainer may name your own subclass of it.
    """

    maker_class: type[EfficiencyExperienceMaker] = EfficiencyExperienceMaker
    experience_maker: EfficiencyExperienceMaker
    actor_model_group: Any
    args: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        stock_trainer.RemoteExperienceMaker = self.maker_class  # in this process; BasePPOTrainer builds it
        super().__init__(*args, **kwargs)
        print(f"[verl-efficiency] {type(self).__name__} uses {type(self.experience_maker).__name__}", flush=True)

    def init_checkpoint_states(self) -> dict:
        states = super().init_checkpoint_states()  # type: ignore[misc]
        if states.get("global_step", 0) > 0:
            saved = ray.get(self.actor_model_group.async_run_method(method_name="get_method_states"))[0]
            self.experience_maker.load_state(saved, latest(self.args.ckpt.path))
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
    """The policy and its optimiser.

    Attributes:
        trainer_class: the trainer of the actor; your own subclass of the policy may name your own subclass of it.
        loss_class: the loss; likewise.
    """

    trainer_class: type[EfficiencyActorTrainer] = EfficiencyActorTrainer
    loss_class: type[EfficiencyPolicyLoss] = EfficiencyPolicyLoss

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        stock_actor.ActorPPOTrainer = self.trainer_class  # in this process; the stock method builds both
        stock_actor.PolicyLoss = self.loss_class
        super().init_model_from_pretrained(*args, **kwargs)
        self.settings: Any = self.strategy.args.efficiency.build_settings()
        self.average: WeightAverage | None = None
        self.steps: int = (self.checkpoint_states or {}).get("global_step", 0)  # one call of fit per step
        if teaches(self.strategy.args.efficiency) and self.settings.teacher_regularization == "ema":
            self.average = self._start_average()
        names = [type(part).__name__ for part in (self, self.trainer, self.trainer.actor_loss_fn)]
        print(f"[verl-efficiency] {names[0]} uses {names[1]} with {names[2]}", flush=True)

    def _start_average(self) -> WeightAverage:
        copies = self.strategy.ds_device_mesh["dp"].get_group()  # tensor parallelism splits parameters
        average = WeightAverage(self.actor.model.module, self.settings.teacher_update_rate, copies)
        if self.checkpoint_states:
            average.load(latest(self.strategy.args.ckpt.path))
        return average

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        status = super().fit(*args, **kwargs)
        self.steps += 1
        if self.average is not None and moves(self.settings, self.steps):
            self.average.update()
        return status

    def save_checkpoint(self, tag: str, *args: Any, **kwargs: Any) -> None:
        super().save_checkpoint(tag, *args, **kwargs)
        if self.average is not None and not self.disable_ds_ckpt:
            self.average.save(Path(self.strategy.args.ckpt.path) / "_actor" / tag)

    def get_checkpoint_states(self) -> dict:
        """What the trainer continues from, without our states: OpenRLHF logs it, and stored responses would fill the log."""
        return {name: value for name, value in super().get_checkpoint_states().items() if name != STATE}

    def get_method_states(self) -> dict[str, Any]:
        """The states of our methods in the checkpoint from which this run resumes."""
        return self.checkpoint_states.get(STATE) or {}

    def exchange_teacher(self) -> None:
        """Load the teacher's weights into the model. The next call restores the model's own."""
        assert self.average is not None
        self.average.exchange()

    def student_topk(self, passage: Passage) -> list[Any]:
        """Per rollout, (n, K): the student's most likely tokens at its n masked tokens."""
        logits_TV, positions_N, counts = self._logits(passage)
        topk = self.settings.distillation_topk
        ids_NK = distillation.student_topk(logits_TV, positions_N, topk, chunk_tokens=self.settings.chunk_tokens)
        return list(ids_NK.cpu().split(counts))

    def teacher_targets(self, passage: Passage, ids: list[Any] | None) -> list[tuple[Any, Any]]:
        """Per rollout: log-probabilities (n, K) at ``ids``, or (n, 1) at the sampled tokens, and the entropy, (n,)."""
        logits_TV, positions_N, counts = self._logits(passage)
        sampled_N1 = passage.sequences[:, 1:][passage.action_mask.bool()][:, None]
        ids_NK = sampled_N1 if ids is None else torch.cat(list(ids))
        logps_NK, entropy_N = distillation.teacher_targets(
            logits_TV, positions_N, ids_NK.to(logits_TV.device), chunk_tokens=self.settings.chunk_tokens
        )
        return list(zip(logps_NK.cpu().split(counts), entropy_N.cpu().split(counts), strict=True))

    def _logits(self, passage: Passage) -> tuple[Any, Any, list[int]]:
        """Logits of all tokens, (b · T, V); which of them predict a masked token, (N,); how many these are per rollout."""
        device = torch.cuda.current_device()
        self.actor.eval()
        with torch.no_grad():
            output = self.actor(
                passage.sequences.to(device), attention_mask=passage.attention_mask.to(device), return_output=True
            )
        self.actor.train()
        row_N, column_N = passage.action_mask.nonzero(as_tuple=True)
        positions_N = row_N * passage.sequences.shape[1] + column_N
        logits_TV = output["logits"].flatten(0, 1)
        return logits_TV, positions_N.to(logits_TV.device), passage.action_mask.sum(1).tolist()


def install(
    trainer: type[EfficiencyPPOTrainer] = EfficiencyPPOTrainer,
    async_trainer: type[EfficiencyTrainingActor] = EfficiencyTrainingActor,
    policy: type[EfficiencyPolicyModelActor] = EfficiencyPolicyModelActor,
) -> None:
    """Have the stock command line start these actors."""
    stock_trainer.PPOTrainer = ray.remote(trainer)
    stock_async.TrainingActor = ray.remote(async_trainer)  # PPOTrainerAsync takes it from its module
    stock_actor.PolicyModelActor = ray.remote(num_gpus=1)(policy)
