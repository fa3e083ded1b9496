"""Time of every estimator, compared with verl's ``grpo_vectorized``, which it replaces.

Each one is called as verl calls it (rewards, mask and uids in, advantages out), on one batch of 16,384 rollouts by 2,048 tokens
in groups of 8. The goal is at most 1.5 × for methods without state. Times are processor time of all threads of the process, so
that other programs hardly matter. They are medians over repeats, in which the estimators take turns. Compare only numbers of
one run.

    python benchmarks/estimators.py [--rows 16384] [--tokens 2048] [--repeats 7] [--threads 1]
"""

import argparse
import contextlib
import functools
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import compute_grpo_vectorized_outcome_advantage as grpo_vectorized

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.verl import run
from verl_efficiency.verl.estimators import make_estimator

VERLS, GROUP = "grpo_vectorized", 8


def batch(rows: int, tokens: int) -> dict:
    """Random lengths and 0/1 scores in verl's tensors."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    rewards = torch.zeros(rows, tokens)
    rewards[torch.arange(rows), lengths - 1] = (torch.rand(rows, generator=generator) < 0.5).float()
    uids = np.array([f"uid-{row // GROUP}" for row in range(rows)], dtype=object)
    return {"token_level_rewards": rewards, "response_mask": mask, "index": uids}


def estimators(tokens: int) -> dict[str, Callable]:
    """The functions to time; those that need more of a run (our trainer, the names of prompts) are left out."""
    functions: dict[str, Callable] = {VERLS: grpo_vectorized}
    for name, method in ESTIMATORS.items():
        if name == "custom":  # the function is the user's
            continue
        settings = method.build_settings({}, name)
        given = {"max_response_length": tokens} if hasattr(settings, "max_response_length") else {}
        from_the_run = settings.names_prompts or settings.columns or settings.reads_responses or settings.reads_feedback
        if method.hook == "estimator" and not from_the_run and not settings.parts & {"context", "thinking"}:
            config = OmegaConf.create({"efficiency": given})
            functions[name] = functools.partial(make_estimator(method), config=config)
    return functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "estimators.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    given, functions = batch(options.rows, options.tokens), estimators(options.tokens)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(options.repeats + 1):  # the first round warms up
        for name, function in functions.items():
            run.reset()
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                function(**given)
            seconds[name].append(time.process_time() - start)

    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    base = medians[VERLS]
    rows = []
    print(f"{'estimator':<24}{'ms':>8}{'times grpo_vectorized':>24}")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        stateless = name == VERLS or ESTIMATORS[name].new_state() is None
        rows.append(
            {"estimator": name, "ms": round(1000 * median, 1), "ratio": round(median / base, 2), "stateless": stateless}
        )
        print(f"{name:<24}{1000 * median:>8.1f}{median / base:>24.2f}{'' if stateless else '  (keeps state)'}")
    worst = max(row["ratio"] for row in rows if row["stateless"] and row["estimator"] != VERLS)
    print(f"worst without state: {worst:.2f} x grpo_vectorized")
    result = {
        "question": "processor time per call of an advantage estimator, beside verl's grpo_vectorized on the same batch",
        "rows": options.rows,
        "tokens": options.tokens,
        "group": GROUP,
        "repeats": options.repeats,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "worst_ratio_without_state": worst,
        "results": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
