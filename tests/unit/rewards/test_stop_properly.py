"""Stop properly: all that a coefficient can mean."""

import pytest

from verl_efficiency.rewards import stop_properly
from verl_efficiency.settings import SettingsError

RIGHT, WRONG = r"\boxed{4}", r"\boxed{5}"


@pytest.mark.parametrize(
    ("coef", "right_cut_off", "wrong_cut_off"), [(0.0, 0, 0), (0.1, 0.1, 0), (1.0, 1, 0), (-0.5, -0.5, -0.5)]
)
def test_scores(coef, right_cut_off, wrong_cut_off):
    def score(text, truncated):
        result = stop_properly("sums", text, "4", {"truncated": truncated}, coef=coef)
        assert result["truncated"] == truncated
        assert result["acc"] == (text == RIGHT)
        return result["score"]

    assert (score(RIGHT, False), score(WRONG, False), score("", False)) == (1, 0, 0)
    assert (score(RIGHT, True), score(WRONG, True), score("", True)) == (right_cut_off, wrong_cut_off, wrong_cut_off)


def test_without_our_reward_manager():
    with pytest.raises(ValueError, match=r"truncated.*'sums', index 3.*name=efficiency"):
        stop_properly("sums", RIGHT, "4", {"index": 3})


@pytest.mark.parametrize(
    ("settings", "message"), [({"coef": 1.1}, "coef: must be at most 1"), ({"coeff": 1}, "did you mean 'coef'")]
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(SettingsError, match=message):
        stop_properly("sums", RIGHT, "4", {"truncated": True}, **settings)
