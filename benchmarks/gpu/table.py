"""One table of everything that was measured: the last step of ``check.sh``.

    python -m benchmarks.gpu.table [--device cuda] [--out folder]

The exit status is 1 if a figure is out of its limit.
"""

import json

from benchmarks.gpu.common import Options, read_options

PARTS = ("plugin", "estimators", "distillation", "training")


def table(options: Options) -> tuple[list[str], bool]:
    """The lines, and whether all is well; a part that was not run says so."""
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
    return [*dict.fromkeys(cards), *lines], well


def main() -> None:
    lines, well = table(read_options(__doc__))
    print("\n".join(lines))
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
