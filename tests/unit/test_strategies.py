"""Test-time strategies: by hand on three samples, against a brute force over every order, and at the command line."""

import io
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.evaluation.generations import Generations
from verl_efficiency.evaluation.strategies import (
    DRAWS,
    Samples,
    by_cost,
    cap,
    draws,
    early_stop,
    majority,
    plain,
    replay,
    short,
    weighted,
)
from verl_efficiency.evaluation.tables import strategies_table
from verl_efficiency.settings import SettingsError

# answer, correct, tokens, weight
THREE = [("a", 1.0, 30.0, 0.9), ("b", 0.0, 10.0, 0.2), ("b", 0.0, 20.0, 0.3)]


def samples(rows) -> Samples:
    names = {None: -1} | {name: i for i, name in enumerate(dict.fromkeys(row[0] for row in rows if row[0]))}
    return Samples(
        np.array([names[row[0]] for row in rows]),
        *(np.array([row[i] for row in rows], dtype=float) for i in (1, 2, 3)),
    )


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (plain, (1.0, 30.0)),
        (cap(30), (1.0, 30.0)),
        (cap(29), (0.0, 29.0)),
        (short(1), (0.0, 30.0)),  # three ran for 10 tokens
        (short(2), (0.0, 10 + 20 + 20)),
        (short(3), (0.0, 60.0)),
        (majority, (0.0, 60.0)),
        (weighted, (1.0, 60.0)),  # 0.9 against 0.5
        (early_stop, (0.0, 60.0)),  # a, b, b: one draw before the end the vote is level
    ],
)
def test_three_samples_by_hand(strategy, expected):
    assert strategy(samples(THREE)) == pytest.approx(expected)


def test_early_stop_stops_when_the_lead_is_safe():
    rows = [
        ("a", 1.0, 5.0, 1.0),
        ("a", 1.0, 6.0, 1.0),
        ("b", 0.0, 7.0, 1.0),
        ("a", 1.0, 8.0, 1.0),
        ("c", 0.0, 9.0, 1.0),
    ]
    # after 4 of 5: three votes against one, and one to come
    assert early_stop(samples(rows)) == (1.0, 5.0 + 6 + 7 + 8)


def test_without_an_answer_nothing_is_correct():
    rows = [(None, 0.0, 5.0, 1.0), (None, 0.0, 6.0, 1.0)]
    for strategy in (short(1), majority, weighted, early_stop):
        assert strategy(samples(rows))[0] == 0.0


def test_a_tie_goes_to_the_answer_that_finished_first():
    assert majority(samples([("a", 1.0, 30.0, 1.0), ("b", 0.0, 10.0, 1.0)]))[0] == 0.0
    assert majority(samples([("a", 1.0, 9.0, 1.0), ("b", 0.0, 10.0, 1.0)]))[0] == 1.0


def brute(rows, name, m=0):
    """The same strategies, written again over plain lists."""
    finished = sorted(rows, key=lambda row: row[2])

    def vote(chosen):
        tally = Counter(row[0] for row in chosen if row[0])
        winners = [answer for answer in tally if tally[answer] == max(tally.values())]
        return next((row[1] for row in sorted(chosen, key=lambda row: row[2]) if row[0] in winners), 0.0)

    if name == "majority":
        return vote(rows), sum(row[2] for row in rows)
    if name == "short":
        stop = finished[m - 1][2]
        return vote(finished[:m]), sum(min(row[2], stop) for row in rows)
    for drawn in range(1, len(rows) + 1):  # early stop: no completion of the vote gives another winner
        seen = rows[:drawn]
        tally = Counter(row[0] for row in seen if row[0])
        left = len(rows) - drawn
        top = tally.most_common(1)[0][0] if tally else None
        if left == 0 or (top and all(tally[top] > tally[other] + left for other in {*tally, "new"} - {top})):
            return vote(seen), sum(row[2] for row in seen)
    raise AssertionError


def test_equal_to_a_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(300):
        k = int(rng.integers(1, 7))
        lengths = rng.permutation(100)[:k] + 1.0  # different, so that no tie hides in the order
        answers = [["a", "b", "c", None][i] for i in rng.integers(0, 4, k)]
        rows = [(a, float(a == "a"), length, 1.0) for a, length in zip(answers, lengths, strict=True)]
        assert majority(samples(rows)) == pytest.approx(brute(rows, "majority"))
        assert early_stop(samples(rows)) == pytest.approx(brute(rows, "early"))
        assert early_stop(samples(rows))[0] == majority(samples(rows))[0]
        for m in range(1, k + 1):
            assert short(m)(samples(rows)) == pytest.approx(brute(rows, "short", m))


def test_all_draws_where_they_are_few():
    found = [tuple(places) for places in draws(4, 2, np.random.default_rng(0))]
    assert sorted(found) == sorted(itertools.permutations(range(4), 2))
    many = [tuple(places) for places in draws(16, 8, np.random.default_rng(0))]
    assert len(many) == DRAWS
    assert all(len(set(places)) == 8 for places in many)


def two_problems() -> Generations:
    return Generations(
        label="x",
        problem_N=np.array([0, 0, 0, 1, 1, 1]),
        keys_P=(b"p", b"q"),
        correct_N=np.array([1.0, 1, 0, 1, 0, 0]),
        tokens_N=np.array([20, 30, 10, 5, 40, 50]),
        columns={},
        vote_N=np.array([0, 0, 1, 2, 3, 3]),
    )


def test_the_replay_is_the_mean_over_draws_and_problems():
    rows = {(row["strategy"], row["k"]): row for row in replay(two_problems(), [3], [20.0])}
    assert rows["plain", 1]["accuracy"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert rows["plain", 1]["tokens"] == pytest.approx((20 + 95 / 3) / 2)
    assert rows["cap 20", 1]["accuracy"] == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert rows["cap 20", 1]["tokens"] == pytest.approx((50 / 3 + 45 / 3) / 2)
    assert rows["first finish", 3]["accuracy"] == pytest.approx((0 + 1) / 2)
    assert rows["first finish", 3]["tokens"] == pytest.approx((30 + 15) / 2)
    assert rows["majority", 3]["accuracy"] == pytest.approx((1 + 0) / 2)
    assert rows["majority", 3]["tokens"] == pytest.approx((60 + 95) / 2)


def test_pareto_marks_what_nothing_cheaper_matches():
    rows = replay(two_problems(), [3], [])
    for row in rows:
        cheaper = [other for other in rows if other["tokens"] < row["tokens"]]
        assert row["pareto"] == all(other["accuracy"] < row["accuracy"] for other in cheaper)


def test_tokens_against_plain_by_hand():
    rows = {(row["strategy"], row["k"]): row for row in replay(two_problems(), [3], [20.0])}
    plain_tokens = (20 + 95 / 3) / 2
    assert rows["plain", 1]["tokens_over_plain"] == 1.0
    assert rows["majority", 3]["tokens_over_plain"] == pytest.approx((60 + 95) / 2 / plain_tokens)
    # Two problems at 60 and 95 tokens: standard deviation 35 / sqrt(2), of their mean 35 / 2
    assert rows["majority", 3]["tokens_se"] == pytest.approx(35 / 2)
    assert by_cost([{"strategy": "majority", "k": 2, "accuracy": 1.0, "tokens": 5}])[0]["tokens_over_plain"] is None


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (
            0.5,
            "The cheapest strategy with an accuracy of at least 50 % is plain: accuracy 60.0 % (95 % interval 40.4 to 79.6), "
            "100.0 ± 5.0 tokens.",
        ),
        (
            0.6,
            "The cheapest strategy with an accuracy of at least 60 % is plain: accuracy 60.0 % (95 % interval 40.4 to 79.6), "
            "100.0 ± 5.0 tokens.",
        ),
        (
            0.7,
            "The cheapest strategy with an accuracy of at least 70 % is short-3 of 8 samples: accuracy 95.0 % (95 % interval "
            "85.2 to 100.0), 700.0 ± 20.0 tokens.",
        ),
        (
            0.99,
            "No strategy reaches an accuracy of 99 %. The best one is majority of 8 samples: accuracy 96.0 %, 800.0 tokens.",
        ),
    ],
)
def test_the_cheapest_strategy_for_an_accuracy(accuracy, said):
    columns = ("strategy", "k", "accuracy", "accuracy_se", "tokens", "tokens_se")
    rows = [
        ("majority", 8, 0.96, None, 800.0, None),
        ("short-3", 8, 0.95, 0.05, 700.0, 20.0),
        ("plain", 1, 0.6, 0.1, 100.0, 5.0),
    ]
    table = strategies_table(by_cost([dict(zip(columns, row, strict=True)) for row in rows]), accuracy)
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert said in text
    assert next(line for line in text.splitlines() if line.lstrip().startswith("short-3 ")).split()[-2:] == [
        "7.00",
        "*",
    ]


def test_intervals_cover_the_truth():
    """1,000 replays of 60 problems with 2 samples each: solve rate 0.3 to 0.9; two in three right answers fit the cap."""
    rng = np.random.default_rng(5)
    runs, problems, hits = 1000, 60, {"plain": 0, "cap 100": 0}
    for _ in range(runs):
        rate = rng.uniform(0.3, 0.9, problems).repeat(2)
        correct = (rng.uniform(size=2 * problems) < rate).astype(float)
        read = Generations(
            label="x",
            problem_N=np.arange(problems).repeat(2),
            keys_P=tuple(str(number).encode() for number in range(problems)),
            correct_N=correct,
            tokens_N=rng.integers(1, 151, 2 * problems),
            columns={},
            vote_N=correct.astype(np.int64),
        )
        rows = {row["strategy"]: row for row in replay(read, [1], [100.0])}
        for name, truth in (("plain", 0.6), ("cap 100", 0.4)):
            hits[name] += abs(rows[name]["accuracy"] - truth) <= 1.96 * rows[name]["accuracy_se"]
    assert all(0.93 <= count / runs <= 0.97 for count in hits.values()), hits


def test_the_command(tmp_path):
    file = tmp_path / "s.jsonl"
    texts = [r"\boxed{1/2}", r"\boxed{0.5}", r"\boxed{3}", "cut off"]
    rows = [
        {"problem": p, "response": text, "gold": "0.5", "tokens": 10 + i} for p in "pq" for i, text in enumerate(texts)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.json"
    outcome = CliRunner().invoke(
        app, ["evaluate", "strategies", str(file), "--answer", "gold", "--out", str(out), "--accuracy", "0.9"]
    )
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    assert "at least 90 % is first finish of 4 samples: accuracy 100.0 %" in " ".join(outcome.output.split())
    assert "think@TOKENS" in outcome.output
    found = {(row["strategy"], row["k"]): row for row in json.loads(out.read_text())["rows"]}
    assert found["plain", 1]["accuracy"] == 0.5
    assert found["majority", 4]["accuracy"] == 1.0  # 1/2 and 0.5 are one answer


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--samples", "9"], "--samples"),
        (["--accuracy", "1.5"], "--accuracy"),
        (["--accuracy", "0"], "--accuracy"),
        (["--samples", "x"], "--samples"),
        (["--samples", ""], "--samples"),
        (["--samples", "²"], "--samples"),
        (["--caps", "-1"], "--caps"),
        (["--caps", ","], "--caps"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(tmp_path, arguments, named):
    file = tmp_path / "s.jsonl"
    rows = [{"problem": "p", "response": r"\boxed{1}", "correct": 1, "tokens": 3}] * 2
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = CliRunner().invoke(app, ["evaluate", "strategies", str(file), *arguments])
    assert isinstance(outcome.exception, SettingsError)
    assert named in str(outcome.exception)
