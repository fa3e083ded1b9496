"""The tables that the commands print. A number is followed by ± its standard error."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from verl_efficiency.evaluation.strategies import cheapest

Result = Mapping[str, Any]
_Z = 1.96  # standard errors on each side of a 95 % interval


def new_table(first: str, *others: str, title: str | None = None) -> Table:
    """An empty table: the first column holds names, the others hold numbers."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def explained(table: Table, *notes: str) -> Group:
    """The table, and under it what its columns mean, a note per line."""
    return Group(table, Text("\n".join(notes)))


def number(
    value: float | None,
    error: float | None = None,
    *,
    scale: float = 1,
    digits: int = 1,
    sign: str = "",
    none: str = "-",
) -> str:
    """``value`` and its standard error, both times ``scale``; ``none`` for a value that is not known.

    >>> number(0.5, 0.01, scale=100), number(1234.5), number(0.1, sign="+"), number(None)
    ('50.0 ± 1.0', '1,234.5', '+0.1', '-')
    """
    if value is None:
        return none
    text = f"{value * scale:{sign},.{digits}f}"
    return text if error is None else f"{text} ± {error * scale:,.{digits}f}"


def _tokens(value: float, error: float | None = None) -> str:
    return number(value, error, digits=1 if value < 100 else 0)


# evaluate and report

STANDARD_ERROR = "± one standard error."
CUT_OFF = "cut off: responses that reached the token limit."
OVER_SHORTEST = "over the shortest: tokens / tokens of the shortest correct response."


def evaluation_table(evaluation: Result) -> Group:
    """One row per difficulty, and one for all problems."""
    all_summary = evaluation["summary"]
    cells: dict[str, Callable[[Result], str]] = {
        "problems": lambda summary: str(summary["problems"]),
        "accuracy\n%": lambda summary: number(summary["accuracy"], summary["accuracy_se"], scale=100),
        "tokens per\nproblem": lambda summary: _tokens(summary["tokens_per_problem"]),
        "median": lambda summary: _tokens(summary["tokens_median"]),
        "p90": lambda summary: _tokens(summary["tokens_p90"]),
        "cut off\n%": lambda summary: number(summary["truncated_share"], scale=100),
    }
    notes = [STANDARD_ERROR, "median, p90 (90th percentile): of the tokens per problem.", CUT_OFF]
    if all_summary["over_shortest"] is not None:
        cells["over the\nshortest"] = lambda summary: number(summary["over_shortest"], digits=2)
        notes.append(OVER_SHORTEST)
    if all_summary.get("reasoning_tokens_per_problem"):  # 0: no response reasoned
        cells["reasoning"] = lambda summary: _tokens(summary["reasoning_tokens_per_problem"])
        cells["answer"] = lambda summary: _tokens(summary["answer_tokens_per_problem"])
        notes.append("reasoning, answer: the two parts of the tokens per problem.")
    title = f"{evaluation['label']} on {Path(evaluation['data']).name}"
    table = new_table("difficulty" if evaluation["by_difficulty"] else "", *cells, title=title)
    for name, summary in {**evaluation["by_difficulty"], "all": all_summary}.items():
        table.add_row(name, *(cell(summary) for cell in cells.values()))
    return explained(table, *notes)


def comparison_table(evaluations: Sequence[Result], changes: Sequence[Result]) -> Group:
    """One row per evaluation. ``changes`` has an entry for each evaluation after the first."""
    first = evaluations[0]
    shortest = any(evaluation["summary"]["over_shortest"] is not None for evaluation in evaluations)
    table = new_table(
        "model",
        *("accuracy\n%", "change\npoints", "tokens per\nproblem", "change\n%"),
        *["over the\nshortest"] * shortest,
        title=f"{first['summary']['problems']} problems of {Path(first['data']).name}",
    )
    table.columns[0].min_width = min(20, max(len(evaluation["label"]) for evaluation in evaluations))
    for evaluation, change in zip(evaluations, [None, *changes], strict=True):
        summary = evaluation["summary"]
        table.add_row(
            evaluation["label"],
            number(summary["accuracy"], summary["accuracy_se"], scale=100),
            ""
            if change is None
            else number(change["accuracy_change"], change["accuracy_change_se"], scale=100, sign="+"),
            _tokens(summary["tokens_per_problem"], summary["tokens_per_problem_se"]),
            ""
            if change is None
            else number(change["tokens_ratio"] - 1, change["tokens_ratio_se"], scale=100, sign="+"),
            *[number(summary["over_shortest"], digits=2)] * shortest,
        )
    changes_note = f"change: against {first['label']}, paired by problem."
    return explained(table, STANDARD_ERROR, changes_note, *[OVER_SHORTEST] * shortest)


# evaluate task-scaling


def scaling_table(result: Result) -> Group:
    """One row for each number of problems in a prompt."""
    law = result["law"]
    notes = [STANDARD_ERROR, "finished: responses that did not reach the token limit."]
    if law is not None:
        notes.append(f"Fitted: tokens per problem = {law['a']:.1f} · N^{-law['b']:.2f}")
        notes.append(f"Fitted: each further problem changes accuracy by {law['points_per_problem']:+.2f} points.")
    names = ("accuracy, %", "tokens per problem", "finished, %", "accuracy by place in the prompt, %")
    table = new_table("problems N", *names, title=result["label"])
    for point in result["points"]:
        table.add_row(
            str(point["problems"]),
            number(point["accuracy"], point["accuracy_se"], scale=100),
            number(point["tokens_per_problem"], point["tokens_per_problem_se"]),
            number(point["finished"], scale=100),
            " ".join(f"{100 * value:.0f}" for value in point["by_slot"]),
        )
    return explained(table, *notes)


def scaling_tables(result: Result) -> list[Group]:
    """The table of a result of task-scaling, or the two of ``--problems auto``."""
    if "auto" in result:
        return [chosen_table(result["auto"]), held_out_table(result)]
    return [scaling_table(result), *([change_table(result)] if "against" in result else [])]


def change_table(result: Result) -> Group:
    """What changed against the baseline of task-scaling, for each number of problems in a prompt."""
    against = result["against"]
    title = f"{result['label']} against {against['label']}"
    table = new_table("problems N", "change of accuracy, points", "ratio of tokens", title=title)
    for point in against["points"]:
        change = _interval(point["accuracy_change"], point["accuracy_change_se"], scale=100, digits=1, sign="+")
        ratio = _interval(point["tokens_ratio"], point["tokens_ratio_se"], scale=1, digits=3)
        table.add_row(str(point["problems"]), change, ratio)
    return explained(table, "In parentheses: 95 % intervals, paired by prompt. ratio of tokens: below 1 is fewer.")


def _interval(value: float, error: float | None, *, scale: float, digits: int, sign: str = "") -> str:
    """``value (low to high)``, its 95 % interval; the value alone if its error is not known.

    >>> _interval(0.5, 0.01, scale=100, digits=1, sign="+")
    '+50.0 (+48.0 to +52.0)'
    """

    def text(value: float) -> str:
        return number(value, scale=scale, digits=digits, sign=sign)

    return text(value) if error is None else f"{text(value)} ({text(value - _Z * error)} to {text(value + _Z * error)})"


def chosen_table(auto: Result) -> Group:
    """What each band of expected length was chosen by: the loss of accuracy for every N that was asked."""
    sizes = sorted({size["problems"] for band in auto["bands"] for size in band["sizes"]})
    by = auto["plan"]["by"]
    names = ("problems", "tokens alone", *(f"loss at N = {size}, points" for size in sizes), "chosen N")
    table = new_table(f"{by}, up to", *names, title="Choose: the first half of the problems")
    for band, chosen in zip(auto["bands"], auto["plan"]["bands"], strict=True):
        losses = {
            size["problems"]: f"{100 * size['loss']:+.1f} (≤ {100 * size['at_most']:.1f})" for size in band["sizes"]
        }
        cells = [losses.get(size, "") for size in sizes]
        table.add_row(
            f"{band['up_to']:g}", str(band["problems"]), _tokens(band["tokens"]), *cells, str(chosen["problems"])
        )
    return explained(
        table,
        f"(≤ x): the loss is at most x points, with 95 % confidence. N rises while x is at most {100 * auto['max_loss']:g}.",
        "tokens alone: mean tokens of an answer at N = 1.",
    )


def held_out_table(result: Result) -> Group:
    """The plan beside fixed N, on the problems that it was not chosen by."""
    auto = result["auto"]
    single, held_out = result["points"][0], auto["held_out"]
    names = ("accuracy, %", "loss, points", "of each band", "tokens per problem", "prompts per problem", "finished, %")
    table = new_table("N", *names, title=f"Check: the other half ({held_out['problems']} problems)")
    for name, point in [*((str(point["problems"]), point) for point in result["points"]), ("auto", held_out)]:
        table.add_row(
            name,
            number(point["accuracy"], point["accuracy_se"], scale=100),
            "" if point is single else number(point["loss"], point["loss_se"], scale=100, sign="+"),
            "  ".join(number(loss, scale=100, sign="+") for loss in point.get("loss_by_band", [])),
            number(point["tokens_per_problem"], point["tokens_per_problem_se"]),
            number(point["prompts_per_problem"], digits=2),
            number(point["finished"], scale=100),
        )
    notes = [
        STANDARD_ERROR,
        "loss: accuracy of N = 1 minus this, paired by problem.",
        "of each band: the loss of its problems, the shortest band first.",
        "auto: the chosen N of each band.",
    ]
    if max(band["problems"] for band in auto["plan"]["bands"]) == 1:
        notes.append("No N passes: ask each problem alone, give more problems or --samples, or a larger --max-loss.")
    elif held_out["tokens_per_problem"] > single["tokens_per_problem"]:
        notes.append("This model writes more tokens per problem in packs: packing saves prompts here, not tokens.")
    as_good = [
        point["problems"]
        for point in result["points"]
        if "loss_by_band" in point
        and point["prompts_per_problem"] < held_out["prompts_per_problem"]
        and max(point["loss_by_band"]) <= max(held_out["loss_by_band"])
    ]
    if as_good:
        best = max(as_good)
        notes.append(
            f"Here N = {best} for all loses no more in its worst band, with fewer prompts: `pack --problems {best}`."
        )
    return explained(table, *notes)


# evaluate strategies

STRATEGIES = {
    "plain": "plain: one sample.",
    "cap": "cap b: one sample, hard cut at b tokens: its answer is lost. `evaluate live` can ask for it (think@TOKENS).",
    "think": "think b: one sample, its thought is closed after b tokens and the answer asked for; both requests count.",
    "first finish": "first finish: the first of k parallel samples to finish.",
    "short": "short-m: majority of the first m of k to finish.",
    "majority": "majority: of all k answers.",
    "early stop": "early stop: majority, sampling one by one until no other answer can reach the leader.",
    "weighted": "weighted: the answer with the largest sum of weights.",
}


def strategies_table(results: Sequence[Result], accuracy: float | None = None) -> Group:
    """One row per strategy, and a line with the cheapest one that reaches ``accuracy``."""
    table = new_table("strategy", "samples k", "accuracy, %", "tokens", "tokens /\nplain", "")
    for row in results:
        table.add_row(
            row["strategy"],
            str(row["k"]),
            number(row["accuracy"], row["accuracy_se"], scale=100),
            number(row["tokens"], row.get("tokens_se")),
            number(row.get("tokens_over_plain"), digits=2),
            "*" if row["pareto"] else "",
        )
    used = [text for name, text in STRATEGIES.items() if any(row["strategy"].startswith(name) for row in results)]
    notes = [
        "tokens: per problem, generated for all its samples.",
        "tokens / plain: rows with equal numbers cost the same compute.",
        "*: no cheaper strategy is as accurate.",
    ]
    if failed := [f"{_strategy(row)} {number(row['failed_tokens'])}" for row in results if row.get("failed_tokens")]:
        notes.append(f"tokens of streams that broke, included: {', '.join(failed)}.")
    answer = [] if accuracy is None else [_least_cost(results, accuracy)]
    if max(row["k"] for row in results) == 1:
        notes.append("Strategies of several samples are not here: they need two or more for each problem.")
    return explained(table, *answer, STANDARD_ERROR, *notes, *used)


def _least_cost(results: Sequence[Result], accuracy: float) -> str:
    """Which strategy reaches an accuracy for the fewest tokens; the best one if none does."""
    found = cheapest(results, accuracy)
    row = found or max(results, key=lambda row: row["accuracy"])
    interval = ""
    if row["accuracy_se"] is not None:
        ends = [row["accuracy"] + side * 1.96 * row["accuracy_se"] for side in (-1, 1)]
        interval = f" (95 % interval {number(max(0, ends[0]), scale=100)} to {number(min(1, ends[1]), scale=100)})"
    facts = f"accuracy {number(row['accuracy'], scale=100)} %{interval}, {number(row['tokens'], row.get('tokens_se'))} tokens"
    if found is None:
        return f"No strategy reaches an accuracy of {100 * accuracy:g} %. The best one is {_strategy(row)}: {facts}."
    return f"The cheapest strategy with an accuracy of at least {100 * accuracy:g} % is {_strategy(row)}: {facts}."


def _strategy(row: Result) -> str:
    return row["strategy"] if row["k"] == 1 else f"{row['strategy']} of {row['k']} samples"


# evaluate offline


def efficiency_table(results: Sequence[Result]) -> Group:
    """One row per number and one column per file. A row without a value in any file is left out."""
    shown = {name: [cell(result) for result in results] for name, cell in _LINES.items()}
    shown = {name: cells for name, cells in shown.items() if any(cells)}
    table = new_table("", *(result["label"] for result in results))
    table.columns[0].no_wrap = True
    for name, cells in shown.items():
        table.add_row(name, *cells)
    notes = [note for name, note in _NOTES.items() if name in shown]
    return explained(table, "± one standard error; the responses to one problem count as one draw.", *notes)


_NOTES = {
    "  change, points": "change, ratio: against the first file, paired by problem.",
    "pass@k, %": "pass@k: at least one of k responses is correct.",
    "  easiest to hardest": "easiest to hardest: tokens on the line fitted over difficulty (its column, else 1 - solve rate).",
    "accuracy under C, %": "accuracy under C: with a limit of C tokens; a response that is cut off counts as wrong.",
    "accuracy, mean to C, %": "accuracy, mean to C: the accuracy under a limit of b tokens, averaged over b from 0 to C.",
    "normalised regret": "normalised regret: 1 minus the accuracy, mean to C.",
    "cap for 1 point less": "cap: the smallest token limit that costs at most one point of accuracy.",
    "AES": "AES: relative saving of tokens + 3 · relative gain (or - 5 · relative loss) of accuracy, against the first file.",
    "OckScore": "OckScore: 100 · accuracy - 10 · log10(tokens/10,000 + 1).",
    "looping, %": "looping: responses of which more than a fifth repeats itself.",
    "doubts when correct": "doubts, checks: words per response such as 'wait' and 'let me verify'.",
}


def _value(*path: str, **form: Any) -> Callable[[Result], str]:
    """A function that formats the number at ``path`` of a result, with its standard error if there is one."""

    def cell(result: Result) -> str:
        for name in path[:-1]:
            result = result.get(name) or {}
        return number(result.get(path[-1]), result.get(f"{path[-1]}_se"), none="", **form)

    return cell


def _pass_at(result: Result) -> str:
    return "  ".join(f"@{k} {100 * value:.1f}" for k, value in result["pass_at"].items() if k != "1")


def _by_difficulty(result: Result) -> str:
    fit = result["by_difficulty"]
    if fit is None:
        return ""
    explained = "" if fit["r2"] is None else f", r² {fit['r2']:.2f}"
    return f"{fit['easiest']:,.0f} to {fit['hardest']:,.0f}{explained}"


_LINES: dict[str, Callable[[Result], str]] = {
    "responses": _value("responses", digits=0),
    "problems": _value("problems", digits=0),
    "accuracy, %": _value("accuracy", scale=100),
    "  change, points": _value("against", "paired", "accuracy_change", scale=100, sign="+"),
    "pass@k, %": _pass_at,
    "tokens per response": _value("tokens"),
    "  ratio": _value("against", "paired", "tokens_ratio", digits=3),
    "  median": _value("tokens_median", digits=0),
    "  90th percentile": _value("tokens_p90", digits=0),
    "  when correct": _value("tokens_correct"),
    "  when wrong": _value("tokens_wrong"),
    "  easiest to hardest": _by_difficulty,
    "cut off, %": _value("truncated", scale=100),
    "tokens per correct": _value("tokens_per_correct"),
    "money per correct": _value("money_per_correct", digits=6),
    "budget C, tokens": _value("budget", digits=0),
    "accuracy under C, %": lambda result: number(result["accuracy_at"][-1][1], scale=100),
    "accuracy, mean to C, %": _value("area", scale=100),
    "normalised regret": _value("normalised_regret", digits=3),
    "cap for 1 point less": _value("cap", digits=0),
    "  tokens under it": _value("tokens_under_cap"),
    "AES": _value("against", "aes", digits=3, sign="+"),
    "OckScore": _value("ock_score", digits=2),
    "looping, %": _value("looping", scale=100),
    "doubts when correct": _value("hedging_correct", digits=2),
    "doubts when wrong": _value("hedging_wrong", digits=2),
    "checks when correct": _value("checking_correct", digits=2),
    "checks when wrong": _value("checking_wrong", digits=2),
}
