"""The two forms of LCPO at points computed by hand."""

import pytest

from verl_efficiency.rewards import lcpo_exact, lcpo_max
from verl_efficiency.settings import SettingsError

RIGHT, WRONG = r"\boxed{4}", r"\boxed{5}"
both = pytest.mark.parametrize("reward", [lcpo_exact, lcpo_max])


def score(reward, text, tokens, target=1000, **settings):
    told = {"response_tokens": tokens, "target_tokens": target}
    result = reward("sums", text, "4", told, **settings)
    assert result["target_tokens"] == target
    assert result["acc"] == (text == RIGHT)
    return result["score"]


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        (RIGHT, 1000, 1),
        (RIGHT, 1100, 0.97),
        (RIGHT, 900, 0.97),
        (RIGHT, 6000, -0.5),
        (WRONG, 1000, 0),
        (WRONG, 900, -0.03),
        ("", 0, -0.3),
    ],
)
def test_exact(text, tokens, expected):
    assert score(lcpo_exact, text, tokens) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        (RIGHT, 1000, 0.5),
        (RIGHT, 900, 0.53),
        (RIGHT, 1100, 0.47),
        (RIGHT, 10_000, 0),
        (WRONG, 100, 0),
        ("", 0, 0),
    ],
)
def test_max(text, tokens, expected):
    assert score(lcpo_max, text, tokens) == pytest.approx(expected)


def test_max_never_goes_above_one_nor_rises_with_length():
    assert score(lcpo_max, RIGHT, 100, target=10_000) == 1
    scores = [score(lcpo_max, RIGHT, tokens) for tokens in range(0, 5000, 100)]
    assert scores == sorted(scores, reverse=True)


def test_settings_change_it():
    assert score(lcpo_exact, RIGHT, 1100, alpha=0.001) == pytest.approx(0.9)
    assert score(lcpo_max, RIGHT, 900, alpha=0.001, delta=0.2) == pytest.approx(0.3)
    told = {"response_tokens": 1000, "wish": 1000}
    assert lcpo_exact("sums", RIGHT, "4", told, target_column="extra_info.wish")["score"] == 1


@both
def test_keys_do_not_depend_on_the_response(reward):
    told = {"response_tokens": 10, "target_tokens": 5}
    assert list(reward("sums", RIGHT, "4", told)) == list(reward("sums", "", "4", told))


@both
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"target_tokens": 5, "index": 3}, "response_tokens.*'sums', index 3.*name=efficiency"),
        ({"response_tokens": 5, "index": 3}, "column extra_info.target_tokens .*'sums', index 3"),
        ({"response_tokens": 5, "target_tokens": 0}, "above 0, got 0"),
        ({"response_tokens": 5, "target_tokens": -100}, "above 0, got -100"),
        ({"response_tokens": 5, "target_tokens": "100"}, "must be a finite number, got '100'"),
        ({"response_tokens": 5, "target_tokens": True}, "must be a finite number, got True"),
        ({"response_tokens": 5, "target_tokens": float("inf")}, "must be a finite number, got inf"),
    ],
)
def test_what_a_row_lacks_is_said(reward, told, message):
    with pytest.raises(ValueError, match=message):
        reward("sums", RIGHT, "4", told)


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1}, "alpha: must be a number of at least 0"),
        ({"target_column": "target"}, "target_column: must begin with 'extra_info.'"),
        ({"alhpa": 1}, "did you mean 'alpha'"),
    ],
)
def test_settings_are_refused_by_name(reward, settings, message):
    with pytest.raises(SettingsError, match=message):
        reward("sums", RIGHT, "4", {"response_tokens": 5, "target_tokens": 5}, **settings)


def test_delta_is_a_share():
    with pytest.raises(SettingsError, match="delta: must be in"):
        lcpo_max("sums", RIGHT, "4", {}, delta=1.5)
