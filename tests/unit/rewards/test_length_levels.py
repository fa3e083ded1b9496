"""Length levels: what each level allows, and what a row must say."""

import pytest

from verl_efficiency.rewards import length_levels
from verl_efficiency.settings import SettingsError

RIGHT, WRONG = r"\boxed{4}", r"\boxed{5}"


def reward(text, tokens, level, **settings):
    told = {"response_tokens": tokens, "response_limit": 800, "length_level": level, "index": 3}
    return length_levels("sums", text, "4", told, **settings)


@pytest.mark.parametrize(
    ("level", "tokens", "score"),
    [
        ("short", 200, 1),
        ("short", 300, 0.85),
        ("short", 800, 0.4),  # an overrun of 200 % at most
        ("medium", 300, 1),
        ("medium", 400, 1),
        ("medium", 600, 0.85),
        ("long", 800, 1),
        ("long", 1, 1),
    ],
)
def test_score_of_a_correct_answer(level, tokens, score):
    result = reward(RIGHT, tokens, level)
    assert result["score"] == pytest.approx(score)
    assert result["level"] == level
    assert result["budget"] == {"short": 200, "medium": 400, "long": 800}[level]


def test_a_wrong_answer_is_worth_nothing():
    assert reward(WRONG, 1, "short")["score"] == reward("", 800, "long")["score"] == 0
    assert list(reward("", 800, "long")) == list(reward(RIGHT, 1, "short"))


def test_settings_change_it():
    assert reward(RIGHT, 300, "short", short=0.375)["score"] == 1
    assert reward(RIGHT, 800, "short", penalty=9, margin=0.1)["score"] == 0.1
    assert reward(RIGHT, 150, "short", max_tokens=400)["score"] == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("shrt", "unknown level 'shrt'; did you mean 'short'.*'sums', index 3"),
        (None, "missing or empty in data source 'sums', index 3"),
        (1, "unknown level 1"),
    ],
)
def test_a_level_that_does_not_exist(level, message):
    with pytest.raises(ValueError, match=message):
        reward(RIGHT, 1, level)


def test_without_our_reward_manager():
    with pytest.raises(ValueError, match=r"response_tokens.*name=efficiency"):
        length_levels("sums", RIGHT, "4", {"length_level": "short"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"short": 0.6}, "short: must be above 0, and short ≤ medium ≤ long"),
        ({"short": 0}, "short: must be above 0"),
        ({"level_column": "length_level"}, "must begin with 'extra_info.'"),
        ({"overrun_max": -1}, "overrun_max: must be a number of at least 0"),
        ({"shrot": 0.1}, "did you mean 'short'"),
    ],
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(SettingsError, match=message):
        reward(RIGHT, 1, "short", **settings)
