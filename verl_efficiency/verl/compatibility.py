"""What works with which verl: the source of a line of ``verl-efficiency doctor`` and of the table in docs/guides/verl.md.

A version stands at a part only if its tests passed there: ``benchmarks/compatibility.sh`` runs them, and the outcome is in
``benchmarks/results/compatibility.json``.
"""

from dataclasses import dataclass

VERLS = ("0.8.0", "0.9.0", "0.9.1")
# The package alone is tested with each Python, and these versions of verl with it.
PYTHONS = {"3.10": VERLS[-1:], "3.11": VERLS, "3.12": VERLS[-1:]}


@dataclass(frozen=True)
class Part:
    """Something of this package that a user uses with verl.

    Attributes:
        what: its name for users.
        since: the first version of verl, of those in :data:`VERLS`, with which it works.
        before: what a user of an earlier verl does or gets instead.
    """

    what: str
    since: str = VERLS[0]
    before: str = ""

    def works(self, verl: str) -> bool:
        """Whether it works with this version, one of :data:`VERLS`."""
        return VERLS.index(verl) >= VERLS.index(self.since)


PARTS = {
    "estimators": Part("advantage estimators"),
    "rewards": Part("rewards and the reward manager `efficiency`"),
    "start_up": Part("check of the settings at start-up"),
    "packed": Part("packed prompts (`PackedDataset`)"),
    "entry_point": Part(
        "found by verl without a variable",
        "0.9.0",
        "`export VERL_USE_EXTERNAL_MODULES=verl_efficiency.verl.plugin`",
    ),
    "trainers": Part(
        "trainer modes `efficiency_*`: a self-teacher, `t_spmo`, `cost=thinking`",
        "0.9.0",
        "the run is refused at start-up",
    ),
    "filter": Part("group filter `KeepSolvedGroups`", "0.9.0", "the run is refused at start-up"),
    "state": Part(
        "state of a method saved with checkpoints", "0.9.1", "a warning at start-up; a resumed run starts afresh"
    ),
    "cpu": Part("CPU mode and the rollout `hf`", "0.9.1", "a GPU with vLLM or SGLang"),
}


def lines(verl: str) -> tuple[str, str]:
    """What works with a version of :data:`VERLS`, and what does not ("" if everything does)."""
    works = "; ".join(part.what for part in PARTS.values() if part.works(verl))
    fails = "; ".join(
        f"{part.what} (needs verl>={part.since}; here: {part.before})"
        for part in PARTS.values()
        if not part.works(verl)
    )
    return works, fails


def untested(verl: str, python: str) -> str:
    """Why nobody has tested these versions together, or ""; ``python`` is major.minor.

    >>> untested("0.9.1", "3.12"), untested("1.0.0", "3.11"), untested("0.8.0", "3.12")
    ('', 'verl 1.0.0 is untested; tested are 0.8.0, 0.9.0, 0.9.1', 'verl 0.8.0 is untested with Python 3.12; tested is 3.11')
    """
    if verl not in VERLS:
        return f"verl {verl} is untested; tested are {', '.join(VERLS)}"
    tested = [name for name, versions in PYTHONS.items() if verl in versions]
    if python in tested:
        return ""
    others = f"tested {'are' if len(tested) > 1 else 'is'} {', '.join(tested)}"
    return f"verl {verl} is untested with Python {python}; {others}"


def table() -> str:
    """The table of the docs, in Markdown."""
    head = f"| | {' | '.join(f'verl {verl}' for verl in VERLS)} | with an earlier verl |"
    rows = [
        f"| {part.what} | {' | '.join('yes' if part.works(verl) else 'no' for verl in VERLS)} | {part.before} |"
        for part in PARTS.values()
    ]
    return "\n".join([head, "|---" * (len(VERLS) + 2) + "|", *rows])


if __name__ == "__main__":
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "guides" / "verl.md"
    before, _, rest = page.read_text().partition("<!-- compatibility -->\n")
    after = rest.partition("<!-- /compatibility -->")[2]
    page.write_text(f"{before}<!-- compatibility -->\n{table()}\n<!-- /compatibility -->{after}")
