"""A user's classes, derived from ours: the actors build them, and the stock command line starts the actors."""

from types import SimpleNamespace

import pytest
import ray

from verl_efficiency.openrlhf.actor import EfficiencyActorTrainer, EfficiencyPolicyLoss
from verl_efficiency.openrlhf.experience import EfficiencyExperienceMaker
from verl_efficiency.openrlhf.ray_classes import (
    EfficiencyPolicyModelActor,
    EfficiencyPPOTrainer,
    EfficiencyTrainingActor,
    install,
)
from verl_efficiency.settings import SettingsError

from .conftest import WARM_START
from .launching import parse
from .test_advantages import experiences, maker_for, step
from .world import LocalGroup


class MyMaker(EfficiencyExperienceMaker):
    def compute_advantages_and_returns(self, experiences):
        experiences = super().compute_advantages_and_returns(experiences)
        for experience in experiences:
            experience.advantages = 2 * experience.advantages
        return experiences


class MyTrainer(EfficiencyTrainingActor):
    maker_class = MyMaker


class MySyncTrainer(EfficiencyPPOTrainer):
    maker_class = MyMaker


class MyActorTrainer(EfficiencyActorTrainer):
    pass


class MyLoss(EfficiencyPolicyLoss):
    pass


class MyPolicy(EfficiencyPolicyModelActor):
    trainer_class, loss_class = MyActorTrainer, MyLoss


@pytest.fixture
def args(stock):
    return parse(["--efficiency.method", "kimi", *stock])


QUEUES = {"vllm_lock": None, "rollout_queue": None, "rollout_slots": None}


def test_a_trainer_builds_the_maker_that_it_names(args):
    strategy = SimpleNamespace(args=args)
    for trainer, maker in ((MyTrainer, MyMaker), (EfficiencyTrainingActor, EfficiencyExperienceMaker)):
        built = trainer(str(WARM_START), strategy, None, None, None, None, None, **QUEUES)
        assert type(built.experience_maker) is maker


def test_a_resumed_trainer_gets_the_state_and_openrlhf_does_not_log_it(stock, tmp_path, monkeypatch):
    flags = ["--efficiency.method", "leash", "--ckpt.path", str(tmp_path), "--ckpt.load_enable"]
    args = parse([*flags, *stock])
    (tmp_path / "_actor").mkdir()
    (tmp_path / "_actor" / "latest").write_text("global_step4")
    actor = object.__new__(EfficiencyPolicyModelActor)
    actor.checkpoint_states = {"global_step": 4, "verl_efficiency": {"leash": {"price": 0.75}}}
    monkeypatch.setattr(ray, "get", lambda results: results)
    strategy = SimpleNamespace(args=args)
    trainer = EfficiencyTrainingActor(str(WARM_START), strategy, LocalGroup(actor), None, None, None, None, **QUEUES)
    assert trainer.init_checkpoint_states() == {"global_step": 4}
    assert trainer.experience_maker.method_state.price == 0.75
    del actor.checkpoint_states["verl_efficiency"]  # as of a run of the stock trainer
    with pytest.raises(SettingsError, match=str(tmp_path / "_actor" / "global_step4")):
        trainer.init_checkpoint_states()


def test_a_makers_own_word_is_the_last():
    ours = maker_for("kimi", {}).compute_advantages_and_returns(experiences(step(0)))
    mine = MyMaker(
        None, None, None, None, SimpleNamespace(value=0.0), SimpleNamespace(args=maker_for("kimi", {}).args), None
    )
    theirs = mine.compute_advantages_and_returns(experiences(step(0)))
    assert all(bool((2 * a.advantages == b.advantages).all()) for a, b in zip(ours, theirs, strict=True))
    assert any(bool(a.advantages.any()) for a in ours)


def test_a_policy_builds_the_trainer_and_the_loss_that_it_names(args):
    from openrlhf.utils import get_strategy

    policy = MyPolicy(1, 0, "127.0.0.1", None)
    policy.init_model_from_pretrained(get_strategy(args), str(WARM_START), max_steps=1, vllm_engines=None)
    assert type(policy.trainer) is MyActorTrainer
    assert type(policy.trainer.actor_loss_fn) is MyLoss


def test_the_stock_command_line_is_given_them():
    import openrlhf.trainer.ppo_trainer as stock_trainer
    import openrlhf.trainer.ppo_trainer_async as stock_async
    import openrlhf.trainer.ray.ppo_actor as stock_actor

    install(trainer=MySyncTrainer, async_trainer=MyTrainer, policy=MyPolicy)
    started = stock_trainer.PPOTrainer, stock_async.TrainingActor, stock_actor.PolicyModelActor
    install()
    classes = [actor.__ray_metadata__.modified_class for actor in started]
    assert all(issubclass(*pair) for pair in zip(classes, (MySyncTrainer, MyTrainer, MyPolicy), strict=True))
