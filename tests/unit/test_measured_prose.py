"""What the pages say of the comparison in words stands in the results files. (Their tables are made of them: test_docs.py.)"""

import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest

from benchmarks.compare import RESULTS, read_lines, table_of
from benchmarks.comparison import report
from benchmarks.comparison.by_arm import tested as lines_by_arm
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.shaping import token_budget
from verl_efficiency.testbed.notes import frontier

ROOT = Path(__file__).parents[2]
_DOCS = ("choose.md", "measured.md", "guides/self_distillation.md")
FILES = {"README.md": ROOT / "README.md", **{name: ROOT / "docs" / name for name in _DOCS}}
PAGES = {name: " ".join(file.read_text().split()) for name, file in FILES.items()}


def results(question):
    return json.loads((ROOT / "benchmarks" / "results" / f"{question}.json").read_text())


def by_arm(question, kind="published"):
    return {row["arm"]: row for row in results(question)["rows"] if row.get("kind", kind) == kind}


def said(page, pattern):
    """What the groups of ``pattern`` matched on the page; line breaks count as blanks."""
    found = re.search(pattern, PAGES[page])
    assert found, f"{page} does not say: {pattern}"
    return found.groups()


def names(text):
    return re.findall(r"`(\w+)`", text)


def saved(row, plain):
    return 100 * (1 - row["tokens"] / plain["tokens"])


def lost(row, plain):
    """Points of accuracy."""
    return 100 * (plain["accuracy"] - row["accuracy"])


@pytest.fixture(scope="module")
def pareto():
    return by_arm("pareto")


def test_the_methods_that_keep_the_accuracy(pareto):
    of_whom, least, most = said(
        "choose.md", r"- ([^.]*?) stay within a point of GRPO's accuracy, and save (\d+) to (\d+) %"
    )
    rows = [pareto[name] for name in names(of_whom)]
    assert len(rows) >= 5
    assert max(lost(row, pareto["grpo"]) for row in rows) <= 1
    shares = [saved(row, pareto["grpo"]) for row in rows]
    assert (f"{min(shares):.0f}", f"{max(shares):.0f}") == (least, most)


def test_the_methods_that_trade_it(pareto):
    of_whom, least, most = said(
        "choose.md", r"- ([^.]*?) end near the frontier, .*?more than half of the tokens and lose (\d+) to (\d+) points"
    )
    rows = [pareto[name] for name in names(of_whom)]
    assert len(rows) >= 11
    assert min(saved(row, pareto["grpo"]) for row in rows) > 50
    points = [lost(row, pareto["grpo"]) for row in rows]
    assert (f"{min(points):.0f}", f"{max(points):.0f}") == (least, most)
    assert pareto["cap"]["accuracy"] > max(row["accuracy"] for row in rows if row["arm"] != "truncation")


def test_how_many_seeds_there_are_and_how_far_apart(pareto):
    assert {row["seeds"] for row in pareto.values() if row["kind"] == "published"} == {4}
    assert said("README.md", r"trained there, with (\w+) seeds") == ("four",)
    assert said("choose.md", r"for 100 steps and with (\w+) seeds\.") == ("four",)
    of_arm = lines_by_arm(table_of("pareto"), read_lines(RESULTS), frontier.load())
    apart = {}
    for (arm, kind, _), lines in of_arm.items():
        accuracies = [100 * line["test"]["accuracy"] for line in lines]
        if kind == "published":
            apart[arm] = max(accuracies) - min(accuracies)
    most, penalty, packs = said(
        "choose.md", r"most methods differ by up to (\w+) points, `flat_penalty` by (\w+), `bcr_2` by (\d+)\."
    )
    numbers = {"four": 4, "nine": 9}
    assert sum(points < numbers[most] + 0.5 for points in apart.values()) > 0.8 * len(apart)
    assert (round(apart["flat_penalty"]), round(apart["bcr_2"])) == (numbers[penalty], int(packs))


def test_how_long_all_runs_take():
    runs, hours = said(
        "measured.md", r"All (\d+) runs of these questions take about (\d+) hours on two CPU cores, two runs"
    )
    lines = read_lines(RESULTS)
    assert int(runs) == len(lines)
    assert sum(line["seconds"]["whole"] for line in lines) / 2 / 3600 == pytest.approx(int(hours), abs=0.6)


def test_what_one_tuned_setting_changes(pareto):
    tuned = by_arm("pareto", "tuned")
    assert {row["seeds"] for row in tuned.values()} <= {3, 4}
    for name in ("leash", "cap", "a_dlp"):
        accuracy, tokens = said("choose.md", rf"looser setting brings .*?`{name}` \((\d+) % at (\d+) tokens\)")
        assert (f"{100 * tuned[name]['accuracy']:.0f}", f"{tuned[name]['tokens']:.0f}") == (accuracy, tokens)
        assert pareto[name]["accuracy"] < 0.95 < 0.965 < tuned[name]["accuracy"]
    (above,) = said("choose.md", r"There `a_dlp` is closest to the frontier: (\d+) tokens above")
    near = [row["above_frontier"] for row in [*pareto.values(), *tuned.values()] if row["accuracy"] > 0.965]
    assert f"{min(near):.0f}" == f"{tuned['a_dlp']['above_frontier']:.0f}" == above
    of_whom, points, most = said("choose.md", r"- ([^.]*?) end where they did, within (\d+) points and (\d+|a) token")
    for name in names(of_whom):
        assert abs(lost(tuned[name], pareto[name])) <= int(points)
        assert abs(tuned[name]["tokens"] - pareto[name]["tokens"]) <= (1 if most == "a" else int(most))
    assert len(names(of_whom)) == 7
    (of_whom,) = said("choose.md", r"- ([^.]*?) were accurate already\. Their trials chose a gentler value")
    for name in names(of_whom):
        assert tuned[name]["tokens"] > pareto[name]["tokens"]
        assert min(pareto[name]["accuracy"], tuned[name]["accuracy"]) > 0.97
    limit, after, before = said(
        "choose.md", r"With (\d+) tokens for two problems instead of 66, `bcr_2` answers (\d+) % .*? instead of (\d+) %"
    )
    assert int(limit) == tuned["bcr_2"]["value"]
    assert [f"{100 * row['bcr_2']['accuracy']:.0f}" for row in (tuned, pareto)] == [after, before]


def test_plain_grpo_and_the_frontier(pareto):
    (tokens,) = said("choose.md", r"Plain GRPO is accurate and wasteful: (\d+) tokens above the frontier")
    assert f"{pareto['grpo']['above_frontier']:.0f}" == tokens


def test_the_settings_of_token_budget():
    rows = by_arm("token_budget")
    plain = rows["grpo"]
    share, gained, share_0, lost_0, share_no, lost_no = said(
        "measured.md",
        r"`token_budget` saves (\d+) % of GRPO's tokens and loses no accuracy.*? accuracy rises by ([\d.]+) points\. "
        r"With 0 \(`floor_0`\).*? saves (\d+) % and loses ([\d.]+) points\. "
        r".*?`no_floor`\) it saves (\d+) % and loses ([\d.]+) points",
    )
    of_arms = {"token_budget": (share, f"-{gained}"), "floor_0": (share_0, lost_0), "no_floor": (share_no, lost_no)}
    for name, (tokens, points) in of_arms.items():
        assert rows[name]["seeds"] >= 5
        assert (f"{saved(rows[name], plain):.0f}", f"{lost(rows[name], plain):.1f}") == (tokens, points)
    above = [rows[name]["above_frontier"] for name in of_arms]
    assert max(above) - min(above) < 1  # "equally far"
    page = " ".join(token_budget.__doc__.split())
    for figures in (
        f"by {share} % and its accuracy rose by {gained}",
        f"by {share_0} % at −{lost_0}",
        f"by {share_no} % at −{lost_no}",
    ):
        assert figures in page
    (of_data,) = said("measured.md", r"`token_budget_data` has budgets .*? saves (\d+) % and loses nothing")
    assert f"{saved(rows['token_budget_data'], plain):.0f}" == of_data
    assert lost(rows["token_budget_data"], plain) < 0.1
    for name in ("no_guard", "guard_2", "weight_1", "gate"):
        assert lost(rows[name], plain) > lost(rows["no_floor"], plain)


def test_more_steps():
    rows = by_arm("longer")
    gr3, budget, plain = rows["gr3"], rows["token_budget"], rows["grpo"]
    assert (budget["seeds"], plain["seeds"]) == (2, 2)
    accuracy, tokens, fewer, points = said(
        "measured.md",
        r"on four seeds: ([\d.]+) % with ([\d.]+) tokens, (\d+) % fewer than GRPO takes after as many steps, "
        r"and ([\d.]+) points less",
    )
    assert gr3["seeds"] == 4
    assert (f"{100 * gr3['accuracy']:.1f}", f"{gr3['tokens']:.1f}") == (accuracy, tokens)
    assert (f"{saved(gr3, plain):.0f}", f"{lost(gr3, plain):.1f}") == (fewer, points)
    assert said("choose.md", r"comes to the frontier\]\(measured.md#more-steps\), ([\d.]+) points below GRPO") == (
        points,
    )
    assert abs(gr3["above_frontier"]) < gr3["above_frontier_interval"]
    assert [round((hard - 16) / 7) for hard in gr3["tokens_by_level"][3:]] == [3, 3, 3]  # notes of 7 tokens
    ends = [
        line["test"]["accuracy"]
        for line in read_lines(RESULTS)
        if line["run"]["steps"] == 300 and line["run"]["arm"] == "gr3"
    ]
    assert said("measured.md", r"One seed ends at ([\d.]+) %, another at ([\d.]+) %") == (
        f"{100 * min(ends):.1f}",
        f"{100 * max(ends):.1f}",
    )
    above, *ended = said(
        "measured.md", r"stays (\d+) tokens above the frontier: its seeds end at (\d+) and (\d+) tokens"
    )
    assert f"{budget['above_frontier']:.0f}" == above
    runs = [
        line for line in read_lines(RESULTS) if line["run"]["steps"] == 300 and line["run"]["arm"] == "token_budget"
    ]
    assert [f"{tokens:.0f}" for tokens in sorted(line["test"]["tokens"] for line in runs)] == ended
    before = by_arm("token_budget")
    assert abs(before["floor_0"]["above_frontier"] - before["token_budget"]["above_frontier"]) < 2.5  # "as far above"
    shares = said(
        "measured.md",
        r"In the last 100 steps it is (\d+) % with `gr3`, (\d+) and (\d+) % with the two seeds of `token_budget`, "
        r"and (\d+) to (\d+) % with GRPO",
    )
    of_floor = said(
        "measured.md",
        r"and (\d+) to (\d+) % of the tokens have a gradient\. "
        r"Two seeds end at (\d+) and (\d+) tokens, two at (\d+) and (\d+)\. "
        r"That is (\d+) tokens above the frontier on average, at ([\d.]+) to (\d+\.\d) %",
    )
    shortest = [line for line in read_lines(RESULTS) if line["run"]["steps"] == 300 and line["run"]["arm"] == "floor_0"]
    taught = [100 * fmean(line["training"]["tokens_with_gradient"][-100:]) for line in shortest]
    tokens = sorted(line["test"]["tokens"] for line in shortest)
    reached = [100 * line["test"]["accuracy"] for line in shortest]
    assert of_floor == (
        *(f"{min(taught):.0f}", f"{max(taught):.0f}", *(f"{count:.0f}" for count in tokens)),
        *(f"{rows['floor_0']['above_frontier']:.0f}", f"{min(reached):.1f}", f"{max(reached):.1f}"),
    )
    assert said("choose.md", r"`token_budget` stays (\d+) tokens above on two seeds, and (\d+) above with") == (
        above,
        of_floor[-3],
    )
    learned = [
        sorted(
            f"{100 * fmean(line['training']['tokens_with_gradient'][-100:]):.0f}"
            for line in read_lines(RESULTS)
            if line["run"]["steps"] == 300 and line["run"]["arm"] == name
        )
        for name in ("gr3", "token_budget", "grpo")
    ]
    assert learned == [4 * [shares[0]], list(shares[1:3]), list(shares[3:])]


def test_the_first_testbed():
    found = results("checks")
    rows = by_arm("checks")
    assert {name: (row["warm_starts"], row["seeds"]) for name, row in rows.items()} == {
        name: (1, 3) if name == "token_budget_data" else (3, 9) for name in rows
    }
    shortest, start = said(
        "measured.md", r"shortest correct answer is known: (\d+) tokens\..*? Each takes about (\d+) tokens"
    )
    assert (f"{found['shortest']:.0f}", f"{rows['grpo']['validation'][0]['tokens']:.0f}") == (shortest, start)

    fewer, points, interval, tighter, lost_7 = said(
        "measured.md",
        r"it takes (\d+) % fewer tokens than the warm start, and is as accurate as GRPO\*\* \(−([\d.]+) ± ([\d.]+) points\)\. "
        r".*?it saves (\d+) %, and one run of nine loses (\d) points",
    )
    packed = rows["bcr_3"]
    assert (fewer, points, interval) == (
        f"{-100 * packed['tokens_changed']:.0f}",
        f"{-100 * packed['accuracy_gained']:.1f}",
        f"{100 * packed['accuracy_gained_interval']:.1f}",
    )
    assert f"{-100 * rows['bcr_3_110']['tokens_changed']:.0f}" == tighter
    losses = sorted(first_testbed_losses("bcr_3_110"))
    assert f"{losses[-1]:.0f}" == lost_7
    assert losses[-2] < 3

    budget = rows["token_budget"]
    points, interval, least, most, ninth, worst = said(
        "measured.md",
        r"as accurate as GRPO too \(−([\d.]+) ± ([\d.]+) points\)\. "
        r"Eight of nine runs come to ([\d.]+) to ([\d.]+) × the shortest answer\. "
        r"The ninth stays at (\d+) tokens\. From one warm start it loses ([\d.]+) points",
    )
    assert (points, interval) == (
        f"{-100 * budget['accuracy_gained']:.1f}",
        f"{100 * budget['accuracy_gained_interval']:.1f}",
    )
    *eight, last = sorted(line["test"]["tokens"] for line in first_testbed("token_budget").values())
    assert (f"{eight[0] / found['shortest']:.2f}", f"{eight[-1] / found['shortest']:.2f}") == (least, most)
    assert f"{last:.0f}" == ninth
    losses = first_testbed_losses("token_budget")
    assert (
        f"{max(fmean(losses[i : i + 3]) for i in (0, 3, 6)):.1f}" == worst
    )  # three seeds of a warm start follow each other
    shortest_arm = rows["token_budget_data_grpo_advantage"]
    (least,) = said("measured.md", r"writes almost the shortest answer: ([\d.]+) ×")
    assert f"{shortest_arm['over_shortest']:.2f}" == least
    assert shortest_arm["accuracy_gained"] > 0
    drifted = said("measured.md", r"GRPO drifts: its runs end at (\d+) to (\d+) tokens")
    plain = [line["test"]["tokens"] for line in first_testbed("grpo").values()]
    assert drifted == (f"{min(plain):.0f}", f"{max(plain):.0f}")


def first_testbed(method):
    """The runs of a method on ``checks``, by warm start and seed."""
    lines = [line for line in read_lines(RESULTS) if line["run"]["task"] == "checks"]
    named = {(*line["run"]["arm"].rpartition("."), line["run"]["seed"]): line for line in lines}
    return {(start, seed): line for (start, _, arm, seed), line in sorted(named.items()) if arm == method}


def first_testbed_losses(method):
    """Points of accuracy below the run of GRPO from the same warm start with the same seed."""
    plain = first_testbed("grpo")
    return [lost(line["test"], plain[key]["test"]) for key, line in first_testbed(method).items()]


@pytest.mark.parametrize("page", ["README.md", "measured.md"])
def test_the_real_language_model(page):
    found = results("smollm2")
    summaries = found["summaries"]
    assert found["compared_seeds"] == [0, 1, 2]
    assert set(found["steps"]["grpo"].values()) == set(found["steps"]["token_budget"].values()) == {30}
    pairs = [(summaries["token_budget"][seed], summaries["grpo"][seed]) for seed in ("0", "1", "2")]
    fewer, tokens_interval, points, interval, gained = said(
        page,
        r"(\d+) % fewer tokens than (?:plain )?GRPO \(± (\d+) %\) and is ([\d.]+) points less accurate \(± ([\d.]+)"
        r".*? ([\d.]+) points more accurate",
    )
    ratio = fmean(budget["tokens_per_problem"] / plain["tokens_per_problem"] for budget, plain in pairs)
    changes = [100 * (budget["accuracy"] - plain["accuracy"]) for budget, plain in pairs]
    accuracy = fmean(budget["accuracy"] for budget, _ in pairs)
    assert f"{100 * (1 - ratio):.0f}" == fewer
    assert f"{-fmean(changes):.1f}" == points
    assert f"{100 * (accuracy - summaries['warm_start']['0']['accuracy']):.1f}" == gained
    assert f"{4.30 * stdev(changes) / 3**0.5:.1f}" == interval
    ratios = [100 * budget["tokens_per_problem"] / plain["tokens_per_problem"] for budget, plain in pairs]
    assert f"{4.30 * stdev(ratios) / 3**0.5:.0f}" == tokens_interval
    if page == "README.md":
        return
    worst, best = said(page, r"The interval goes from a loss of ([\d.]+) points to a gain of (\d+\.\d)")
    assert (worst, best) == (f"{float(points) + float(interval):.1f}", f"{float(interval) - float(points):.1f}")
    (change,) = (one for one in found["changes"] if one["label"] == "token_budget")
    assert found["changes_seeds"] == [0, 2]
    paired = said(
        page, r"In these two seeds `token_budget` is ([\d.]+) ± ([\d.]+) points below GRPO, paired by problem"
    )
    assert paired == (f"{-100 * change['accuracy_change']:.1f}", f"{196 * change['accuracy_change_se']:.1f}")


def test_the_arms_of_the_language_model_with_one_seed():
    found = results("smollm2")
    one = {arm: by_seed["0"] for arm, by_seed in found["summaries"].items()}
    curves = found["curves"]["0"]["batched_accuracy_90"]

    def against(arm, other):
        points = 100 * (one[arm]["accuracy"] - one[other]["accuracy"])
        return points, 100 * (one[arm]["tokens_per_problem"] / one[other]["tokens_per_problem"] - 1)

    points, tokens = against("sample_routing", "grpo")
    assert said("measured.md", r"is ([\d.]+) points less accurate than GRPO and takes (\d+) % more tokens") == (
        f"{-points:.1f}",
        f"{tokens:.0f}",
    )
    limit, share, solved, cut_off, right = said(
        "measured.md",
        r"share (\d+) tokens, (\d+) % of what they take alone.*?in the first step (\d+) % of the problems are solved, "
        r"and (\d+) % of the packs are cut off.*?Asked alone, (\d+) % of the problems are right",
    )
    assert f"{50 * int(limit) / one['warm_start']['tokens_per_problem']:.0f}" == share
    assert (f"{100 * curves['score'][0]:.0f}", f"{100 * curves['cut_off'][0]:.0f}") == (solved, cut_off)
    assert f"{100 * one['batched_accuracy_90']['accuracy']:.0f}" == right
    lost, fewer = (-change for change in against("batched_accuracy", "warm_start"))
    below, tokens = against("batched_accuracy", "grpo")
    assert abs(tokens) < 5
    assert said(
        "measured.md",
        r"Asked alone, ([\d.]+) % are right, ([\d.]+) points below the warm start, with (\d+) % fewer tokens than it\. "
        r"GRPO is ([\d.]+) points better at about the same tokens",
    ) == (f"{100 * one['batched_accuracy']['accuracy']:.1f}", f"{lost:.1f}", f"{fewer:.0f}", f"{-below:.1f}")


@pytest.mark.parametrize("question", ["pareto", "token_budget"])
def test_the_rows_are_those_of_the_stored_runs(question):
    """A run of settings that are no longer the table's has no row."""
    lines = read_lines(ROOT / "benchmarks" / "results" / "compare.jsonl")
    assert json.loads(json.dumps(report.rows(table_of(question), lines, frontier.load()))) == results(question)["rows"]


def test_flat_budgets_and_those_that_follow_difficulty():
    rows = by_arm("difficulty")
    flat, running = rows["flat_30"], rows["running"]
    tokens, running_tokens, share, aim = said(
        "measured.md",
        r"a flat budget of 30 tokens ends at ([\d.]+) tokens, `running` at ([\d.]+), equally accurate: (\d+) % fewer\. "
        r"We had looked for (\d+) %",
    )
    assert (tokens, running_tokens) == (f"{flat['tokens']:.1f}", f"{running['tokens']:.1f}")
    assert share == f"{100 * running['saved_against_flat']:.0f}"
    assert abs(lost(flat, running)) < 0.5
    follow = [row for row in rows.values() if row["budget"] in ("data", "group", "running")]
    assert len(follow) == 6
    assert max(row["saved_against_flat"] for row in follow) < int(aim) / 100
    level = [rows[f"easy_habit.{name}"] for name in ("flat_23", "group", "running")]
    said("measured.md", r"a flat budget of 23, `group` and `running` end level, at 39 to 40 tokens\.")
    assert {round(row["tokens"]) for row in level} == {39, 40}
    assert all(0.965 < row["accuracy"] < 0.97 for row in level)
    looser = said("measured.md", r"one of 37 or 44 tokens takes (\d+) and (\d+) % more than that of 30")
    assert looser == tuple(
        f"{100 * (rows[name]['tokens'] / flat['tokens'] - 1):.0f}" for name in ("flat_37", "token_budget_flat")
    )
    (points,) = said("measured.md", r"`running` is ([\d.]+) points more accurate than `group`")
    assert points == f"{lost(rows['group'], running):.1f}"


def test_the_form_and_the_method():
    form, method = said("measured.md", r"the form explains (\d+) % of the variance of the accuracy, the method (\d+) %")
    explained = results("normalisation")["explained"]["accuracy"]
    assert (f"{100 * explained['form']:.0f}", f"{100 * explained['method']:.0f}") == (form, method)
    form, method = said("measured.md", r"variance of the tokens the form explains (\d+) %, the method (\d+) %")
    explained = results("normalisation")["explained"]["tokens"]
    assert (f"{100 * explained['form']:.0f}", f"{100 * explained['method']:.0f}") == (form, method)
    said("choose.md", r"changed accuracy \[as much as the method did\]\(\S+\)\. They changed tokens about half as much")
    assert explained["form"] / explained["method"] == pytest.approx(0.5, abs=0.1)


def test_arms_of_token_budget_that_lose_accuracy():
    rows = by_arm("token_budget")
    said("measured.md", r"`guard_2`.*?`gate`\), the model loses 2 to 3 points, and ends no nearer to the frontier")
    for name in ("no_guard", "guard_2", "gate"):
        assert 1.5 <= lost(rows[name], rows["grpo"]) < 3.5
        assert rows[name]["above_frontier"] > rows["token_budget"]["above_frontier"]
    full = said(
        "measured.md",
        r"\(`weight_1`\) saves (\d+) % and loses (\d) points; without the guard too, (\d+) % and (\d) points",
    )
    for name, (fewer, points) in {"weight_1": full[:2], "weight_1_no_guard": full[2:]}.items():
        assert f"{saved(rows[name], rows['grpo']):.0f}" == fewer
        assert f"{lost(rows[name], rows['grpo']):.0f}" == points
        assert rows[name]["above_frontier"] < rows["token_budget"]["above_frontier"]
        assert rows[name]["accuracy"] < 0.97


def test_the_collapse_and_who_said_so():
    found = results("collapse")["rows"]
    runs = lines_by_arm(table_of("collapse"), read_lines(RESULTS), frontier.load())
    assert {row["seeds"] for row in found} == {2}
    ends = {}
    for row in found:
        for line in runs[row["arm"], "published", None]:
            ends.setdefault(row["weight"], []).append(100 * line["test"]["accuracy"])
    below, worst, low, high = said(
        "measured.md",
        r"With λ = 4 all four runs end below (\d+) %\. With λ = 2 one run ends at (\d+) %, the others at (\d+) to (\d+) %",
    )
    assert len(ends[4.0]) == 4
    assert max(ends[4.0]) < int(below)
    collapsed, *others = sorted(ends[2.0])
    assert (f"{collapsed:.0f}", f"{others[0]:.0f}", f"{others[-1]:.0f}") == (worst, low, high)
    assert min(min(ends[weight]) for weight in (0.1, 0.5, 1.0)) > 84
    (steps,) = said("measured.md", r"`diagnose` names the collapse (\d+) steps after the first levels are lost")
    for arm in ("penalty_4", "early.penalty_4"):
        row = by_arm("collapse")[arm]
        first = min(step for step in row["lost_at"] if step is not None)
        assert min(step for steps in row["told"].values() for step in steps if step is not None) - first == int(steps)
    sound = [row for row in found if row["weight"] is None]
    assert len(sound) == 6
    assert all(row["told"] == {} for row in sound)
    assert min(row["accuracy"] for row in sound) > max(row["accuracy"] for row in found if row["weight"] is not None)


def test_the_tokens_that_teach():
    (one_in,) = said("measured.md", r"`t_spmo` learns as much as `grpo` from one token in (\d+)")
    rows = by_arm("few_tokens")
    assert 1 / rows["t_spmo"]["tokens_with_gradient"] == pytest.approx(int(one_in), rel=0.15)
    assert lost(rows["t_spmo"], rows["grpo"]) < 1


def test_the_teacher_that_does_not_know_better():
    without, given = said(
        "measured.md", r"right in (\d+) % of the cases without an answer in its prompt and in (\d+) % with one"
    )
    model = results("routing_teacher")["models"][0]
    shown = (f"{100 * model[who]:.0f}" for who in ("student's accuracy", "teacher's accuracy"))
    assert tuple(shown) == (without, given)
    *shares, told, plain = said(
        "measured.md",
        r"`notes_told` is right in (\d+) % of the cases without one and in (\d+) % with one, "
        r"in (\d+) tokens instead of (\d+)",
    )
    model = results("routing_teacher")["models"][1]
    assert model["model"] == "notes_told"
    assert shares == [f"{100 * model[who]:.0f}" for who in ("student's accuracy", "teacher's accuracy")]
    assert (told, plain) == tuple(f"{model[who]:.0f}" for who in ("teacher's tokens", "student's tokens"))


def test_what_a_step_costs():
    (share,) = said("measured.md", r"as long as with GRPO, within ([\d.]+) %")
    ratios = [row["ratio"][1] for row in results("step_overhead")["rows"]]
    assert max(abs(ratio - 1) for ratio in ratios) <= float(share) / 100


def test_what_the_shortest_response_as_a_teacher_saves():
    rows = by_arm("routing")
    shares_and_points = said(
        "measured.md",
        r"saves (\d+) % of GRPO's tokens at ([\d.]+) points less accuracy.\*\* "
        r"From `notes_told` it saves (\d+) % and loses ([\d.]+) points",
    )
    assert shares_and_points == (*_against("variance_routing", rows), *_against("told_variance_routing", rows))
    (share,) = said("choose.md", r"\[(\d+) % fewer tokens than GRPO\]\(measured.md#a-self-teacher\)")
    assert share == shares_and_points[0]


def test_what_the_self_teachers_save():
    rows = by_arm("routing")
    for teacher in ("sample_routing", "variance_routing_teacher"):
        assert saved(rows[teacher], rows["grpo"]) <= 0
    teacher, routed = said(
        "measured.md",
        r"`variance_routing_teacher` (saves .*? points), `sample_routing` (.*? points)\.",
    )
    for text, arm in ((teacher, "told_variance_routing_teacher"), (routed, "told_sample_routing")):
        assert tuple(re.findall(r"[\d.]+", text)) == _against(arm, rows)


def test_that_self_distillation_alone_unlearns():
    rows, curves = by_arm("routing"), {curve["arm"]: curve for curve in results("routing")["curves"]}
    shown = said("measured.md", r"unlearns from both.\*\* From (\d+) % to (\d+) %, and from (\d+) % to (\d+) %")
    arms = ("self_distillation", "told_self_distillation")
    assert shown == tuple(
        f"{100 * value:.0f}" for arm in arms for value in (curves[arm]["accuracy"][0], rows[arm]["accuracy"])
    )
    guide = said(
        "guides/self_distillation.md",
        r"from (\d+) % to (\d+) % in 100 steps, that of GRPO from (\d+) % to (\d+) %\. .*?leave out the work: "
        r"from (\d+) % to (\d+) %\. `sample_routing` came to (\d+) % from the same model, and GRPO to (\d+) %",
    )
    ends = [rows[arm]["accuracy"] for arm in ("grpo", "told_sample_routing", "told_grpo")]
    plain, routed, told_plain = (f"{100 * accuracy:.0f}" for accuracy in ends)
    assert guide == (*shown[:2], shown[0], plain, *shown[2:], routed, told_plain)
    step, tokens = said("measured.md", r"After (\d+) steps the student writes (\d+) tokens, .*? right in half")
    told = curves["told_self_distillation"]
    at = told["steps"].index(int(step))
    assert told["tokens"][at] == pytest.approx(int(tokens), abs=0.6)
    assert told["accuracy"][at] == pytest.approx(0.5, abs=0.03)
    pace = {arm: curve["seconds_per_step"] for arm, curve in curves.items()}
    for arm in ("self_distillation", "variance_routing_teacher"):
        assert 1.9 <= pace[arm] / pace["grpo"] <= 4
        assert 1.9 <= pace[f"told_{arm}"] / pace["told_grpo"] <= 4


def _against(arm, rows):
    plain = rows["told_grpo" if arm.startswith("told_") else "grpo"]
    return f"{saved(rows[arm], plain):.0f}", f"{lost(rows[arm], plain):.1f}"


def test_what_leaving_out_unsolved_groups_changes():
    rows = {row["method"]: row for row in results("unsolved")["rows"]}
    assert min(row["seeds"] for row in rows.values()) >= 3
    chosen = {
        name for name, method in ESTIMATORS.items() if getattr(method.settings_class(), "unsolved", "") == "leave"
    }
    assert chosen == {"kimi", "alp", "cosine"}
    gained = {name: row["accuracy_gain"][0] for name, row in rows.items()}
    assert min(gained[name] for name in chosen) > 0.1 > max(gained[name] for name in rows.keys() - chosen)
    below, at_least = said("measured.md", r"end below (\d+) % in three of four runs: .*? runs ends at (\d+) % or more")
    for name in ("kimi", "alp"):
        of_seeds = rows[name]["as_published"]["accuracy_by_seed"]
        assert [100 * share < int(below) for share in sorted(of_seeds)] == [True, True, True, False]
        assert round(100 * min(rows[name]["leave"]["accuracy_by_seed"])) >= int(at_least)
    (points,) = said("measured.md", r"`cosine` rewards long wrong answers, and is (\d+) points less accurate")
    assert points == f"{100 * gained['cosine']:.0f}"
    points, tokens = said("measured.md", r"`shorter_better` gains (\d+) points for (\d+) tokens more")
    assert (points, tokens) == (
        f"{100 * gained['shorter_better']:.0f}",
        f"{rows['shorter_better']['tokens_gain'][0]:.0f}",
    )
    for name in names(said("measured.md", r"Of (`dast`[^.]*?) the difference lies inside the interval")[0]):
        mean, half = rows[name]["accuracy_gain"]
        assert abs(mean) <= half
