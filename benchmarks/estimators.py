"""Time of every estimator, compared with verl's ``grpo_vectorized``, which it replaces.

Each one is called as verl calls it (rewards, mask and uids in, advantages out), on one batch of 16,384 rollouts by 2,048 tokens
in groups of 8. The goal is at most 1.5 × for methods without state.

Times are processor time of all threads of the process, so that other programs matter less. Most of it goes into the first write
to new memory, and how long that takes depends on what the allocator kept of earlier calls. So every call of an estimator stands
between two calls of ``grpo_vectorized``, and its ratio is to their mean. The table has the smallest, the median and the largest
ratio over the repeats, with 1 and with 2 threads, each in a process of its own. ``kept`` is a second run of ``token_budget`` in
which the allocator keeps freed memory (glibc's ``MALLOC_MMAP_MAX_=0``), as other allocators do.

    python benchmarks/estimators.py [--rows 16384] [--tokens 2048] [--repeats 7] [--threads 1,2]
"""

import argparse
import contextlib
import functools
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def seconds_of(function: Callable, given: dict) -> float:
    """Processor time of one call."""
    run.reset()
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        function(**given)
    return time.process_time() - start


def measure(rows: int, tokens: int, repeats: int, only: str | None) -> list[dict[str, Any]]:
    """Of each estimator the median milliseconds, and its ratios to ``grpo_vectorized``: smallest, median, largest."""
    given, functions = batch(rows, tokens), estimators(tokens)
    base = functions.pop(VERLS)
    chosen = {name: function for name, function in functions.items() if only in (None, name)}
    seconds: dict[str, list[float]] = {name: [] for name in [VERLS, *chosen]}
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for repeat in range(repeats + 1):  # the first round warms up
        before = seconds_of(base, given)
        for name, function in chosen.items():
            own, after = seconds_of(function, given), seconds_of(base, given)
            if repeat:
                seconds[name].append(own)
                seconds[VERLS].append(after)
                ratios[name].append(2 * own / (before + after))
            before = after
    result = []
    for name, times in seconds.items():
        row: dict[str, Any] = {"estimator": name, "ms": round(1000 * statistics.median(times), 1)}
        if name != VERLS:
            found = sorted(ratios[name])
            row |= {"ratio": [round(value, 2) for value in (found[0], statistics.median(found), found[-1])]}
            row["stateless"] = ESTIMATORS[name].new_state() is None
        result.append(row)
    return sorted(result, key=lambda row: row["ms"])


def in_a_process(options: argparse.Namespace, threads: int, only: str | None = None, **environment: str) -> list[dict]:
    """:func:`measure` in a new process, whose allocator has kept nothing."""
    command = [
        sys.executable,
        __file__,
        "--rows",
        options.rows,
        "--tokens",
        options.tokens,
        "--repeats",
        options.repeats,
    ]
    command += ["--threads", threads, "--measure", *(["--only", only] if only else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}
    done = subprocess.run(
        [str(part) for part in command], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", help="one estimator")
    parser.add_argument("--measure", action="store_true", help="measure in this process and print the rows")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "estimators.json")
    options = parser.parse_args()
    if options.measure:
        torch.set_num_threads(int(options.threads))
        print(json.dumps(measure(options.rows, options.tokens, options.repeats, options.only)))
        return

    results, kept = {}, {}
    for threads in map(int, options.threads.split(",")):
        rows = in_a_process(options, threads, options.only)
        settings = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
        (again,) = [
            row for row in in_a_process(options, threads, "token_budget", **settings) if row["estimator"] != VERLS
        ]
        results[f"{threads} threads"], kept[f"{threads} threads"] = rows, again
        print(f"\n{threads} thread(s)\n{'estimator':<24}{'ms':>8}{'times grpo_vectorized: min median max':>40}")
        for row in [*rows, again | {"estimator": "token_budget (kept)"}]:
            ratio = " ".join(f"{value:.2f}" for value in row.get("ratio", []))
            print(
                f"{row['estimator']:<24}{row['ms']:>8.1f}{ratio:>40}{'' if row.get('stateless', True) else '  (keeps state)'}"
            )
    stateless = [row for rows in results.values() for row in rows if row.get("stateless")]
    worst = max((row["ratio"][1] for row in stateless), default=None)
    print(f"\nworst median without state: {worst} x grpo_vectorized")
    result = {
        "question": "processor time per call of an advantage estimator, in turn with verl's grpo_vectorized on the same batch",
        "rows": options.rows,
        "tokens": options.tokens,
        "group": GROUP,
        "repeats": options.repeats,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "worst_ratio_without_state": worst,
        "token_budget_with_kept_memory": kept,
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
