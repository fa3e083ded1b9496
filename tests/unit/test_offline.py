"""``evaluate offline``: numbers by hand, pass@k by brute force, intervals by simulation, bad files refused by name."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.evaluation import chunks
from verl_efficiency.evaluation.efficiency import (
    AES_GAIN,
    AES_LENGTH,
    AES_LOSS,
    OCK_TOKENS,
    OCK_WEIGHT,
    Prices,
    against,
    measure,
    paired,
    pass_at,
    smallest_cap,
)
from verl_efficiency.evaluation.generations import Generations, read_generations
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.checks.task import CHARACTERS
from verl_efficiency.testbed.tokenizer import build_tokenizer

# problem, correct, tokens, truncated, difficulty
ROWS = [
    ("p", 1, 10, False, 0.0),
    ("p", 1, 30, False, 0.0),
    ("q", 0, 40, True, 1.0),
    ("q", 1, 20, False, 1.0),
]


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def small(path: Path, **extra) -> Path:
    names = ("problem", "correct", "tokens", "truncated", "difficulty")
    return lines(path, [dict(zip(names, row, strict=True)) | extra for row in ROWS])


def generations(correct, tokens, problem) -> Generations:
    problem = np.array(problem)
    return Generations(
        label="x",
        problem_N=problem,
        keys_P=tuple(str(number).encode() for number in range(problem.max() + 1)),
        correct_N=np.array(correct, dtype=float),
        tokens_N=np.array(tokens),
        columns={},
    )


def run(*arguments: str):
    return CliRunner().invoke(app, ["evaluate", "offline", *map(str, arguments)], catch_exceptions=True)


def test_every_number_by_hand(tmp_path):
    read = read_generations([small(tmp_path / "a.jsonl")], "a")
    result = measure(read, 40, Prices(out=2.0))
    expected = {
        "problems": 2,
        "responses": 4,
        "accuracy": 3 / 4,
        # Per problem 2 and 1 of 2: residuals 2 − 1.5 and 1 − 1.5; sqrt(2/1 · (0.25 + 0.25)) / 4
        "accuracy_se": 0.25,
        "tokens": 25.0,
        # Sums 40 and 60, residuals −10 and 10; sqrt(2 · 200) / 4
        "tokens_se": 5.0,
        "tokens_median": 25.0,
        # Of 10, 20, 30, 40: place 0.9 · 3 = 2.7, between the third and the fourth
        "tokens_p90": 30 + 0.7 * 10,
        "tokens_correct": 20.0,
        "tokens_wrong": 40.0,
        "truncated": 0.25,
        # Of 40: 1 − 10/40, 1 − 30/40, 0, 1 − 20/40
        "area": (0.75 + 0.25 + 0.5) / 4,
        # Sums 1 and ½, residuals ¼ and −¼; sqrt(2 · (1/16 + 1/16)) / 4
        "area_se": 0.125,
        "normalised_regret": 1 - 1.5 / 4,
        # The three correct ones have 10, 20 and 30; one of 4 less is more than one point
        "cap": 30.0,
        "tokens_under_cap": (10 + 30 + 30 + 20) / 4,
        "tokens_per_correct": 100 / 3,
        # Tokens 40 and 60, correct 2 and 1: residuals 40 − 200/3 and 60 − 100/3; sqrt(2 · 2 · (80/3)²) / 3
        "tokens_per_correct_se": 160 / 9,
        "money_per_correct": 2.0 * 100 / 1e6 / 3,
        "ock_score": 75 - 10 * math.log10(1.0025),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert result["pass_at"] == pytest.approx({"1": 0.75, "2": 1.0})
    assert result["accuracy_at"][9::10] == [[10.0, 0.25], [20.0, 0.5], [30.0, 0.75], [40.0, 0.75]]
    # Tokens 10, 30 at difficulty 0 and 40, 20 at 1: the means are 20 and 30, r² = 100 / 500
    line = {"easiest": 20.0, "hardest": 30.0, "slope": 10.0, "r2": 0.2}
    assert {name: result["by_difficulty"][name] for name in line} == pytest.approx(line)


def written(out: Path) -> list[dict]:
    """The rows of a result of ``offline`` or ``strategies``."""
    result = json.loads(out.read_text())
    return result["rows"]


def numbers_of(tmp_path: Path, rows: list[dict], *arguments) -> dict:
    """What ``evaluate offline`` writes about one file."""
    out = tmp_path / "out.json"
    outcome = run(lines(tmp_path / "a.jsonl", rows), *arguments, "--out", out)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    return written(out)[0]


def test_money_of_prompts_and_responses(tmp_path):
    rows = [
        {"problem": p, "correct": c, "tokens": t, "prompt_tokens": n}
        for p, c, t, n in [("p", 1, 300, 40), ("q", 0, 500, 60)]
    ]
    result = numbers_of(tmp_path, rows, "--price-out", 2, "--price-in", 3)
    assert result["money_per_correct"] == pytest.approx((2 * 800 + 3 * 100) / 1e6)
    rows.append({"problem": "r", "correct": 1, "tokens": 200, "prompt_tokens": 100})
    result = numbers_of(tmp_path, rows, "--price-in", 3)
    assert result["money_per_correct"] == pytest.approx(3 * 200 / 1e6 / 2)


def test_a_response_as_long_as_the_limit_was_cut_off(tmp_path):
    rows = [{"problem": "p", "correct": 1, "tokens": tokens} for tokens in (7, 8, 8, 3)]
    assert numbers_of(tmp_path, rows, "--max-tokens", 8)["truncated"] == 2 / 4
    assert numbers_of(tmp_path, rows, "--max-tokens", 9)["truncated"] == 0
    assert numbers_of(tmp_path, rows)["truncated"] is None
    told = [row | {"truncated": row["tokens"] == 3} for row in rows]  # the column knows better than the length
    assert numbers_of(tmp_path, told, "--max-tokens", 8)["truncated"] == 1 / 4


def test_loops_by_hand(tmp_path):
    """5 n-grams of 20 words in each text of 24. With a period of 3, three are distinct; with 4, four: a fifth, not more."""
    texts = ["a b c " * 8, "a b c d " * 6, " ".join(f"w{number}" for number in range(24)), "short"]
    rows = [{"problem": "p", "correct": 1, "tokens": 24, "response": text} for text in texts]
    result = numbers_of(tmp_path, rows)
    assert result["repeated"] == pytest.approx((2 / 5 + 1 / 5 + 0 + 0) / 4)
    assert result["looping"] == 1 / 4


def test_counted_tokens_have_an_end(tmp_path):
    r"""One token per character and one for ``\boxed{``; then the end of sequence, unless the limit came first."""
    build_tokenizer(CHARACTERS).save_pretrained(tmp_path / "tokenizer")
    texts = [r"1+1=2\boxed{2}", "1+1=2222", r"1+1=2\boxed{22}", "1+1=222222", ""]  # 8, 8, 9, 10 and 0
    texts.append("12<|im_end|>\n")  # its end is in the text, and counts once
    rows = [{"problem": "p", "correct": 1, "output": text} for text in texts]
    result = numbers_of(tmp_path, rows, "--tokenizer", tmp_path / "tokenizer")
    assert result["tokens"] == pytest.approx((9 + 9 + 10 + 11 + 1 + 3) / 6)
    result = numbers_of(tmp_path, rows, "--tokenizer", tmp_path / "tokenizer", "--max-tokens", 10)
    assert result["tokens"] == pytest.approx((9 + 9 + 10 + 10 + 1 + 3) / 6)
    assert result["truncated"] == 2 / 6


def test_a_perfect_model_that_spends_nothing_has_no_regret():
    result = measure(generations([1, 1], [0, 0], [0, 1]), 100)
    assert result["normalised_regret"] == 0
    assert result["ock_score"] == 100


def test_difficulty_without_a_column_is_one_minus_the_solve_rate():
    result = measure(generations([1, 1, 0, 1], [10, 10, 30, 30], [0, 0, 1, 1]), 40)
    assert result["by_difficulty"]["source"] == "1 - solve rate"
    assert result["by_difficulty"]["slope"] == pytest.approx(40)  # 20 tokens over a difficulty of ½


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 2), (8, 3, 4), (5, 0, 2), (5, 5, 4), (7, 6, 3)])
def test_pass_at_k_is_the_share_of_the_draws_with_a_correct_one(n, c, k):
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at(np.array([float(n)]), np.array([float(c)]), k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_smallest_cap_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        correct, tokens = rng.integers(0, 2, 60).astype(float), rng.integers(1, 100, 60)
        fine = [b for b in range(0, 101) if (correct * (tokens <= b)).mean() >= correct.mean() - 0.1 - 1e-9]
        assert smallest_cap(correct, tokens, loss=0.1) == min(fine)


def test_against_the_published_rule():
    base = {"accuracy": 0.5, "tokens": 1000.0}
    better = against(base, {"accuracy": 0.55, "tokens": 600.0})
    worse = against(base, {"accuracy": 0.45, "tokens": 600.0})
    assert better["aes"] == pytest.approx(0.4 + 3 * 0.1)
    assert worse["aes"] == pytest.approx(0.4 - 5 * 0.1)


@pytest.mark.parametrize(("accuracy", "tokens", "score"), [(75.5, 24765, 70.09), (3.5, 947, 3.11), (1, 61040, -7.52)])
def test_ock_score_is_that_of_its_published_table(accuracy, tokens, score):
    correct = np.arange(200) < accuracy * 2
    result = measure(generations(correct, [tokens] * 200, range(200)), 100_000)
    assert result["ock_score"] == pytest.approx(score, abs=0.005)


def test_paired_by_problem_whatever_the_order(tmp_path):
    before = lines(
        tmp_path / "a.jsonl", [{"problem": p, "correct": c, "tokens": t} for p, c, t in [("x", 1, 10), ("y", 0, 30)]]
    )
    after = lines(
        tmp_path / "b.jsonl",
        [{"problem": p, "correct": c, "tokens": t} for p, c, t in [("y", 1, 15), ("x", 1, 5), ("z", 0, 9)]],
    )
    change = paired(read_generations([before], "a"), read_generations([after], "b"))
    assert change["problems"] == 2
    assert change["accuracy_change"] == pytest.approx(0.5)
    assert change["tokens_ratio"] == pytest.approx(0.5)


def test_files_of_different_problems_are_compared_loudly(tmp_path):
    rows = [{"problem": name, "correct": 1, "tokens": 10} for name in "abc"]
    before, half = lines(tmp_path / "before.jsonl", rows[:2]), lines(tmp_path / "half.jsonl", rows[1:])
    assert "half: only 1 of 2 problems are in before too. The change" in " ".join(run(before, half).output.split())
    other = lines(tmp_path / "other.jsonl", rows[2:])
    assert "other: only 0 of 2 problems are in before too." in run(before, other).output
    assert "only" not in run(before, f"again={before}").output


def test_accuracy_under_a_limit(tmp_path):
    """Of four responses of 10 to 40 tokens, three are right. The limit of 25 cuts off the right one of 30 tokens."""
    output = run(small(tmp_path / "a.jsonl"), "--budget", "25").output
    assert [line.split()[-1] for line in output.splitlines() if "accuracy under C, %" in line] == ["50.0"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("difficulty", ["hard", "easy"], "line 1: difficulty must be a number, got 'hard'"),
        ("difficulty", [0.5, None], "line 2: difficulty is empty (null)"),
        ("truncated", [2, 0], "line 1: truncated must be a number in [0, 1], got 2"),
        ("prompt_tokens", [-5, 3], "must be a whole number of at least 0, got -5"),
    ],
)
def test_a_column_that_nobody_named_does_not_stop_the_command(tmp_path, column, values, said):
    rows = [{"problem": "p", "correct": 1, "tokens": 3, column: value} for value in values]
    outcome = run(lines(tmp_path / "a.jsonl", rows))
    assert outcome.exit_code == 0
    (note,) = (line for line in outcome.output.splitlines() if "left out" in line)
    assert note.startswith(f"a: the {column} is left out: {tmp_path / 'a.jsonl'}")
    assert note.endswith(said)


def test_intervals_cover_the_truth():
    """2,000 runs of 120 problems with 4 dependent responses each: the 95 % interval holds the truth 93 to 97 times of 100."""
    rng = np.random.default_rng(1)
    truth_tokens, hits = 400.0, {"accuracy": 0, "tokens": 0, "tokens_per_correct": 0}
    runs, problems, k = 2000, 120, 4
    for _ in range(runs):
        hard_P = rng.uniform(0, 1, problems).repeat(k)  # E 1 − d = ½; tokens 200 + 400·d, E = 400
        correct = rng.uniform(size=problems * k) < 1 - hard_P
        tokens = np.round(200 + 400 * hard_P + rng.normal(0, 40, problems * k))
        result = measure(generations(correct, tokens, np.arange(problems).repeat(k)), 800)
        for name, truth in (("accuracy", 0.5), ("tokens", truth_tokens), ("tokens_per_correct", truth_tokens / 0.5)):
            hits[name] += abs(result[name] - truth) <= 1.96 * result[f"{name}_se"]
    assert all(0.93 <= count / runs <= 0.97 for count in hits.values()), hits


def test_paired_intervals_cover_the_truth():
    """1,000 pairs of runs on 120 problems, 4 responses each. The second is 10 points better and takes 60 % of the tokens."""
    rng = np.random.default_rng(2)
    runs, problems, k = 1000, 120, 4
    number = np.arange(problems).repeat(k)
    hits = {"accuracy_change": 0, "tokens_ratio": 0}
    for _ in range(runs):
        rate = rng.uniform(0.1, 0.7, problems).repeat(k)
        before = generations(
            rng.uniform(size=problems * k) < rate, 200 / rate * rng.lognormal(0, 0.3, problems * k), number
        )
        after = generations(
            rng.uniform(size=problems * k) < rate + 0.1, 120 / rate * rng.lognormal(0, 0.3, problems * k), number
        )
        change = paired(before, after)
        for name, truth in (("accuracy_change", 0.1), ("tokens_ratio", 0.6)):
            hits[name] += abs(change[name] - truth) <= 1.96 * change[f"{name}_se"]
    assert all(0.93 <= count / runs <= 0.97 for count in hits.values()), hits


def test_responses_are_graded_and_words_counted(tmp_path):
    rows = [
        {"question": "q1", "output": r"Wait, maybe 3? Let me verify. \boxed{4}", "gold": "x #### 4", "tokens": 9},
        {"question": "q2", "output": r"Hmm. \boxed{5}", "gold": "y #### 6", "tokens": 4},
    ]
    read = lines(tmp_path / "a.jsonl", rows)
    out = tmp_path / "out.json"
    outcome = run(read, "--answer", "gold", "--answer-after", "####", "--out", out)
    assert outcome.exit_code == 0, outcome.output
    written = json.loads(out.read_text())
    (result,) = written["rows"]
    assert result["accuracy"] == 0.5
    assert (result["hedging_correct"], result["hedging_wrong"]) == (2.0, 1.0)
    assert (result["checking_correct"], result["checking_wrong"]) == (1.0, 0.0)
    assert written["columns"]["a"]["problem"] == "question"
    assert written["reading"] == {"answer_after": "####"}


def test_special_tokens_at_the_end_do_not_belong_to_the_answer(tmp_path):
    rows = [{"problem": p, "output": f"#### {a}<|im_end|>", "gold": "4", "tokens": 3} for p, a in (("p", 4), ("q", 5))]
    out = tmp_path / "out.json"
    outcome = run(lines(tmp_path / "a.jsonl", rows), "--answer", "gold", "--marker", "####", "--out", out)
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(out.read_text())["rows"][0]["accuracy"] == 0.5


@pytest.mark.parametrize("array", [False, True])
def test_a_file_in_pieces_is_the_file(tmp_path, monkeypatch, array):
    """Blank lines, a mark of the byte order, an array; 7 rows a chunk and 10 lines a piece."""
    monkeypatch.setattr(chunks, "ROWS", 7)
    monkeypatch.setattr(chunks, "PIECE_ROWS", 10)
    rows = [{"n": number} for number in range(30)]
    file = tmp_path / "a.jsonl"
    text = json.dumps(rows) if array else "\n".join(json.dumps(row) + "\n" * (row["n"] % 3) for row in rows)
    file.write_text("\ufeff" + text)
    pieces = chunks.split(file, "file")
    assert len(pieces) == (0 if array else 6)
    for start, found in ((None, [None]), (0, pieces)):
        if array and start is not None:
            continue
        read = [part for piece in found for part in chunks.read(file, "file", piece)]
        assert [row for part in read for row in part.rows] == rows
        assert [part.start for part in read] == np.cumsum([0, *(len(part.rows) for part in read)])[:-1].tolist()
        places = [place for part in read for place in part.places]
        assert places[:4] == (
            ["row 0", "row 1", "row 2", "row 3"] if array else ["line 1", "line 2", "line 4", "line 7"]
        )


def test_parquet_and_nested_columns_give_the_same_numbers(tmp_path):
    rows = [{"question": p, "mine": {"right": bool(c), "length": t}} for p, c, t, *_ in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    out = tmp_path / "out.json"
    outcome = run(tmp_path / "a.parquet", "--correct", "mine.right", "--tokens", "mine.length", "--out", out)
    assert outcome.exit_code == 0, outcome.output
    (result,) = json.loads(out.read_text())["rows"]
    plain = measure(read_generations([small(tmp_path / "b.jsonl")], "b"), 40)
    for name in ("accuracy", "accuracy_se", "tokens", "tokens_se", "area", "pass_at"):
        assert result[name] == plain[name]


def test_the_picture_and_a_table_of_two_files(tmp_path):
    first, second = small(tmp_path / "a.jsonl"), small(tmp_path / "b.jsonl")
    outcome = run(f"before={first}", f"after={second}", "--png", tmp_path / "p.png")
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "p.png").stat().st_size > 5000
    assert all(word in outcome.output for word in ("before", "after", "AES", "OckScore"))


@pytest.mark.parametrize(
    ("correct", "aes"),
    [
        ((1, 1, 1), 1 - 50 / 80 + 3 * (1 / 0.5 - 1)),  # 50 tokens instead of 80, all correct instead of half
        ((1, 0, 0), 1 - 50 / 80 - 5 * (1 - (1 / 3) / 0.5)),
    ],
)
def test_aes_and_ock_score_are_printed_with_their_weights(tmp_path, correct, aes):
    before = lines(tmp_path / "a.jsonl", [{"problem": c, "correct": c, "tokens": 80} for c in (0, 1)])
    after = lines(tmp_path / "b.jsonl", [{"problem": i, "correct": c, "tokens": 50} for i, c in enumerate(correct)])
    outcome = run(before, after)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    printed = {line.split()[0]: line.split()[1:] for line in outcome.output.splitlines() if line.strip()}
    assert printed["AES"] == [f"{aes:+.3f}"]
    ock = [50 - 10 * math.log10(1.008), 100 * sum(correct) / 3 - 10 * math.log10(1.005)]
    assert printed["OckScore"] == [f"{score:.2f}" for score in ock]
    said = " ".join(outcome.output.split())
    assert AES_LENGTH == 1
    for weights in (
        f"relative saving of tokens + {AES_GAIN:g} · relative gain (or - {AES_LOSS:g} · relative loss)",
        f"100 · accuracy - {OCK_WEIGHT:g} · log10(tokens/{OCK_TOKENS:,} + 1)",
    ):
        assert weights in said


def test_a_verifiers_weight_decides_the_vote(tmp_path):
    """Two samples say 3, one says 4 and is right: its weight is 0.9, theirs together 0.5. All three are always drawn."""
    rows = [
        {"problem": "p", "response": rf"\boxed{{{answer}}}", "gold": "4", "tokens": tokens, "trust": trust}
        for answer, tokens, trust in [(3, 10, 0.2), (3, 20, 0.3), (4, 30, 0.9)]
    ]
    out = tmp_path / "out.json"
    arguments = [lines(tmp_path / "s.jsonl", rows), "--answer", "gold", "--samples", 3, "--out", out]
    for given, expected in ((["--weight", "trust"], {"majority": 0.0, "weighted": 1.0}), ([], {"majority": 0.0})):
        outcome = CliRunner().invoke(app, ["evaluate", "strategies", *map(str, [*arguments, *given])])
        assert outcome.exit_code == 0, (outcome.output, outcome.exception)
        found = {row["strategy"]: row for row in written(out)}
        assert {name: found[name]["accuracy"] for name in ("majority", "weighted") if name in found} == expected
        assert {found[name]["tokens"] for name in expected} == {60.0}


def test_votes_refuse_what_is_no_weight(tmp_path):
    rows = [{"problem": "p", "response": r"\boxed{3}", "acc": 1, "tokens": 3, "logprob": -0.5}]
    file = lines(tmp_path / "s.jsonl", rows)
    for given, said in (
        (["--weight", "logprob"], "logprob (the weight) must be a number of at least 0, got -0.5"),
        (["--seed", "-1"], "--seed: must be a whole number of at least 0, got -1"),
    ):
        outcome = CliRunner().invoke(app, ["evaluate", "strategies", str(file), *given])
        assert said in str(outcome.exception)


@pytest.mark.parametrize(
    ("rows", "arguments", "named"),
    [
        ([{"problem": "p", "tokens": 3}], [], "--correct"),
        ([{"problem": "p", "correct": 1}], [], "--tokens"),
        ([{"correct": 1, "tokens": 3}], [], "--problem"),
        ([{"problem": "p", "correct": 1, "tokens": 3}], ["--tokens", "tokesn"], "tokens"),
        ([{"problem": "p", "correct": 2, "tokens": 3}], [], "[0, 1]"),
        ([{"problem": "p", "correct": 1, "tokens": 3}, {"problem": "p", "correct": None, "tokens": 3}], [], "line 2"),
        ([{"problem": "p", "correct": 1, "tokens": "3"}], [], "line 1"),
        ([{"problem": "p", "correct": 1, "tokens": None}], [], "'tokens' is empty (null) in {file} line 1"),
        ([{"problem": "p", "correct": 1, "n": None, "tokens": 3}], ["--tokens", "n"], "--tokens: 'n' is empty (null)"),
        ([{"problem": "p", "correct": 1, "n": {}, "tokens": 3}], ["--tokens", "n.m"], "unknown column 'n.m'"),
        ([{"problem": "p", "output": "x", "gold": "4", "tokens": 3}], ["--answer", "god"], "did you mean 'gold'"),
        ([{"problem": "p", "output": "x", "gold": "4", "tokens": 3}], [], "for example --answer gold"),
        (
            [{"problem": "p", "output": "x", "reward_model": {"ground_truth": "4"}, "tokens": 3}],
            ["--answer", "reward_model.ground_truht"],
            "did you mean 'reward_model.ground_truth'?",
        ),
        ([{"problem": "p", "response": "x", "acc": 1}], [], "completion_tokens. Give --tokens"),
        ([{"problem": "p", "tokens": 3}], [], "correctness (0 to 1)"),
        ([{"key": "p", "acc": 0.5, "tokens": 3, "problems": 2}], [], "problems"),
        ([{"problem": "p", "correct": 1, "tokens": 3}], ["--marker", "####"], "--answer"),
        (
            [{"problem": "p", "output": "x", "gold": gold, "tokens": 3} for gold in ["4"] * 1500 + [" "]],
            ["--answer", "gold"],
            "answer: {file} line 1501 is an empty text",
        ),
        (
            [{"problem": "p", "output": "x", "gold": "4", "tokens": 3}],
            ["--answer", "gold", "--marker", "…"],
            "--marker: must be a text",
        ),
        ([{"problem": "p", "correct": 1, "tokens": 3}], ["--price-out", "-1"], "--price-out"),
        ([{"problem": "p", "correct": 1, "tokens": 3}], ["--price-in", "3"], "--prompt-tokens"),
        ([{"problem": "p", "correct": 1, "tokens": 3}], ["--budget", "0"], "--budget"),
        (
            [{"problem": "p", "output": "x", "gold": "4", "correct": 1, "tokens": 3}],
            ["--answer", "gold", "--correct", "correct"],
            "--correct",
        ),
        (
            [{"problem": "p", "output": "x", "correct": 1, "tokens": 3}],
            ["--tokens", "tokens", "--tokenizer", "no/tokenizer"],
            "--tokens",
        ),
        ([], [], "no rows"),
        ([{"problem": "p", "correct": 1, "tokens": math.inf}], [], "must be a whole number of at least 0, got inf"),
        ([{"problem": "p", "correct": 1, "tokens": 10**30}], [], "must be a whole number of at least 0"),
        ([{"problem": "p", "correct": 1, "tokens": 10.9}], [], "must be a whole number of at least 0, got 10.9"),
        ([{"problem": "p", "correct": 1, "tokens": -3}], [], "must be a whole number of at least 0, got -3"),
        (
            [{"problem": "p", "correct": 1, "tokens": 3, "hard": math.inf}],
            ["--difficulty", "hard"],
            "line 1: hard (the difficulty) must be a number, got inf",
        ),
        (
            [{"problem": "p", "correct": 1, "tokens": 3, "asked": -5}],
            ["--prompt-tokens", "asked"],
            "must be a whole number of at least 0, got -5",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path, rows, arguments, named):
    file = lines(tmp_path / "a.jsonl", rows)
    outcome = run(file, *arguments)
    assert isinstance(outcome.exception, SettingsError)
    assert named.replace("{file}", str(file)) in str(outcome.exception)
    assert len(str(outcome.exception).splitlines()) == 1


def test_equal_labels_and_missing_files_are_refused(tmp_path):
    read = small(tmp_path / "a.jsonl")
    assert "LABEL=FILE" in str(run(read, read).exception)
    for file in (tmp_path / "nothing.jsonl", lines(tmp_path / "null.jsonl", [{"problem": None}])):
        outcome = run(file)
        assert file.name in str(outcome.exception)
        assert "rows" not in outcome.output  # no progress of a file that could not be read
    assert "rows" in run(read).output


@pytest.mark.parametrize("command", ["offline", "strategies"])
def test_the_help_writes_a_box_as_latex_does(command):
    output = CliRunner().invoke(app, ["evaluate", command, "--help"], env={"COLUMNS": "200"}).output
    assert r"\boxed{}" in output
    assert r"\\boxed" not in output


def test_evaluate_without_a_subcommand_is_that_of_a_model():
    outcome = CliRunner().invoke(app, ["evaluate", "no-such-model", "no-such-file.parquet"])
    assert "no-such-file.parquet" in str(outcome.exception) + outcome.output


@pytest.mark.parametrize("words", [["a.jsonl"], ["answers/b.parquet", "--limit", "3"]])
def test_a_file_in_the_place_of_the_model_is_for_offline(words):
    outcome = CliRunner().invoke(app, ["evaluate", *words])
    assert isinstance(outcome.exception, SettingsError)
    assert f"evaluate offline {words[0]}" in str(outcome.exception)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("offlin", "offline"), ("ofline", "offline"), ("stratgies", "strategies"), ("task_scaling", "task-scaling")],
)
def test_a_misspelt_subcommand_is_not_a_model(tmp_path, monkeypatch, word, meant):
    file = str(small(tmp_path / "a.jsonl"))
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(app, ["evaluate", word, file])
    assert isinstance(outcome.exception, SettingsError)
    assert f"did you mean '{meant}'?" in str(outcome.exception)
    (tmp_path / word).mkdir()  # a folder of this name is a model
    for words in ([word], ["model", word]):
        assert "did you mean" not in str(CliRunner().invoke(app, ["evaluate", *words, "absent.parquet"]).exception)
