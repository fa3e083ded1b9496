"""Real runs with a known fault, one for each rule of ``verl-efficiency diagnose``, and the logs of healthy ones.

    python benchmarks/diagnose_runs.py                        all runs with a fault, about two minutes each on two cores
    python benchmarks/diagnose_runs.py explosion              one of them
    python benchmarks/diagnose_runs.py healthy_budget=runs/quickstart/token_budget    keeps the log of a run that is there

Each is a run of the stock trainer on the testbed. The healthy ones are those of ``recipes/quickstart.sh`` (``checks``, both
runs), and ``token_budget`` on ``notes`` by ``benchmarks/compare.py``. What a run spends and earns goes into
``tests/unit/runs/NAME``: its metrics without times and speeds, the lines of its console that name a step or a fault, and for
some runs the scores of its rollout dumps. The tests diagnose these files.
"""

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.training import read_jsonl, train  # noqa: E402
from verl_efficiency.evaluation.run_log import group_of  # noqa: E402
from verl_efficiency.rewards import accuracy  # noqa: E402
from verl_efficiency.testbed.prepare import prepare  # noqa: E402
from verl_efficiency.testbed.tasks import task_named  # noqa: E402

OUT = ROOT / "tests" / "unit" / "runs"
KEPT = (
    "critic/",
    "response_length/",
    "reward/",
    "actor/entropy",
    "actor/grad_norm",
    "actor/lr",
    "kimi/",
    "token_budget/",
)
SAID = ("[token_budget]", "[kimi]", " step:", "REWARD ERROR", " timed out after ")  # lines of the console
FIRST_OF_STEP = re.compile(r"(step:\d+ - \S+).*")  # its other metrics are in the metrics file
SLOW = r"\sum_{k=1}^{10000000} \frac{1}{k^3+\sqrt{k}}"  # math-verify adds it up term by term


def paid_for_shortness(data_source, solution_str, ground_truth, extra_info, **settings):
    """The fault of ``length_collapse``: every token costs, and a short wrong answer beats a long right one."""
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **settings)
    return result | {"score": result["score"] - 0.03 * extra_info["response_tokens"]}


def paid_by_length(data_source, solution_str, ground_truth, extra_info, **settings):
    """The fault of ``explosion``: a long answer scores more than a short one."""
    result = accuracy(data_source, solution_str, ground_truth, extra_info, **settings)
    return result | {"score": result["score"] + 0.02 * extra_info["response_tokens"]}


def raises_sometimes(data_source, solution_str, ground_truth, extra_info, **settings):
    """The fault of ``reward_errors``: no answer of three signs is expected."""
    1 // (len(solution_str) % 3)
    return accuracy(data_source, solution_str, ground_truth, extra_info, **settings)


def slow_sometimes(data_source, solution_str, ground_truth, extra_info, **settings):
    """The fault of ``grader_timeouts``: some ground truths take minutes to compare."""
    slow = extra_info["index"] % 8 == 0
    return accuracy(data_source, solution_str, SLOW if slow else ground_truth, extra_info, **settings)


def wrong_truths(data_source, solution_str, ground_truth, extra_info, **settings):
    """Half of the problems have a wrong ground truth, so nobody solves them."""
    wrong = extra_info["index"] % 2 == 0
    return accuracy(data_source, solution_str, "12345" if wrong else ground_truth, extra_info, **settings)


def reward(name: str) -> tuple[str, ...]:
    """Overrides for a reward of this file."""
    return (f"reward.custom_reward_function.path={__file__}", f"reward.custom_reward_function.name={name}")


@dataclass(frozen=True)
class Plan:
    """One run: its recipe and overrides, its task, and the variables of ``recipes/verl/_common.sh``."""

    recipe: str
    overrides: tuple[str, ...] = ()
    task: str = "checks"
    steps: int = 12
    tokens: int = 190
    rate: float = 5e-4
    rollouts: bool = False  # keep the scores of its rollout dumps, without texts


OURS = "trainer.v1.trainer_mode=efficiency_sync"
PLAIN = "algorithm.adv_estimator=grpo"
EFFICIENCY = "+algorithm.efficiency."
PLANTED = {
    "length_collapse": Plan(
        "kimi", (OURS, *reward("paid_for_shortness"), PLAIN), task="notes", steps=24, tokens=66, rate=1e-3
    ),
    "explosion": Plan("kimi", (OURS, *reward("paid_by_length"), PLAIN), tokens=400, rate=1e-3),
    # Half of the answers need more tokens than they get, and the rate is too low to learn to be short.
    "truncation": Plan("kimi", (PLAIN,), steps=8, tokens=45, rate=1e-7),
    "equal_groups": Plan("kimi", (PLAIN, "actor_rollout_ref.rollout.temperature=0.001"), steps=8, rollouts=True),
    "unsolved_groups": Plan("kimi", (OURS, *reward("wrong_truths"), f"{EFFICIENCY}unsolved=as_published"), steps=8),
    "entropy_collapse": Plan("kimi", (PLAIN, "actor_rollout_ref.actor.entropy_coeff=-0.5"), steps=14, rate=1e-3),
    "reward_errors": Plan("kimi", (OURS, *reward("raises_sometimes")), steps=6),
    "grader_timeouts": Plan("kimi", reward("slow_sometimes"), steps=5),
    "idle_budget": Plan("token_budget", (OURS, f"{EFFICIENCY}b_min=500", f"{EFFICIENCY}b_max=900"), steps=8),
}


def run(name: str, plan: Plan, folder: Path) -> None:
    """Train, and keep what ``diagnose`` reads."""
    prepare(task_named(plan.task), folder / "data", 0, {"train": 1920, "test": 24})
    training = train(
        plan.recipe,
        folder,
        *("trainer.save_freq=-1", "actor_rollout_ref.actor.use_dynamic_bsz=False"),
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
        *plan.overrides,
        timeout=600,
        **{"MODEL": folder / "data" / "model", "TRAIN": folder / "data" / "train.parquet"},
        **{"VAL": folder / "data" / "test.parquet", "STEPS": plan.steps, "BATCH": 8, "GROUP": 8, "LR": plan.rate},
        **{"PROMPT_TOKENS": 80, "RESPONSE_TOKENS": plan.tokens},
    )
    if training.run.returncode != 0:
        raise SystemExit(f"{name}: the run failed\n{training.run.log[-3000:]}")
    keep(name, folder / "run" / "metrics.jsonl", folder / "log.txt", folder / "rollouts" if plan.rollouts else None)


def keep(name: str, metrics: Path, log: Path, rollouts: Path | None = None) -> None:
    """Keep what ``diagnose`` reads of a run."""
    kept = OUT / name
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "metrics.jsonl").open("w") as file:
        for record in read_jsonl(metrics):
            small = {key: round(value, 6) for key, value in record["data"].items() if key.startswith(KEPT)}
            file.write(json.dumps({"step": record["step"], "data": small}) + "\n")
    said = [line for line in log.read_text(errors="replace").splitlines() if any(word in line for word in SAID)]
    (kept / "console.log").write_text("".join(FIRST_OF_STEP.sub(r"\1", line) + "\n" for line in said))
    for file in rollouts.glob("*.jsonl") if rollouts else ():
        rows = read_jsonl(file)
        groups = {group: number for number, group in enumerate(dict.fromkeys(group_of(row["uid"]) for row in rows))}
        lines = [{"uid": f"{groups[group_of(row['uid'])]}_0_0", "score": row["score"]} for row in rows]
        (kept / "rollouts").mkdir(exist_ok=True)
        (kept / "rollouts" / file.name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(name, len(read_jsonl(metrics)), "steps,", len(said), "lines of the console", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or PLANTED:
        if "=" in name:
            name, _, made = name.partition("=")
            keep(name, Path(made) / "metrics.jsonl", Path(made).with_name(Path(made).name + ".log"))
            continue
        with tempfile.TemporaryDirectory() as folder:
            run(name, PLANTED[name], Path(folder))
