"""The reward form of token_budget: the estimator's formula, and a refusal of what a reward cannot know."""

from dataclasses import fields

import pytest

from verl_efficiency.rewards import TokenBudgetRewardSettings, token_budget
from verl_efficiency.settings import SettingsError

RIGHT, WRONG = r"\boxed{4}", r"\boxed{5}"
BUDGET = {"b_min": 100, "b_max": 500}


def reward(text, tokens, difficulty=0.5, **settings):
    told = {"index": 3, "response_tokens": tokens, "difficulty": difficulty}
    return token_budget("sums", text, "4", told, **(BUDGET | settings))


@pytest.mark.parametrize(
    ("tokens", "difficulty", "score"),
    [
        (300, 0.5, 1.0),  # a budget of 300
        (301, 0.5, 1 - 0.3 / 300),
        (450, 0.5, 0.85),
        (900, 0.5, 0.4),
        (9000, 0.5, 0.4),  # an overrun of 200 % at most
        (100, 0, 1.0),
        (150, 0, 0.85),
        (500, 1, 1.0),
        (0, 0, 1.0),
    ],
)
def test_score_of_a_correct_answer(tokens, difficulty, score):
    result = reward(RIGHT, tokens, difficulty)
    assert result["score"] == pytest.approx(score)
    assert result["acc"] == 1
    assert result["budget"] == 100 + 400 * difficulty


def test_a_wrong_answer_is_worth_nothing_whatever_its_length():
    for text in (WRONG, "", "4"):
        for tokens in (0, 300, 10_000):
            assert reward(text, tokens)["score"] == 0
    assert list(reward(WRONG, 900)) == list(reward(RIGHT, 1)) == list(reward("", 0))
    assert reward(WRONG, 900)["overrun"] == 2


def test_a_correct_answer_keeps_the_margin():
    assert reward(RIGHT, 10_000, penalty=5)["score"] == 0.05
    assert reward(RIGHT, 10_000, penalty=5, margin=0.2)["score"] == 0.2


@pytest.mark.parametrize("difficulty", [0.0, 0.3, 1.0])
def test_it_is_the_formula_of_the_estimator(difficulty):
    """Advantages of dr_grpo are differences to the mean, so differences of advantages are differences of shaped scores."""
    torch = pytest.importorskip("torch")
    from verl_efficiency.methods.rollouts import Rollouts
    from verl_efficiency.methods.shaping import token_budget as estimator

    lengths = [1, 100, 180, 333, 500, 720, 5000, 50]
    texts = [RIGHT] * 7 + [WRONG]
    rollouts = Rollouts.build(torch.tensor([1.0] * 7 + [0.0]), torch.tensor(lengths), ["a"] * 8)
    rollouts = type(rollouts)(**(vars(rollouts) | {"difficulty_G": torch.tensor([difficulty], dtype=torch.float64)}))
    settings = estimator.TokenBudgetSettings(difficulty="data", combine="shaped_reward", b_min=100.0, b_max=500.0)
    outcome = estimator.token_budget(rollouts, settings, estimator.TokenBudgetState())
    theirs = (outcome.advantages_B - outcome.advantages_B[-1]).tolist()
    ours = [reward(text, tokens, difficulty)["score"] for text, tokens in zip(texts, lengths, strict=True)]
    assert ours == pytest.approx(theirs)


def test_names_and_defaults_are_those_of_the_estimator():
    pytest.importorskip("torch")
    from verl_efficiency.methods.shaping.token_budget import TokenBudgetSettings

    theirs = {field.name: field.default for field in fields(TokenBudgetSettings)}
    ours = {field.name: field.default for field in fields(TokenBudgetRewardSettings)}
    del ours["strip_thinking"], ours["marker"], theirs["difficulty"], ours["difficulty"]
    assert ours.items() <= theirs.items()


@pytest.mark.parametrize("source", ["group", "running", "blend", "dat"])
def test_difficulty_that_a_reward_cannot_know_is_refused_with_the_mend(source):
    with pytest.raises(SettingsError, match=r"reward_kwargs.difficulty: .*use algorithm.adv_estimator=token_budget"):
        token_budget("sums", RIGHT, "4", {"response_tokens": 1, "difficulty": 0}, difficulty=source, **BUDGET)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"b_min": None}, "b_min: must be a number of tokens above 0"),
        ({"b_max": 0}, "b_max: must be a number of tokens above 0"),
        ({"b_min": 501}, "b_min: must not be above b_max"),
        ({"penalty": -1}, "penalty: must be a number of at least 0"),
        ({"margin": 1.5}, "margin: must be in"),
        ({"difficulty_column": "difficulty"}, "difficulty_column: must begin with 'extra_info.'"),
        ({"b_mim": 1}, "did you mean 'b_min'"),
        ({"gate_solve_rate": 0.5}, "gate_solve_rate: .*algorithm.adv_estimator=token_budget"),
    ],
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(SettingsError, match=message):
        token_budget("sums", RIGHT, "4", {"response_tokens": 1, "difficulty": 0}, **(BUDGET | settings))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (None, r"index None\), which verl's own .* set reward.reward_manager.name=efficiency"),
        ({"difficulty": 0.5, "index": 3}, r"needs extra_info\['response_tokens'\] \(data source 'sums', index 3\)"),
        ({"response_tokens": 5, "index": 3}, r"needs the column extra_info.difficulty .* 'sums', index 3"),
        ({"response_tokens": 5, "difficulty": "hard"}, "must be a finite number, got 'hard'"),
        ({"response_tokens": 5, "difficulty": float("nan")}, "must be a finite number, got nan"),
        ({"response_tokens": 5, "difficulty": 1.5}, r"must be in \[0, 1\], got 1.5 .*'sums'"),
    ],
)
def test_what_a_row_lacks_is_said(told, message):
    with pytest.raises(ValueError, match=message):
        token_budget("sums", RIGHT, "4", told, **BUDGET)


def test_a_difficulty_from_below():
    told = {"response_tokens": 450, "facts": {"hard": 0.5}}
    assert token_budget("sums", RIGHT, "4", told, difficulty_column="extra_info.facts.hard", **BUDGET)["score"] == 0.85
