"""Settings are built from what the user wrote, or refused with one line that names the place and the fix."""

from dataclasses import dataclass
from typing import Literal

import pytest

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing.variance_routing import VarianceRoutingSettings
from verl_efficiency.methods.shaping.token_budget import TokenBudgetSettings
from verl_efficiency.settings import SettingsError, build_settings, nearest, require, unknown

WHERE = "algorithm.efficiency"


@dataclass(frozen=True)
class Every:
    flag: bool = False
    count: int = 1
    weight: float = 0.5
    name: str = "x"
    choice: Literal["one", "two"] = "one"
    limit: float | None = None
    column: str | None = None

    def __post_init__(self):
        require(self.weight >= 0, "weight", self.weight, "a number of at least 0")


def test_nothing_written_means_the_defaults():
    assert build_settings(Every, None, WHERE) == build_settings(Every, {}, WHERE) == Every()


def test_every_type():
    written = {"flag": True, "count": 3, "weight": 2, "name": "y", "choice": "two", "limit": 7, "column": "z"}
    built = build_settings(Every, written, WHERE)
    assert built == Every(True, 3, 2.0, "y", "two", 7.0, "z")
    assert isinstance(built.weight, float)
    assert isinstance(built.limit, float)
    assert build_settings(Every, {"limit": None, "column": None}, WHERE) == Every()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"wieght": 1}, ["algorithm.efficiency:", "unknown setting 'wieght'", "did you mean 'weight'?"]),
        ({"zzz": 1}, ["unknown setting 'zzz'.", "Known: choice, column, count"]),
        ({"weight": -1}, ["algorithm.efficiency.weight:", "must be a number of at least 0", "-1"]),
        ({"weight": "0.3"}, ["algorithm.efficiency.weight:", "must be float", "'0.3' (str)"]),
        ({"weight": True}, ["algorithm.efficiency.weight:", "must be float", "True (bool)"]),
        ({"weight": None}, ["algorithm.efficiency.weight:", "must be float", "None"]),
        ({"weight": float("nan")}, ["algorithm.efficiency.weight:", "nan"]),
        ({"count": 1.5}, ["algorithm.efficiency.count:", "must be int", "1.5 (float)"]),
        ({"count": True}, ["algorithm.efficiency.count:", "must be int", "True (bool)"]),
        ({"flag": 1}, ["algorithm.efficiency.flag:", "must be bool", "1 (int)"]),
        ({"name": 5}, ["algorithm.efficiency.name:", "must be str", "5 (int)"]),
        ({"choice": "tow"}, ["algorithm.efficiency.choice:", "unknown value 'tow'", "did you mean 'two'?"]),
        ({"choice": None}, ["algorithm.efficiency.choice:", "Known: one, two"]),
        ({"limit": "many"}, ["algorithm.efficiency.limit:", "must be float", "'many' (str)"]),
    ],
)
def test_refused_in_one_line_with_place_and_mend(written, words):
    with pytest.raises(SettingsError) as caught:
        build_settings(Every, written, WHERE)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_nearest_right_name():
    assert nearest("penaltty", ["penalty", "margin"]) == "; did you mean 'penalty'?"
    assert nearest("qqq", ["penalty", "margin"]) == ""
    assert unknown("estimator", "token_bugdet", ["token_budget", "grpo"]) == (
        "unknown estimator 'token_bugdet'; did you mean 'token_budget'? Known: grpo, token_budget"
    )


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ({"b_min": 0}, "b_min"),
        ({"b_max": -5}, "b_max"),
        ({"b_min": float("nan")}, "b_min"),
        ({"b_min": 200, "b_max": 100}, "b_min"),
        ({"penalty": -0.1}, "penalty"),
        ({"penalty": float("nan")}, "penalty"),
        ({"overrun_max": -1}, "overrun_max"),
        ({"margin": -0.01}, "margin"),
        ({"length_weight": -1}, "length_weight"),
        ({"smoothing": -1}, "smoothing"),
        ({"running_decay": 1}, "running_decay"),
        ({"budget_decay": -0.1}, "budget_decay"),
        ({"budget_decay": 1.0}, "budget_decay"),
        ({"blend_weight": 1.1}, "blend_weight"),
        ({"gate_solve_rate": 2}, "gate_solve_rate"),
        ({"difficulty": "grup"}, "difficulty"),
        ({"combine": "decopled"}, "combine"),
        ({"apply_to": "wrong"}, "apply_to"),
        ({"apply_to": "all"}, "apply_to"),  # decoupled is the default
        ({"accuracy_guard": 0}, "accuracy_guard"),
        ({"accuracy_guard": 1.1}, "accuracy_guard"),
        ({"score_wrong": 1}, "score_wrong"),
        ({"score_correct": -1}, "score_wrong"),
        ({"unsolved": "drop"}, "unsolved"),
        ({"apply_to": "all", "combine": "decoupled"}, "apply_to"),
        ({"advantage": "gae"}, "advantage"),
    ],
)
def test_token_budget_refuses(written, place):
    with pytest.raises(SettingsError, match=f"^algorithm.efficiency.{place}: "):
        ESTIMATORS["token_budget"].build_settings(written, WHERE)


@pytest.mark.parametrize(
    ("wrong", "right", "threshold", "accepted"),
    [
        (0, 1, 2, False),  # nothing would be correct
        (0, 1, 1.001, False),
        (0, 1, 1, True),
        (0, 1, 0.001, True),
        (0, 1, 0, False),  # a wrong answer would be correct
        (0, 1, -1, False),
        (-1, 1, 0, True),
        (-1, 1, -1, False),
        (0, 10, 10, True),
        (1, 2, 0.5, False),
        (1, 2, 1.5, True),
        (0, 0.3, 0.5, False),
    ],
)
@pytest.mark.parametrize("name", ["token_budget", "kimi", "arora"])
def test_the_threshold_lies_between_the_scores(name, wrong, right, threshold, accepted):
    written = {"score_wrong": wrong, "score_correct": right, "correct_threshold": threshold}
    if accepted:
        assert ESTIMATORS[name].build_settings(written, WHERE).correct_threshold == threshold
    else:
        with pytest.raises(SettingsError, match=f"^algorithm.efficiency.correct_threshold: .*got {threshold}"):
            ESTIMATORS[name].build_settings(written, WHERE)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("token_budget", "b_max"),
        ("token_budget", "penalty"),
        ("token_budget", "length_weight"),
        ("variance_routing", "reference_weight"),
    ],
)
def test_infinity_is_refused_where_it_would_make_nan(name, setting):
    with pytest.raises(SettingsError, match=f"^algorithm.efficiency.{setting}: "):
        ESTIMATORS[name].build_settings({setting: float("inf")}, WHERE)


@pytest.mark.parametrize(
    "written",
    [
        {"b_min": 100, "b_max": 100},
        {"penalty": 0, "margin": 0, "overrun_max": 0, "length_weight": 0, "smoothing": 0},
        {"running_decay": 0, "budget_decay": 0, "blend_weight": 1, "gate_solve_rate": 1},
        {"b_min": None, "b_max": 50.5},
        {"accuracy_guard": 1},
        {"accuracy_guard": None, "combine": "shaped_reward", "apply_to": "all"},
    ],
)
def test_token_budget_takes_the_ends_of_its_ranges(written):
    assert isinstance(ESTIMATORS["token_budget"].build_settings(written, WHERE), TokenBudgetSettings)


@pytest.mark.parametrize(
    ("written", "place"),
    [({"variance_threshold": -0.1}, "variance_threshold"), ({"reference_weight": -1}, "reference_weight")],
)
def test_variance_routing_refuses(written, place):
    with pytest.raises(SettingsError, match=f"^algorithm.efficiency.{place}: must be a number of at least 0"):
        build_settings(VarianceRoutingSettings, written, WHERE)


def test_what_an_adapter_asks_of_the_settings():
    group = TokenBudgetSettings()
    assert (group.columns, group.names_prompts, group.keeps_state) == ({}, False, True)
    guarded = TokenBudgetSettings(b_min=10.0, b_max=20.0)
    assert (guarded.columns, guarded.names_prompts, guarded.keeps_state) == ({}, False, True)
    fixed = TokenBudgetSettings(b_min=10.0, b_max=20.0, accuracy_guard=None)
    assert (fixed.columns, fixed.names_prompts, fixed.keeps_state) == ({}, False, False)
    half = TokenBudgetSettings(b_min=10.0, accuracy_guard=None)
    assert half.keeps_state
    known = {"difficulty": "data", "difficulty_column": "extra_info.level"}
    data = TokenBudgetSettings(**known, b_min=1.0, b_max=2.0, accuracy_guard=None)
    assert (data.columns, data.names_prompts, data.keeps_state) == ({"difficulty": "extra_info.level"}, False, False)
    blend = TokenBudgetSettings(difficulty="blend")
    assert blend.columns == {"difficulty": "extra_info.difficulty"}
    running = TokenBudgetSettings(difficulty="running", b_min=1.0, b_max=2.0)
    assert (running.columns, running.names_prompts, running.keeps_state) == ({}, True, True)
    named = TokenBudgetSettings(difficulty="running", prompt_column="extra_info.index")
    assert (named.columns, named.names_prompts) == ({"prompt": "extra_info.index"}, True)
    routing = VarianceRoutingSettings()
    assert (routing.columns, routing.names_prompts, routing.keeps_state) == ({}, False, False)
