"""A whole step without Ray and vLLM: reward, experience, replay buffer, loss, and DeepSpeed's optimiser on the CPU."""

import pytest
import torch

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.openrlhf.actor import EfficiencyActorTrainer, EfficiencyPolicyLoss
from verl_efficiency.openrlhf.start_up import reward_file

from .launching import parse
from .test_rewards import executor_of
from .world import label, make_world

QUESTIONS = [("0f3.", label("3", "0f3.")), ("0l7.", label("7", "0l7."))]
ANSWERS = [
    *("0f0+3=3\\boxed{3}<|im_end|>", "0f0+3=3?f0+3=3\\boxed{3}<|im_end|>", "\\boxed{4}<|im_end|>", "0" * 40),
    *("0l0+7=7\\boxed{7}<|im_end|>", "0l0+7=7?l0+7=7?l0+7=7\\boxed{7}<|im_end|>", "<|im_end|>", "\\boxed{1}<|im_end|>"),
]


@pytest.fixture(scope="module")
def world(stock):
    flags = ["--efficiency.method", "token_budget", "--efficiency.b_min", "5", "--efficiency.b_max", "15"]
    correction = ["--algo.advantage.is_correction_level", "token", "--algo.advantage.is_correction_mode", "clip"]
    return make_world(parse([*flags, "--efficiency.reward", "accuracy", *correction, *stock]))


def test_a_step(world):
    trainer = world.actor.trainer
    assert type(trainer) is EfficiencyActorTrainer
    assert type(trainer.actor_loss_fn) is EfficiencyPolicyLoss

    samples = world.roll_out(executor_of(reward_file("accuracy"), agent=True), QUESTIONS, ANSWERS)
    made = world.maker.make_experience_batch(samples)
    rewards = torch.cat([experience.rewards for experience in made])
    assert rewards.tolist() == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert [len(experience.rewards) for experience in made] == [3, 3, 2]

    # By hand: the shorter correct answer of a group stands above the longer one, that above the wrong ones, which are equal.
    per_rollout = [row[mask.bool()] for e in made for row, mask in zip(e.advantages, e.action_mask, strict=True)]
    for start in (0, 4):
        short, long, wrong, other = (values[0].item() for values in per_rollout[start : start + 4])
        assert short > long > 0 > wrong == other
    assert all(bool((values == values[0]).all()) for values in per_rollout)
    assert len(per_rollout[3]) == 40  # the limit

    gaps = torch.cat([experience.info["efficiency/log_prob_gap_rest"] for experience in made])
    assert bool((gaps > 0).any())  # the engine's −0.5 is not the model's

    before = {name: value.detach().clone() for name, value in world.actor.actor.model.module.named_parameters()}
    world.maker.actor_model_group.async_run_method_batch("append", experience=made)
    assert len(trainer.replay_buffer) == 8
    status = world.actor.fit(kl_ctl=0.0)
    assert status["actor_grad_norm"] > 0
    assert status["policy_loss"] == pytest.approx(status["policy_loss"])  # not NaN
    assert status["efficiency/solve_rate"] == pytest.approx(0.5)
    assert status["reward/acc"] == pytest.approx(0.5)
    after = dict(world.actor.actor.model.module.named_parameters())
    assert any(bool((after[name] != value).any()) for name, value in before.items())


def test_the_policy_follows_the_advantages(world):
    """Σ advantage · log-probability of the same tokens grows, in total and for the short answers against the long ones."""

    def objective() -> tuple[float, float]:
        samples = world.roll_out(executor_of(reward_file("accuracy"), agent=True), QUESTIONS, ANSWERS)
        made = world.maker.make_experience_batch(samples)
        world.maker.actor_model_group.async_run_method_batch("append", experience=made)
        means = [
            (row * mask).sum().item() / mask.sum().item()
            for experience in made
            for row, mask in zip(experience.action_log_probs, experience.action_mask, strict=True)
        ]
        total = sum((e.action_log_probs * e.advantages).sum().item() for e in made)
        return total, means[0] + means[4] - means[3] - means[7]

    first = objective()
    for _ in range(3):
        world.actor.fit(kl_ctl=0.0)
        last = objective()
    world.actor.trainer.replay_buffer.clear()
    assert last[0] > first[0] + 1
    assert last[1] > first[1] + 0.1


def test_every_method_is_known_to_the_launcher(stock):
    for name in ESTIMATORS:
        own = ["--efficiency.shaper", "verl_efficiency.methods.shaping.kimi.kimi"] if name == "custom" else []
        assert parse(["--efficiency.method", name, *own, *stock]).efficiency.method == name
