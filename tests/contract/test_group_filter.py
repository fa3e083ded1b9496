"""``KeepSolvedGroups`` as verl's V1 trainer calls it: of groups with one metric only those where all are wrong are dropped."""

import dataclasses
from collections import Counter

import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="verl 0.8 has no V1 trainer")

import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import replay_buffer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.verl import start_up
from verl_efficiency.verl.checks.groups import advise

GROUPS = {
    "wrong": [0, 0, 0],
    "right": [1, 1, 1],
    "mixed": [0, 1, 1],
    "lone": [0],
    "minus": [-1, -1],
    "half": [0.5, 0.5],
}
SAMPLER = "trainer.v1.sampler.custom_sampler"
FILTER = ("algorithm.filter_groups.enable=True", "algorithm.filter_groups.metric=acc", "data.train_batch_size=8")
OURS = (f"{SAMPLER}.path=pkg://verl_efficiency.verl.sampler", f"{SAMPLER}.name=KeepSolvedGroups")
FAST = (f"{SAMPLER}.path=pkg://verl_efficiency.verl.cpu.replay_buffer", f"{SAMPLER}.name=FastPollReplayBuffer")


@pytest.fixture
def buffer(compose, monkeypatch):
    """The replay buffer as the trainer builds it, with finished groups in its queue."""

    def built(*overrides):
        config = compose("algorithm.adv_estimator=token_budget", *FILTER, *overrides)
        start_up.prepare(config)
        trainer = object.__new__(PPOTrainerSync)
        trainer.config, trainer.trainer_mode = config, "sync"
        trainer._add_prompts_to_generate = lambda count: None
        made = trainer._build_replay_buffer()
        made.finished_keys["train"] = set(GROUPS)
        keys = [f"{uid}_{place}_0" for uid, scores in GROUPS.items() for place in range(len(scores))]
        made.partitions["train"] = {key: {} for key in keys}
        scores = {f"{uid}_{k}_0": score for uid, values in GROUPS.items() for k, score in enumerate(values)}
        monkeypatch.setattr(
            replay_buffer.tq,
            "kv_batch_get",
            lambda keys, **_: {"extra_fields": [{"reward_extra_info": {"acc": scores[key]}} for key in keys]},
        )
        return made

    return built


@pytest.mark.parametrize("sampler", [(), FAST], ids=["verl's own", "the CPU's"])
def test_verls_filter_drops_all_that_are_equal(buffer, sampler):
    dropped, counts = buffer(*sampler)._dapo_filtered_keys("train")
    assert dropped == {"wrong", "right", "minus", "half"}
    assert counts == Counter({0.0: 1, 1.0: 1, -1.0: 1, 0.5: 1})


def test_ours_drops_those_where_all_are_wrong(buffer):
    made = buffer(*OURS)
    dropped, counts = made._dapo_filtered_keys("train")
    assert dropped == {"wrong", "minus"}
    assert counts == Counter({0.0: 1, -1.0: 1})
    assert made._dapo_filtered_keys("train")[0] == {"wrong", "minus"}, "the same at the next poll"
    assert made._dapo_filtered_keys("val")[0] == set()


@pytest.mark.parametrize("sampler", [OURS, FAST])
def test_the_sampler_is_given_what_verls_own_is_given(buffer, sampler):
    own = buffer()
    for name in ("filter_groups_metric", "train_batch_size", "gen_batch_size", "max_inflight_gen_batches"):
        assert getattr(buffer(*sampler), name) == getattr(own, name)
    assert buffer(*sampler, "+trainer.v1.sampler.sampler_kwargs.poll_interval=0.5").poll_interval == 0.5


def test_without_the_filter_nothing_is_handed_over(compose):
    config = compose("algorithm.adv_estimator=token_budget", *FAST)
    start_up.prepare(config)
    assert OmegaConf.to_container(config.trainer.v1.sampler.sampler_kwargs) == {}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_said_of_groups_of_one(compose, name):
    config = compose(f"algorithm.adv_estimator={name}", "actor_rollout_ref.rollout.n=1")
    (line,) = advise(config, ESTIMATORS[name])
    assert line.startswith("actor_rollout_ref.rollout.n: ")
    assert name in line
    assert "actor_rollout_ref.rollout.n=8" in line


@pytest.mark.parametrize(
    ("name", "advantages"),
    [
        *((name, [1.0, 0.0]) for name in ("token_budget", "kimi", "gfpo", "grpo_roc", "s_grpo", "variance_routing")),
        *((name, [0.0, 0.0]) for name in ("drpo", "t_spmo")),
    ],
)
def test_what_is_said_of_groups_of_one_is_so(name, advantages):
    """The reward itself, or nothing; ``t_spmo`` by its weights of the tokens."""
    method = ESTIMATORS[name]
    given = {"token_budget": {"b_min": 10, "b_max": 20}, "drpo": {"max_response_length": 100}}.get(name, {})
    rollouts = dataclasses.replace(
        Rollouts.build(torch.tensor([1.0, 0.0]), torch.tensor([5, 5]), ["a", "b"]),
        responses_B=(torch.arange(5), torch.arange(5)),
    )
    outcome = method.function()(rollouts, method.build_settings(given, ""), method.new_state())
    weights_B = outcome.token_weights(torch.ones(2, 5)).abs().amax(-1) if name == "t_spmo" else 1
    assert (outcome.advantages_B * weights_B).tolist() == advantages


@pytest.mark.parametrize("metric", ["reward", "acc"])
@pytest.mark.parametrize("name", ["gfpo", "grpo_roc", "s_grpo"])
def test_nothing_is_said_where_equal_rewards_teach_nothing(compose, name, metric):
    config = compose(f"algorithm.adv_estimator={name}", FILTER[0], f"algorithm.filter_groups.metric={metric}")
    assert list(advise(config, ESTIMATORS[name])) == []
