"""Several mini-batches and epochs per step: the weights after the step are recomputed in float64 outside verl."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.e2e import distillation_reference as reference
from tests.e2e.training import small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIMIT, K, BETA, LR, HIGHEST = 70, 10, 1.0, 1.0, 1.02
EPOCHS, MINI_BATCHES = 2, 2


@dataclass
class Rollout:
    """Values from before the step, equal in all of its updates; ``top`` None: the rollout learns by GRPO."""

    row: reference.Row
    advantage: float
    old: torch.Tensor
    top: torch.Tensor | None = None
    teacher: torch.Tensor | None = None
    weight: torch.Tensor | None = None

    def loss(self, student: torch.nn.Module, highest: float) -> torch.Tensor:
        """Sum over the tokens: verl's clipped loss, or the weighted divergence times the ratio, at most ``highest``."""
        logp = reference.log_probs(student, self.row.prompt, self.row.response)
        chosen = torch.tensor(self.row.response)[:, None]
        ratio = torch.exp(logp.gather(1, chosen)[:, 0] - self.old.gather(1, chosen)[:, 0])
        if self.top is None:
            loss = torch.maximum(-self.advantage * ratio, -self.advantage * ratio.clamp(0.8, 1.2))
            return (loss.clamp(max=-3 * self.advantage) if self.advantage < 0 else loss).sum()
        p, q = logp.exp().gather(1, self.top), self.teacher.exp().gather(1, self.top)
        p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
        m = (p + q) / 2
        divergence = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2
        return (self.weight * ratio.detach().clamp(max=highest) * divergence).sum()


def before_the_step(dump: list[dict], model: Path) -> dict[str, Rollout]:
    rows = reference.read_rows(dump, model, LIMIT)
    routes = reference.route_samples(rows, everyone=False)
    student = reference.load(model)
    known = reference.step(rows, routes, model, reference.load(model), student, alpha=0.5, beta=BETA, k=K)
    groups = reference.by_group(rows)
    rollouts, unscaled = {}, {}
    with torch.no_grad():
        for row in rows:
            scores = [other.score for other in groups[row.group]]
            rollouts[row.key] = rollout = Rollout(
                row, row.score - sum(scores) / len(scores), reference.log_probs(student, row.prompt, row.response)
            )
            if row.key in known.asked:
                prompt, response, rollout.top = known.asked[row.key]
                rollout.teacher = reference.log_probs(student, prompt, response)  # at first the average is the actor
                unscaled[row.key] = torch.exp(BETA * (rollout.teacher.exp() * rollout.teacher).sum(-1))
    mean = torch.cat(list(unscaled.values())).mean()
    for key, weight in unscaled.items():
        rollouts[key].weight = weight / mean
    return rollouts


def after_the_step(
    rollouts: dict[str, Rollout], updates: list[list[str]], model: Path, highest: float
) -> dict[str, torch.Tensor]:
    """The weights after plain gradient descent, each update with its own denominator."""
    student = reference.load(model)
    for keys in updates:
        tokens = sum(len(rollouts[key].row.response) for key in keys)
        student.zero_grad()
        for key in keys:
            (rollouts[key].loss(student, highest) / tokens).backward()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= LR * parameter.grad
    return {name: parameter.detach() for name, parameter in student.named_parameters()}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in one))


def test_every_update_of_a_step(tmp_path):
    """Top-K, old log-probabilities, teacher and weights are those before the step; ratio and denominator the update's own."""
    testbed, ranks = small_testbed(tmp_path / "data"), 2
    actor = "actor_rollout_ref.actor"
    training = train(
        "sample_routing",
        tmp_path,
        *(f"+algorithm.efficiency.distillation_topk={K}", f"+algorithm.efficiency.is_clip={HIGHEST}"),
        "+algorithm.efficiency.target_dtype=float32",
        *(f"{actor}.ppo_mini_batch_size={8 // MINI_BATCHES}", f"{actor}.ppo_epochs={EPOCHS}", f"{actor}.shuffle=False"),
        *(f"{actor}.optim.optimizer=SGD", f"{actor}.optim.weight_decay=0", f"{actor}.optim.clip_grad=1e6"),
        *(f"{actor}.ppo_max_token_len_per_gpu=250", "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=400"),
        *(f"trainer.n_gpus_per_node={ranks}", f"ray_kwargs.ray_init.num_gpus={ranks}"),
        *(f"{actor}.checkpoint.save_contents=[model,optimizer,extra,hf_model]", "trainer.save_freq=1"),
        **testbed,
        **{"BATCH": 8, "GROUP": 4, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": LIMIT, "LR": LR, "STEPS": 1},
        RECORD_TEACHER=tmp_path / "teacher",
        VERL_USE_EXTERNAL_MODULES="verl_efficiency.verl.plugin,tests.e2e.recording_teacher",
    )
    assert training.run.returncode == 0, training.run.log[-3000:]
    rollouts = before_the_step(training.rollouts[1], testbed["MODEL"])
    assert sum(rollout.top is not None for rollout in rollouts.values()) > 2

    order = json.loads((tmp_path / "teacher" / "1.json").read_text())
    share = len(order) // ranks
    size = share // MINI_BATCHES
    updates = [
        [key for rank in range(ranks) for key in order[rank * share + first :][:size]]
        for first in range(0, share, size)
    ] * EPOCHS
    expected = after_the_step(rollouts, updates, testbed["MODEL"], HIGHEST)
    saved = reference.load(tmp_path / "run" / "global_step_1" / "actor" / "huggingface")
    found = {name: parameter.detach() for name, parameter in saved.named_parameters()}
    start = {name: parameter.detach() for name, parameter in reference.load(testbed["MODEL"]).named_parameters()}
    within = 2e-4 * distance(expected, start)  # weights of size 1 are rounded to 6e-8 after each update
    assert distance(found, expected) < within
    # A ratio that is not clipped, or swapped mini-batches, would fail here.
    assert distance(after_the_step(rollouts, updates, testbed["MODEL"], math.inf), expected) > 5 * within
    assert distance(after_the_step(rollouts, updates[::-1], testbed["MODEL"], HIGHEST), expected) > 5 * within
