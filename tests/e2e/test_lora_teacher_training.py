"""A LoRA actor: the teacher is the base model with the averaged adapter. Each step is recomputed in float64."""

import functools

import pytest
import torch

from tests.e2e import distillation_reference as reference
from tests.e2e.training import small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LIMIT, K, RATE, RANK, ALPHA = 70, 20, 0.25, 4, 16


def adapted(model, adapter: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The base model in float64 with this adapter; only the adapter has gradients."""
    import peft

    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    whole = peft.get_peft_model(reference.load(model), config)
    trained = {name: parameter for name, parameter in whole.named_parameters() if parameter.requires_grad}
    assert set(trained) == set(adapter)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(adapter[name])
    return whole.double()


def test_sample_routing_with_lora(tmp_path):
    pytest.importorskip("peft")
    testbed = small_testbed(tmp_path / "data")
    training = train(
        "sample_routing",
        tmp_path,
        *(f"+algorithm.efficiency.distillation_topk={K}", f"+algorithm.efficiency.teacher_update_rate={RATE}"),
        "+algorithm.efficiency.target_dtype=float32",
        *(f"actor_rollout_ref.model.lora_rank={RANK}", f"actor_rollout_ref.model.lora_alpha={ALPHA}"),
        *("actor_rollout_ref.model.lora.merge=True", "trainer.save_freq=1"),
        **testbed,
        **{"BATCH": 8, "GROUP": 4, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": LIMIT, "LR": 5e-3, "STEPS": 2},
        RECORD_TEACHER=tmp_path / "teacher",
        VERL_USE_EXTERNAL_MODULES="verl_efficiency.verl.plugin,tests.e2e.recording_teacher",
    )
    assert training.run.returncode == 0, training.run.log[-3000:]

    averages, actors = {}, {}
    for step in (1, 2):
        folder = tmp_path / "run" / f"global_step_{step}" / "actor"
        saved = torch.load(folder / "teacher_world_size_1_rank_0.pt", weights_only=True)
        averages[step] = {name: value.double() for name, value in saved.items()}
        state = torch.load(folder / "model_world_size_1_rank_0.pt", weights_only=False)
        actors[step] = {name: getattr(state[name], "_local_tensor", state[name]).double() for name in saved}
    assert all("lora_" in name for name in averages[1])
    for name, value in averages[2].items():
        expected = (1 - RATE) * averages[1][name] + RATE * actors[2][name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    start = {name: (averages[1][name] - RATE * actors[1][name]) / (1 - RATE) for name in averages[1]}
    assert all(value.abs().max() < 1e-6 for name, value in start.items() if "lora_B" in name)  # as PEFT begins

    routes = functools.partial(reference.route_samples, everyone=False)
    for step, student, average in ((1, start, start), (2, actors[1], averages[1])):
        rows = reference.read_rows(training.rollouts[step], testbed["MODEL"], LIMIT)
        teacher = adapted(testbed["MODEL"], average)
        expected = reference.step(
            *(rows, routes(rows), testbed["MODEL"], adapted(testbed["MODEL"], student), teacher),
            **{"alpha": 0.5, "beta": 1.0, "k": K},
        )
        metrics = training.metrics[step]
        assert metrics["actor/loss"] == pytest.approx(expected.loss, rel=1e-5, abs=2e-8)
        assert metrics["actor/grad_norm"] == pytest.approx(expected.grad_norm, rel=1e-5)
        said = torch.load(tmp_path / "teacher" / f"{step}.pt")
        assert len(said) > 2
        answers = expected.answers(teacher)
        for key, logps in said.items():
            ours, theirs = logps.double().sort(-1).values, answers[key].sort(-1).values
            torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-4)
