"""Time of the self-teacher in a training step, compared with verl's own log-probability pass, on the CPU.

    python benchmarks/self_teacher.py

Trains ``sample_routing`` with the testbed's model on one rank, in the forms below. The learning rate is practically 0, so that
all steps take equally long. The first step of a run warms up and is dropped. Times are verl's ``timing_s/*``:

* ``teacher``: everything that the method adds between the advantages and the update, with storage and templates;
* ``old_log_prob``: verl's pass over all rows, with the method's part of it (reading the batch, routing, storing the top-K).

The goal is ``teacher ≤ (routed share + 0.1) · old_log_prob``, and about 0 with nothing routed. The share is given both of rows
and of tokens, since the teacher also reads the template and a demonstration. The testbed's tokens are single characters, so the
template alone is longer than most responses; in real training it is not. In the form ``short prompts``, ``max_reprompt_len``
cuts the teacher's prompts to about the student's length, as if demonstrations were short compared with the response.
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
    """A router: all rows learn by GRPO."""
    return Routes(
        route_B=torch.where(rollouts.real_B, GRPO, SKIP),
        source_B=torch.full_like(rollouts.groups_B, NO_SOURCE),
        feedback_B=torch.zeros_like(rollouts.real_B),
    )


def measure(form: str, options: argparse.Namespace, folder: Path) -> list[dict]:
    """One row per step of a run, except the first."""
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
    """The times of a step in seconds, and the routed shares of rows and tokens."""
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
    """Print the medians, and write everything."""
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
