"""The methods with a self-teacher on verl's trainer. Each step is recomputed in float64 outside verl."""

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.e2e import distillation_reference as reference
from tests.e2e.distillation_reference import teacher_after, weights_after
from tests.e2e.training import Training, small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LIMIT, K, RATE = 70, 20, 0.25
SAVED = "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]"
SIZES = {"BATCH": 8, "GROUP": 4, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": LIMIT, "LR": 5e-4}
TEACHER = (f"+algorithm.efficiency.distillation_topk={K}", f"+algorithm.efficiency.teacher_update_rate={RATE}")


@pytest.fixture(scope="module")
def testbed(tmp_path_factory) -> dict:
    pytest.importorskip("verl")
    data = small_testbed(tmp_path_factory.mktemp("data"))
    table = pq.read_table(data["TRAIN"])
    # 3 and 4 rollouts per prompt in turn: 28 rows, which verl pads to 32
    counts = pa.array([3 + row % 2 for row in range(len(table))])
    pq.write_table(table.append_column("__rollout_n__", counts), Path(data["TRAIN"]).with_name("uneven.parquet"))
    return data


def uneven(testbed: dict) -> str:
    return f"data.train_files={Path(testbed['TRAIN']).with_name('uneven.parquet')}"


def launch(recipe: str, folder: Path, testbed: dict, *overrides: str, steps: int = 2) -> Training:
    training = train(
        recipe,
        folder,
        *overrides,
        *(SAVED, "trainer.save_freq=1"),
        **(testbed | SIZES),
        STEPS=steps,
        RECORD_TEACHER=folder / "teacher",
        VERL_USE_EXTERNAL_MODULES="verl_efficiency.verl.plugin,tests.e2e.recording_teacher",
    )
    assert training.run.returncode == 0, training.run.log[-3000:]
    return training


def check(
    training: Training,
    folder: Path,
    model: Path,
    name: str,
    routes: Callable,
    k: int | None = K,
    rounded: float = 0.0,
    **formula: float,
) -> None:
    """Loss, gradient norm, routes, entropy, weights, teacher and its average of each step.

    ``rounded`` is the relative error of a stored log-probability of the teacher: 0 for float32, 2**-11 for float16. The loss
    and its gradient are sums of p · (log p − log q), so their error is a few times that.
    """
    start = reference.load(model)
    initial = {key: value.detach().clone() for key, value in start.named_parameters()}
    average = {key: value.clone() for key, value in initial.items()}
    routed = 0
    for step in (1, 2):
        before = initial if step == 1 else weights_after(folder, step - 1, start)
        student, teacher = reference.with_weights(start, before), reference.with_weights(start, average)
        rows = reference.read_rows(training.rollouts[step], model, LIMIT)
        expected = reference.step(rows, routes(rows), model, student, teacher, k=k, **formula)
        metrics = training.metrics[step]
        assert metrics["actor/loss"] == pytest.approx(expected.loss, rel=1e-5 + 4 * rounded, abs=2e-8)
        assert metrics["actor/grad_norm"] == pytest.approx(expected.grad_norm, rel=1e-5 + 4 * rounded)
        kinds = list(expected.routed.values())
        for kind in ("grpo", "distil", "skip"):
            assert metrics[f"{name}/{kind}_share"] == pytest.approx(kinds.count(kind) / len(kinds))
        assert metrics[f"{name}/teacher_entropy"] == pytest.approx(expected.entropy, rel=1e-5)
        assert metrics[f"{name}/weight_largest"] == pytest.approx(expected.weight_largest, rel=1e-5)
        said = torch.load(folder / "teacher" / f"{step}.pt")
        assert set(said) == {key for key, kind in expected.routed.items() if kind == "distil"}
        for precise, within in (
            (False, 1e-4),
            (True, 5e-4),
        ):  # plain transformers in float32, which differs from float64 by 1e-4
            answers = expected.answers(teacher if precise else copy.deepcopy(teacher).float())
            for key, logps in said.items():
                # Sorted, since two equally likely tokens may come in either order.
                ours, theirs = logps.double().sort(-1).values, answers[key].sort(-1).values
                torch.testing.assert_close(ours, theirs, rtol=rounded, atol=within)
        routed += len(said)

        after = weights_after(folder, step, start)
        average = {key: (1 - RATE) * average[key] + RATE * after[key] for key in average}
        for key, value in teacher_after(folder, step, start).items():
            torch.testing.assert_close(value, average[key], rtol=0, atol=1e-6)
        assert any((after[key] - before[key]).abs().max() > 1e-5 for key in after)
    assert routed > 0


def test_sample_routing_step_by_step_and_across_a_resume(tmp_path, testbed):
    """One rank, dynamic micro-batches, padding rows, entropy weights; then step 2 again from the checkpoint of step 1.

    It uses a user's router, since the two runs may assign the responses of a group to its rows in different orders.
    """
    overrides = (
        *(uneven(testbed), *TEACHER, "+algorithm.efficiency.target_dtype=float32"),
        "+algorithm.efficiency.router=tests.e2e.shortest_text_router.route",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=400",
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=400",
    )
    whole = launch("sample_routing", tmp_path / "whole", testbed, *overrides)
    assert any("synthetic padding" in line for line in whole.run.log.splitlines())
    routes = functools.partial(reference.route_samples, shortest=True)
    check(whole, tmp_path / "whole", testbed["MODEL"], "sample_routing", routes, alpha=0.5, beta=1.0)

    again = tmp_path / "again"
    shutil.copytree(tmp_path / "whole" / "run", again / "run")
    shutil.rmtree(again / "run" / "global_step_2")
    (again / "run" / "metrics.jsonl").unlink()
    (again / "run" / "latest_checkpointed_iteration.txt").write_text("1")
    resumed = launch("sample_routing", again, testbed, *overrides)
    assert sorted(resumed.metrics) == [2]
    texts = [sorted(row["output"] for row in run.rollouts[2]) for run in (whole, resumed)]
    assert texts[0] == texts[1]
    for key in ("actor/loss", "actor/grad_norm", "actor/distil_loss", "sample_routing/teacher_entropy"):
        assert resumed.metrics[2][key] == pytest.approx(whole.metrics[2][key], rel=1e-5), key
    start = reference.load(testbed["MODEL"])
    for read in (weights_after, teacher_after):
        one, other = read(tmp_path / "whole", 2, start), read(again, 2, start)
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=1e-6)


def test_self_distillation_on_two_ranks_with_padding_rows(tmp_path, testbed):
    """Rows without a teacher enter no denominator. The shards of the teacher's average match the actor's."""
    training = launch(
        "self_distillation",
        tmp_path,
        testbed,
        *(uneven(testbed), *TEACHER, "+algorithm.efficiency.alpha=1"),
        *("trainer.n_gpus_per_node=2", "ray_kwargs.ray_init.num_gpus=2"),
        *(
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=180",
            "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=180",
        ),
    )
    routes = functools.partial(reference.route_samples, everyone=True)
    check(training, tmp_path, testbed["MODEL"], "self_distillation", routes, rounded=2**-11, alpha=1.0, beta=0.0)


def test_variance_routing_with_a_teacher_on_the_sampled_token(tmp_path, testbed):
    """All-wrong groups learn from a column of the data set. The teacher gives the advantages, verl computes the loss."""
    table = pq.read_table(testbed["TRAIN"])
    solutions = {row["question"]: f"{row['question']}\\boxed{{7}}" for row in table["extra_info"].to_pylist()}
    column = pa.array([solutions[row["question"]] for row in table["extra_info"].to_pylist()])
    file = tmp_path / "solutions.parquet"
    pq.write_table(table.append_column("solution", column), file)
    training = launch(
        "variance_routing",
        tmp_path,
        testbed,
        *(f"data.train_files={file}", TEACHER[1], "trainer.v1.trainer_mode=efficiency_sync"),
        *("+algorithm.efficiency.distil=True", "+algorithm.efficiency.reference_column=solution"),
        *("+algorithm.efficiency.advantage=dr_grpo", "+algorithm.efficiency.entropy_beta=0.5"),
        *("+algorithm.efficiency.full_logit_distillation=False", "+algorithm.efficiency.alpha=1"),
    )
    routes = functools.partial(reference.route_by_variance, solutions=solutions)
    check(training, tmp_path, testbed["MODEL"], "variance_routing", routes, k=None, alpha=1.0, beta=0.5)
