"""The page of ``report``: what it shows, that its numbers are those of the results, and that it needs nothing from outside."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

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
