"""Answers side by side: ``python recipes/smollm2/examples.py DATA.parquet LABEL=ROWS.jsonl … [--out FILE.md]``.

Each JSON-lines file is what ``verl-efficiency evaluate --rows`` wrote, on the same problems. Shown are the longest and the
shortest answers of the first model beside those of the others, and problems on which a later model is right and the first is
not, or the other way round.
"""

import json
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer


def main(
    data: Annotated[Path, typer.Argument(help="the problems, as evaluate read them")],
    files: Annotated[
        list[str], typer.Argument(help="LABEL=ROWS.jsonl; the first is what the others are compared with")
    ],
    out: Annotated[Path | None, typer.Option(help="write Markdown there, not to the screen")] = None,
    each: Annotated[int, typer.Option(help="examples of each kind")] = 2,
) -> None:
    """Print or write the examples."""
    questions = [prompt[-1]["content"] for prompt in pq.read_table(data, columns=["prompt"])["prompt"].to_pylist()]
    answers = {label: read(Path(file)) for label, file in (text.split("=", 1) for text in files)}
    first, *others = answers
    keys = sorted(answers[first], key=lambda key: answers[first][key]["tokens"])
    kinds = {f"Longest of {first}": keys[-each:], f"Shortest of {first}": keys[:each]}
    for label in others:
        for was, is_now, acc in (("Right", "wrong", 1.0), ("Wrong", "right", 0.0)):
            flipped = [key for key in keys if answers[first][key]["acc"] == acc != answers[label][key]["acc"]]
            kinds[f"{was} with {first}, {is_now} with {label} ({len(flipped)} of {len(keys)})"] = flipped[:each]
    text = "\n".join(section(title, chosen, questions, answers) for title, chosen in kinds.items() if chosen)
    if out is None:
        print(text)
    else:
        out.write_text(text)
        print(f"examples: {out}")


def read(file: Path) -> dict[int, dict]:
    """The rows by the number of their problem; of several samples of a problem the first."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["prompt"]: row for row in reversed(rows)}


def section(title: str, chosen: list[int], questions: list[str], answers: dict[str, dict[int, dict]]) -> str:
    """One kind of example, as Markdown."""
    lines = [f"## {title}", ""]
    for number in chosen:
        lines += [f"**{questions[number]}**", ""]
        for label, rows in answers.items():
            row = rows[number]
            verdict = "right" if row["acc"] else "wrong"
            lines.append(f"- {label} ({row['tokens']} tokens, {verdict}): {row['response'].strip()}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
