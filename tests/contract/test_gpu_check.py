"""benchmarks/gpu: its short form runs here, and each of its checks can fail."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

pytest.importorskip("verl")

from benchmarks.gpu import distillation, estimators, training
from benchmarks.gpu.common import Options, Row, done_before, save
from benchmarks.gpu.table import table
from benchmarks.gpu.wheels import closure
from verl_efficiency.verl import start_up

ROOT = Path(__file__).parents[2]


def options(out: Path, **changed) -> Options:
    return Options(**{"device": "cpu", "quick": True, "out": out, "fresh": False} | changed)


def test_the_short_form_runs_and_a_second_call_measures_nothing_again(tmp_path):
    known = {"DEVICE": "cpu", "QUICK": "1", "OUT": str(tmp_path), "PARTS": "plugin estimators smollm2", "SMOLLM2": ""}
    command = ["bash", str(ROOT / "benchmarks" / "gpu" / "check.sh")]
    for call in (1, 2):
        done = subprocess.run(command, env=os.environ | known, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("measured before" in done.stdout) == (call == 2)
    assert "training: not run" in done.stdout
    result = json.loads((tmp_path / "gpu_estimators_cpu.json").read_text())
    assert result["machine"]["device"].startswith("CPU")
    assert result["differences"]["token_budget"] == 0


def test_a_figure_out_of_its_limit_fails_the_table(tmp_path):
    chosen = options(tmp_path)
    save("plugin", chosen, [Row("a", "1", "2", ok=True)])
    lines, well = table(chosen)
    assert well
    assert any("estimators: not run" in line for line in lines)
    save("estimators", chosen, [Row("b", "3", "2", ok=False)])
    lines, well = table(chosen)
    assert not well
    assert any(line.startswith("FAIL") and "b" in line for line in lines)


def test_a_result_of_other_sizes_is_measured_again(tmp_path):
    save("plugin", options(tmp_path), [])
    assert done_before("plugin", options(tmp_path))
    assert not done_before("plugin", options(tmp_path, quick=False))
    assert not done_before("plugin", options(tmp_path, fresh=True))
    assert not done_before("plugin", options(tmp_path, device="cuda"))


def test_the_difference_is_relative_to_the_largest_advantage():
    assert estimators.difference(torch.tensor([0.5, 1.0]), torch.tensor([0.5, 0.75])) == 0.25
    assert estimators.difference(torch.tensor([10.0, 4.0]), torch.tensor([10.0, 5.0])) == 0.1


def test_the_loss_in_bf16_is_near_float64_and_a_wrong_gradient_would_be_seen(monkeypatch):
    found = distillation.errors(8, "cpu")
    assert max(found["log_probs"], found["divergence"]) <= distillation.VALUE_LIMIT
    assert found["gradient"] <= distillation.GRADIENT_LIMIT
    real = distillation.chunked_divergence
    monkeypatch.setattr(
        distillation, "chunked_divergence", lambda *given, **more: real(*given, **{**more, "alpha": 0.4})
    )
    wrong = distillation.errors(8, "cpu")
    assert wrong["divergence"] > distillation.VALUE_LIMIT
    assert wrong["log_probs"] == found["log_probs"]


RUN = {"score_first": 0.5, "score_last": 0.9, "tokens_first": 60.0, "tokens_last": 30.0, "seconds_per_step": 1.0}


@pytest.mark.parametrize(
    ("more", "well"),
    [
        ({"loss_error": 1e-6}, True),
        ({"loss_error": 1e-4}, False),
        ({"teacher_error": 1e-8, "teacher_error_if_lost": 1e-4}, True),
        ({"teacher_error": 1e-4, "teacher_error_if_lost": 1e-4}, False),
        ({"teacher_error": 1e-8, "teacher_error_if_lost": 1e-8}, False),  # the run could not have told them apart
    ],
)
def test_the_lines_of_a_training_run(more, well):
    first, *checks = training.rows_of({"sample_routing": RUN | more}, "cpu", {"sample_routing": RUN})
    assert first.figure == "0.500 → 0.900, 60.0 → 30.0 tokens, 1.0 s"
    assert first.figure in first.limit
    assert [row.ok for row in checks] == [well]


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    return training.small_testbed(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", training.RUNS)
def test_verl_and_the_start_up_check_accept_every_run(monkeypatch, tmp_path, compose, testbed, name, device):
    monkeypatch.setenv("DRY_RUN", "1")  # recipes/verl/_common.sh prints the overrides and starts nothing
    printed = training.launch(name, tmp_path, testbed, options(tmp_path, device=device), 2)
    config = compose(*(line for line in printed.run.log.splitlines() if not line.startswith("hydra.")))
    assert start_up.check(config) == []
    assert config.actor_rollout_ref.rollout.name == "hf"
    assert config.actor_rollout_ref.rollout.dtype == "float32"
    assert config.actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype == "fp32"
    assert config.actor_rollout_ref.actor.strategy == "fsdp2"
    assert config.trainer.total_training_steps == 2
    assert config.trainer.save_freq == (1 if name == "sample_routing" else -1)
    assert config.algorithm.adv_estimator == ("grpo" if name == "batched_accuracy" else name)


def test_the_loss_of_grpo_by_hand(monkeypatch):
    """Two groups of two; one is all wrong. A = ±1/√2 · … of scores 1 and 0 with lengths 3 and 1: ±(0.5 / 0.70710678)."""
    rows = [
        training.reference.Row(key, group, [], "", [0] * length, "", score)
        for key, group, length, score in (
            ("a", "x", 3, 1.0),
            ("b", "x", 1, 0.0),
            ("c", "y", 2, 0.0),
            ("d", "y", 2, 0.0),
        )
    ]
    monkeypatch.setattr(training.reference, "read_rows", lambda *_: rows)
    by_hand = -(0.5 / 0.70710778 * 3 - 0.5 / 0.70710778 * 1) / 8
    run = training.Training(run=None, metrics={1: {"actor/loss": by_hand}}, rollouts={1: []})
    assert training.loss_error("grpo", run, Path()) == pytest.approx(0, abs=1e-6)
    other = training.Training(run=None, metrics={1: {"actor/loss": 1.01 * by_hand}}, rollouts={1: []})
    assert training.loss_error("grpo", other, Path()) == pytest.approx(0.01, rel=1e-3)


def test_the_wheels_are_the_whole_closure_without_pytorch():
    found = closure()
    assert {
        "verl",
        "ray",
        "tensordict",
        "hydra-core",
        "transferqueue",
        "transformers",
        "uvicorn",
        "psutil",
        "gguf",
    } <= set(found)
    assert not {name for name in found if name in ("torch", "triton", "verl-efficiency") or name.startswith("nvidia")}


def test_a_training_run_that_is_missing_fails_the_table(tmp_path):
    chosen = options(tmp_path)
    save("training", chosen, [], planned=["grpo", "sample_routing"], runs={"grpo": RUN, "sample_routing": RUN})
    assert table(chosen)[1]
    save("training", chosen, [], planned=["grpo", "sample_routing"], runs={"grpo": RUN})
    lines, well = table(chosen)
    assert not well
    assert any(line.startswith("FAIL") and "sample_routing: not run" in line for line in lines)


def test_the_language_model_stands_in_the_table(tmp_path):
    assert any("smollm2: not run" in line for line in table(options(tmp_path))[0])
    folder = tmp_path / "smollm2_cpu"
    folder.mkdir()
    scored = {"accuracy": 0.75, "tokens_per_problem": 40.25}
    found = {"summaries": {"warm_start": {"0": scored}, "grpo": {"0": scored}}, "steps": {"grpo": {"0": 3}}}
    (folder / "results.json").write_text(json.dumps(found))
    first, second = (line for line in table(options(tmp_path))[0] if "SmolLM2" in line)
    assert "warm_start: accuracy" in first
    assert "grpo, step 3: accuracy" in second
    assert second.endswith("0.750, 40.2 tokens")
