"""recipes/smollm2.sh: verl and our start-up check accept every arm, on the CPU and on a GPU; its problems are right."""

import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

from verl_efficiency.rewards import accuracy, batched_accuracy
from verl_efficiency.verl import start_up

FOLDER = Path(__file__).parents[2] / "recipes"
ARMS = ("grpo", "token_budget", "batched_accuracy", "sample_routing")


@pytest.fixture(scope="module")
def words():
    sys.path.insert(0, str(FOLDER / "smollm2"))
    import words

    yield words
    sys.path.remove(str(FOLDER / "smollm2"))


def graded(reward, text: str, truth: str) -> dict:
    return reward(data_source="word_problems", solution_str=text, ground_truth=truth, extra_info={})


@pytest.fixture(scope="module")
def settings():
    """Device and arm → the overrides of its launch."""

    def of(gpus: str) -> dict[str, list[str]]:
        known = os.environ | {"DRY_RUN": "1", "GPUS": gpus, "RUNS": "/nowhere"}
        command = ["bash", str(FOLDER / "smollm2.sh")]
        done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=60, check=True)
        parts = re.split(r"\n\[ *\d+ s\] (.*)\n", done.stdout)[1:]
        return {name: text.split("\n") for name, text in zip(parts[::2], parts[1::2], strict=True) if name in ARMS}

    return {gpus: of(gpus) for gpus in ("0", "1")}


@pytest.mark.parametrize("gpus", ["0", "1"])
@pytest.mark.parametrize("arm", ARMS)
def test_verl_and_the_start_up_check_accept_every_arm(compose, settings, gpus, arm, missed, tmp_path):
    elsewhere = ("hydra.", "data.train_files=", "data.val_files=")
    lines = [line for line in settings[gpus][arm] if line and not line.startswith(elsewhere)]
    config = compose(*lines)
    assert start_up.check(config) == []
    assert config.algorithm.adv_estimator == ("grpo" if arm == "batched_accuracy" else arm)
    actor = config.actor_rollout_ref.actor
    assert (config.actor_rollout_ref.rollout.name, actor.strategy) == ("hf", "fsdp2")
    assert (actor.fsdp_config.model_dtype, actor.fsdp_config.mixed_precision.param_dtype) == ("float32", "bf16")
    steps, batch, group = (30, 8, 6) if gpus == "0" else (30, 32, 8)
    assert (config.trainer.total_training_steps, config.trainer.save_freq) == (steps, 10 if gpus == "0" else 3)
    assert (config.data.train_batch_size, config.actor_rollout_ref.rollout.n) == (batch, group)
    assert config.trainer.n_gpus_per_node == 1
    assert actor.optim.lr == 3e-5
    assert missed([line.replace("/nowhere/data/model", str(tmp_path)) for line in lines]) == []


def test_the_problems_are_balanced_different_and_solved_right(words):
    drawn = words.problems(random.Random(0), 300)
    assert len({problem.question for problem in drawn}) == 300
    assert [problem.steps for problem in drawn] == [1, 2, 3] * 100
    for problem in drawn:
        count = int(re.search(r"has (\d+)", problem.question)[1])
        changes = re.findall(r"(buys|gives away) (\d+)", problem.question)
        assert len(changes) == problem.steps
        for verb, change in changes:
            count += int(change) if verb == "buys" else -int(change)
            assert count > 0
        assert problem.answer == count
        assert graded(accuracy, problem.solution, str(count))["score"] == 1.0, problem.solution


def test_no_training_problem_is_held_out(words):
    held_out = words.problems(random.Random(1), 30)
    asked = {problem.question for problem in held_out}
    again = words.problems(random.Random(1), 60, taken=asked)
    assert not asked & {problem.question for problem in again}


def test_the_written_answers_of_a_pack_are_right(words):
    pack = words.problems(random.Random(2), 2)
    truths = json.dumps([str(problem.answer) for problem in pack])
    text = words.packed_solution(pack)
    assert graded(batched_accuracy, text, truths)["correct_by_problem"] == "11"


@pytest.fixture
def gpu():
    sys.path.insert(0, str(FOLDER / "smollm2"))
    import gpu

    yield gpu
    sys.path.remove(str(FOLDER / "smollm2"))


def test_micro_batches_follow_the_memory_of_the_card(gpu):
    """5 GB for an arm and 7 GB for each 4,096 tokens."""
    gigabytes = {(12, 1): 4096, (24, 1): 8192, (24, 2): 4096, (80, 4): 8192, (141, 1): 16384}
    for (free, jobs), tokens in gigabytes.items():
        assert gpu.tokens_per_gpu(free * 1e9, jobs) == tokens


@pytest.mark.parametrize(("free", "jobs", "advice"), [(24, 4, "take JOBS=2"), (11, 1, "more free memory")])
def test_arms_that_do_not_fit_are_refused(gpu, free, jobs, advice):
    with pytest.raises(ValueError, match=f"JOBS={jobs}: .*{advice}"):
        gpu.tokens_per_gpu(free * 1e9, jobs)


def test_a_gpu_that_nobody_sees_is_named_before_anything_is_downloaded():
    known = {"GPUS": "1", "RUNS": "/nowhere", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(FOLDER / "smollm2.sh")]
    done = subprocess.run(command, env=os.environ | known, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "PyTorch sees no GPU" in done.stderr


@pytest.fixture
def results():
    spec = importlib.util.spec_from_file_location("smollm2_results", FOLDER / "smollm2" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_seeds_that_all_arms_have_are_compared(results, capsys):
    assert results.seeds_of_all({"a": [0, 1, 2], "b": [2, 0]}) == [0, 2]
    assert "left out, because not every arm has them: 1" in capsys.readouterr().out
    assert results.seeds_of_all({"a": [0], "b": [0]}) == [0]
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="no seed has been trained with every arm"):
        results.seeds_of_all({"a": [0], "b": [1]})
