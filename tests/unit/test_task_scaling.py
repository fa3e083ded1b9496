"""``evaluate task-scaling``: the law by hand, packs asked and graded for every N, the command with a made-up engine."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.evaluation.engines import Answer, Engine, Sampling
from verl_efficiency.evaluation.plot import draw, save, scaling
from verl_efficiency.evaluation.results import load_scaling
from verl_efficiency.evaluation.tables import scaling_table
from verl_efficiency.evaluation.task_scaling import fit_law, task_scaling
from verl_efficiency.settings import SettingsError


@pytest.fixture
def data(tmp_path):
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"name {number}"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(number)},
            "extra_info": {"index": number, "split": "test"},
        }
        for number in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def forgetful(requests, sampling):
    """Knows every answer but the last one of a pack; 12 tokens a prompt and 6 for each problem."""
    answers = []
    for request in requests:
        text = request.messages[-1]["content"]
        numbers = [line.removeprefix("name ") for line in text.splitlines() if line.startswith("name ")]
        if "### Problem" in text:
            said = " ".join(rf"Answer{i}::\boxed{{{n}}}" for i, n in enumerate(numbers[:-1], start=1))
        else:
            said = rf"\boxed{{{numbers[0]}}}"
        answers.append(Answer(said, 12 + 6 * len(numbers), truncated=len(numbers) == 4))
    return answers


def measured(data, sizes, limit=None):
    engine = Engine("toy", {}, forgetful)
    return task_scaling(engine, data, sizes, {"grouping": "random"}, sampling=Sampling(), limit=limit, label="toy")


def test_every_size_is_asked_and_graded(data):
    points = {point["problems"]: point for point in measured(data, [1, 2, 4])["points"]}
    assert [points[n]["accuracy"] for n in (1, 2, 4)] == [1.0, 0.5, 0.75]
    assert [points[n]["tokens_per_problem"] for n in (1, 2, 4)] == [18.0, 12.0, 9.0]
    assert [points[n]["finished"] for n in (1, 2, 4)] == [1.0, 1.0, 0.0]
    assert points[2]["by_slot"] == [1.0, 0.0]
    assert points[4]["by_slot"] == [1.0, 1.0, 1.0, 0.0]


def test_the_law_of_exact_points():
    points = [{"problems": n, "tokens_per_problem": 100 * n**-0.5, "accuracy": 0.9 - 0.02 * n} for n in (1, 2, 3, 6)]
    law = fit_law(points)
    assert (law["a"], law["b"], law["points_per_problem"]) == pytest.approx((100, 0.5, -2.0))
    assert fit_law(points[:1]) is None


def test_a_smaller_pack_has_fewer_places(data):
    engine = Engine("toy", {}, forgetful)
    settings = {"grouping": "random", "remainder": "smaller"}
    points = task_scaling(engine, data, [1, 8], settings, sampling=Sampling(), label="toy")["points"]
    assert points[1]["by_slot"] == [1.0] * 3 + [0.5] + [1.0] * 3 + [
        0.0
    ]  # packs of 8 and 4; the last of each is not known


def test_a_response_may_hold_any_line_break(data):
    def broken(requests, sampling):
        return [Answer("\u2028\x85 \\boxed{0}", 9, truncated=False) for _ in requests]

    engine = Engine("toy", {}, broken)
    points = task_scaling(engine, data, [1], {"grouping": "random"}, sampling=Sampling(), label="toy")["points"]
    assert points[0]["accuracy"] == pytest.approx(1 / 12)


def test_table_and_picture(data, tmp_path):
    result = measured(data, [1, 2, 4])
    assert len(list(scaling_table(result).renderables[0].rows)) == 3
    both = [result, result | {"label": "other"}]
    save(draw(lambda axes: scaling(axes, both), lambda axes: scaling(axes, both, "accuracy")), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_more_problems_than_there_are(data):
    with pytest.raises(SettingsError, match="at most 12"):
        measured(data, [1, 13])
    with pytest.raises(SettingsError, match="--limit 2"):
        measured(data, [1, 6], limit=2)
    with pytest.raises(SettingsError, match="--limit: must be at least 1, got 0"):
        measured(data, None, limit=0)


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4]), (None, [1, 2, 3, 4, 6])])
def test_the_default_sizes_are_those_that_fit(data, limit, sizes):
    assert [point["problems"] for point in measured(data, None, limit)["points"]] == sizes


def test_raw_problems_are_refused_before_a_model_is_loaded(tmp_path):
    file = tmp_path / "raw.jsonl"
    file.write_text('{"question": "1+1?", "answer": "2"}\n')
    outcome = CliRunner().invoke(app, ["evaluate", "task-scaling", "no/model", str(file)])
    assert isinstance(outcome.exception, SettingsError)
    assert f"pack {file} NEW.parquet --problems 1" in str(outcome.exception)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"label": 1}'])
def test_a_baseline_of_another_kind_is_one_line(tmp_path, text):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(SettingsError, match=r"b\.json"):
        load_scaling(tmp_path / "b.json")


def test_the_command(data, tmp_path, monkeypatch):
    from verl_efficiency.evaluation import generate

    monkeypatch.setattr(generate, "transformers_engine", lambda *_: Engine("toy", {"device": "none"}, forgetful))
    out = tmp_path / "out.json"
    words = ["evaluate", "task-scaling", "toy", data, "--problems", "2,1", "--out", out, "--png", tmp_path / "p.png"]
    outcome = CliRunner().invoke(app, [str(word) for word in words])
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    result = json.loads(out.read_text())
    assert [point["problems"] for point in result["points"]] == [1, 2]
    assert load_scaling(out) == result
    for wrong in (
        *(
            ["--problems", "0"],
            ["--problems", "1,x"],
            ["--set", "grouping=rnadom"],
            ["--set", "problems=2"],
            ["--set", "singles=0.3"],
        ),
        *(["--max-loss", "0.1"], ["--by", "characters"], ["--bands", "2"]),  # of --problems auto only
    ):
        outcome = CliRunner().invoke(app, [str(word) for word in [*words, *wrong]])
        assert isinstance(outcome.exception, SettingsError)


def sparing(requests, sampling):
    """As :func:`forgetful`, but with half of the tokens, and no answer to any pack."""
    answers = forgetful(requests, sampling)
    return [
        Answer("" if "### Problem" in request.messages[-1]["content"] else one.text, one.tokens // 2, truncated=False)
        for request, one in zip(requests, answers, strict=True)
    ]


def command(monkeypatch, answer, *words):
    from verl_efficiency.evaluation import generate

    asked = []

    def counted(requests, sampling):
        asked.extend(requests)
        return answer(requests, sampling)

    monkeypatch.setattr(generate, "transformers_engine", lambda *_: Engine("toy", {"device": "none"}, counted))
    outcome = CliRunner().invoke(app, ["evaluate", "task-scaling", "toy", *map(str, words)])
    return outcome, asked


def test_a_baseline_is_compared_at_every_n(data, tmp_path, monkeypatch):
    """N = 1: all right in both, 9 tokens for 18. N = 2: the half that was right is lost, and 12 tokens for 24.

    All prompts agree, so the intervals have no width.
    """
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    words = (data, "--problems", "1,2")
    assert command(monkeypatch, forgetful, *words, "--label", "old", "--out", before)[0].exit_code == 0
    outcome, _ = command(monkeypatch, sparing, *words, "--label", "new", "--out", after, "--baseline", before)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    against = json.loads(after.read_text())["against"]
    assert against["label"] == "old"
    for point, change in zip(against["points"], (0.0, -0.5), strict=True):
        assert (point["accuracy_change"], point["tokens_ratio"]) == (change, 0.5)
        assert (point["accuracy_change_se"], point["tokens_ratio_se"]) == (0.0, 0.0)
    for printed in (outcome.output, CliRunner().invoke(app, ["report", str(after)]).output):
        assert "new against old" in printed
        assert "-50.0 (-50.0 to -50.0)" in printed
        assert printed.count("0.500 (0.500 to 0.500)") == 2


def test_the_interval_of_a_change_is_paired(data, monkeypatch):
    """12 single problems of 18 tokens; after it two of them are wrong and six take 9 tokens.

    Change -2/12, residuals 2/12 (10 times) and -10/12 (twice), of squares 240/144: error sqrt(12/11 · 240/144) / 12 = 0.1124.
    Ratio 162/216 = 0.75, residuals ±4.5 tokens, of squares 243: error sqrt(12/11 · 243) / 216 = 0.0754.
    """

    def partly(requests, sampling):
        answers = forgetful(requests, sampling)
        return [
            Answer("" if i < 2 else one.text, 9 if i < 6 else one.tokens, truncated=False)
            for i, one in enumerate(answers)
        ]

    before = measured(data, [1])
    engine = Engine("toy", {}, partly)
    after = task_scaling(engine, data, [1], {"grouping": "random"}, sampling=Sampling(), label="new", baseline=before)
    (point,) = after["against"]["points"]
    assert (point["accuracy_change"], point["accuracy_change_se"]) == pytest.approx((-2 / 12, 0.11237), abs=1e-5)
    assert (point["tokens_ratio"], point["tokens_ratio_se"]) == pytest.approx((0.75, 0.07538), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--problems", "1,3"], "has other N than this run (1,3); give --problems 1,2"),
        (["--samples", "2"], "with --samples 1, this run has 2"),
        (["--max-new-tokens", "9"], "with --max-new-tokens 4096, this run has 9"),
        (["--limit", "8"], "other problems or packs at N = 1; give both the same data, --limit"),
        (["--seed", "5"], "other problems or packs at N = 2"),
        (["--problems", "auto"], "left out with --problems auto"),
    ],
)
def test_a_baseline_that_asked_something_else_is_refused_before_anything_is_asked(
    data, tmp_path, monkeypatch, options, said
):
    before, words = tmp_path / "before.json", (data, "--problems", "1,2", "--out", tmp_path / "o.json")
    assert command(monkeypatch, forgetful, *words[:-1], before)[0].exit_code == 0
    outcome, asked = command(monkeypatch, forgetful, *words, "--baseline", before, *options)
    assert isinstance(outcome.exception, SettingsError)
    assert said in str(outcome.exception)
    assert not asked


def test_a_baseline_of_an_earlier_version_is_refused(data):
    before = measured(data, [1])
    del before["points"][0]["packs"]
    with pytest.raises(SettingsError, match="does not say what it asked"):
        task_scaling(
            Engine("toy", {}, forgetful),
            data,
            [1],
            {"grouping": "random"},
            sampling=Sampling(),
            label="n",
            baseline=before,
        )
