"""The newest methods trained on the stock trainer. The first step is recomputed outside of verl and of the methods' code.

    python benchmarks/new_methods.py [--only toggle,grlc] [--steps 2]

Each run is a stock launch on the testbed. For estimators, the advantages in verl's policy loss are compared with the formula in
plain Python on verl's dumped text (tests/unit/shaping/formulas.py). The composition goes through verl's gdpo. For
``concise_teacher``, loss and gradient norm are compared with a step in float64 (tests/e2e/distillation_reference.py).
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tests.e2e import distillation_reference as reference
from tests.e2e.recomputed import groups_of, largest_difference
from tests.e2e.training import ROOT, Training, read_jsonl, small_testbed, train
from tests.unit.reference import group_advantage
from tests.unit.shaping.formulas import FORMULAS, scores
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing.concise_teacher import ConciseTeacherSettings

BATCH, GROUP, LIMIT = 8, 4, 120
ESTIMATED: dict[str, dict[str, Any]] = {  # settings at which the method matters on answers of 20 to 120 tokens
    "overlong": {"max_response_length": LIMIT, "buffer": 100},
    "toggle": {"phase_steps": 1},
    "pass_rate": {},
    "grlc": {"answer_bonus": 0.2},
    "gfpo": {"adaptive": True},
}
TERMS = "[{name: accuracy, weight: 1.0}, {name: repetition, weight: 0.1, n: 2}]"
KEYS, WEIGHTS = ("term_accuracy", "term_repetition"), (1.0, 0.1)
K = 20


def launch(recipe: str, data: dict, folder: Path, steps: int, *overrides: str) -> Training:
    external = ["verl_efficiency.verl.plugin", "tests.e2e.recording_loss"]
    training = train(
        *(
            recipe,
            folder,
            "trainer.save_freq=-1",
            "actor_rollout_ref.actor.policy_loss.loss_mode=recording",
            *overrides,
        ),
        **data | {"BATCH": BATCH, "GROUP": GROUP, "PROMPT_TOKENS": 64, "RESPONSE_TOKENS": LIMIT, "LR": 5e-4},
        **{"STEPS": steps, "PYTHONPATH": ROOT, "RECORD_ADVANTAGES": folder / "advantages.jsonl"},
        **{"VERL_USE_EXTERNAL_MODULES": ",".join(external), "timeout": 400},
    )
    if training.run.returncode or sorted(training.metrics) != list(range(1, steps + 1)):
        raise SystemExit(f"{recipe}: the run failed, its log ends with\n{training.run.log[-3000:]}")
    return training


def estimator(name: str, data: dict, folder: Path, steps: int) -> dict[str, Any]:
    """A run of an estimator, and the largest difference of an advantage in its first step."""
    given = ESTIMATED[name]
    settings = [f"+algorithm.efficiency.{key}={value}" for key, value in given.items()]
    recipe = "kimi" if name == "gfpo" else name  # the recipe of gfpo sets keep, which adaptive replaces
    training = launch(recipe, data, folder, steps, f"algorithm.adv_estimator={name}", *settings)
    recorded = read_jsonl(folder / "advantages.jsonl")[: BATCH * GROUP]
    groups = groups_of(training.rollouts[1], AutoTokenizer.from_pretrained(data["MODEL"]), LIMIT)
    chosen = ESTIMATORS[name].build_settings(given, name)
    difference = largest_difference(groups, lambda rows: FORMULAS[name](rows, chosen, {}), recorded)
    plain = largest_difference(groups, lambda rows: group_advantage(chosen.advantage, scores(rows), rows), recorded)
    assert plain > 0.01, f"{name} changed nothing in this batch, so the run shows nothing"
    return {"settings": given, "largest_difference": difference, "from_grpo": plain, **_said(recorded)}


def composition(data: dict, folder: Path, steps: int) -> dict[str, Any]:
    """The same with verl's gdpo and the older trainer, whose dump has no uid: the prompts of a step are distinct."""
    keys = [f"+algorithm.gdpo_reward_keys=[{','.join(KEYS)}]", f"+algorithm.gdpo_reward_weights={list(WEIGHTS)}"]
    terms = f"+reward.custom_reward_function.reward_kwargs.terms={TERMS}"
    gdpo = ["algorithm.adv_estimator=gdpo", "trainer.use_v1=False", *(key.replace(" ", "") for key in keys), terms]
    training = launch("composition", data, folder, steps, *gdpo)
    recorded = read_jsonl(folder / "advantages.jsonl")[: BATCH * GROUP]
    tokenizer = AutoTokenizer.from_pretrained(data["MODEL"])
    groups = defaultdict(list)
    for row in training.rollouts[1]:
        groups[row["input"]].append(row)
    assert [len(group) for group in groups.values()] == [GROUP] * BATCH
    pairs = []
    for group in groups.values():
        sums = [0.0] * GROUP
        for key, weight in zip(KEYS, WEIGHTS, strict=True):
            values = [float(row[key]) for row in group]
            deviation = statistics.stdev(values) + 1e-6
            sums = [s + weight * (v - statistics.fmean(values)) / deviation for s, v in zip(sums, values, strict=True)]
        lengths = [len(tokenizer(row["output"], add_special_tokens=False)["input_ids"]) + 1 for row in group]
        pairs += list(zip((min(length, LIMIT) for length in lengths), sums, strict=True))
    tokens = [value for length, value in pairs for _ in range(length)]
    mean, deviation = statistics.fmean(tokens), statistics.stdev(tokens)
    ours = sorted((length, (value - mean) / deviation) for length, value in pairs)
    theirs = sorted((len(row), row[0]) for row in recorded)
    assert [length for length, _ in ours] == [length for length, _ in theirs]
    difference = max(abs(one - other) for (_, one), (_, other) in zip(ours, theirs, strict=True))
    return {"settings": {"terms": TERMS}, "largest_difference": difference, **_said(recorded)}


def concise_teacher(data: dict, folder: Path, steps: int) -> dict[str, Any]:
    """The relative differences of loss and gradient norm. All advantages are 0."""
    training = launch("concise_teacher", data, folder, steps, f"+algorithm.efficiency.distillation_topk={K}")
    recorded = read_jsonl(folder / "advantages.jsonl")[: BATCH * GROUP]
    assert not any(advantage for row in recorded for advantage in row)
    question = ConciseTeacherSettings().instruction_template.replace("{prompt}", "{0}")
    rows, student = reference.read_rows(training.rollouts[1], data["MODEL"], LIMIT), reference.load(data["MODEL"])
    routes: reference.Routes = {row.key: ("distil", None) for row in rows}
    teacher = reference.load(data["MODEL"])
    step = reference.step(rows, routes, data["MODEL"], student, teacher, alpha=1.0, beta=0.0, k=K, taught=question)
    metrics = training.metrics[1]
    pairs = {"loss": (metrics["actor/loss"], step.loss), "grad_norm": (metrics["actor/grad_norm"], step.grad_norm)}
    return {
        "settings": {"distillation_topk": K},
        **{f"relative_difference_{name}": abs(ours / theirs - 1) for name, (ours, theirs) in pairs.items()},
        "loss": step.loss,
        "rollouts": len(rows),
    }


def _said(recorded: list[list[float]]) -> dict[str, Any]:
    learning = sum(any(row) for row in recorded)
    return {"rollouts": len(recorded), "learning": learning, "largest": max(abs(row[0]) for row in recorded)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*ESTIMATED, "composition", "concise_teacher"]))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "new_methods.json")
    options = parser.parse_args()

    rows = json.loads(options.output.read_text())["results"] if options.output.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        data = small_testbed(Path(folder) / "data")
        for name in options.only.split(","):
            start = time.monotonic()
            check = {"composition": composition, "concise_teacher": concise_teacher}.get(name)
            given = data, Path(folder) / name, options.steps
            row = check(*given) if check else estimator(name, *given)
            row = {"method": name, **row, "seconds": round(time.monotonic() - start)}
            print(json.dumps(row), flush=True)
            rows = [*(other for other in rows if other["method"] != name), row]
            result = {
                "question": "step 1 on the stock trainer: largest difference of an advantage from the recomputed one, and from "
                "plain GRPO's",
                **{"steps": options.steps, "batch": BATCH, "group": GROUP, "limit": LIMIT},
                "versions": {package: version(package) for package in ("verl", "torch", "transformers", "ray")},
                "machine": platform.machine(),
                "results": rows,
            }
            options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
