"""The page of ``report``: what it shows, that its numbers are those of the results, and that it needs nothing from outside."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests.unit.browser import BROWSER, NAMES, WIDTHS, look_at
from tests.unit.test_diagnose import log_of
from tests.unit.test_evaluation import result, row
from verl_efficiency.cli import app
from verl_efficiency.evaluation.results import load_result
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.tracking import by_label

pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """Tags with their attributes, table cells, and headings."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.headings, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    before = result("warm <start>", [row(i, i != 3, 20 + 10 * i, shortest_tokens=10 + i) for i in range(10)])
    after = result("token_budget", [row(i, i != 4, 10 + 5 * i, shortest_tokens=10 + i) for i in range(10)])
    points = [
        {"problems": n, "accuracy": 1 - n / 100, "accuracy_se": 0.01, "tokens_per_problem": 80 / n}
        | {"tokens_per_problem_se": 1.0, "finished": 1.0, "by_slot": [1.0] * n}
        for n in (1, 2, 4)
    ]
    law = {"a": 80.0, "b": 1.0, "points_per_problem": -1.0}
    strategy = {"strategy": "short-3", "k": 8, "accuracy": 0.8765, "accuracy_se": 0.01, "tokens": 321.4, "pareto": True}
    answers = folder / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"problem": i, "tokens": 100 + i, "acc": float(i % 4 != 0)}) + "\n" for i in range(40))
    )
    assert (
        CliRunner().invoke(app, ["evaluate", "offline", str(answers), "--out", str(folder / "c.json")]).exit_code == 0
    )
    contents = {
        "a.json": before,
        "b.json": after,
        "d.json": {"label": "token_budget", "points": points, "law": law, "model": "m"},
        "e.json": {"command": "evaluate strategies", "label": "replay", "seed": 7, "rows": [strategy]},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    for name, evaluation in (("a", before), ("b", after)):
        rows = [
            {"label": evaluation["label"], "key": key, "prompt": number, "acc": correct, "tokens": int(tokens)}
            | {"response": f"<script>{name}{number}</script>" + "x" * (9000 if number == 9 else 0)}
            for number, (key, correct, tokens) in enumerate(
                zip(*(evaluation["per_prompt"][column] for column in ("key", "correct", "tokens")), strict=True)
            )
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    log_of(folder, response_length__mean=[90 - s for s in range(8)], token_budget__over_budget=[0.0] * 8)
    return folder


@pytest.fixture(scope="module")
def page(files):
    words = [f"{files / name}.json" for name in "abcde"]
    words += ["--log", f"token_budget={files / 'metrics.jsonl'}", "--out", str(files / "page.html")]
    words += ["--rows", str(files / "a.jsonl"), "--rows", str(files / "b.jsonl"), "--png", str(files / "pictures")]
    outcome = CliRunner().invoke(app, ["report", *words])
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    return (files / "page.html").read_text()


def test_every_part_is_there(page, files):
    parsed = Page(page)
    assert parsed.open == []
    assert [tag for tag, _ in parsed.tags].count("svg") == 6
    sections = ["Before and after", "Training of token_budget, steps 1 to 8", "N problems in a prompt"]
    sections += [
        "Test-time strategies, replayed: replay",
        "Stored generations: c",
        "Answers side by side",
        "Settings and versions",
    ]
    assert [heading for heading in parsed.headings if heading in sections] == sections
    assert any(heading.startswith("Flipped from right to wrong (row 4 ") for heading in parsed.headings)
    assert any(heading.startswith("Flipped from wrong to right (row 3 ") for heading in parsed.headings)
    assert any(heading.startswith("Longest before (row 9 ") for heading in parsed.headings)
    assert "idle budget" in page
    assert len(list((files / "pictures").glob("*.png"))) == 6


def test_scores_of_minus_one_are_scaled(files, tmp_path):
    """The score falls by 0.08 from -1 to 1, which is 4 points of accuracy and no collapse."""
    columns = {"response_length__mean": [100] * 3 + [70] * 3, "critic__score__mean": [0.8] * 3 + [0.72] * 3}
    words = ["report", str(files / "a.json"), "--out", str(tmp_path / "page.html")]
    logged = ["--log", f"run={log_of(tmp_path, **columns)}"]
    faults = []
    for scores in ([], ["--score-wrong", "-1"]):
        assert CliRunner().invoke(app, [*words, *logged, *scores]).exit_code == 0
        faults.append("length collapse: " in (tmp_path / "page.html").read_text())
    assert faults == [True, False]
    outcome = CliRunner().invoke(app, [*words, "--score-wrong", "-1"])
    assert str(outcome.exception).startswith("--score-wrong, --score-correct: must be used with --log")
    outcome = CliRunner().invoke(app, [*words[:2], *logged])
    assert str(outcome.exception).startswith("--log: must be used with --out")


@pytest.mark.parametrize(("name", "said"), [("c", "tokens per correct"), ("d", "problems N"), ("e", "short-3")])
def test_a_result_of_any_kind_is_printed(files, name, said):
    outcome = CliRunner().invoke(app, ["report", str(files / f"{name}.json")])
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    assert said in outcome.output


def test_numbers_are_those_of_the_results(page, files):
    cells = Page(page).cells
    for name in "ab":
        summary = json.loads((files / f"{name}.json").read_text())["summary"]
        assert f"{100 * summary['accuracy']:.1f} ± {100 * summary['accuracy_se']:.1f}" in cells
        assert f"{summary['tokens_per_problem']:.1f} ± {summary['tokens_per_problem_se']:.1f}" in cells
    # 65 tokens before, 32.5 after; 9 of 10 correct in both
    assert cells[cells.index("warm <start>") + 1].startswith("90.0 ± ")
    assert any(cell.startswith("-50.0 ± ") for cell in cells)
    (offline,) = json.loads((files / "c.json").read_text())["rows"]
    assert offline["accuracy"] == 0.75
    assert f"{offline['ock_score']:.2f}" in cells
    assert {"87.6 ± 1.0", "321.4", "80.0 ± 1.0", "20.0 ± 1.0"} <= set(cells)


def test_it_needs_nothing_from_outside_and_runs_nothing(page):
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "&lt;script&gt;a3&lt;/script&gt;" in page  # a response is text


def test_pictures_take_the_colours_of_the_page_and_no_identifier_comes_twice(page):
    assert "prefers-color-scheme: dark" in page
    assert "var(--before)" in page
    assert "#010203" not in page
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert all("viewbox" in attributes for tag, attributes in Page(page).tags if tag == "svg")


@pytest.mark.skipif(BROWSER is None, reason=f"needs a browser to look at the page: one of {', '.join(NAMES)} in PATH")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_sees_it_all(page, tmp_path, scheme):
    seen = look_at(page, tmp_path, scheme)
    assert [view["width"] for view in seen] == list(WIDTHS)
    for view in seen:
        assert view["texts"] > 150
        assert view["overflow"] == 0
        assert view["outside"] == []
        assert view["overlaps"] == []
        assert view["faint"] == []
        assert view["smallest"] > 8
        assert view["requests"] == []
        assert (sum(view["background"][:3]) < 3 * 64) == (scheme == "dark")


@pytest.mark.skipif(BROWSER is None, reason=f"needs a browser: one of {', '.join(NAMES)} in PATH")
def test_the_look_at_a_page_finds_faults(tmp_path):
    """A wide line, two texts in one place, letters in the colour of the page, and a picture from outside."""
    bad = (
        '<body style="background: #fff; margin: 0"><p style="width: 2000px">wide</p><p style="color: #ddd">faint</p>'
        '<div style="position: relative"><b style="position: absolute; top: 0">one</b><i>two</i></div>'
        '<p style="margin-left: -9px">out</p><img src="http://nowhere.invalid/a.png">'
    )
    for view in look_at(bad, tmp_path, "light"):
        assert view["overflow"] == 2000 - view["width"]
        assert view["outside"] == ["out"]
        assert view["overlaps"] == [["one", "two"]]
        assert view["faint"] == ["faint"]
        assert view["requests"] == ["http://nowhere.invalid/a.png"]


def test_axes_have_units(page):
    for unit in ("tokens per problem", "accuracy, %", "training step", "limit on the tokens of a response"):
        assert unit in page


def test_a_long_answer_is_shortened(page):
    assert "x" * 1990 in page
    assert "x" * 2100 not in page
    assert len(page) < 400_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["e.json", "--out", "x.png"], "--out"),
        (["a.json", "--rows", "a.jsonl", "--out", "x.png"], "--rows"),
        (["a.json", "--out", "x.htm"], ".html"),
        (["a.json", "--out", "x.html", "--rows", "metrics.jsonl"], "--rows"),
        (["a.json", "--track", "wandbb"], "did you mean 'wandb'"),
    ],
)
def test_what_cannot_be_shown_is_refused(files, words, said, monkeypatch):
    if "--track" in words:
        pytest.importorskip("verl")
    monkeypatch.chdir(files)
    outcome = CliRunner().invoke(app, ["report", *words])
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)


def test_results_go_to_verls_tracking(files, tmp_path, monkeypatch):
    pytest.importorskip("verl")
    monkeypatch.setenv("VERL_FILE_LOGGER_ROOT", str(tmp_path))
    words = [f"{files / name}.json" for name in "ad"]
    outcome = CliRunner().invoke(app, ["report", *words, "--track", "file", "--project", "p"])
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    (line,) = (tmp_path / "p" / "warm <start>.jsonl").read_text().splitlines()
    summary = json.loads((files / "a.json").read_text())["summary"]
    expected = {f"evaluate/{name}": value for name, value in summary.items() if value is not None}
    assert json.loads(line) == {"step": 0, "data": pytest.approx(expected)}
    lines = (tmp_path / "p" / "token_budget.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 4]


def test_the_settings_of_results_go_to_verls_tracking(files, monkeypatch):
    """verl's Tracking is the real one; wandb is not installed, so what it would get is kept."""
    tracking = pytest.importorskip("verl.utils.tracking")
    given = []
    functions = {"init": lambda **options: given.append(options), "log": lambda data, step: None}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(**functions, finish=lambda exit_code: None))
    words = [f"{files / name}.json" for name in "abd"]
    outcome = CliRunner().invoke(app, ["report", *words, "--track", "wandb", "--project", "p"])
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    first, second = given
    assert (first["project"], first["name"], second["name"]) == ("p", "warm <start>", "token_budget")
    assert first["config"]["evaluation"] == {"data": "held_out.parquet"}
    assert second["config"]["scaling"] == {"model": "m"}
    parameters = tracking._compute_mlflow_params_from_objects(second["config"])
    assert parameters["evaluation/data"] == "held_out.parquet"


def test_a_log_of_openrlhf_is_drawn(files, tmp_path):
    steps = [(1, 0.25, 90), (2, 0.5, 60)]
    (tmp_path / "o.log").write_text(
        "".join(
            f"(PPOTrainer pid=1) [kimi] solve_rate={score} length_term=-0.1\n(PPOTrainer pid=1) INFO ppo_trainer.py:551] "
            f"Global step {step}: {{'rollout/reward_mean': {score}, 'rollout/response_length_mean': {tokens}.0}}\n"
            for step, score, tokens in steps
        )
    )
    out = tmp_path / "page.html"
    words = [f"{files / 'a.json'}", "--log", f"kimi={tmp_path / 'o.log'}", "--out", str(out), "--png", str(tmp_path)]
    outcome = CliRunner().invoke(app, ["report", *words])
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    parsed = Page(out.read_text())
    assert "Training of kimi, steps 1 to 2" in parsed.headings
    assert parsed.cells[parsed.cells.index("kimi/solve_rate") :][:3] == ["kimi/solve_rate", "0.25", "0.5"]
    assert {file.stem for file in tmp_path.glob("*.png")} == {
        *("accuracy_against_tokens", "tokens_in_training", "score_in_training"),
    }


def two_of_each(folder):
    """Two results of each kind with rows, by the commands where they need no server. The labels differ by a sign only."""
    rows = [
        {"problem": p, "response": r"\boxed{1}", "gold": str(p), "tokens": 10 + i} for p in range(4) for i in range(2)
    ]
    (folder / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, option in (("a b", ("--budget", "20")), ("a-b", ("--budget", "40", "--price-out", "2"))):
        words = [f"{name}={folder / 's.jsonl'}", "--answer", "gold", "--out", str(folder / f"{name}.json"), *option]
        invoked = CliRunner().invoke(app, ["evaluate", "offline", *words, "--label", name])
        assert invoked.exit_code == 0, (invoked.output, invoked.exception)
        words = [f"{name}={folder / 's.jsonl'}", "--answer", "gold", "--out", str(folder / f"replay {name}.json")]
        invoked = CliRunner().invoke(app, ["evaluate", "strategies", *words, "--seed", "7"])
        assert invoked.exit_code == 0, (invoked.output, invoked.exception)
        replay = json.loads((folder / f"replay {name}.json").read_text())
        live = replay | {"command": "evaluate live", "server": f"http://{name}"}
        (folder / f"live {name}.json").write_text(json.dumps(live))
    return [str(folder / f"{kind}{name}.json") for kind in ("", "replay ", "live ") for name in ("a b", "a-b")]


def test_results_with_rows_say_how_they_were_made(tmp_path):
    offline, other, replay, *_ = (json.loads(Path(name).read_text()) for name in two_of_each(tmp_path))
    data = str(tmp_path / "s.jsonl")
    assert (offline["label"], offline["data"], offline["budget"]) == ("a b", {"a b": data}, 20)
    assert offline["columns"] == {
        "a b": {"problem": "problem", "response": "response", "answer": "gold"} | {"tokens": "tokens"}
    }
    assert (offline["prices"], other["prices"]) == ({"out": 0.0, "in": 0.0}, {"out": 2.0, "in": 0.0})
    assert (replay["label"], replay["data"], replay["seed"]) == ("a b", data, 7)
    for one in (offline, replay):
        assert {"python", "verl-efficiency", "math-verify"} <= one["versions"].keys()


def test_two_results_of_each_kind_stay_apart(tmp_path):
    """Six results with pictures: six files, six parts of the page, no identifier twice, and no number of another result."""
    names = two_of_each(tmp_path)
    out = tmp_path / "page.html"
    invoked = CliRunner().invoke(app, ["report", *names, "--out", str(out), "--png", str(tmp_path / "png")])
    assert invoked.exit_code == 0, (invoked.output, invoked.exception)
    parsed = Page(out.read_text())
    kinds = ("Test-time strategies, replayed", "Test-time strategies on a server", "Stored generations")
    titles = [f"{kind}: {name}" for kind in kinds for name in ("a b", "a-b")]
    assert {heading for heading in parsed.headings if heading.endswith(("a b", "a-b"))} == set(titles)
    assert all(title in invoked.output for title in titles)
    assert len(list((tmp_path / "png").glob("*.png"))) == 6
    identifiers = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers)) > 0
    assert [tag for tag, _ in parsed.tags].count("svg") == 6
    cells = parsed.cells
    assert cells[cells.index("prices.out") :][:3] == ["prices.out", "0.0", "2.0"]
    assert cells[cells.index("seed") :][:5] == ["seed", *"7777"]  # empty cells hold no text
    assert cells[cells.index("server") :][:3] == ["server", "http://a b", "http://a-b"]
    assert "math-verify" in "".join(cells)

    steps = by_label([load_result(Path(name)) for name in names])
    numbers = {label: set(of_label[0]) for label, of_label in steps.items()}
    assert numbers.keys() == {"a b", "a-b"}
    for label in numbers:
        assert {f"offline/{label}/budget", "strategies/plain@1/tokens", "live/plain@1/tokens"} <= numbers[label]
    assert [steps[label][0][f"offline/{label}/budget"] for label in ("a b", "a-b")] == [20, 40]


@pytest.mark.parametrize("kind", ["", "replay ", "live "])
def test_equal_labels_of_one_kind_are_refused(tmp_path, kind):
    name = next(name for name in two_of_each(tmp_path) if name.endswith(f"/{kind}a b.json"))
    outcome = CliRunner().invoke(app, ["report", name, name])
    assert isinstance(outcome.exception, SettingsError)
    assert "label: must be different" in str(outcome.exception)


@pytest.mark.parametrize(
    "row", [{"strategy": "plain", "k": 1, "pareto": True}, {"label": "a", "accuracy_at": [], "cap": 3.0}]
)
def test_a_result_of_an_earlier_version_is_one_line(tmp_path, row):
    (tmp_path / "old.json").write_text(json.dumps([row]))
    outcome = CliRunner().invoke(app, ["report", str(tmp_path / "old.json")])
    assert isinstance(outcome.exception, SettingsError)
    assert "old.json is of an earlier version" in str(outcome.exception)
    assert "\n" not in str(outcome.exception)


# Every number of the page against the results


class Tables(HTMLParser):
    """The tables of a page, each a list of rows of texts, with the header first."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.found.append([])
        elif tag == "tr":
            self.found[-1].append([])
        elif tag in ("td", "th"):
            self.found[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.found[-1][-1][-1] += data


NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.(\d+))?")


def assert_shows(text, *values):
    """The numbers in ``text`` are ``values``, each rounded to as many digits as it shows."""
    found = list(NUMBER.finditer(text))
    assert len(found) == len(values), (text, values)
    for number, value in zip(found, values, strict=True):
        shown = float(number.group().replace(",", ""))
        assert abs(shown - value) <= 0.5 * 10.0 ** -len(number[1] or "") + 1e-9, (text, values)


def the_table(page, *header):
    """The rows under the header that begins with these words."""
    (found,) = (table for table in Tables(page).found if tuple(table[0][: len(header)]) == header)
    return found[1:]


def rows_of(file):
    return json.loads(file.read_text())["rows"]


def test_every_change_point_and_strategy_is_that_of_the_results(page, files):
    before, after = (json.loads((files / f"{name}.json").read_text()) for name in "ab")
    first, second = the_table(page, "model")
    for cells, evaluation in ((first, before), (second, after)):
        summary = evaluation["summary"]
        assert cells[0] == evaluation["label"]
        assert_shows(cells[1], 100 * summary["accuracy"], 100 * summary["accuracy_se"])
        assert_shows(cells[3], summary["tokens_per_problem"], summary["tokens_per_problem_se"])
        assert_shows(cells[5], summary["over_shortest"])
    assert first[2] == first[4] == ""
    # By hand, over 10 problems: row 3 becomes right and row 4 wrong, and each response is half as long.
    error = 100 * (10 / 9 * 2) ** 0.5 / 10
    assert_shows(second[2], 0.0, error)
    assert_shows(second[4], -50.0, 0.0)
    (lead,) = re.findall(r"<p>token_budget against warm &lt;start&gt;: (.*?)</p>", page)
    assert_shows(lead, -50.0, 0.0, 0.0, error)

    scaling = json.loads((files / "d.json").read_text())
    for cells, point in zip(the_table(page, "problems N", "accuracy, %"), scaling["points"], strict=True):
        assert cells[0] == str(point["problems"])
        assert_shows(cells[1], 100 * point["accuracy"], 100 * point["accuracy_se"])
        assert_shows(cells[2], point["tokens_per_problem"], point["tokens_per_problem_se"])
        assert_shows(cells[3], 100 * point["finished"])
        assert_shows(cells[4], *(100 * share for share in point["by_slot"]))
    law = scaling["law"]
    (fitted,) = re.findall(r"Fitted: tokens per problem = (.*)", page)
    assert_shows(fitted, law["a"], -law["b"])
    (slope,) = re.findall(r"Fitted: each further problem changes accuracy by (.*) points", page)
    assert_shows(slope, law["points_per_problem"])

    for cells, run in zip(the_table(page, "strategy"), rows_of(files / "e.json"), strict=True):
        assert cells[:2] == [run["strategy"], str(run["k"])]
        assert_shows(cells[2], 100 * run["accuracy"], 100 * run["accuracy_se"])
        assert_shows(cells[3], run["tokens"])
        assert cells[5] == "*" * run["pareto"]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The page and the results of two files that have every column."""
    folder = tmp_path_factory.mktemp("offline")
    names = ("problem", "correct", "tokens", "truncated", "difficulty", "prompt_tokens", "response")
    texts = ("Wait, let me verify.", "maybe, perhaps", "so so " * 20, "Hmm. Wait: I double-check and verify.")
    before = [
        ("p", 1, 10, False, 0.0, 5),
        ("p", 0, 33, True, 0.0, 5),
        ("q", 0, 45, True, 0.7, 9),
        ("q", 1, 20, False, 0.7, 9),
    ]
    after = [
        ("p", 1, 6, False, 0.0, 5),
        ("p", 1, 21, False, 0.0, 5),
        ("q", 0, 38, True, 0.7, 9),
        ("q", 1, 11, False, 0.7, 9),
    ]
    for name, rows in (("before", before), ("after", after)):
        lines = (dict(zip(names, (*row, text), strict=True)) for row, text in zip(rows, texts, strict=True))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [f"{name}={folder / name}.jsonl" for name in ("before", "after")]
    words += ["--price-out", "2", "--price-in", "3", "--out", str(folder / "o.json")]
    for command in (
        ["evaluate", "offline", *words],
        ["report", str(folder / "o.json"), "--out", str(folder / "o.html")],
    ):
        outcome = CliRunner().invoke(app, command)
        assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    return (folder / "o.html").read_text(), rows_of(folder / "o.json")


def paired_of(numbers, name):
    paired = numbers.get("against", {}).get("paired")
    return () if paired is None else (paired[name], paired[f"{name}_se"])


PERCENT = 100
# Line of the table → its numbers
OFFLINE = {
    "responses": lambda r: (r["responses"],),
    "problems": lambda r: (r["problems"],),
    "accuracy, %": lambda r: (PERCENT * r["accuracy"], PERCENT * r["accuracy_se"]),
    "  change, points": lambda r: tuple(PERCENT * value for value in paired_of(r, "accuracy_change")),
    "pass@k, %": lambda r: (2, PERCENT * r["pass_at"]["2"]),
    "tokens per response": lambda r: (r["tokens"], r["tokens_se"]),
    "  ratio": lambda r: paired_of(r, "tokens_ratio"),
    "  median": lambda r: (r["tokens_median"],),
    "  90th percentile": lambda r: (r["tokens_p90"],),
    "  when correct": lambda r: (r["tokens_correct"],),
    "  when wrong": lambda r: (r["tokens_wrong"],),
    "  easiest to hardest": lambda r: tuple(r["by_difficulty"][name] for name in ("easiest", "hardest", "r2")),
    "cut off, %": lambda r: (PERCENT * r["truncated"],),
    "tokens per correct": lambda r: (r["tokens_per_correct"], r["tokens_per_correct_se"]),
    "money per correct": lambda r: (r["money_per_correct"],),
    "budget C, tokens": lambda r: (r["budget"],),
    "accuracy under C, %": lambda r: (PERCENT * r["accuracy_at"][-1][1],),
    "accuracy, mean to C, %": lambda r: (PERCENT * r["area"], PERCENT * r["area_se"]),
    "normalised regret": lambda r: (r["normalised_regret"],),
    "cap for 1 point less": lambda r: (r["cap"],),
    "  tokens under it": lambda r: (r["tokens_under_cap"],),
    "AES": lambda r: (r["against"]["aes"],) if "against" in r else (),
    "OckScore": lambda r: (r["ock_score"],),
    "looping, %": lambda r: (PERCENT * r["looping"],),
    "doubts when correct": lambda r: (r["hedging_correct"],),
    "doubts when wrong": lambda r: (r["hedging_wrong"],),
    "checks when correct": lambda r: (r["checking_correct"],),
    "checks when wrong": lambda r: (r["checking_wrong"],),
}


def test_every_line_of_stored_generations_is_that_of_the_result(offline):
    page, results = offline
    rows = the_table(page, "", "before", "after")
    assert [name for name, *_ in rows] == list(OFFLINE)
    for name, *cells in rows:
        for cell, numbers in zip(cells, results, strict=True):
            assert_shows(cell, *OFFLINE[name](numbers))


TICK = re.compile(
    r'<use [^>]*x="([^"]+)" y="([^"]+)"[^>]*/>\s*</g>\s*</g>\s*<g>\s*<text[^>]*text-anchor: (middle|end)[^>]*>([\d.]+)<'
)


def scale_of(figure, end):
    """Pixel → number, from the first and the last labelled tick of the axis whose labels are anchored so."""
    pixels = [
        (float(tick[2 if end == "end" else 1]), float(tick[4])) for tick in TICK.finditer(figure) if tick[3] == end
    ]
    (pixel, value), (other_pixel, other_value) = pixels[0], pixels[-1]
    return lambda place: value + (place - pixel) * (other_value - value) / (other_pixel - pixel)


def test_the_curves_of_a_picture_are_those_of_the_result(offline):
    """Read from the SVG: each line, and the mark at its cap, in the numbers that stand at the ticks."""
    page, results = offline
    (figure,) = (part for part in page.split("<figure")[1:] if "limit on the tokens of a response" in part)
    across, up = scale_of(figure, "middle"), scale_of(figure, "end")
    curves = re.findall(
        r'<path d="([^"]+L[^"]+)" clip-path="[^"]+" style="fill: none; stroke: [^;]+; stroke-width: 2;', figure
    )
    dots = re.findall(r'<g clip-path="[^"]+">\s*<use [^>]*x="([^"]+)" y="([^"]+)"', figure)
    for curve, dot, numbers in zip(curves, dots, results, strict=True):
        points = [(across(float(x)), up(float(y))) for x, y in re.findall(r"[ML] (\S+) (\S+)", curve)]
        expected = [(0.0, 0.0), *((budget, 100 * accuracy) for budget, accuracy in numbers["accuracy_at"])]
        assert len(points) == len(expected) == 41
        assert sum(points, ()) == pytest.approx(sum(expected, ()), abs=1e-3)
        place = (across(float(dot[0])), up(float(dot[1])))
        assert place == pytest.approx((numbers["cap"], 100 * numbers["accuracy"] - 1), abs=1e-3)
