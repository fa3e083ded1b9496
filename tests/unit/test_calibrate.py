"""Calibration: the fit against hand-solved and exhaustively solved problems, the readers, the difficulty, the refusals."""

import itertools
import json
import re
import sys

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.evaluation.calibrate import (
    DEFAULT_GRID,
    SMOOTHING,
    CorrectAnswers,
    bootstrap,
    correct_answers,
    fit_budget,
    read_rollouts,
    settings_of,
    shortest,
    trade_off,
)
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.shaping.laser import LaserSettings
from verl_efficiency.methods.shaping.laser_d import LaserDSettings
from verl_efficiency.methods.shaping.laser_de import LaserDeSettings
from verl_efficiency.methods.shaping.leash import LeashSettings
from verl_efficiency.methods.shaping.toggle import ToggleSettings
from verl_efficiency.methods.shaping.token_budget import TokenBudgetSettings
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.checks.task import CHARACTERS
from verl_efficiency.testbed.tokenizer import build_tokenizer

EXACT = 2e-3  # the fit promises 0.001 tokens


def loss(fit, lengths, difficulty, quantile):
    rest = lengths - fit[0] - (fit[1] - fit[0]) * difficulty
    return np.maximum(quantile * rest, (quantile - 1) * rest).mean()


def exhaustive_loss(lengths, difficulty, quantile):
    """The least loss: some optimal line goes through two points, or through one (or none) along a constraint."""
    points = list(zip(difficulty, lengths, strict=True))
    lines = [(1.0, 1.0)]
    lines += [(length, length) for _, length in points]
    lines += [(1.0, 1.0 + (length - 1) / d) for d, length in points if d > 0]
    for (d1, l1), (d2, l2) in itertools.combinations(points, 2):
        if d1 != d2:
            slope = (l2 - l1) / (d2 - d1)
            lines.append((l1 - slope * d1, l1 + slope * (1 - d1)))
    return min(loss(line, lengths, difficulty, quantile) for line in lines if 1 - 1e-9 <= line[0] <= line[1] + 1e-9)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def evaluated(key, acc, tokens, **more):
    return {"key": key, "acc": acc, "tokens": tokens} | more


def answers_of(lengths, difficulty, problems):
    return CorrectAnswers(
        np.array(lengths),
        np.array(difficulty),
        np.array(problems),
        np.arange(len(lengths)),
        "data",
        float(np.mean(difficulty)),
        (1, 1),
        len(lengths),
    )


def run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


# the fit


def test_medians_at_both_ends_are_the_fit():
    lengths, difficulty = np.array([8.0, 10, 900, 20, 50, 60]), np.array([0.0, 0, 0, 1, 1, 1])
    assert fit_budget(lengths, difficulty, 0.5) == pytest.approx((10, 50), abs=EXACT)


def test_a_line_is_extended_to_both_ends_of_the_scale():
    """All points but one outlier lie on 20 + 80 d, and the line through them has no loss but the outlier's."""
    difficulty = np.array([0.25, 0.5, 0.75, 0.25, 0.75])
    lengths = np.array([40.0, 60, 80, 40, 4000])
    assert fit_budget(lengths, difficulty, 0.5) == pytest.approx((20, 100), abs=EXACT)


def test_lengths_that_fall_with_difficulty_give_a_flat_budget():
    fit = fit_budget(np.array([100.0, 80, 60, 40, 20]), np.linspace(0, 1, 5), 0.5)
    assert fit == (60, 60)


def test_b_min_stays_a_budget():
    """The free line would be −98 + 200 d; through (0, 1) the best one still meets the point at d = 1."""
    fit = fit_budget(np.array([2.0, 102.0]), np.array([0.5, 1.0]), 0.5)
    assert fit[0] == 1
    assert loss(fit, np.array([2.0, 102.0]), np.array([0.5, 1.0]), 0.5) == pytest.approx(49.5 / 4, abs=EXACT)


def test_one_difficulty_gives_a_flat_budget():
    assert fit_budget(np.array([5.0, 7, 9]), np.full(3, 0.3), 0.5) == (7, 7)


@settings(max_examples=150, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 300)), min_size=1, max_size=12),
    quantile=st.sampled_from([0.1, 0.33, 0.5, 0.7, 0.9]),
)
def test_no_line_is_better(points, quantile):
    difficulty, lengths = np.array([d / 8 for d, _ in points]), np.array([float(length) for _, length in points])
    fit = fit_budget(lengths, difficulty, quantile)
    assert 1 <= fit[0] <= fit[1]
    assert loss(fit, lengths, difficulty, quantile) <= exhaustive_loss(lengths, difficulty, quantile) + EXACT


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_the_quantile_line_of_synthetic_lengths_is_recovered(quantile):
    """L = (200 + 1800 d)(½ + u), u uniform in [0, 1]: its quantile q is (200 + 1800 d)(½ + q)."""
    rng = np.random.default_rng(7)
    difficulty = rng.random(40_000)
    lengths = (200 + 1800 * difficulty) * (0.5 + rng.random(40_000))
    b_min, b_max = fit_budget(lengths, difficulty, quantile)
    assert b_min == pytest.approx(200 * (0.5 + quantile), rel=0.05)
    assert b_max == pytest.approx(2000 * (0.5 + quantile), rel=0.02)
    within = np.mean(lengths <= b_min + (b_max - b_min) * difficulty)
    assert within == pytest.approx(quantile, abs=0.001)


def test_the_interval_takes_a_problem_with_all_its_answers():
    """50 problems at either end, one answer each or eight equal ones: that says no more."""
    rng = np.random.default_rng(3)
    difficulty, lengths = np.repeat([0.0, 1.0], 50), rng.integers(50, 150, 100).astype(float)
    lengths[50:] += 500
    once = bootstrap(answers_of(lengths, difficulty, np.arange(100)), 0.5)
    eight = bootstrap(answers_of(np.repeat(lengths, 8), np.repeat(difficulty, 8), np.repeat(np.arange(100), 8)), 0.5)
    assert once.shape == (200, 2)
    assert np.allclose(eight, once, atol=1)
    assert once.std(axis=0).min() > 3
    assert np.array_equal(once, bootstrap(answers_of(lengths, difficulty, np.arange(100)), 0.5))


@pytest.mark.parametrize("runs", [200, pytest.param(1000, marks=pytest.mark.e2e)])
def test_the_interval_covers_the_truth_as_often_as_it_says(monkeypatch, runs):
    """Calibrations on 60 problems, each with the 95 % interval of 200 resamples, to within a token.

    L = (100 + 400 d)(½ + u), u uniform in [0, 1], has the median 100 + 400 d. The quantile 0.025 of 200 fits lies between the
    5th and the 6th smallest. So 6 fits on each side of the truth settle that the interval covers it, whatever comes after.
    """
    monkeypatch.setattr("verl_efficiency.evaluation.calibrate.TOLERANCE", 1.0)
    truth, covered = np.array([100.0, 500.0]), np.zeros(2)
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        difficulty = rng.random(60)
        answers = answers_of((100 + 400 * difficulty) * (0.5 + rng.random(60)), difficulty, np.arange(60))
        fits = np.empty((0, 2))
        while len(fits) < 200:
            fits = np.concatenate([fits, bootstrap(answers, 0.5, 10, seed=len(fits))])
            safe = np.minimum((fits <= truth).sum(0), (fits >= truth).sum(0)) >= 6
            if safe.all():
                break
        low, high = np.quantile(fits, [0.025, 0.975], 0)
        covered += safe | ((low <= truth) & (truth <= high))
    assert ((covered >= 0.93 * runs) & (covered <= 0.97 * runs)).all(), covered


# difficulty


def test_group_difficulty_is_that_of_token_budget(tmp_path):
    rows = [evaluated(str(p), float(i < p), 10 + p) for p in range(5) for i in range(4)]
    answers = correct_answers(read_rollouts(write(tmp_path / "rows.jsonl", rows), 0.5, None, None), "group")
    rollouts = Rollouts.build(torch.tensor([r["acc"] for r in rows]), torch.ones(20), [r["key"] for r in rows])
    own_G = 1 - rollouts.solve_rate(smoothing=TokenBudgetSettings().smoothing)
    assert TokenBudgetSettings().smoothing == SMOOTHING
    assert answers.difficulty_C.tolist() == pytest.approx(own_G[rollouts.groups_B[rollouts.correct_B]].tolist())
    assert answers.group_sizes == (4, 4)


def test_auto_takes_the_difficulty_of_the_rows_only_if_all_have_one(tmp_path):
    rows = [evaluated("a", 1.0, 10, difficulty=0.2), evaluated("b", 1.0, 20, difficulty=1)]
    stored = read_rollouts(write(tmp_path / "rows.jsonl", rows), 0.5, None, None)
    assert correct_answers(stored, "auto").difficulty_C.tolist() == [0.2, 1.0]
    rows[1]["difficulty"] = None
    stored = read_rollouts(write(tmp_path / "rows.jsonl", rows), 0.5, None, None)
    assert correct_answers(stored, "auto").source == "group"
    with pytest.raises(SettingsError, match=r"in \[0, 1\] in every row.* got None .*--difficulty group"):
        correct_answers(stored, "data")


@pytest.mark.parametrize("bad", [4, -0.1, float("nan"), "hard"])
def test_a_difficulty_that_token_budget_would_refuse_is_refused(tmp_path, bad):
    stored = read_rollouts(write(tmp_path / "r.jsonl", [evaluated("a", 1.0, 10, difficulty=bad)]), 0.5, None, None)
    with pytest.raises(SettingsError, match=r"--difficulty: must be a number in \[0, 1\]"):
        correct_answers(stored, "auto")


def test_equal_problems_are_one_in_the_interval_and_two_groups(tmp_path):
    rows = [evaluated("a", 1.0, 10, prompt=0), evaluated("a", 0.0, 10, prompt=0), evaluated("a", 1.0, 12, prompt=1)]
    answers = correct_answers(read_rollouts(write(tmp_path / "rows.jsonl", rows), 0.5, None, None), "group")
    assert answers.problems_C.tolist() == [0, 0]
    assert answers.difficulty_C.tolist() == [0.5, 0.25]  # 1 − 1.5 / 3 and 1 − 1.5 / 2


# rollout dumps


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(CHARACTERS).save_pretrained(path)
    return str(path)


def test_a_dump_is_counted_in_tokens_and_grouped_by_uid(tmp_path, tokenizer):
    rows = [
        {"input": "q", "output": r"1+1=2\boxed{2}", "score": 1.0, "uid": "u-1_0_0"},  # 5 + 3 tokens, then EOS
        {"input": "q", "output": "1+1=2222", "score": 1.0, "uid": "u-1_1_0"},  # 8 tokens and EOS
        {"input": "q", "output": "1+1=22222", "score": 1.0, "uid": "u-1_2_0"},  # 9 tokens: cut off at the limit
        {"input": "q", "output": "", "score": 0.0, "uid": "u-1_3_0"},
        {"input": "q", "output": "", "score": 1.0, "uid": "u-2_0_0"},  # EOS alone
    ]
    path = write(tmp_path / "1.jsonl", rows)
    answers = correct_answers(read_rollouts(path, 0.5, tokenizer, 9), "auto")
    assert answers.lengths_C.tolist() == [9, 9, 9, 1]
    assert answers.difficulty_C.tolist() == pytest.approx([0.3, 0.3, 0.3, 0.25])  # 1 − 3.5 / 5 and 1 − 1.5 / 2
    unlimited = correct_answers(read_rollouts(path, 0.5, tokenizer, None), "auto")
    assert unlimited.lengths_C.tolist() == [9, 9, 10, 1]


@pytest.mark.parametrize("uid", [{}, {"uid": None}])
def test_a_dump_without_uid_is_grouped_by_prompt_and_step(tmp_path, tokenizer, uid):
    rows = [{"input": q, "output": "1", "score": s} | uid for q, s in (("q", 1.0), ("r", 1.0), ("q", 0.0))]
    stored = [
        rollout
        for step in "12"
        for rollout in read_rollouts(write(tmp_path / f"{step}.jsonl", rows), 0.5, tokenizer, None)
    ]
    answers = correct_answers(stored, "group")
    assert answers.difficulty_C.tolist() == [0.5, 0.25, 0.5, 0.25]
    assert answers.problems_C.tolist() == [0, 1, 0, 1]


def test_a_dump_needs_a_tokenizer_that_exists(tmp_path):
    path = write(tmp_path / "1.jsonl", [{"input": "q", "output": "1", "score": 1.0}])
    with pytest.raises(SettingsError, match=r"--tokenizer: .*1\.jsonl"):
        read_rollouts(path, 0.5, None, None)
    with pytest.raises(SettingsError, match=r"tokenizer: cannot load .*nowhere"):
        read_rollouts(path, 0.5, str(tmp_path / "nowhere"), None)


# the command


def line_of_rows():
    """Correct answers of 10 and 50 tokens at difficulty 0 and 1, and wrong ones that would spoil the fit."""
    correct = [evaluated(f"{d}{i}", 1.0, 10 + 40 * d + i, difficulty=d) for d in (0, 1) for i in (-1, 0, 1)]
    return correct + [evaluated(f"wrong{i}", 0.0, 9000, difficulty=0) for i in range(20)]


def test_the_command_prints_overrides_and_draws(tmp_path):
    out = tmp_path / "new" / "picture.png"
    result = run(write(tmp_path / "rows.jsonl", line_of_rows()), "--out", out)
    assert result.exit_code == 0, result.output
    assert "26, of which 6 are correct, on 6 problems" in result.output
    settings = ("difficulty=data", "b_min=10.0", "b_max=50.0")
    overrides = " ".join(f"+algorithm.efficiency.{setting}" for setting in settings)
    assert any(line.endswith(f": {overrides}") for line in result.output.splitlines())
    assert out.read_bytes().startswith(b"\x89PNG")


def test_threshold_and_source_are_among_the_overrides(tmp_path):
    rows = [evaluated(str(p), 0.9 if i <= p else 0.6, 10 * (6 - p)) for p in range(4) for i in range(4)]
    folder = tmp_path / "steps"
    folder.mkdir()
    write(folder / "1.jsonl", rows)
    result = run(folder, "--threshold", 0.8, "--out", tmp_path / "p.png")
    assert "16, of which 10 are correct" in result.output
    assert "+algorithm.efficiency.difficulty=group " in result.output
    assert "+algorithm.efficiency.correct_threshold=0.8" in result.output


def test_the_same_file_twice_counts_once(tmp_path):
    path = write(tmp_path / "rows.jsonl", line_of_rows())
    assert "26, of which 6 are correct" in run(path, tmp_path, "--out", tmp_path / "p.png").output


def test_scores_of_minus_one_give_the_same_fit_and_are_pasted(tmp_path):
    """Only the scale of the scores differs, so the fit does not. The method then needs to know the scale."""
    scores = [(key, i > key, 20 + 9 * key + i) for key in range(4) for i in range(6)]
    usual = write(tmp_path / "usual.jsonl", [evaluated(str(key), float(right), n) for key, right, n in scores])
    signed = write(tmp_path / "signed.jsonl", [evaluated(str(key), 2.0 * right - 1, n) for key, right, n in scores])
    plain = run(usual, "--out", tmp_path / "p.png").output
    words = ["--score-wrong", "-1", "--out", tmp_path / "p.png"]
    given = run(signed, *words).output
    assert "score_wrong" not in plain
    assert "+algorithm.efficiency.score_wrong=-1" in given
    settings = [yaml.safe_load(block) for block in re.findall(r"^algorithm:\n(?:  .*\n)+", given, re.MULTILINE)]
    before = [yaml.safe_load(block) for block in re.findall(r"^algorithm:\n(?:  .*\n)+", plain, re.MULTILINE)]
    assert len(settings) == len(before) == 6
    for one, other in zip(settings, before, strict=True):
        assert one["algorithm"]["efficiency"].pop("score_wrong") == -1
        assert one == other


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([evaluated("a", 0.0, 10)], [], "none of 1 rollouts is correct"),
        ([], [], "rows.jsonl has no rows"),
        ([evaluated("a", 1.0, 30), evaluated("b", 1.0, 50)], [], r"b_min=40\.0 \+algorithm\.efficiency\.b_max=40\.0"),
        ([{"key": "a", "acc": 1.0, "token": 3}], [], "rows.jsonl has neither tokens nor a response.* key, acc, token$"),
        ([{"key": "a", "tokens": 3}], [], "correctness.*evaluate --rows.* key, tokens$"),
        ([evaluated("a", 1.0, 3), {"key": "b"}], [], "line 2: acc .*missing"),
        ([{"input": "q", "outputs": "x", "score": 1.0}], [], "neither tokens nor a response.* input, outputs, score"),
        ([evaluated("a", 1.1, 3)], [], r"line 1: acc .*\[0, 1\].* got 1.1"),
        ([evaluated("a", -1.0, 3)], [], "got -1.0. .*--score-wrong -1$"),
        ([evaluated("a", -1.1, 3)], ["--score-wrong", "-1"], r"line 1: acc .*\[-1, 1\].* got -1.1"),
        ([], ["--score-wrong", "0.5"], "--threshold: must be above 0.5"),
        ([], ["--score-wrong", "1"], "--score-wrong: must be below --score-correct, 1"),
        ([evaluated("a", float("nan"), 3)], [], "line 1: acc .* got nan"),
        ([evaluated("a", None, 3)], [], "'acc' is empty"),
        ([evaluated("a", 1.0, "3")], [], "line 1: tokens .* got '3'"),
        ([[1]], [], "an object with columns"),
        ([], ["--difficulty", "grup"], "unknown source 'grup'; did you mean 'group'"),
        ([], ["--quantile", "1"], "--quantile: must be between 0 and 1"),
        ([], ["--threshold", "0"], "--threshold: must be above 0"),
        ([], ["--max-response-length", "0"], "--max-response-length"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(tmp_path, rows, options, message):
    result = run(write(tmp_path / "rows.jsonl", rows), *options, "--out", tmp_path / "p.png")
    assert isinstance(result.exception, SettingsError)
    with pytest.raises(SettingsError, match=message):
        raise result.exception
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "p.png").exists()


def test_files_that_are_no_rollouts_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jsonl").write_bytes(b"PAR1\xff\xfe\n")
    for path, message in (
        ("empty", "folder {path}"),
        ("none.jsonl", "{path}"),
        ("text.jsonl", "line 1 is not UTF-8"),
    ):
        result = run(tmp_path / path)
        assert isinstance(result.exception, SettingsError)
        assert message.format(path=tmp_path / path) in str(result.exception)


def test_without_matplotlib_the_mend_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    result = run(write(tmp_path / "rows.jsonl", line_of_rows()), "--out", tmp_path / "p.png")
    assert "pip install 'verl-efficiency[evaluation]'" in str(result.exception)


# what a budget costs and saves


def grouped():
    """Two groups, difficulty 0 and 1, with correct answers of 10, 40 and of 30, 60 tokens."""
    return CorrectAnswers(
        lengths_C=np.array([40.0, 10.0, 30.0, 60.0]),
        difficulty_C=np.array([0.0, 0.0, 1.0, 1.0]),
        problems_C=np.array([0, 0, 1, 1]),
        groups_C=np.array([3, 3, 5, 5]),
        source="data",
        mean_difficulty=0.5,
        group_sizes=(8, 8),
        rollouts=16,
    )


def test_the_shortest_correct_answer_of_each_group_is_fitted():
    least = shortest(grouped())
    assert least.lengths_C.tolist() == [10.0, 30.0]
    assert least.difficulty_C.tolist() == [0.0, 1.0]
    assert fit_budget(least.lengths_C, least.difficulty_C, 0.5) == pytest.approx((10.0, 30.0), abs=EXACT)


@pytest.mark.parametrize(
    ("budget", "over", "lost", "saved"),
    [
        ((10, 30), 2 / 4, 0.0, (30 + 30) / 140),  # each group keeps its shortest
        ((10, 20), 3 / 4, 1 / 2, (30 + 10 + 40) / 140),  # the hard group has none within 20
        ((60, 60), 0.0, 0.0, 0.0),
        ((5, 5), 1.0, 1.0, (35 + 5 + 25 + 55) / 140),
    ],
)
def test_what_a_budget_costs_and_saves_by_hand(budget, over, lost, saved):
    made = trade_off(grouped(), *budget)
    assert (made.over, made.lost, made.saved) == pytest.approx((over, lost, saved), abs=1e-3)


def test_a_verbose_habit_is_not_the_budget(tmp_path):
    """Groups of 8 that mostly waste: the habit is 50 at every difficulty, the need is 10 and 30."""
    rows = []
    for number in range(40):
        hard = number % 2
        need = 10 + 20 * hard
        rows += [evaluated(f"p{number}", 1.0, need if i == 0 else 50, difficulty=hard) for i in range(8)]
    path = write(tmp_path / "rows.jsonl", rows)
    assert "b_min=10.0 +algorithm.efficiency.b_max=30.0" in run(path, "--out", tmp_path / "p.png").output
    assert "b_min=50.0 +algorithm.efficiency.b_max=50.0" in run(path, "--of", "all", "--out", tmp_path / "p.png").output


SETTINGS = {
    "token_budget": TokenBudgetSettings,
    "laser": LaserSettings,
    "laser_d": LaserDSettings,
    "laser_de": LaserDeSettings,
    "leash": LeashSettings,
    "toggle": ToggleSettings,
}


def pasted(output):
    """The settings of each method, built from the printed YAML."""
    blocks = output.split("for one of these methods:\n")[1].split("picture:")[0].strip().split("\n\n")
    algorithms = [yaml.safe_load(block)["algorithm"] for block in blocks]
    assert [algorithm["adv_estimator"] for algorithm in algorithms] == list(SETTINGS)
    return {a["adv_estimator"]: SETTINGS[a["adv_estimator"]](**a["efficiency"]) for a in algorithms}


def test_the_yaml_it_prints_is_accepted_by_each_method(tmp_path):
    """Correct answers of 9, 10, 11 tokens at difficulty 0 and 49, 50, 51 at 1, one each, and 20 wrong ones at 0.

    The budget is 10 + 40 d. One target for all is the median of the six, (11 + 49) / 2. Over the 26 rollouts the mean
    difficulty is 3 / 26 and the mean budget 10 + 120 / 26 = 14.6. Within their budget are 9, 10, 49 and 50, 4 of 6. The
    easiest problem has a budget of 10, so the steps of laser_d's grid are 1 token: 512 for a limit of 512.
    """
    output = run(
        write(tmp_path / "rows.jsonl", line_of_rows()), "--max-response-length", 512, "--out", tmp_path / "p.png"
    ).output
    built = pasted(output)
    assert (built["token_budget"].b_min, built["token_budget"].b_max) == (10.0, 50.0)
    assert built["token_budget"].difficulty == "data"
    assert built["laser"].target_length == 30.0
    assert built["leash"].target_length == 14.6
    assert built["toggle"].percentile == 66.7
    for name in ("laser_d", "laser_de"):
        assert (built[name].min_target, built[name].grid_points) == (10, 512)
    assert all(one.correct_threshold == 0.5 for one in built.values())


def test_the_yaml_without_a_limit_and_with_a_threshold(tmp_path):
    """Without the limit, the grid of laser_d stays as it is, and the output says what would set it."""
    path = write(tmp_path / "rows.jsonl", line_of_rows())
    output = run(path, "--threshold", 0.8, "--quantile", 0.9, "--out", tmp_path / "p.png").output
    built = pasted(output)
    assert output.count("give --max-response-length for grid_points") == 2
    assert built["laser_d"].grid_points == LaserDSettings().grid_points == DEFAULT_GRID
    assert all(one.correct_threshold == 0.8 for one in built.values())
    # the longest at both ends: nothing is over 11 + 40 d, and the quantile 0.9 of 9, 10, 11, 49, 50, 51 is 50.5
    assert built["laser_d"].min_target == 11
    assert built["toggle"].percentile == 100.0
    assert built["laser"].target_length == 50.5


@pytest.mark.parametrize(("limit", "points"), [(100, 34), (20, 16), (8, 8)])
def test_the_grid_of_laser_d_has_ten_steps_up_to_its_lowest_target(limit, points):
    """``laser_d`` may target 30 tokens: steps of 3 for a limit of 100; never fewer than 16 steps, never steps below 1 token."""
    answers = grouped()
    _, settings = settings_of(answers, answers, (30.0, 60.0), 0.5, limit)["laser_d"]
    assert settings == {"min_target": 30, "grid_points": points}


def test_a_wrong_answer_needs_a_difficulty_too(tmp_path):
    """token_budget reads the column of every row."""
    rows = [evaluated("a", 1.0, 10, difficulty=0), evaluated("b", 0.0, 10, difficulty=4)]
    with pytest.raises(SettingsError, match=r"in every row.* got 4 "):
        correct_answers(read_rollouts(write(tmp_path / "r.jsonl", rows), 0.5, None, None), "data")
