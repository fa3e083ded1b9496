"""The pictures of ``report``, ``evaluate`` and ``calibrate``: colours, axes, and texts, as they were drawn.

All but the last test need no browser.
"""

import itertools
import json
import re

import pytest
from typer.testing import CliRunner

from tests.unit.browser import BROWSER, NAMES, look_at
from tests.unit.colours import alike, contrast, distance
from tests.unit.test_diagnose import log_of
from tests.unit.test_evaluation import result, row
from verl_efficiency.cli import app

pytest.importorskip("matplotlib")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text

RESULTS = 9  # more than there are colours
STRATEGIES = ("plain", "cap 40", "first finish", "short-3", "majority", "early stop", "weighted", "think 512")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """``(page, figures)``: a page with many results of each kind, and all its figures, as SVG and as PNG, with their texts."""
    folder = tmp_path_factory.mktemp("pictures")
    names = [f"{i} token_budget at weight 0.{i}" for i in range(RESULTS)]
    words = ["report"]
    for i, name in enumerate(names):
        rows = [row(n, (n + i) % 20 > 1, 20 + 10 * n - 2 * i * (n % 3), shortest_tokens=10 + n) for n in range(20)]
        points = [
            {"problems": n, "accuracy": 1 - n * i / 100, "accuracy_se": 0.01, "tokens_per_problem": (80 - 5 * i) / n}
            | {"tokens_per_problem_se": 1.0, "finished": 1.0, "by_slot": [1.0] * n}
            for n in (1, 2, 4)
        ]
        law = {"a": 80.0 - 5 * i, "b": 1.0, "points_per_problem": -1.0}
        (folder / str(i)).mkdir()
        words += ["--log", f"{name}={log_of(folder / str(i), **curves(i))}"] if i else []
        (folder / f"evaluation {i}.json").write_text(json.dumps(result(name, rows)))
        scaling = {"label": name, "points": points, "law": law, "model": "m"}
        (folder / f"scaling {i}.json").write_text(json.dumps(scaling))
        lines = [{"problem": n, "tokens": 100 + n + 9 * i, "acc": float(n % 4 != 0)} for n in range(40)]
        (folder / f"{i}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(
        *("evaluate", "offline", *(f"{name}={folder / f'{i}.jsonl'}" for i, name in enumerate(names))),
        *("--out", str(folder / "offline.json")),
    )
    rows = [
        {"strategy": name, "k": 8, "accuracy": 0.8 + i / 99, "accuracy_se": 0.01, "tokens": 300.0 + 90 * i}
        | {"pareto": True}
        for i, name in enumerate(STRATEGIES)
    ]
    replay = {"command": "evaluate strategies", "label": "replay", "seed": 7, "rows": rows}
    (folder / "strategies.json").write_text(json.dumps(replay))
    words += [str(folder / f"{kind} {i}.json") for kind in ("evaluation", "scaling") for i in range(RESULTS)]
    words += [str(folder / "offline.json"), str(folder / "strategies.json")]
    rollouts = [
        {"key": str(n), "prompt": n, "acc": float((n + i) % (2 + n % 5) > 0), "tokens": 20 + 5 * (n % 5) + i}
        for n in range(40)
        for i in range(8)
    ]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rollouts))
    figures = {}
    with pytest.MonkeyPatch.context() as patch:
        savefig = Figure.savefig

        def keep(figure, *given, **options):
            savefig(figure, *given, **options)
            figures[figure] = texts(figure)

        patch.setattr(Figure, "savefig", keep)
        run(*words, "--out", str(folder / "page.html"), "--png", str(folder / "png"))
        run(*words, "--out", str(folder / "report.png"))
        run("calibrate", str(folder / "rollouts.jsonl"), "--out", str(folder / "fit.png"))
    return (folder / "page.html").read_text(), figures


def curves(i):
    return {
        "response_length__mean": [90 - s - 3 * i for s in range(20)],
        "critic__score__mean": [0.5 + s / 50 - i / 50 for s in range(20)],
    }


def run(*words):
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)


def panels(figures):
    return [axes for figure in figures for axes in figure.axes]


def test_every_picture_is_looked_at(drawn):
    """Seven on the page, the same as PNG, two panels of ``--out report.png``, and that of ``calibrate``."""
    page, figures = drawn
    assert page.count("<svg") == 7
    assert len(panels(figures)) == 7 + 7 + 2 + 1


def test_every_axis_has_a_label_with_its_unit(drawn):
    units = ("tokens", "%", "training step", "problems", "score", "from 0 to 1")
    for axes in panels(drawn[1]):
        for label in (axes.get_xlabel(), axes.get_ylabel()):
            assert any(unit in label for unit in units), (axes.get_title(), label)


def test_no_accuracy_above_100_percent(drawn):
    shown = [axes for axes in panels(drawn[1]) if "accuracy" in axes.get_ylabel()]
    assert len(shown) == 9
    for axes in shown:
        low, high = axes.get_ylim()
        assert max(tick for tick in axes.get_yticks() if low <= tick <= high) <= 100


def of_legend(axes):
    """``{label: (colour, marker, dash)}`` of lines and points, as they were drawn."""
    found = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
        if isinstance(line, Line2D):
            found[label] = (to_hex(line.get_color()), line.get_marker(), line.get_linestyle())
    return found


def test_series_differ_in_more_than_their_colour(drawn):
    """Two series of a panel differ in marker or dash, or else every reader can tell their colours apart."""
    most = 0
    for axes in panels(drawn[1]):
        looks = of_legend(axes)
        most = max(most, len(looks))
        for (first, a), (second, b) in itertools.combinations(looks.items(), 2):
            told_apart = a[0] != b[0] and not alike([a[0], b[0]])
            assert a[1:] != b[1:] or told_apart, (axes.get_title(), first, second)
    assert most >= RESULTS


def test_a_label_has_one_look_on_the_whole_page(drawn):
    looks = {}
    for axes in panels(drawn[1]):
        for label, (colour, marker, _) in of_legend(axes).items():
            if "token_budget" in label:
                looks.setdefault(label.partition(":")[0], set()).add((colour, marker))
    assert len(looks) == RESULTS
    assert all(len(of_label) == 1 for of_label in looks.values())


def colours_of_page(page):
    """``{scheme: {name: colour}}`` of the style sheet."""
    of_root = [dict(re.findall(r"--(\w+): (#\w{6})", text)) for text in re.findall(r":root \{(.*?)\}", page)]
    return dict(zip(("light", "dark"), of_root, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_page_are_told_apart_with_any_colour_vision(drawn, scheme):
    """Colours of lines, markers and texts, and the background of the pictures. Light grids do not count."""
    names = colours_of_page(drawn[0])[scheme]
    pictures = re.findall(r"<svg.*?</svg>", drawn[0], re.DOTALL)
    for picture in pictures:
        styles = [style for style in re.findall(r'style="([^"]*)"', picture) if "opacity" not in style]
        found = {colour for style in styles for colour in re.findall(r"(?:stroke|fill): ?([^;]+)", style)} - {"none"}
        named = {"currentColor": names["ink"], "var(--before)": names["before"]}
        assert alike([names["panel"], *(named.get(colour, colour) for colour in found)]) == []
    assert {"#0072b2", "var(--before)"} <= found  # of the last picture, so that an empty list is no success


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_the_page_has_contrast(drawn, scheme):
    names = colours_of_page(drawn[0])[scheme]
    for ink, back in itertools.product(("ink", "soft"), ("back", "panel")):
        assert contrast(names[ink], names[back]) >= 4.5


def texts(figure):
    """The texts that are drawn, with their boxes in pixels."""
    found, draw = [], Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, *given: (found.append(text), draw(text, *given)))
        figure.canvas.draw()
    return [
        (text.get_text(), text.get_window_extent()) for text in found if text.get_visible() and text.get_text().strip()
    ]


def test_no_text_overlaps_another_or_leaves_the_picture(drawn):
    for figure, shown in drawn[1].items():
        assert len(shown) > 1
        for (first, a), (second, b) in itertools.combinations(shown, 2):
            apart = min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1
            assert apart, (first, second)
        for text, box in shown:
            assert figure.bbox.x0 - 1 < box.x0 < box.x1 < figure.bbox.x1 + 1, text
            assert figure.bbox.y0 - 1 < box.y0 < box.y1 < figure.bbox.y1 + 1, text


def test_no_legend_covers_a_point(drawn):
    for figure in drawn[1]:
        boxes = [legend.get_window_extent() for legend in figure.findobj(Legend)]
        assert len(boxes) in (1, 2)
        for axes in figure.axes:
            lines = [line for line in axes.lines if line.get_transform() == axes.transData]
            points = axes.transData.transform([point for line in lines for point in line.get_xydata()])
            assert not any(box.count_contains(points) for box in boxes), axes.get_title()


def test_the_measures_find_faults():
    """Red and green of one lightness, grey text, and two texts in one place."""
    assert [vision for *_, vision in alike(["#c03030", "#6b7a00"])] == ["deuteranopia"]
    assert distance("#000000", "#ffffff", "full") == pytest.approx(100, abs=0.1)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.01)  # WCAG's example of a grey that just fails
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.5, "two")
    with pytest.raises(AssertionError):
        test_no_text_overlaps_another_or_leaves_the_picture((None, {figure: texts(figure)}))


@pytest.mark.skipif(BROWSER is None, reason=f"needs a browser: one of {', '.join(NAMES)} in PATH")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_sees_many_results(drawn, tmp_path, scheme):
    for view in look_at(drawn[0], tmp_path, scheme):
        assert view["texts"] > 400
        assert (view["overflow"], view["outside"], view["overlaps"], view["faint"]) == (0, [], [], [])
