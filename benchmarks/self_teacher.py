"""What the self-teacher costs in a training step: its pass beside verl's own log-probability pass, on the CPU.

    python benchmarks/self_teacher.py

Runs ``recipes/verl/sample_routing.sh`` with the testbed's model on one rank, in the forms below. The learning rate is 0 up to
rounding, so that every step costs alike; the first step of a run, which warms up, is dropped. Times are verl's ``timing_s/*``:

* ``teacher``: everything that the method adds between the advantages and the update, storage and templates included;
* ``old_log_prob``: verl's pass over all rows, with what the method does there (reading the batch, routing, noting the top-K).

The line to hold is ``teacher ≤ (routed share + 0.1) · old_log_prob``, and about 0 with nothing routed. A teacher reads more
than the student did, the template and a demonstration, so the share of the rows and that of the tokens are two lines. The
tokens of the testbed are single characters: its template alone is longer than most responses, which is not so in real
training. With ``short prompts`` the setting ``max_reprompt_len`` cuts the teacher's prompts to about the student's, which
stands for demonstrations that are short beside the response (thinking is stripped from them).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from tests.e2e.training import small_testbed, train  # noqa: E402
from verl_efficiency.methods.rollouts import Rollouts  # noqa: E402
from verl_efficiency.methods.routing import GRPO, NO_SOURCE, SKIP, Routes  # noqa: E402

NAME = "sample_routing"
FORMS = {
    "top-K": (),
    "short prompts": ("+algorithm.efficiency.max_reprompt_len=48",),
    "sampled": ("+algorithm.efficiency.full_logit_distillation=False", "+algorithm.efficiency.alpha=1"),
    "nothing routed": ("+algorithm.efficiency.router=benchmarks.self_teacher.route_nothing",),
}


def route_nothing(rollouts: Rollouts, settings: Any) -> Routes:
    """A router: everybody learns by GRPO."""
    return Routes(
        route_B=torch.where(rollouts.real_B, GRPO, SKIP),
        source_B=torch.full_like(rollouts.groups_B, NO_SOURCE),
        feedback_B=torch.zeros_like(rollouts.real_B),
    )


def measure(form: str, options: argparse.Namespace, folder: Path) -> list[dict]:
    """One row per step of a run, without the first."""
    training = train(
        NAME,
        folder,
        *FORMS[form],
        **small_testbed(folder / "testbed"),
        timeout=280,
        BATCH=options.batch,
        GROUP=options.group,
        PROMPT_TOKENS=64,
        RESPONSE_TOKENS=options.response,
        STEPS=options.steps,
        LR=1e-30,
        PYTHONPATH=ROOT,
    )
    if training.run.returncode != 0:
        raise RuntimeError(training.run.log[-3000:])
    return [row(form, step, metrics) for step, metrics in sorted(training.metrics.items()) if step > 1]


def row(form: str, step: int, metrics: dict[str, float]) -> dict:
    """The costs of a step; shares of all rows and of all tokens, seconds."""
    full, teacher = metrics["timing_s/old_log_prob"], metrics["timing_s/teacher"]
    share = metrics[f"{NAME}/distil_share"]
    tokens = metrics.get(f"{NAME}/teacher_tokens", 0.0) / metrics["perf/total_num_tokens"]
    return {
        "form": form,
        "step": step,
        "rows_share": round(share, 4),
        "tokens_share": round(tokens, 4),
        "tokens": int(metrics["perf/total_num_tokens"]),
        "teacher_s": round(teacher, 4),
        "old_log_prob_s": round(full, 4),
        "ratio": round(teacher / full, 4),
        "beyond_rows": round(teacher / full - share, 4),
        "beyond_tokens": round(teacher / full - tokens, 4),
        "teacher_prompt": round(metrics.get(f"{NAME}/teacher_prompt_tokens", 0.0), 1),
        "update_actor_s": round(metrics["timing_s/update_actor"], 4),
        "teacher_update_s": round(metrics["timing_s/teacher_update"], 4),
        "step_s": round(metrics["timing_s/step"], 4),
    }


def medians(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Per form, the median of every number over its steps."""
    return {
        form: {
            key: round(statistics.median(row[key] for row in rows if row["form"] == form), 4)
            for key in rows[0]
            if key not in ("form", "step")
        }
        for form in FORMS
    }


def report(rows: list[dict], options: argparse.Namespace) -> None:
    """Print the medians, write everything down."""
    result = {
        "question": "Does the teacher pass add at most (routed share + 0.1) of verl's log-prob pass, and nothing when unused?",
        "machine": {
            "cpus": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "torch": metadata.version("torch"),
            "verl": metadata.version("verl"),
        },
        "settings": vars(options),
        "medians": medians(rows),
        "results": rows,
    }
    print(json.dumps({key: result[key] for key in ("machine", "medians")}, indent=1))
    file = ROOT / "benchmarks" / "results" / "self_teacher.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--response", type=int, default=80)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()

    rows: list[dict] = []
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(form, options, Path(folder))
        if not rows:
            print(*(f"{key:>14}" for key in found[0]))
        for step in found:
            print(*(f"{value:>14}" for value in step.values()), flush=True)
        rows += found
    report(rows, options)


if __name__ == "__main__":
    main()
