"""What holds for every row of the catalog's rewards: how it is found, called, pickled and set, and what it says of itself."""

import importlib
import inspect
import pickle
from dataclasses import fields

import pytest

from tests.rewards_of_ours import COST, ROW, SETTINGS, SINGLE, TOLD, score
from verl_efficiency import rewards
from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.rewards.base import AnswerSettings, RewardSettings
from verl_efficiency.settings import SettingsError

RIGHT, WRONG = r"so so so so so so \boxed{4}", r"\boxed{5}"
every = pytest.mark.parametrize("name", REWARDS)


@every
def test_it_is_found_by_path_and_name_and_pickled_as_verl_does(name):
    function = REWARDS[name].function()
    assert getattr(rewards, name) is function
    assert importlib.import_module(f"verl_efficiency.rewards.{name}").compute_score is function
    assert getattr(rewards, name) is function, "the import of the module has not replaced it"
    assert pickle.loads(pickle.dumps(function)) is function
    assert list(inspect.signature(function).parameters) == [
        *("data_source", "solution_str", "ground_truth", "extra_info", "settings")
    ]
    assert "``score``" in function.__doc__


@every
def test_its_settings_class_is_derived_from_its_name(name):
    cls = REWARDS[name].settings_class()
    assert cls is REWARDS[name].function().settings
    assert cls is getattr(rewards, cls.__name__)
    assert issubclass(cls, RewardSettings)


@every
@pytest.mark.parametrize("text", [RIGHT, WRONG, "", "no answer"])
def test_it_returns_what_it_declares(name, text):
    declared = REWARDS[name].build_settings(SETTINGS.get(name, {}), "here").extras
    returned = score(name, text)
    assert declared.keys() == returned.keys()
    for key, blank in declared.items():
        assert blank in (0.0, "")
        assert isinstance(returned[key], type(blank))


@every
def test_correct_is_above_wrong(name):
    right, wrong, silent = (score(name, text) for text in (r"\boxed{4}", WRONG, ""))
    if "acc" in right:
        assert (right["acc"], wrong["acc"], silent["acc"]) == (1, 0, 0)
        assert right["score"] > max(wrong["score"], silent["score"])
        for result in (wrong, silent):  # nothing but the format of batched_accuracy pays for a wrong answer
            assert float(result["score"]) <= 0.1 * result.get("format", 0)


@every
def test_what_it_says_of_the_scores_that_it_gives(name):
    """Do the scores of correct responses differ as declared, over lengths and cuts? And those of wrong ones, over forms too?"""
    settings: RewardSettings = REWARDS[name].build_settings(SETTINGS.get(name, {}), "here")
    given = {"coef": -0.5} if name == "stop_properly" else {}
    rows = [
        TOLD | {"response_tokens": tokens, "truncated": truncated, "length_level": "short"}
        for tokens in (1, 60, 99, 1000)
        for truncated in ((False,) if name == "batched_accuracy" else (False, True))  # its format asks for an end
    ]
    for texts, declared in (([RIGHT], settings.ranks_correct), ([WRONG, "no answer"], settings.ranks_wrong)):
        scores = {score(name, text, told=row, **given)["score"] for text in texts for row in rows}
        if name != "composition" and not settings.only_as_term:  # theirs depends on the terms, or on no answer
            assert (len(scores) > 1) == declared, (texts, scores)


@every
def test_it_needs_the_cost_only_if_it_says_so(name):
    settings = REWARDS[name].build_settings(SETTINGS.get(name, {}), "here")
    if settings.needs_cost:
        with pytest.raises(
            ValueError, match=rf"{name} needs extra_info\['(response_tokens|truncated|response_limit)'\]"
        ):
            score(name, RIGHT, told=ROW)
    else:
        score(name, RIGHT, told=ROW)


@every
def test_it_reads_the_columns_that_it_names(name):
    for role, path in REWARDS[name].build_settings(SETTINGS.get(name, {}), "here").columns.items():
        with pytest.raises(ValueError, match=f"{name} needs the column {path}"):
            score(name, RIGHT, told=COST)
        with pytest.raises(SettingsError, match=f"{role}_column: must begin with 'extra_info.'"):
            score(name, RIGHT, **{f"{role}_column": "difficulty"})


@every
def test_keys_that_verl_adds_are_not_settings(name):
    added = {"reward_router_address": "host:1", "reward_model_tokenizer": object()}
    assert score(name, RIGHT, **added) == score(name, RIGHT)


@every
@pytest.mark.parametrize("setting", ["advantage", "correct_threshold", "length_weight"])
def test_a_setting_of_estimators_is_refused_with_the_place_where_it_belongs(name, setting):
    with pytest.raises(
        SettingsError, match=rf"reward_kwargs\.{setting}: .*\+algorithm\.efficiency\.{setting}="
    ) as caught:
        score(name, RIGHT, **{setting: 1})
    if name in ("token_budget", "cosine"):
        assert f"algorithm.adv_estimator={name}" in str(caught.value)


@every
def test_a_term_can_have_each_of_its_settings(name):
    """In a term of ``composition``, ``name`` and ``weight`` belong to the term."""
    assert not {"name", "weight"} & {field.name for field in fields(REWARDS[name].settings_class())}


def test_composition_says_that_a_setting_belongs_to_a_term():
    with pytest.raises(SettingsError, match=r"reward_kwargs\.marker: .*terms.*marker: …"):
        score("composition", RIGHT, marker="####")


@every
def test_a_setting_that_nobody_has_is_unknown(name):
    with pytest.raises(SettingsError, match="unknown setting 'wibble'"):
        score(name, RIGHT, wibble=1)


def test_settings_of_one_value_and_another_type_are_told_apart():
    """The settings are kept between calls: 1, 1.0 and True are equal, but True is not a number."""
    assert score("repetition", RIGHT, n=1)["score"] < 0
    with pytest.raises(SettingsError, match="n: must be int, got True"):
        score("repetition", RIGHT, n=True)
    assert score("repetition", RIGHT, n=1)["score"] < 0


@pytest.mark.parametrize("name", SINGLE)
def test_a_reward_of_one_answer_has_the_keys_of_accuracy(name):
    assert AnswerSettings.extras.keys() <= score(name, RIGHT).keys() | {"tokens"}
    assert {field.name for field in fields(AnswerSettings)} == {"strip_thinking", "marker"}
