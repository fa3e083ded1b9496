"""The cosine reward at the points where its value is known."""

import pytest

from verl_efficiency.rewards import cosine
from verl_efficiency.settings import SettingsError

RIGHT, WRONG = r"\boxed{4}", r"\boxed{5}"


def reward(text, tokens, limit=1200, **settings):
    return cosine("sums", text, "4", {"response_tokens": tokens, "response_limit": limit}, **settings)


@pytest.mark.parametrize(
    ("text", "tokens", "score"),
    [
        (RIGHT, 0, 2),
        (RIGHT, 400, 1.75),  # cos 60° = ½
        (RIGHT, 600, 1.5),
        (RIGHT, 800, 1.25),
        (RIGHT, 1184, -10),  # 16 tokens before the limit reach it, as in the paper's code
        (RIGHT, 1200, -10),
        (RIGHT, 1300, -10),
        (WRONG, 0, -10),
        (WRONG, 400, -7.5),
        (WRONG, 600, -5),
        ("", 600, -5),
        (WRONG, 1200, -10),
    ],
)
def test_the_papers_values(text, tokens, score):
    result = reward(text, tokens)
    assert result["score"] == pytest.approx(score)
    assert result["exceeded"] == (tokens >= 1184)
    assert result["acc"] == (text == RIGHT)
    assert list(result) == list(reward(RIGHT, 1))


def test_correct_is_above_wrong_within_the_limit_and_correct_falls_with_length():
    scores = [reward(RIGHT, tokens, margin=0)["score"] for tokens in range(0, 1200, 50)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > max(reward(WRONG, tokens, margin=0)["score"] for tokens in range(0, 1200, 50))


def test_the_margin():
    assert [reward(RIGHT, tokens)["exceeded"] for tokens in (1183, 1184)] == [0, 1]
    assert [reward(RIGHT, tokens, margin=100)["exceeded"] for tokens in (1099, 1100)] == [0, 1]
    assert [reward(RIGHT, tokens, margin=0)["exceeded"] for tokens in (1199, 1200)] == [0, 1]


def test_saving_tokens_with_it():
    settings = {"wrong_short": 0, "exceeded": 0, "max_tokens": 600}
    assert [reward(WRONG, tokens, **settings)["score"] for tokens in (0, 300, 600)] == [0, 0, 0]
    assert reward(RIGHT, 300, **settings)["score"] == 1.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wrong_long": 0.1}, "wrong_long: must be at most 0"),
        ({"exceeded": 1}, "exceeded: must be at most 0"),
        ({"correct_long": 3}, "correct_long: must not be above correct_short"),
        ({"correct_long": 0}, "correct_long: must be above 0"),
        ({"margin": -1}, "margin: must be a number of tokens of at least 0"),
        ({"max_tokens": 0}, "max_tokens: must be a number of tokens above 0"),
        ({"max_token": 10}, "did you mean 'max_tokens'"),
    ],
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(SettingsError, match=f"reward_kwargs.*{message}"):
        reward(RIGHT, 1, **settings)


def test_without_our_reward_manager():
    with pytest.raises(ValueError, match=r"response_tokens.*name=efficiency"):
        cosine("sums", RIGHT, "4", {"index": 1})
    with pytest.raises(ValueError, match=r"response_limit.*name=efficiency"):
        cosine("sums", RIGHT, "4", {"response_tokens": 1})
    assert cosine("sums", RIGHT, "4", {"response_tokens": 50}, max_tokens=100)["score"] == pytest.approx(1.5)
