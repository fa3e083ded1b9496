"""The comparison's trainer in one process makes the same steps as ``main_ppo``."""

import json
from pathlib import Path

import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="verl 0.8 has no V1 trainer")

from benchmarks import compare
from benchmarks.comparison.launch import launch, read_metrics
from benchmarks.comparison.table import Run
from verl_efficiency.testbed.prepare import prepare
from verl_efficiency.testbed.tasks import task_named

RECORD = Path(__file__).parent / "main_ppo_steps.json"


@pytest.mark.timeout(960)
def test_a_method_with_a_teacher_makes_the_steps_of_main_ppo(tmp_path):
    """SRPO: rollouts, rewards, GRPO's part, the teacher's pass and average, the loss of both, two updates.

    The record holds the metrics of main_ppo that are no times, from the first steps of the run
    ``compare.py run routing --only sample_routing.published.seed0 --steps 4 --stock``.
    """
    record = json.loads(RECORD.read_text())
    told = {name: tuple(map(tuple, value)) if name == "variables" else value for name, value in record["run"].items()}
    quick = ["trainer.val_before_train=False", "trainer.test_freq=-1"]
    run = Run(**{**told, "kind": "trial", "steps": len(record["steps"]), "settings": (*told["settings"], *quick)})
    prepare(task_named("notes"), tmp_path / "data", seed=0, counts=compare.COUNTS)
    launch(run, tmp_path / "data", tmp_path / "run", timeout=900)
    metrics = read_metrics(tmp_path / "run" / "run" / "metrics.jsonl")
    assert sorted(metrics) == [1, 2]
    for step, expected in enumerate(record["steps"], start=1):
        found = {name: metrics[step].get(name) for name in expected}
        # A row of a batch is computed beside others here, and its last bits depend on them.
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-5)
