"""What the parts of the check share: the options, the machine's name, and a file of rows per part.

A part writes ``gpu_PART_DEVICE.json``: the machine, its settings, and rows ``what, figure, limit, ok`` that the table shows.
"""

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"  # those of our machines; a check of another one must not find them in its way
OUT = ROOT / "runs" / "gpu_check"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was looked at, what was seen, and what had to be seen ("" where nothing had to)."""

    what: str
    figure: str
    limit: str = ""
    ok: bool = True


@dataclass(frozen=True)
class Options:
    """The command line of a part.

    Attributes:
        device: cuda or cpu.
        quick: small sizes.
        out: where results go.
        fresh: measure again what is there.
        methods: what the part ``training`` trains; none: all of it.
    """

    device: str
    quick: bool
    out: Path
    fresh: bool
    methods: tuple[str, ...] = ()

    def file(self, part: str) -> Path:
        """The result of a part."""
        return self.out / f"gpu_{part}_{self.device}.json"

    @property
    def small(self) -> bool:
        """Whether sizes are cut: asked for, or on a CPU."""
        return self.quick or self.device == "cpu"


def read_options(description: str | None) -> Options:
    """The command line of a part."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything run?")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--methods", nargs="+", default=(), help="training: only these")
    given = vars(parser.parse_args())
    return Options(**given | {"methods": tuple(given["methods"])})


def machine(device: str) -> dict[str, str | float]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {os.cpu_count()} cores"
    return {
        "device": name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 1),
    }


def save(part: str, options: Options, rows: list[Row], **more: object) -> None:
    """Write the result of a part and print its rows."""
    options.out.mkdir(parents=True, exist_ok=True)
    known = {"machine": machine(options.device), "quick": options.quick, "rows": [asdict(row) for row in rows], **more}
    options.file(part).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{'ok  ' if row.ok else 'FAIL'} {row.what}: {row.figure} {row.limit}", flush=True)


def done_before(part: str, options: Options) -> bool:
    """Whether the result is there already, measured at these sizes."""
    file = options.file(part)
    if options.fresh or not file.is_file() or json.loads(file.read_text())["quick"] != options.quick:
        return False
    print(f"measured before: {file}")
    return True
