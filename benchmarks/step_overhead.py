"""How much longer is a step with another estimator? ``python benchmarks/step_overhead.py`` writes results/step_overhead.json.

verl's trainer trains with GRPO in one process (``comparison/in_process.py``). In every step, each estimator of the comparison
gets the batch once, in random order, through verl's own call. So all see the same tokens at the same moments. The figure of an
estimator is (step − GRPO's call + its call) / step, the median over the steps with its quartiles.
"""

import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

HERE = Path(__file__).parent
sys.path.insert(0, f"{HERE.parent}")
from benchmarks.compare import COUNTS, table_of  # noqa: E402
from benchmarks.comparison import in_process  # noqa: E402
from benchmarks.comparison.launch import environment_of, overrides_of  # noqa: E402
from verl_efficiency.testbed.prepare import prepare  # noqa: E402
from verl_efficiency.testbed.tasks import task_named  # noqa: E402


class Timed(in_process.InProcess):
    """Calls every estimator once per step, and keeps the seconds."""

    nodes: Mapping[str, Any]  # the node `algorithm` of each estimator's run
    seconds: dict[str, list[float]]

    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        own = self.config.algorithm
        names = list(self.nodes)
        random.shuffle(names)
        begin = time.perf_counter()
        for name in names:
            self.config.algorithm = self.nodes[name]
            called = time.perf_counter()
            super()._compute_advantage(batch, {})
            self.seconds.setdefault(name, []).append(time.perf_counter() - called)
        self.config.algorithm = own
        self.seconds.setdefault("", []).append(time.perf_counter() - begin)
        return super()._compute_advantage(batch, metrics)


def main(
    steps: Annotated[int, typer.Option(help="training steps; the first three do not count")] = 33,
    out: Annotated[Path, typer.Option(help="JSON file to write")] = HERE / "results" / "step_overhead.json",
) -> None:
    """Measure all estimators of the comparison."""
    arms = {run.arm: run for run in table_of("pareto", steps).runs([], []) if run.seed == 0 and not run.recipe}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(task_named("notes"), folder / "data", seed=0, counts=COUNTS)
        (folder / "run").mkdir()
        os.environ["VERL_FILE_LOGGER_PATH"] = f"{folder / 'run' / 'metrics.jsonl'}"
        given = {
            name: overrides_of(run, folder, environment_of(run, folder / "data", folder)) for name, run in arms.items()
        }
        nodes = {}
        for name, overrides in given.items():
            config = in_process.configuration(overrides)
            if config.algorithm.adv_estimator not in {node.adv_estimator for node in nodes.values()}:
                nodes[name] = config.algorithm  # one arm per estimator
        in_process.one_rank()
        quiet = ("trainer.test_freq=-1", "trainer.val_before_train=False", "trainer.save_freq=-1")
        trainer = Timed(in_process.configuration([*given["grpo"], *quiet]))
        trainer.nodes, trainer.seconds = nodes, {}
        trainer.init()
        trainer.fit(trainer.agent_loop_manager)
        lines = [
            json.loads(line)["data"] for line in Path(os.environ["VERL_FILE_LOGGER_PATH"]).read_text().splitlines()
        ]
    whole = [line["timing_s/step"] - extra for line, extra in zip(lines, trainer.seconds.pop(""), strict=True)]
    rows = [row(name, seconds[3:], trainer.seconds["grpo"][3:], whole[3:]) for name, seconds in trainer.seconds.items()]
    machine = {"machine": platform.machine(), "python": platform.python_version(), "steps": steps}
    out.write_text(json.dumps({**machine, "rows": sorted(rows, key=lambda one: -one["ratio"][1])}, indent=1) + "\n")
    for one in sorted(rows, key=lambda one: -one["ratio"][1]):
        print(f"{one['estimator']:16s} {one['seconds'] * 1000:6.1f} ms  step {one['ratio'][1]:.4f} × GRPO's")


def row(name: str, own: list[float], grpo: list[float], steps: list[float]) -> dict[str, Any]:
    """One estimator: the median of its call, and quartiles of the step's ratio.

    >>> row("kimi", [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [1.0, 1.0, 2.0])
    {'estimator': 'kimi', 'seconds': 0.5, 'ratio': [1.125, 1.25, 1.25]}
    """
    ratios = [(step - plain + mine) / step for mine, plain, step in zip(own, grpo, steps, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "estimator": name,
        "seconds": round(statistics.median(own), 6),
        "ratio": [round(one, 5) for one in quartiles],
    }


if __name__ == "__main__":
    typer.run(main)
