"""Stores the result of ``bash recipes/quickstart.sh``: tokens and accuracy of two methods.

    python benchmarks/quickstart.py [runs/quickstart]

Writes ``benchmarks/results/quickstart.json`` and ``quickstart.png``, and prints the table for the README.
"""

import json
import shutil
import sys
from pathlib import Path

LABELS = ("warm_start", "batched_accuracy", "token_budget")
RESULTS = Path(__file__).parent / "results"


def main(runs: Path) -> None:
    results = []
    for label in LABELS:
        evaluation = json.loads((runs / f"{label}.json").read_text())
        kept = ("label", "samples", "sampling", "versions", "summary", "by_difficulty")
        results.append({key: evaluation[key] for key in kept})
    (RESULTS / "quickstart.json").write_text(json.dumps({"results": results}, indent=1) + "\n")
    shutil.copy(runs / "report.png", RESULTS / "quickstart.png")
    print("| model | accuracy | tokens per problem | over the shortest |\n|---|---|---|---|")
    for result in results:
        print("| " + " | ".join(row(result)) + " |")


def row(result: dict) -> tuple[str, ...]:
    """The cells of one model: label, accuracy, tokens, ratio to the shortest."""
    summary = result["summary"]
    accuracy, tokens, ratio = summary["accuracy"], summary["tokens_per_problem"], summary["over_shortest"]
    return result["label"], f"{100 * accuracy:.1f} %", f"{tokens:.1f}", f"{ratio:.2f} ×"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"))
