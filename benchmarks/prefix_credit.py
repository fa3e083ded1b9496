"""Does the credit of T-SPMO grow linearly with the tokens, and how much faster is it than references with dictionaries?

    export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=16000000000  # see below
    python benchmarks/prefix_credit.py [--groups 64] [--rollouts 16] [--tokens 1024 2048 4096 8192] [--compared 4096]

There are three shapes of groups, all with rollouts of full length. ``early``: each rollout shares up to 64 tokens with an
earlier one. ``late``: all share everything but the last 20 tokens. ``ladder``: the rollouts leave the others one by one, evenly
over the length; this is the deepest possible tree, and no comparison helps with the next.

The references are plain Python. ``prefixes`` is the formula written down, with a dictionary whose keys are prefixes as tuples.
It is quadratic in the length, so it is timed on two groups (``--sampled``) and multiplied. ``trie`` is linear: a dictionary
from (node, token) to node, timed on all groups. Every reference must give the same credits to 1e-12. Times are of one process.
Ours and the whole method (``t_spmo`` and its weights) are also given as CPU time.

glibc returns large blocks to the system, and then every call pays for fresh pages: from about 16 MB of tokens on, a token takes
two to three times as long, mostly for the three copies that every shape needs. The two variables keep the blocks, so that the
growth is that of the method. Writes ``benchmarks/results/prefix_credit.json``.
"""

import argparse
import dataclasses
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings, prefix_credit, t_spmo

RESULTS = Path(__file__).parent / "results" / "prefix_credit.json"
SHAPES = ("early", "late", "ladder")


def batch(shape: str, groups: int, rollouts: int, tokens: int) -> Rollouts:
    """0/1 scores, ids as of a vocabulary of 150,000, the rollouts of a group together."""
    draw, generator = random.Random(0), torch.Generator().manual_seed(0)
    ids = torch.randint(0, 150_000, (groups, rollouts, tokens), generator=generator)
    for group in ids:
        for place in range(1, rollouts):
            if shape == "early":
                other, shared = draw.randrange(place), draw.randint(0, 64)
            elif shape == "late":
                other, shared = 0, tokens - 20
            else:
                other, shared = place - 1, place * tokens // rollouts
            group[place, :shared] = group[other, :shared]
    rows = groups * rollouts
    built = Rollouts.build(
        torch.randint(0, 2, (rows,), generator=generator).double(),
        torch.full((rows,), tokens),
        [place // rollouts for place in range(rows)],
    )
    return dataclasses.replace(built, responses_B=tuple(ids.flatten(0, 1)))


def ours(rollouts: Rollouts) -> torch.Tensor:
    assert rollouts.responses_B is not None
    tokens_N = torch.cat(rollouts.responses_B)
    return prefix_credit(tokens_N, rollouts.lengths_B, rollouts.groups_B, rollouts.scores_B, rollouts.real_B)


def whole_method(rollouts: Rollouts) -> torch.Tensor:
    outcome = t_spmo(rollouts, TSpmoSettings())
    assert outcome.token_weights is not None
    return outcome.token_weights(torch.ones(len(rollouts.lengths_B), int(rollouts.lengths_B.max())))


def prefixes(responses: list[list[int]], scores: list[float]) -> list[list[float]]:
    """The credits of one group, by its prefixes."""
    total: dict[tuple, float] = {}
    count: dict[tuple, int] = {}
    for tokens, score in zip(responses, scores, strict=True):
        for length in range(len(tokens) + 1):
            prefix: tuple = tuple(tokens[:length])
            total[prefix] = total.get(prefix, 0.0) + score
            count[prefix] = count.get(prefix, 0) + 1
    seen, credits = set(), []
    for tokens in responses:
        credit = [0.0] * len(tokens)
        prefix = ()
        for place in range(len(tokens)):
            pair = tuple(tokens[: place + 1])
            if pair not in seen:
                seen.add(pair)
                credit[place] = total[pair] / count[pair] - total[prefix] / count[prefix]
            prefix = pair
        credits.append(credit)
    return credits


def trie(responses: list[list[int]], scores: list[float]) -> list[list[float]]:
    """The credits of one group, by a tree of numbered nodes."""
    child: dict[tuple[int, int], int] = {}
    total, count, owner = [0.0], [0], [-1]
    for row, (tokens, score) in enumerate(zip(responses, scores, strict=True)):
        node = 0
        total[0] += score
        count[0] += 1
        for token in tokens:
            node = child.setdefault((node, token), len(total))
            if node == len(total):
                total.append(0.0)
                count.append(0)
                owner.append(row)
            total[node] += score
            count[node] += 1
    credits = []
    for row, tokens in enumerate(responses):
        node, credit = 0, [0.0] * len(tokens)
        for place, token in enumerate(tokens):
            parent, node = node, child[node, token]
            if owner[node] == row:
                credit[place] = total[node] / count[node] - total[parent] / count[parent]
        credits.append(credit)
    return credits


def reference_seconds(
    reference: Callable[[list[list[int]], list[float]], list[list[float]]], data: Rollouts, rollouts: int, groups: int
) -> float:
    """Seconds for the first ``groups`` groups, without making lists of the ids. The credits must equal ours."""
    assert data.responses_B is not None
    credit = ours(data).reshape(len(data.lengths_B), -1)
    seconds = 0.0
    for group in range(groups):
        rows = slice(group * rollouts, (group + 1) * rollouts)
        responses = [ids.tolist() for ids in data.responses_B[rows]]
        scores = data.scores_B[rows].tolist()
        started = time.perf_counter()
        credits = reference(responses, scores)
        seconds += time.perf_counter() - started
        torch.testing.assert_close(credit[rows], torch.tensor(credits, dtype=torch.float64), rtol=0, atol=1e-12)
    return seconds


def taken(call: Callable[[Rollouts], torch.Tensor], data: Rollouts, repeats: int) -> dict[str, float]:
    """Wall and CPU milliseconds of one call; the first one warms up."""
    walls, cpus = [], []
    for repeat in range(repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        call(data)
        if repeat > 0:
            walls.append(1000 * (time.perf_counter() - wall))
            cpus.append(1000 * (time.process_time() - cpu))
    summary = {"wall_min": min(walls), "wall_median": statistics.median(walls), "cpu_min": min(cpus)}
    return {**summary, "cpu_median": statistics.median(cpus)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--compared", type=int, default=4096, help="tokens at which the references run")
    parser.add_argument("--sampled", type=int, default=2, help="groups that the quadratic reference is timed on")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    growth, ratios = [], []
    print(f"{'shape':>7} {'tokens':>7} {'':>12} {'wall min':>10} {'median':>10} {'CPU min':>10} {'per token':>10}")
    for shape in SHAPES:
        for tokens in options.tokens:
            data = batch(shape, options.groups, options.rollouts, tokens)
            for name, call in (("credit", ours), ("whole method", whole_method)):
                times = taken(call, data, options.repeats)
                per_token = 1e6 * times["cpu_min"] / (options.groups * options.rollouts * tokens)
                growth.append(
                    {
                        "shape": shape,
                        "tokens": tokens,
                        "what": name,
                        "milliseconds": times,
                        "cpu_ns_per_token": per_token,
                    }
                )
                cells = " ".join(f"{times[key]:7.1f} ms" for key in ("wall_min", "wall_median", "cpu_min"))
                print(f"{shape:>7} {tokens:>7} {name:>12} {cells} {per_token:>7.2f} ns", flush=True)
    for shape in SHAPES:
        data = batch(shape, options.groups, options.rollouts, options.compared)
        median = taken(ours, data, options.repeats)["wall_median"] / 1000
        for reference, groups in ((prefixes, options.sampled), (trie, options.groups)):
            seconds = reference_seconds(reference, data, options.rollouts, groups)
            whole = seconds * options.groups / groups
            ratios.append(
                {
                    "shape": shape,
                    "tokens": options.compared,
                    "reference": reference.__name__,
                    "timed_groups": groups,
                    "reference_seconds_all_groups": whole,
                    "ours_seconds_median": median,
                    "times_as_fast": whole / median,
                }
            )
            print(
                f"{shape:>7} {options.compared:>7} {reference.__name__:>12}: {whole:8.2f} s against "
                f"{1000 * median:6.1f} ms (median), {whole / median:,.0f} times as fast",
                flush=True,
            )
    written = {
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "numpy", "verl-efficiency")},
        },
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "load": os.getloadavg()[0],
        },
        "settings": vars(options),
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "growth": growth,
        "ratios": ratios,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: written[key] for key in ("versions", "machine")}))
    print(f"written: {RESULTS.name}")


if __name__ == "__main__":
    main()
