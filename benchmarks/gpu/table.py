"""One table of everything that was measured: the last step of ``check.sh``.

    python -m benchmarks.gpu.table [--device cuda] [--out folder]

The exit status is 1 if a figure is out of its limit.
"""

import json

from benchmarks.gpu.common import Options, read_options

PARTS = ("plugin", "estimators", "distillation", "training")


def table(options: Options) -> tuple[list[str], bool]:
    """The lines, and whether all is well. A part that was not run says so; a training run that is missing is a failure."""
    lines, well, cards = [], True, []
    for part in PARTS:
        file = options.file(part)
        if not file.is_file():
            lines.append(f"    {part}: not run")
            continue
        result = json.loads(file.read_text())
        cards.append(f"{result['machine']['device']}, torch {result['machine']['torch']}")
        if result["quick"] or options.device == "cpu":
            lines.append(f"    {part}: small sizes")
        for row in result["rows"]:
            well &= row["ok"]
            lines.append(
                f"{'ok  ' if row['ok'] else 'FAIL'}{row['what']:<62}  {row['figure']}  {row['limit']}".rstrip()
            )
        for name in result.get("planned", ()):
            if name not in result["runs"]:
                well = False
                lines.append(f"FAIL{name}: not run, or it failed")
    return [*dict.fromkeys(cards), *lines, *smollm2(options)], well


def smollm2(options: Options) -> list[str]:
    """What each model of ``recipes/smollm2.sh`` scored, in the whole recipe or in its short form; nothing is checked."""
    files = [options.out / f"smollm2_{options.device}{form}" / "results.json" for form in ("", "_smoke")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return ["    smollm2: not run"]
    found = json.loads(file.read_text())
    lines = ["    smollm2: three small steps"] if file == files[1] else []
    for arm, by_seed in found["summaries"].items():
        for seed, summary in by_seed.items():
            step = found["steps"].get(arm, {}).get(seed)
            what = f"SmolLM2, {arm}{'' if step is None else f', step {step}'}: accuracy, tokens"
            lines.append(f"    {what:<62}  {summary['accuracy']:.3f}, {summary['tokens_per_problem']:.1f} tokens")
    return lines


def main() -> None:
    lines, well = table(read_options(__doc__))
    print("\n".join(lines))
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
