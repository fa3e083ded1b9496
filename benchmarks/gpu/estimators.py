"""Every estimator on the device: the same advantages as on the CPU, and how long, beside verl's ``grpo_vectorized``.

    python -m benchmarks.gpu.estimators [--device cuda] [--quick]

16,384 rollouts of up to 2,048 tokens on a GPU, 512 × 256 on a CPU. The difference is relative to the largest advantage, at
least 1. Times are wall clock of one call, the device waited for; medians over the repeats, which take turns.
"""

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.estimators import VERLS, batch, estimators
from benchmarks.gpu.common import Row, done_before, read_options, save
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.verl import run

LIMIT = 1e-6


def call(function: Callable[..., tuple[Tensor, Tensor]], given: dict[str, Any]) -> Tensor:
    """The advantages, from a fresh state."""
    run.reset()
    with contextlib.redirect_stdout(io.StringIO()):
        return function(**given)[0]


def on(device: str, given: dict[str, Any]) -> dict[str, Any]:
    """The batch with its tensors on ``device``."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in given.items()}


def difference(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest advantage or 1."""
    scale = max(1.0, reference.abs().max().item())
    return (ours.cpu().double() - reference.double()).abs().max().item() / scale


def main() -> None:
    options = read_options(__doc__)
    if done_before("estimators", options):
        return
    rows, tokens = (512, 256) if options.small else (16384, 2048)
    repeats = 3 if options.small else 5
    here = batch(rows, tokens)
    there, functions = on(options.device, here), estimators(tokens)
    differences = {name: difference(call(fn, there), call(fn, here)) for name, fn in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            call(function, there)
            if options.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    worst = max(differences, key=differences.__getitem__)
    stateless = [name for name in functions if name != VERLS and ESTIMATORS[name].new_state() is None]
    slowest = max(stateless, key=medians.__getitem__)
    size = f"{rows} × {tokens}"
    save(
        "estimators",
        options,
        [
            Row(
                f"{len(functions)} estimators against the CPU, {size}",
                f"{differences[worst]:.1e} ({worst})",
                f"at most {LIMIT:.0e}",
                differences[worst] <= LIMIT,
            ),
            Row("verl's grpo_vectorized", f"{1000 * medians[VERLS]:.1f} ms"),
            Row(
                "our slowest method without state",
                f"{1000 * medians[slowest]:.1f} ms, {medians[slowest] / medians[VERLS]:.2f} × ({slowest})",
            ),
        ],
        differences=differences,
        milliseconds={name: 1000 * median for name, median in medians.items()},
    )


if __name__ == "__main__":
    main()
