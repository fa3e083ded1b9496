"""Time and memory of the distillation loss: ours in chunks, against plain autograd over all routed tokens × vocabulary.

    python benchmarks/distillation.py [--tokens 1024 2048 4096] [--chunks 64 256 1024] [--repeats 3] [--dtype float32]

One pass is forward and backward of the label's log-probability at every token and of the divergence (alpha 0.5, tail, K = 100)
at every token too, from logits (T, 151936) to their gradient. Contestants:

- ours: ``chunked_divergence`` with ``overwrite_logits``, for each chunk size; "ours, new gradient" without it;
- index: the obvious form: the routed rows indexed and gathered minus logsumexp, the labels by log_softmax;
- shared: the leanest form without chunks that we know: one log_softmax for both. We compare ours with this one.
- verl, and "verl, chunked" (only in benchmarks/gpu): verl's own top-k loss, another divergence (forward KL, no tail).

Memory is the peak above the inputs. On a CPU, every pass runs in a fresh process; the peak is VmHWM of /proc/self/status, reset
just before the pass, minus VmRSS at that time (Linux only). On a GPU it is torch.cuda.max_memory_allocated minus the memory
allocated before. No process may take more than --limit GiB.

The contestants take turns, so that a busy machine slows all of them alike. Waiting threads sleep (OMP_WAIT_POLICY=passive): if
they spin, other processes cost milliseconds per operation, and chunks have more operations.

Writes ``benchmarks/results/distillation.json``.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from verl_efficiency.methods.distillation import CHUNK_TOKENS, chunked_divergence, divergence, with_tail

VOCABULARY, K, ALPHA = 151_936, 100, 0.5
RESULTS = Path(__file__).parent / "results" / "distillation.json"


def index(logits: Tensor, labels: Tensor, positions: Tensor, ids: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = logits.float().log_softmax(-1).gather(1, labels[:, None])[:, 0]
    rows = logits[positions].float()
    student = rows.gather(1, ids) - rows.logsumexp(-1, keepdim=True)
    return log_probs, divergence(with_tail(student), with_tail(teacher), ALPHA)


def shared(logits: Tensor, labels: Tensor, positions: Tensor, ids: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    logp = logits.float().log_softmax(-1)
    student = logp[positions[:, None], ids]
    return logp.gather(1, labels[:, None])[:, 0], divergence(with_tail(student), with_tail(teacher), ALPHA)


def verls(
    chunk: int, logits: Tensor, labels: Tensor, positions: Tensor, ids: Tensor, teacher: Tensor
) -> tuple[Tensor, Tensor]:
    """verl's top-k loss (trainer/distillation/fsdp/losses.py), with the label's log-probability as in ``index``."""
    from verl.trainer.distillation.fsdp.losses import compute_forward_kl_topk

    settings = SimpleNamespace(use_chunked_topk=chunk > 0, chunked_topk_chunk_size=chunk, log_prob_min_clamp=None)
    order = positions.argsort()  # verl has no routes: every token, in its order
    topk = [torch.nested.as_nested_tensor([value[order]], layout=torch.jagged) for value in (teacher, ids)]
    result = compute_forward_kl_topk(logits[None], *topk, SimpleNamespace(distillation_loss=settings), "thd")
    log_probs = logits.float().log_softmax(-1).gather(1, labels[:, None])[:, 0]
    return log_probs, result["distillation_losses"][0]


def one_pass(form: str, chunk: int, inputs: tuple[Tensor, ...]) -> float:
    """The sum of both outputs; the gradient is computed and discarded."""
    logits = inputs[0].view_as(inputs[0])  # not a leaf, like the output of a model
    if form in ("index", "shared"):
        outputs = {"index": index, "shared": shared}[form](logits, *inputs[1:])
    elif form.startswith("verl"):
        outputs = verls(chunk, logits, *inputs[1:])
    else:
        overwrite = form == "ours"
        outputs = chunked_divergence(
            logits, *inputs[1:], alpha=ALPHA, add_tail=True, chunk_tokens=chunk, overwrite_logits=overwrite
        )
    torch.autograd.grad(outputs, logits, [torch.ones_like(output) for output in outputs])
    return sum(output.detach().double().sum().item() for output in outputs)


def make_inputs(tokens: int, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    """64 random rows, repeated: fast to fill, and time and memory do not depend on the values."""
    generator = torch.Generator().manual_seed(0)
    rows = 3 * torch.randn(min(tokens, 64), VOCABULARY, generator=generator)
    logits = torch.empty(tokens, VOCABULARY, dtype=dtype, device=device)
    logits.view(-1, *rows.shape).copy_(rows.expand(tokens // len(rows), -1, -1))
    ids = rows.topk(K).indices.repeat(tokens // len(rows), 1)
    teacher = torch.full((tokens, K), 0.5 / K).log()
    labels, positions = torch.arange(tokens), torch.randperm(tokens, generator=generator)
    small = (x.to(device) for x in (labels, positions, ids[positions], teacher))
    return (logits.requires_grad_(), *small)


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def measure(form: str, chunk: int, tokens: int, dtype: str, device: str) -> dict[str, float]:
    """Seconds and bytes of one pass, after a small pass that starts the threads and loads the kernels."""
    one_pass(form, chunk, make_inputs(8, getattr(torch, dtype), device))
    inputs = make_inputs(tokens, getattr(torch, dtype), device)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        before = status("VmRSS")
    started = time.perf_counter()
    total = one_pass(form, chunk, inputs)  # ends with .item(), which waits for a GPU
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")
    return {"seconds": seconds, "bytes": peak - before, "total": total}


def in_child(limit_gib: float, *arguments: object) -> dict[str, float] | None:
    """:func:`measure` in a process of its own; None when the limit is too small for it."""
    command = [sys.executable, __file__, "--child", str(limit_gib), *map(str, arguments)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    if "can't allocate memory" in done.stderr or "OutOfMemoryError" in done.stderr:
        return None
    if done.returncode != 0:
        raise RuntimeError(f"{arguments} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def child(arguments: list[str]) -> None:
    limit, form, chunk, tokens, dtype, device = arguments
    if device == "cpu":
        size = int(float(limit) * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    print(json.dumps(measure(form, int(chunk), int(tokens), dtype, device)))


def rounds(contestants: list[tuple[str, int]], tokens: int, options: argparse.Namespace, device: str) -> list[dict]:
    """One row per contestant: median seconds and largest peak over the passes."""
    measured: dict[tuple[str, int], list[dict]] = {contestant: [] for contestant in contestants}
    for _ in range(options.repeats):
        for contestant, passes in measured.items():
            result = in_child(options.limit, *contestant, tokens, options.dtype, device)
            if result is not None:
                passes.append(result)
    rows = []
    for (form, chunk), passes in measured.items():
        row: dict = {"tokens": tokens, "form": form, "chunk": chunk or None}
        if passes:
            seconds = [one["seconds"] for one in passes]
            row |= {"seconds": statistics.median(seconds), "seconds_min": min(seconds)}
            row |= {"peak_mib": max(one["bytes"] for one in passes) / 2**20, "total": passes[0]["total"]}
            cells = f"{row['seconds']:8.2f} s  {row['seconds_min']:8.2f} s {row['peak_mib']:10.0f} MiB"
        else:
            cells = f"more than {options.limit:g} GiB"
        print(f"{tokens:>7} {form:>19} {chunk or '':>6} {cells}", flush=True)
        rows.append(row)
    return rows


def verdict(rows: list[dict], baseline: str) -> list[dict]:
    """Ours / ``baseline`` at the same number of tokens, for each chunk size; the outputs must agree."""
    found = []
    for reference in (row for row in rows if row["form"] == baseline and "seconds" in row):
        for row in (row for row in rows if row["form"] == "ours" and row["tokens"] == reference["tokens"]):
            if abs(row["total"] / reference["total"] - 1) > 1e-5:
                raise RuntimeError(f"outputs differ: {row} {reference}")
            ratios = {key: round(row[key] / reference[key], 4) for key in ("seconds", "seconds_min", "peak_mib")}
            found.append({"tokens": row["tokens"], "chunk": row["chunk"], "over": baseline, **ratios})
            print(f"{row['tokens']:>7} ours over {baseline}, chunk {row['chunk']}: {ratios}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096], help="multiples of 64")
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--limit", type=float, default=14, help="GiB that a process may take")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    print(f"{'tokens':>7} {'form':>19} {'chunk':>6} {'median':>10} {'min':>11} {'peak':>14}")
    rows = []
    for tokens in options.tokens:
        ours = [("ours", chunk) for chunk in options.chunks]
        plain = [("ours, new gradient", CHUNK_TOKENS), ("shared", 0), ("index", 0)]
        rows += rounds([*ours, *plain], tokens, options, device)
    ratios = [ratio for baseline in ("shared", "index") for ratio in verdict(rows, baseline)]
    result = {
        "question": "At most 1/8 of the peak and at most 1.3 times the time of the unchunked form, in one run?",
        "machine": {
            "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "settings": {"vocabulary": VOCABULARY, "k": K, "alpha": ALPHA, "default_chunk": CHUNK_TOKENS, **vars(options)},
        "results": rows,
        "ratios": ratios,
    }
    print(json.dumps(result["machine"]))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
