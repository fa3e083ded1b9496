"""Composition: the sum, its parts among the extras, and everything that can be wrong in a list of terms."""

import pytest

from verl_efficiency.rewards import CompositionSettings, composition
from verl_efficiency.rewards.base import read_settings
from verl_efficiency.settings import SettingsError

RIGHT = r"so so so so \boxed{4}"
ACCURACY = {"name": "accuracy", "weight": 1.0}
HERE = "pkg://tests.unit.rewards.test_composition"


def length(data_source, solution_str, ground_truth, extra_info, divisor=1, **_):
    extra_info["index"] = "written by a term"
    return len(solution_str) / divisor


def own(data_source, solution_str, ground_truth, extra_info):
    return {"score": 2, "acc": 0.25, "own": extra_info["index"]}


def nothing(data_source, solution_str, ground_truth, extra_info):
    return {"acc": 1}


def not_a_number(data_source, solution_str, ground_truth, extra_info):
    return float("nan")


async def later(data_source, solution_str, ground_truth, extra_info):
    return 1.0


def reward(*terms, text=RIGHT, told=None):
    return composition("sums", text, "4", {"index": 3} if told is None else told, terms=list(terms))


def test_the_score_is_the_weighted_sum_and_each_part_is_reported():
    result = reward(ACCURACY | {"weight": 2}, {"name": "repetition", "weight": 0.5, "n": 1})
    repeated = 3 / 9  # so so so so \ boxed { 4 }
    assert result["term_accuracy"] == 2
    assert result["term_repetition"] == pytest.approx(-0.5 * repeated)
    assert result["score"] == pytest.approx(2 - 0.5 * repeated)
    assert result["acc"] == 1
    assert result["repeated"] == pytest.approx(repeated)


def test_acc_and_other_extras_come_from_the_first_term_that_has_them():
    mine = {"name": f"{HERE}:own", "weight": 1}
    assert reward(ACCURACY, mine)["acc"] == 1
    assert reward(mine, ACCURACY)["acc"] == 0.25
    assert reward({"name": "repetition", "weight": 1}, mine)["acc"] == 0.25
    assert "acc" not in reward({"name": "repetition", "weight": 1})
    assert reward(ACCURACY, mine)["own"] == 3


def test_keys_do_not_depend_on_the_response():
    terms = [{"name": "stop_properly", "weight": 1}, {"name": "repetition", "weight": 0.1}]
    told = {"truncated": True, "response_tokens": 5}
    assert list(reward(*terms, told=told)) == list(reward(*terms, text="", told=told | {"truncated": False}))


def test_a_function_of_ones_own():
    told = {"index": 3}
    result = reward(ACCURACY, {"name": f"{HERE}:length", "weight": -0.5, "divisor": 3}, told=told)
    assert result["term_length"] == pytest.approx(-0.5 * len(RIGHT) / 3)
    assert told == {"index": 3}, "a term writes into a copy"


def test_one_reward_twice_under_two_labels():
    terms = [{"name": "repetition", "weight": 0.1, "n": n, "label": f"repetition_{n}"} for n in (1, 2)]
    assert {"term_repetition_1", "term_repetition_2"} <= set(reward(*terms))
    with pytest.raises(SettingsError, match=r"reward_kwargs.terms\[1\]: there are two terms 'accuracy'"):
        reward(ACCURACY, ACCURACY)


def test_without_terms_it_is_accuracy_with_a_little_of_repetition():
    result = composition("sums", RIGHT, "4")
    assert (result["term_accuracy"], result["term_repetition"]) == (1, 0)


def test_omegaconf_lists_are_lists():
    omegaconf = pytest.importorskip("omegaconf")
    terms = omegaconf.OmegaConf.create([ACCURACY, {"name": "repetition", "weight": 0.1, "n": 1}])
    assert composition("sums", RIGHT, "4", terms=terms)["term_repetition"] == pytest.approx(-0.1 * 3 / 9)


def test_it_needs_what_its_terms_need():
    def settings(*terms):
        return read_settings(CompositionSettings, {"terms": list(terms)})

    lcpo = {"name": "lcpo_max", "weight": 1, "target_column": "extra_info.wish"}
    assert not settings(ACCURACY, {"name": f"{HERE}:own", "weight": 1}).needs_cost
    assert settings(ACCURACY, lcpo).needs_cost
    assert settings(ACCURACY, lcpo).columns == {"target": "extra_info.wish"}
    with pytest.raises(ValueError, match=r"lcpo_max needs extra_info\['response_tokens'\]"):
        reward(ACCURACY, lcpo)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "terms: must be a list of at least one"),
        ("accuracy", "terms: must be a list of at least one"),
        (3, "terms: must be Sequence, got 3"),
        (["accuracy"], "terms[0]: must be a mapping with `name` and `weight`, got 'accuracy'"),
        ([{"name": "accuracy"}], "terms[0]: must be a mapping with `name` and `weight`"),
        (
            [ACCURACY, {"name": "repetion", "weight": 1}],
            "terms[1].name: unknown reward 'repetion'; did you mean 'repetition'",
        ),
        ([{"name": "composition", "weight": 1}], "terms[0].name: unknown reward 'composition'"),
        ([{"name": "accuracy", "weight": "1"}], "terms[0].weight: must be a finite number other than 0, got '1'"),
        ([{"name": "accuracy", "weight": 0}], "terms[0].weight: must be a finite number other than 0"),
        ([{"name": "accuracy", "weight": float("inf")}], "terms[0].weight: must be a finite number"),
        ([{"name": "repetition", "weight": -0.1}], "terms[0].weight: must be above 0, got -0.1: a higher score"),
        ([{"name": "repetition", "weight": 1, "m": 4}], "terms[0]: unknown setting 'm'"),
        ([{"name": "repetition", "weight": 1, "n": 0}], "terms[0].n: must be a whole number from 1 to 100"),
        ([{"name": "token_budget", "weight": 1}], "terms[0].b_min: must be a number of tokens above 0"),
        ([{"name": "pkg://nowhere", "weight": 1}], "terms[0].name: must be pkg://module:function"),
        ([{"name": "pkg://nowhere.at_all:x", "weight": 1}], "cannot be imported: ModuleNotFoundError"),
        ([{"name": f"{HERE}:missing", "weight": 1}], "cannot be imported: AttributeError"),
        ([{"name": f"{HERE}:RIGHT", "weight": 1}], "must be a plain function"),
        ([{"name": f"{HERE}:later", "weight": 1}], "must be a plain function (def, not async def)"),
    ],
)
def test_a_wrong_list_is_refused(terms, message):
    with pytest.raises(SettingsError) as caught:
        composition("sums", RIGHT, "4", terms=terms)
    assert str(caught.value).startswith("reward.custom_reward_function.reward_kwargs.terms")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "not_a_number"])
def test_a_term_without_a_score_is_named(name):
    with pytest.raises(ValueError, match=f"the term '{name}' must return a finite number .*'sums', index 3"):
        reward(ACCURACY, {"name": f"{HERE}:{name}", "weight": 1})
