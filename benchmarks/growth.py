"""Does the cost of our two main estimators grow linearly with the rows, as that of verl's ``grpo_vectorized`` does?

    python benchmarks/growth.py [--rows 16384 32768 65536 131072] [--tokens 2048] [--repeats 15] [--threads 1]

Every estimator is called as by verl's trainer: ``compute_advantage`` on a ``DataProto`` with groups of 8, whose rows are
shuffled as by balancing. The estimators take turns in one process, so that a busy machine slows all of them alike. 131,072 rows
of 2,048 tokens need 6 GiB of memory. Writes ``benchmarks/results/growth.json``. ``benchmarks/estimators.py`` has all estimators
at one size.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import platform
import statistics
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.ray_trainer import compute_advantage

VERLS, OURS = "grpo_vectorized", ("token_budget", "variance_routing")
GROUP = 8
RESULTS = Path(__file__).parent / "results" / "growth.json"


def batch(rows: int, tokens: int) -> DataProto:
    """0/1 scores at the last token, lengths from 1 to ``tokens``, a UUID per group; shapes and types as in a verl step."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    rewards = torch.zeros(rows, tokens)
    rewards[torch.arange(rows), lengths - 1] = torch.randint(0, 2, (rows,), generator=generator).float()
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    names = np.array([str(uuid.UUID(int=group)) for group in range(rows // GROUP)], dtype=object)
    uids = np.random.default_rng(0).permutation(np.repeat(names, GROUP))
    return DataProto.from_dict({"token_level_rewards": rewards, "response_mask": mask}, {"uid": uids})


def seconds(data: DataProto, name: Any) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    config: Any = OmegaConf.create({"adv_estimator": name, "norm_adv_by_std_in_grpo": True})
    with contextlib.redirect_stdout(io.StringIO()):  # our line per step is part of the time, but not of this table
        wall, cpu = time.perf_counter(), time.process_time()
        compute_advantage(data, adv_estimator=name, config=config)
        result = time.perf_counter() - wall, time.process_time() - cpu
    for key in ("advantages", "returns"):
        data.batch.pop(key)
    return result


def measure(rows: int, tokens: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds per call of each estimator."""
    data = batch(rows, tokens)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in (VERLS, *OURS)}
    for repeat in range(repeats + 1):
        for name in taken:
            measured = seconds(data, name)
            if repeat > 0:  # the first round imports and allocates
                taken[name].append(measured)
    del data
    gc.collect()
    summary = {}
    for name, pairs in taken.items():
        walls, cpus = zip(*pairs, strict=True)
        summary[name] = {
            "wall_min": min(walls),
            "wall_median": statistics.median(walls),
            "cpu_min": min(cpus),
            "cpu_median": statistics.median(cpus),
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[16384, 32768, 65536, 131072])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    results = []
    print(f"{'rows':>8} {'estimator':>17} {'min':>9} {'median':>9} {'CPU min':>9} {'x verl':>7} {'ns per token':>13}")
    for rows in options.rows:
        times = measure(rows, options.tokens, options.repeats)
        for name, taken in times.items():
            ratios = {key: taken[key] / times[VERLS][key] for key in taken}
            per_token = 1e9 * taken["wall_min"] / (rows * options.tokens)
            results.append(
                {"rows": rows, "estimator": name, "seconds": taken, "ratio": ratios, "ns_per_token": per_token}
            )
            cells = [f"{1000 * taken[key]:6.1f} ms" for key in ("wall_min", "wall_median", "cpu_min")]
            print(f"{rows:>8} {name:>17} {' '.join(cells)} {ratios['wall_min']:>7.2f} {per_token:>13.3f}", flush=True)
    growth = [result for result in results if result["estimator"] == "token_budget"]
    for result in growth[1:]:
        factor = result["seconds"]["cpu_min"] / growth[0]["seconds"]["cpu_min"]
        print(
            f"token_budget: {result['rows'] / growth[0]['rows']:g} times the rows take {factor:.2f} times the CPU time"
        )

    versions = {name: metadata.version(name) for name in ("verl", "torch", "numpy", "verl-efficiency")}
    machine = {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
    }
    written = {
        "versions": {"python": platform.python_version(), **versions},
        "machine": machine,
        "settings": {"tokens": options.tokens, "group": GROUP, "repeats": options.repeats, "threads": options.threads},
        "results": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(written, indent=1) + "\n")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
