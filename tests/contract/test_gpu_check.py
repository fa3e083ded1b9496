"""benchmarks/gpu: its short form runs here, and each of its checks can fail."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

pytest.importorskip("verl")

from benchmarks.gpu import distillation, estimators, training
from benchmarks.gpu.common import Options, Row, done_before, save
from benchmarks.gpu.table import table
from benchmarks.gpu.wheels import closure
from tests.e2e.run_tree import run_tree
from verl_efficiency.verl import start_up
from verl_efficiency.verl.average import WeightAverage

ROOT = Path(__file__).parents[2]


def options(out: Path, **changed) -> Options:
    return Options(**{"device": "cpu", "quick": True, "out": out, "fresh": False} | changed)


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_short_form_runs_and_a_second_call_measures_nothing_again(tmp_path):
    """Of the part training the method with most checks: two steps, and the second again after a resume."""
    known = {"DEVICE": "cpu", "QUICK": "1", "OUT": str(tmp_path / "out"), "METHODS": "sample_routing", "SMOLLM2": ""}
    known["PARTS"] = "plugin estimators training smollm2"
    command = ["bash", str(ROOT / "benchmarks" / "gpu" / "check.sh")]
    for call in (1, 2):
        done = run_tree(command, timeout=600, log=tmp_path / "log.txt", env=known)
        assert done.returncode == 0, done.log
        assert done.leftovers == []
        assert done.log.count("measured before") == (0 if call == 1 else 3)
    assert "distillation: not run" in done.log
    result = json.loads((tmp_path / "out" / "gpu_estimators_cpu.json").read_text())
    assert result["machine"]["device"].startswith("CPU")
    assert result["differences"]["token_budget"] == 0
    result = json.loads((tmp_path / "out" / "gpu_training_cpu.json").read_text())
    assert result["planned"] == ["sample_routing"]
    (run,) = result["runs"].values()
    assert run["loss_error"] <= training.LOSS_LIMIT["cpu"]
    assert run["teacher_error"] <= training.TEACHER_LIMIT < run["teacher_error_if_lost"]
    assert [row["ok"] for row in result["rows"]] == [True] * 3


def call_training(monkeypatch, out: Path, *more: str) -> dict[str, float]:
    """The part training without a training: method → seconds of its run. Every run takes a second longer than the last."""
    monkeypatch.setattr(training, "small_testbed", lambda folder: {})
    monkeypatch.setattr(
        training, "one", lambda *given: RUN | {"seconds_per_step": 1.0 + len(list(out.glob("run of *")))}
    )
    monkeypatch.setattr(training.signal, "signal", lambda *given: None)
    monkeypatch.setattr(training.sys, "argv", ["training", "--device", "cpu", "--quick", "--out", str(out), *more])
    training.main()
    (out / f"run of {' '.join(more)}").touch()
    found = json.loads((out / "gpu_training_cpu.json").read_text())
    assert set(found["planned"]) == set(found["runs"])
    return {name: run["seconds_per_step"] for name, run in found["runs"].items()}


def test_single_methods_are_trained_beside_those_that_are_there(monkeypatch, tmp_path):
    assert call_training(monkeypatch, tmp_path, "--methods", "sample_routing") == {"sample_routing": 1.0}
    both = call_training(monkeypatch, tmp_path, "--methods", "sample_routing", "grpo")
    assert both == {"grpo": 2.0, "sample_routing": 1.0}
    assert call_training(monkeypatch, tmp_path) == dict.fromkeys(training.RUNS, 3.0) | both
    again = call_training(monkeypatch, tmp_path, "--methods", "grpo", "--fresh")
    assert again == dict.fromkeys(training.RUNS, 3.0) | both | {"grpo": 4.0}
    with pytest.raises(SystemExit, match="METHODS: the check does not train kimi; it trains grpo, "):
        call_training(monkeypatch, tmp_path, "--methods", "grpo", "kimi")


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
    short, folder = tmp_path / "smollm2_cpu_smoke", tmp_path / "smollm2_cpu"
    folder.mkdir()
    short.mkdir()
    scored = {"accuracy": 0.75, "tokens_per_problem": 40.25}
    found = {"summaries": {"warm_start": {"0": scored}, "grpo": {"0": scored}}, "steps": {"grpo": {"0": 3}}}
    (folder / "results.json").write_text(json.dumps(found))
    first, second = (line for line in table(options(tmp_path))[0] if "SmolLM2" in line)
    assert "warm_start: accuracy" in first
    assert "grpo, step 3: accuracy" in second
    assert second.endswith("0.750, 40.2 tokens")
    (short / "results.json").write_text(json.dumps(found | {"steps": {}}))
    assert any("grpo, step 3" in line for line in table(options(tmp_path))[0]), "the whole recipe before its short form"
    (folder / "results.json").unlink()
    lines = table(options(tmp_path))[0]
    assert any("three small steps" in line for line in lines)
    assert any("SmolLM2, grpo: accuracy" in line for line in lines)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """``torch.save`` as on a GPU: the file says that its tensors are on ``cuda:0``."""

    def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
            torch.save(tensors, file)
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(file, weights_only=True)

    return save


def test_the_check_of_the_teacher_reads_the_shards_of_a_gpu(on_a_gpu, tmp_path):
    """Two ranks. The teacher after step 2 is 3/4 of the one before and 1/4 of the weights."""
    config = LlamaConfig(vocab_size=8, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1)
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "model")
    teachers, actors = {}, {}
    for step in (1, 2):
        folder = tmp_path / "run" / f"global_step_{step}" / "actor"
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        model.save_pretrained(folder / "huggingface")
        actors[step] = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        if step == 1:
            teachers[1] = {name: torch.randn_like(value) for name, value in actors[1].items()}
        else:
            teachers[2] = {name: 0.75 * value + 0.25 * actors[2][name] for name, value in teachers[1].items()}
        halves = [value.chunk(2) for value in teachers[step].values()]
        for rank in (0, 1):
            shard = {name: half[rank].clone() for name, half in zip(teachers[step], halves, strict=True)}
            on_a_gpu(shard, folder / f"teacher_world_size_2_rank_{rank}.pt")
    error, lost = training.teacher_error(tmp_path, tmp_path / "model", 2)
    assert error < 1e-6
    assert lost == pytest.approx(
        max(0.75 * (teachers[1][name] - actors[1][name]).abs().max().item() for name in actors[1]), abs=1e-6
    )


def test_a_resume_reads_the_average_that_a_gpu_saved(on_a_gpu, tmp_path):
    module = torch.nn.Linear(2, 2)
    teacher = WeightAverage(module, 0.5)
    saved = {name: torch.randn_like(value) for name, value in teacher.average.items()}
    on_a_gpu(saved, teacher.file(tmp_path))
    assert teacher.load(tmp_path)
    for name, value in saved.items():
        torch.testing.assert_close(teacher.average[name], value, rtol=0, atol=0)


CARD = """
import json
import torch
from tests.contract.card import Card
from benchmarks import distillation as inputs
from benchmarks.gpu import estimators
from verl_efficiency.methods import distillation

inputs.VOCABULARY = 500


def distilled(device):
    logits, labels, positions, ids, teacher = inputs.make_inputs(8, torch.bfloat16, device)
    student = distillation.student_topk(logits, positions, 5, chunk_tokens=3)
    taught = distillation.teacher_targets(logits, positions, student, chunk_tokens=3)
    given = logits, labels, positions, ids, teacher
    results = [student, *taught, *distillation.chunked_divergence(*given, alpha=0.5, add_tail=True, chunk_tokens=3)]
    assert {value.device.type for value in results} == {device}
    return [value.cpu().tolist() for value in results]


def refused(call):
    try:
        call()
    except RuntimeError:
        return True


with Card(), torch.no_grad():
    here = estimators.batch(64, 32)
    there = estimators.on("card", here)
    calls = {name: [estimators.call(fn, given) for given in (there, here)] for name, fn in estimators.estimators(32).items()}
    ours, theirs = there["response_mask"], here["response_mask"]
    mixed = [lambda: ours + theirs, lambda: theirs.add_(ours), lambda: theirs * ours.sum(), lambda: ours.numpy()]
    print(
        json.dumps(
            {
                "estimators": {name: estimators.difference(*pair) for name, pair in calls.items()},
                "distillation": [distilled("card"), distilled("cpu")],
                "refused": [refused(call) for call in mixed],
            }
        )
    )
"""


def test_no_estimator_and_no_part_of_the_distillation_mixes_the_tensors_of_two_devices(fresh):
    """On a stand-in for a GPU, which refuses what a GPU refuses: ``tests/contract/card.py``. It has no backward pass."""
    done = fresh(CARD, cwd=ROOT, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["refused"] == [True] * 4, "a stand-in that allows everything would say nothing"
    assert found["estimators"] == dict.fromkeys(estimators.estimators(32), 0.0)
    there, here = found["distillation"]
    assert there == here


def test_micro_batches_are_asked_of_the_card_that_is_seen(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("smollm2_gpu", ROOT / "recipes" / "smollm2" / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (30e9, 80e9))  # free, in all
    monkeypatch.setattr(gpu.sys, "argv", ["gpu.py", "1"])
    gpu.main()
    assert capsys.readouterr().out == "12288\n"  # (30 - 5) / 7 GB: three times 4,096
    monkeypatch.setattr(gpu.sys, "argv", ["gpu.py", "4"])
    with pytest.raises(SystemExit, match="take JOBS=2"):
        gpu.main()
