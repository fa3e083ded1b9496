"""Repetition: counted by hand, defined for every text, hard to get around."""

import random
import time

import pytest

from verl_efficiency.rewards import repetition
from verl_efficiency.settings import SettingsError


def score(text, **settings):
    result = repetition("sums", text, "4", None, **settings)
    assert list(result) == ["score", "repeated"]
    assert result["score"] == -result["repeated"]
    assert 0 <= result["repeated"] < 1
    return result["score"]


@pytest.mark.parametrize(
    ("text", "n", "repeated"),
    [
        ("", 2, 0),
        ("one", 2, 0),
        ("one two", 2, 0),
        ("one two one", 2, 0),  # one two, two one
        ("one two one two", 2, 1 / 3),  # one two, two one, one two
        ("One TWO one two", 2, 1 / 3),
        ("one, two", 1, 0),
        ("a a a a", 1, 3 / 4),
        ("a a a a", 3, 1 / 2),
        ("a a a a", 4, 0),
        ("a a a a", 40, 0),
        ("1+1=1+1=", 4, 1 / 5),  # no blank: 8 pieces, 5 four-grams, the first comes back
        ("a" * 64, 1, 3 / 4),  # a run of letters without end: four pieces of 16
    ],
)
def test_counted_by_hand(text, n, repeated):
    assert score(text, n=n) == pytest.approx(-repeated)


@pytest.mark.parametrize(
    "loop", ["wait, let me check that again. ", "1+1=2,", "啊好的", "x", "\n- so\n", "😀", "\\boxed{4} "]
)
def test_a_loop_costs_nearly_everything(loop):
    assert score(loop * 3000) < -0.9


def test_text_without_a_loop_costs_nothing():
    pieces = random.Random(0).choices([f"word{k}" for k in range(3000)], k=3000)
    assert score(" ".join(pieces)) == 0
    assert score(" ".join(pieces), n=100) == 0


def test_only_the_end_of_an_endless_text_is_read():
    started = time.process_time()
    assert score("unlike " + "again " * 200_000, n=100) < -0.9
    assert time.process_time() - started < 5  # about 0.3 s


@pytest.mark.parametrize(("n", "message"), [(0, "from 1 to 100"), (101, "from 1 to 100"), (2.5, "must be int")])
def test_n_is_checked(n, message):
    with pytest.raises(SettingsError, match=f"reward_kwargs.n: .*{message}"):
        repetition("sums", "", "4", n=n)


def test_a_setting_that_does_not_exist():
    with pytest.raises(SettingsError, match="unknown setting 'ngram'"):
        repetition("sums", "", "4", ngram=4)
