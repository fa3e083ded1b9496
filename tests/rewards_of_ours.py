"""What tests of all rewards share: a row with every column that a reward reads, and settings for those without defaults."""

from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.rewards.base import AnswerSettings

ROW = {"index": 0, "difficulty": 0.5, "target_tokens": 50, "length_level": "long"}
COST = {"response_tokens": 50, "response_limit": 100, "truncated": False, "thinking_opened": False}
TOLD = ROW | COST
SETTINGS = {"token_budget": {"b_min": 100, "b_max": 200}}

ANSWERING = [name for name, row in REWARDS.items() if issubclass(row.settings_class(), AnswerSettings)]
SINGLE = [name for name in [*ANSWERING, "composition"] if name != "batched_accuracy"]  # those that grade one answer


def score(reward, text, truth="4", told=TOLD, **settings):
    """What the reward returns for a response, with the settings that it needs."""
    return REWARDS[reward].function()("sums", text, truth, told, **(SETTINGS.get(reward, {}) | settings))
