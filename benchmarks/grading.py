"""How fast is grading, and is it right? Ours against math-verify called directly and against verl's own wrapper.

    python benchmarks/grading.py [folder with the data sets]

Real completions are 5,276 answers of four models to GSM8K (OpenAI's grade-school-math), with their last line put in a box.
Symbolic pairs are reference answers of MATH-500, OlympiadBench and Minerva, each graded against another one, as far as the fast
path does not decide. Every contestant runs in one process, one call after the other. The batch runs on one and on two workers.
"""

import json
import logging
import operator
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from verl_efficiency.grading import PoolSettings, configure, extract_answer, grade, grade_batch, quick_equal, shutdown
from verl_efficiency.grading.pool import get_pool

HERE = Path(__file__).resolve().parent
Contestant = Callable[[str, str], bool]
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def read(data: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (data / name).read_text(encoding="utf-8").splitlines()]


def real_completions(data: Path) -> list[tuple[str, str]]:
    """(response, reference) with the last line ``A: 42`` rewritten as a box."""
    pairs = []
    for row in read(data, "gsm8k_model_solutions.jsonl"):
        gold = row["ground_truth"].rsplit("A:", 1)[1].strip()
        for model in MODELS:
            reasoning, mark, answer = row[model]["solution"].rpartition("\nA:")
            box = f"{reasoning}\nThe answer is \\boxed{{{answer.strip()}}}"
            pairs.append((box if mark else row[model]["solution"], gold))
    return pairs


def symbolic_pairs(data: Path) -> list[tuple[str, str]]:
    """(answer, reference) that need symbolic work, about one in five of them equal."""
    golds = [row["answer"] for row in read(data, "math500_test.jsonl")]
    golds += [", ".join(row["final_answer"]) for row in read(data, "olympiadbench_test.jsonl")]
    golds += [extract_answer(row["solution"]) or "" for row in read(data, "minerva_test.jsonl")]
    golds = [gold for gold in golds if gold]
    generator = random.Random(0)
    others = generator.sample(golds, len(golds))
    pairs = list(zip(others, golds, strict=True))
    pairs += [(f"{gold} + 0", gold) for gold in generator.sample(golds, len(golds) // 4)]
    return [(answer, gold) for answer, gold in pairs if quick_equal(answer, gold) is None]


def compare(kind: str, contestants: dict[str, Contestant], pairs: list[tuple[str, str]]) -> dict:
    """Latencies, their ratios to ours, and the number of verdicts that differ from ours; the contestants take turns."""
    milliseconds: dict[str, list[float]] = {name: [] for name in contestants}
    verdicts: dict[str, list[bool]] = {name: [] for name in contestants}
    for call in contestants.values():
        call("\\boxed{x + 1}", "1 + x")  # start-up is not compared
    for answer, gold in pairs:
        for name, call in contestants.items():
            started = time.perf_counter()
            verdicts[name].append(call(answer, gold))
            milliseconds[name].append(1000 * (time.perf_counter() - started))
    result: dict = {"latency": {name: summary(values) for name, values in milliseconds.items()}}
    for name in contestants:
        result["latency"][name]["verdicts_unlike_ours"] = sum(map(operator.ne, verdicts["ours"], verdicts[name]))
        for mean in ("mean_ms", "p50_ms"):
            ratio = result["latency"][name][mean] / result["latency"]["ours"][mean]
            result["latency"][name][f"{mean[:-3]}_over_ours"] = round(ratio, 2)
        print(f"{kind:12} {name:12}", *(f"{key} {value}" for key, value in result["latency"][name].items()), flush=True)
    return result["latency"]


def summary(milliseconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {
        "n": len(milliseconds),
        "mean_ms": round(statistics.fmean(milliseconds), 4),
        "p50_ms": round(cuts[49], 4),
        "p99_ms": round(cuts[98], 4),
        "max_ms": round(max(milliseconds), 3),
    }


def ours(response: str, gold: str) -> bool:
    return grade(extract_answer(response), gold).correct


def ours_boxed(answer: str, gold: str) -> bool:
    return grade(answer, gold).correct


def math_verify_direct(response: str, gold: str) -> bool:
    from math_verify import parse, verify

    return verify(parse(f"\\boxed{{{gold}}}"), parse(response))


def math_verify_boxed(answer: str, gold: str) -> bool:
    return math_verify_direct(f"\\boxed{{{answer}}}", gold)


def in_batch(pairs: list[tuple[str, str]], workers: int) -> float:
    """Seconds for all ``pairs`` in one call on warm workers."""
    configure(PoolSettings(workers=workers))
    grade_batch([f"x + {number}" for number in range(16)], [f"{number} + x" for number in range(16)])
    started = time.perf_counter()
    grade_batch([answer for answer, _ in pairs], [gold for _, gold in pairs])
    return time.perf_counter() - started


def main(data: Path) -> dict:
    logging.disable()
    contestants: dict[str, Contestant] = {"ours": ours, "math-verify": math_verify_direct}
    if find_spec("verl"):
        from verl.utils.reward_score.math_verify import compute_score

        contestants["verl"] = lambda response, gold: compute_score(response, gold) > 0
    boxed: dict[str, Contestant] = {"ours": ours_boxed, "math-verify": math_verify_boxed}
    completions, symbolic = real_completions(data), symbolic_pairs(data)
    answers = [(answer, gold) for response, gold in completions if (answer := extract_answer(response))]

    configure(PoolSettings(workers=1))
    results = {
        "completions": compare("completions", contestants, completions),
        "bare answers": compare("bare answers", boxed, answers),
        "symbolic": compare("symbolic", boxed, symbolic),
    }
    peak = get_pool().peak_mib
    seconds = {workers: in_batch((symbolic * 4)[:1024], workers) for workers in (1, 2)}
    shutdown()
    result = {
        "question": "How fast is grading, and does it agree with math-verify?",
        "machine": {
            "cpus": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "math-verify": metadata.version("math-verify"),
            "verl": metadata.version("verl") if find_spec("verl") else None,
        },
        "results": results,
        "batch_of_1024": {
            "seconds_1_worker": round(seconds[1], 2),
            "seconds_2_workers": round(seconds[2], 2),
            "speedup": round(seconds[1] / seconds[2], 2),
        },
        "peak_mib_of_a_worker": round(peak),
    }
    print(json.dumps({key: result[key] for key in ("machine", "batch_of_1024", "peak_mib_of_a_worker")}))
    return result


if __name__ == "__main__":
    default = os.environ.get("VERL_EFFICIENCY_DATA", HERE.parents[1] / "shared" / "data")
    result = main(Path(sys.argv[1] if len(sys.argv) > 1 else default))
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "grading.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
