"""How much memory do `grade` and `evaluate offline` take for a large file, and how fast are they, with and without Ray?

    python benchmarks/large_files.py [--rows 1000000] [--minutes 30] [--folder DIR]

Makes a file of sums with 8 responses each: working of 20 to 60 words, the answer in a box, one in five wrong, one in fifty
without a box, and one in a thousand a formula that needs math-verify. Each of the four commands runs in a process of its own
and is ended after ``--minutes``. Memory is the largest sum over all processes of a run, with shared pages counted once (PSS),
looked at every five seconds. Ray starts within the command. The run fails if a command gives other results with Ray.

Writes ``benchmarks/results/large_files.json``.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.run_tree import run_tree

RESULTS = Path(__file__).parent / "results" / "large_files.json"
SAMPLES = 8
TALK = "so we add the next number and get then carry one wait let me check this again and write it down"
COMMANDS = {
    "grade": ["grade", "--answer", "answer"],
    "evaluate offline": ["evaluate", "offline", "--label", "rows", "--answer", "answer", "--difficulty", "difficulty"],
}


def write_file(path: Path, rows: int) -> None:
    """``rows`` responses to generated sums, the same for every call."""
    rng, words = random.Random(0), TALK.split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % SAMPLES == 0:
                left, right = rng.randrange(10_000), rng.randrange(10_000)
            length = rng.randint(20, 60)
            working = " ".join(rng.choices(words, k=length))
            given = left + right + (rng.random() < 0.2)
            box = "" if rng.random() < 0.02 else f"\\boxed{{{given}}}"
            gold = str(left + right)
            if rng.random() < 0.001:
                gold, box = f"{left}x + {right}", f"\\boxed{{{right} + {given - right} \\cdot x}}"
            row = {"problem": f"{left} + {right}", "response": f"{working} {box}", "answer": gold}
            file.write(json.dumps(row | {"tokens": length + 8, "difficulty": (left + right) / 20_000}) + "\n")


def measure(name: str, source: Path, out: Path, *, ray: bool, minutes: float) -> dict[str, Any]:
    """Run one command to its end, or to the time-out."""
    words = [*COMMANDS[name], str(source), "--out", str(out), *["--ray"] * ray]
    command = [sys.executable, "-m", "verl_efficiency.cli", *words]
    done = run_tree(command, timeout=60 * minutes, log=out.with_suffix(".log"))
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {'timed out' if done.timed_out else 'failed'}\n{done.log[-3000:]}")
    return {"command": name, "ray": ray, "seconds": round(done.seconds, 1)} | {
        "peak_memory_mb": round(done.peak_memory_bytes / 1e6)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="time-out of each command")
    parser.add_argument("--folder", type=Path, help="where the file is written; by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source = folder / "rows.jsonl"
        write_file(source, arguments.rows)
        size = source.stat().st_size / 1e6
        print(f"{arguments.rows:,} rows, {size:,.0f} MB", flush=True)
        runs = []
        for command in COMMANDS:
            outs = [folder / f"{command.split()[-1]}.{ray}.json{'l' * (command == 'grade')}" for ray in (False, True)]
            for ray, out in enumerate(outs):
                runs.append(measure(command, source, out, ray=bool(ray), minutes=arguments.minutes))
                print(runs[-1], flush=True)
            if outs[0].read_bytes() != outs[1].read_bytes():
                raise SystemExit(f"{command}: the results with Ray differ")
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    result = {"rows": arguments.rows, "file_mb": round(size), "samples": SAMPLES, "machine": machine, "runs": runs}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
