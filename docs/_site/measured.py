"""Tables of what the comparison found, made of the results files of ``benchmarks/compare.py report QUESTION``.

``python docs/_site/measured.py`` writes them into the pages again.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from verl_efficiency.methods.catalog import METHODS, Method

DOCS = Path(__file__).parents[1]
sys.path.insert(0, f"{DOCS.parent}")
from benchmarks.comparison.by_arm import mean_and_interval  # noqa: E402
from benchmarks.questions.routing import TOLD  # noqa: E402

RESULTS = DOCS.parent / "benchmarks" / "results"
PAGES = ("choose.md", "measured.md", "guides/verl.md", "guides/evaluation.md", "guides/packed_data.md")
Row = Mapping[str, Any]
MARKED = re.compile(r"(<!-- measured (\w+) -->\n).*?(<!-- /measured -->)", re.DOTALL)


def _large_files(found: Row) -> str:
    return table(
        found["runs"],
        {
            f"{found['rows']:,} rows, {found['file_mb']} MB": lambda row: (
                f"`{row['command']}`{', `--ray`' * row['ray']}"
            ),
            "seconds": lambda row: f"{row['seconds']:.0f}",
            "peak memory, MB": lambda row: f"{row['peak_memory_mb']:,}",
        },
    )


def _pack_plan(found: Row) -> str:
    """What the bands of ``--problems auto`` were chosen by, and the plan beside fixed N on the other problems."""
    auto = found["auto"]
    bands = [
        band | {"chosen": plan["problems"]} for band, plan in zip(auto["bands"], auto["plan"]["bands"], strict=True)
    ]

    def loss(band: Row, problems: int) -> str:
        tried = [size for size in band["sizes"] if size["problems"] == problems]
        return "".join(_signed(100 * size["loss"]) + f", {100 * size['at_most']:.1f}" for size in tried)

    sizes = sorted({size["problems"] for band in bands for size in band["sizes"]})
    columns = {f"loss at N = {n}, at most": (lambda band, n=n: loss(band, n)) for n in sizes}
    chose = table(
        bands,
        {
            "answer alone": lambda band: f"{band['tokens']:.0f} tokens",
            **columns,
            "chosen": lambda band: str(band["chosen"]),
        },
    )
    plan = auto["held_out"]
    check = table(
        [{"name": str(point["problems"]), **point} for point in found["points"]] + [{"name": "auto", **plan}],
        {
            "N": lambda point: point["name"],
            "accuracy, %": lambda point: f"{100 * point['accuracy']:.1f} ± {100 * point['accuracy_se']:.1f}",
            "loss, points": lambda point: (
                f"{_signed(100 * point['loss'])} ± {100 * point['loss_se']:.1f}" if point["name"] != "1" else ""
            ),
            "of each band": lambda point: "  ".join(_signed(100 * loss) for loss in point.get("loss_by_band", [])),
            "tokens per problem": lambda point: (
                f"{point['tokens_per_problem']:.1f} ± {point['tokens_per_problem_se']:.1f}"
            ),
            "prompts per problem": lambda point: f"{point['prompts_per_problem']:.2f}",
        },
    )
    chosen_by = sum(band["problems"] for band in bands)
    return f"{chosen_by} problems chose:\n\n{chose}\n\n{plan['problems']} others checked:\n\n{check}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _gpu_training(found: Row) -> str:
    """What each method learnt on the GPU and on the CPU; the checked figures are left out."""
    learning = ": score, tokens, a step"
    return table(
        [row for row in found["rows"] if row["what"].endswith(learning)],
        {
            "testbed, 12 steps": lambda row: f"`{row['what'].removesuffix(learning)}`",
            found["machine"]["device"]: lambda row: row["figure"],
            "two CPU cores": lambda row: row["limit"].removeprefix("on the CPU: "),
        },
    )


def fill(markdown: str, results: Path = RESULTS) -> str:
    """``markdown`` with the table of today's results between each ``<!-- measured QUESTION -->`` and ``<!-- /measured -->``."""

    def made(found: re.Match) -> str:
        answer = json.loads((results / f"{FILES.get(found[2], found[2])}.json").read_text())
        return f"{found[1]}{QUESTIONS[found[2]](answer)}\n{found[3]}"

    return MARKED.sub(made, markdown)


def table(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> str:
    """A Markdown table: heading → what a row shows there."""
    lines = [list(columns), ["---"] * len(columns), *([show(row) for show in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pareto(found: Row) -> str:
    """The methods, by tokens above the frontier."""
    published = [row for row in found["rows"] if row["kind"] == "published"]
    return table(published, {"run": lambda row: f"`{row['arm']}`", **_ABOVE_FRONTIER})


def _pareto_tuned(found: Row) -> str:
    """The methods with a tuned setting, by tokens above the frontier."""
    published = {row["arm"]: row for row in found["rows"] if row["kind"] == "published"}
    return table(
        [row for row in found["rows"] if row["kind"] == "tuned"],
        {
            "run": lambda row: f"`{row['arm']}`",
            "setting": lambda row: f"`{row['strength']}`",
            "tried": _tried,
            **_ABOVE_FRONTIER,
            "not tuned": lambda row: _point(published[row["arm"]], "tokens"),
        },
    )


def _tried(row: Row) -> str:
    """The values of the trials, the best one bold."""
    return ", ".join(
        f"**{one['value']:g}**" if one["value"] == row["value"] else f"{one['value']:g}" for one in row["tried"]
    )


def _bcr(found: Row) -> str:
    """Single problems, then packs of the models that were asked in packs."""
    single = table(
        found["rows"],
        {
            "trained on": lambda row: f"`{row['arm']}`",
            "problems in a prompt": lambda row: str(row["problems"]),
            "limit per problem": lambda row: f"{row['limit_per_problem']:g}{'' if row['binds'] else ', never reached'}",
            **_SCORES,
        },
    )
    sizes = [f"{point['problems']:g}" for point in found["task_scaling"][0]["points"]]
    packs = table(
        found["task_scaling"],
        {"model": lambda row: f"`{row['model']}`"}
        | {f"N = {size}": (lambda row, place=place: _point(row["points"][place])) for place, size in enumerate(sizes)},
    )
    said = "The same models asked in packs of N, on fewer problems, accuracy at tokens per problem. N = 1 is a pack of one:"
    return f"{single}\n\n{said}\n\n{packs}"


def _difficulty(found: Row) -> str:
    return table(
        found["rows"],
        {
            "warm start": lambda row: f"`{row['warm_start']}`",
            "run": lambda row: f"`{row['arm'].rpartition('.')[2]}`",
            **_SCORES,
            "tokens from the easiest to the hardest level": lambda row: " ".join(
                f"{n:.0f}" for n in row["tokens_by_level"]
            ),
            "saved against a flat budget": lambda row: _share(row["saved_against_flat"]),
        },
    )


def _checks(found: Row) -> str:
    def change(row: Row, name: str, digits: int) -> str:
        if name not in row:
            return "–"
        interval = row[f"{name}_interval"]
        points = f"{100 * row[name]:+.{digits}f}".replace("-", "−")
        return points if interval is None else f"{points} ± {100 * interval:.{digits}f}"

    return table(
        found["rows"],
        {
            "run": lambda row: f"`{row['arm']}`",
            "accuracy": lambda row: _percent(row, "accuracy"),
            "points against `grpo`": lambda row: change(row, "accuracy_gained", 1),
            "tokens": lambda row: _tokens(row, "tokens"),
            "tokens against the warm start, %": lambda row: change(row, "tokens_changed", 0),
            "over the shortest": lambda row: f"{row['over_shortest']:.2f} ×",
            "of each warm start": lambda row: ", ".join(f"{over:.2f}" for over in row["over_shortest_by_warm_start"]),
            "runs": lambda row: str(row["seeds"]),
        },
    )


def _collapse(found: Row) -> str:
    def told(row: Row) -> str:
        first = {rule: [step for step in steps if step is not None] for rule, steps in row["told"].items()}
        return ", ".join(f"{rule} (step {min(steps)})" for rule, steps in first.items() if steps) or "nothing"

    def lost(row: Row) -> str:
        of_level = [f"{level} (step {step})" for level, step in enumerate(row["lost_at"], 1) if step is not None]
        return ", ".join(of_level) or "none"

    return table(
        found["rows"],
        {
            "warm start": lambda row: f"`{row['warm_start']}`",
            "run": lambda row: f"`{row['arm'].rpartition('early.')[2]}`",
            **_SCORES,
            "at the hardest level": _hardest,
            "levels lost": lost,
            "`diagnose` says": told,
        },
    )


def _normalisation(found: Row) -> str:
    of_method: dict[str, dict[str, Row]] = {}
    for row in found["rows"]:
        of_method.setdefault(row["method"], {})[row["form"]] = row
    forms = list(dict.fromkeys(row["form"] for row in found["rows"]))
    return table(
        [{"method": method, **cells} for method, cells in of_method.items()],
        {"method": lambda row: f"`{row['method']}`"}
        | {form: (lambda row, form=form: _point(row[form], "tokens") if form in row else "–") for form in forms},
    )


def _routing(found: Row) -> str:
    pace = {curve["arm"]: curve["seconds_per_step"] for curve in found["curves"]}
    return table(
        sorted(found["rows"], key=lambda row: row["arm"].startswith(TOLD)),
        {
            "warm start": lambda row: "`notes_told`" if row["arm"].startswith(TOLD) else "`task`",
            "run": lambda row: f"`{row['arm'].removeprefix(TOLD)}`",
            "accuracy": lambda row: _percent(row, "accuracy"),
            "tokens": lambda row: _tokens(row, "tokens"),
            "above the frontier": lambda row: _tokens(row, "above_frontier"),
            "seconds per step": lambda row: f"{pace[row['arm']]:.1f}",
            "seeds": lambda row: str(row["seeds"]),
        },
    )


def _unsolved(found: Row) -> str:
    return table(
        found["rows"],
        {
            "method": lambda row: f"`{row['method']}`",
            "share of the update": lambda row: _share(row["unsolved_share"]),
            "`unsolved=as_published`": lambda row: _point(row["as_published"], "tokens"),
            "`unsolved=leave`": lambda row: _point(row["leave"], "tokens"),
            "points gained": lambda row: (
                f"{_signed(100 * row['accuracy_gain'][0])} ± {100 * row['accuracy_gain'][1]:.1f}"
            ),
            "least accurate of the seeds": lambda row: " → ".join(
                f"{100 * min(row[form]['accuracy_by_seed']):.0f} %" for form in ("as_published", "leave")
            ),
            "seeds": lambda row: str(row["seeds"]),
        },
    )


def _few_tokens(found: Row) -> str:
    return table(
        found["rows"],
        {
            "run": lambda row: f"`{row['arm']}`",
            "accuracy before": lambda row: f"{100 * row['before']:.1f} %",
            "after": lambda row: _percent(row, "accuracy"),
            "tokens with a gradient": lambda row: f"{100 * row['tokens_with_gradient']:.1f} %",
            "seeds": lambda row: str(row["seeds"]),
        },
    )


def _smollm2(found: Row) -> str:
    """The warm start, then plain GRPO, then the other arms; changes against GRPO are of the same seeds."""
    compared, summaries = found["compared_with"], found["summaries"]
    seeds_of = {
        arm: [seed for seed in by_seed if arm == "warm_start" or seed in summaries[compared]]
        for arm, by_seed in summaries.items()
    }

    def against(arm: str, change: Callable[[Row, Row], float]) -> str:
        seeds = seeds_of[arm]
        if arm in (compared, "warm_start"):
            return "–"
        mean, interval = mean_and_interval([change(summaries[arm][seed], summaries[compared][seed]) for seed in seeds])
        return f"{mean:+.1f} ± {interval:.1f}".replace("-", "−") if len(seeds) > 2 else f"{mean:+.1f}".replace("-", "−")

    arms = sorted(summaries, key=lambda arm: (arm != "warm_start", arm != compared))
    return table(
        [{"arm": arm, "of": [summaries[arm][seed] for seed in seeds_of[arm]]} for arm in arms],
        {
            "model": lambda row: f"`{row['arm']}`",
            "accuracy": lambda row: f"{100 * fmean(one['accuracy'] for one in row['of']):.1f} %",
            "tokens": lambda row: f"{fmean(one['tokens_per_problem'] for one in row['of']):.1f}",
            f"points against `{compared}`": lambda row: against(
                row["arm"], lambda one, plain: 100 * (one["accuracy"] - plain["accuracy"])
            ),
            f"tokens against `{compared}`, %": lambda row: against(
                row["arm"], lambda one, plain: 100 * (one["tokens_per_problem"] / plain["tokens_per_problem"] - 1)
            ),
            "accuracy @ tokens of each seed": lambda row: ", ".join(
                f"{100 * one['accuracy']:.1f} % @ {one['tokens_per_problem']:.1f}" for one in row["of"]
            ),
        },
    )


QUESTIONS: dict[str, Callable[[Row], str]] = {
    "pareto": _pareto,
    "pareto_tuned": _pareto_tuned,
    "token_budget": _pareto,
    "longer": _pareto,
    "checks": _checks,
    "few_tokens": _few_tokens,
    "bcr": _bcr,
    "difficulty": _difficulty,
    "collapse": _collapse,
    "normalisation": _normalisation,
    "unsolved": _unsolved,
    "routing": _routing,
    "smollm2": _smollm2,
    "gpu_training_cuda": _gpu_training,
    "large_files": _large_files,
    "pack_plan": _pack_plan,
}
FILES = {"pareto_tuned": "pareto"}  # the results file of a table, where it has another name


# The questions of the sentences on a method's page: its task, and where all of its figures stand
_ON_METHOD_PAGES = {
    "pareto": ("notes", "choose.md#what-was-measured"),
    "routing": ("notes", "measured.md#a-self-teacher"),
    "few_tokens": ("products", "measured.md#a-part-of-the-tokens"),
}


def of_method(method: Method, results: Path = RESULTS) -> str:
    """What the comparison found for an estimator, one sentence per arm; empty if it was not trained there."""
    said, named = [], set()
    for question, (task, link) in _ON_METHOD_PAGES.items():
        if method.hook == "reward" or not (file := results / f"{question}.json").exists():
            continue
        found = json.loads(file.read_text())
        plain = next((row for row in found["rows"] if row["arm"] == "grpo"), None)
        own = [row for row in found["rows"] if _estimator_of(row["arm"]) == method.name and row["arm"] not in named]
        if plain is None or not own:
            continue
        named |= {row["arm"] for row in own}
        lines = [
            f"`{row['arm']}`{_of_trial(row)}: {_percent(row, 'accuracy')} at {_tokens(row, 'tokens')} tokens "
            f"({row['seeds']} seed{'s' * (row['seeds'] > 1)})."
            for row in own
        ]
        said.append(
            f"Task `{task}` of the testbed, {found['steps']} steps. Plain GRPO: {_percent(plain, 'accuracy')} at "
            f"{_tokens(plain, 'tokens')} tokens. {' '.join(lines)} [All of it](../{link}).\n"
        )
    return "\n".join(["## Measured here\n", *said]) if said else ""


def _estimator_of(arm: str) -> str:
    """The method that an arm of the comparison trains; "" for one of verl's own.

    >>> [_estimator_of(arm) for arm in ("laser", "laser_de", "token_budget_flat", "grpo")]
    ['laser', 'laser_de', 'token_budget', '']
    """
    names = [method.name for method in METHODS if method.hook != "reward" and f"{arm}_".startswith(f"{method.name}_")]
    return max(names, key=len, default="")


def _of_trial(row: dict) -> str:
    return f" with `{row['strength']}={row['value']:g}`, tuned" if row.get("kind") == "tuned" else ""


def _percent(row: dict, name: str) -> str:
    interval = row[f"{name}_interval"] if row["seeds"] >= 3 else None  # that of two seeds says nothing
    return f"{100 * row[name]:.1f}" + (" %" if interval is None else f" ± {100 * interval:.1f} %")


def _tokens(row: dict, name: str) -> str:
    interval = row[f"{name}_interval"] if row["seeds"] >= 3 else None
    return (f"{row[name]:.1f}" + ("" if interval is None else f" ± {interval:.1f}")).replace("-", "−")


def _hardest(row: Row) -> str:
    return f"{100 * row['accuracy_by_level'][-1]:.0f} %"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %".replace("-", "−")


def _point(row: Row, tokens: str = "tokens_per_problem") -> str:
    return f"{100 * row['accuracy']:.1f} % @ {row[tokens]:.1f}"


_ABOVE_FRONTIER: dict[str, Callable[[Row], str]] = {
    "accuracy": lambda row: f"{_percent(row, 'accuracy')}{'' if row['reaches_floor'] else ' ↓'}",
    "at the hardest level": _hardest,
    "tokens per problem": lambda row: _tokens(row, "tokens"),
    "above the frontier": lambda row: _tokens(row, "above_frontier"),
    "seeds": lambda row: str(row["seeds"]),
}
_SCORES: dict[str, Callable[[Row], str]] = {
    "accuracy": lambda row: _percent(row, "accuracy"),
    "tokens": lambda row: _tokens(row, "tokens"),
    "seeds": lambda row: str(row["seeds"]),
}


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(fill((DOCS / name).read_text()))
