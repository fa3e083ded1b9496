"""Every method equals its formula in plain loops: ties, all right, all wrong, groups of one, empty answers, padding."""

import random
from dataclasses import replace

import pytest

from tests.unit.reference import Row
from tests.unit.shaping.batches import NAMES, advantages, declared, random_rows, settings_of
from tests.unit.shaping.formulas import FORMULAS
from verl_efficiency.methods.catalog import ESTIMATORS, SHAPERS
from verl_efficiency.verl.estimators import read_settings

TINY = 1e-9
VARIANTS = {  # other values of the settings that change the formula
    "arora": [{"alpha": 0.4}, {"alpha": 0.0}],
    "kimi": [{"weight": 0.1}],
    "laser": [{"target_length": 30.0, "bonus": 0.25}],
    "laser_d": [{"grid_points": 5, "expected_correct": 2}, {"min_target": 150, "update_every": 1}],
    "laser_de": [{"grid_points": 5, "expected_correct": 2}, {"min_target": 150, "update_every": 1}],
    "short_rl": [{"accuracy_tolerance": 0.0, "length_tolerance": 0.0}, {"weight": 0.3}],
    "shorter_better": [{"alpha": 1.0, "beta": 0.01}],
    "grpo_lead": [{"shape_above": 60.0}, {"alpha": 0.5, "wrong_reward": 0.0, "steepness": 3.0}],
    "gr3": [{"alpha": 2.0}],
    "hapo": [{"weight": 0.5}],
    "leash": [{"max_price": 0.31}],
    "drpo": [{"temperature": 1.0}, {"temperature": 0.01}],
    "cosine": [{"margin": 0, "exceed": -3.0}, {"correct_shortest": 6.0, "correct_longest": 5.0}],
    "truncation": [{"truncated_value": -0.3}, {"truncated_factor": 0.0, "correct_boost": 0.0}],
    "overlong": [{"buffer": None}, {"buffer": 1, "factor": 2.0}],
    "toggle": [{"percentile": 0.0}, {"percentile": 90.0, "phase_steps": 1}, {"threshold": 0.0}, {"threshold": 0.9}],
    "pass_rate": [{"output_weight": 0.0, "context_weight": 2.0}, {"turns_weight": 0.0, "context_weight": 0.0}],
    "grlc": [
        {"thinking_weight": 0.0, "answer_weight": 3.0},
        {"thinking_bonus": 0.3, "answer_bonus": 0.2, "top_share": 0.5},
    ],
    "gfpo": [
        {"adaptive": True},
        {"adaptive": True, "keep_easiest": 0.1, "keep_easy": 0.3, "keep_hard": 0.7, "keep_hardest": 1.0},
        {"keep": 3},
        {"metric": "token_efficiency"},
        {"keep": 1, "metric": "token_efficiency"},
    ],
    "grpo_roc": [{"keep": 4}, {"keep": 5, "min_correct": 1, "min_wrong": 3}, {"min_correct": 0, "min_wrong": 0}],
}


def formula_of(name):
    found = FORMULAS.get(name) or declared(name, "formula", None)
    assert found, f"define formula(rows, settings, state) in tests/unit/shaping/test_{name}.py, see batches.py"
    return found


def test_every_formula_belongs_to_a_method():
    assert set(FORMULAS) <= set(NAMES)


def of_each_advantage(name):
    if name == "drpo":  # has its own
        return [{}]
    names = ("grpo", "dr_grpo", "rloo", "batch")
    given = [{"advantage": advantage} for advantage in names]
    if name in SHAPERS:
        given += [{"combine": "decoupled", "advantage": advantage} for advantage in names]
        given += [{"combine": "decoupled", "length_weight": 3.0}, {"unsolved": "leave"}]
        given += [{"score_correct": 3.0, "score_wrong": -0.5}, {"score_wrong": -1.0, "combine": "decoupled"}]
    return given


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "scores", [{}, {"wrong_score": -1.0}, {"graded": True}], ids=["0/1 scores", "-1/1 scores", "graded scores"]
)
def test_equal_to_the_formula(name, scores):
    rng = random.Random(f"{name}{scores}")
    for given in [*of_each_advantage(name), *(VARIANTS.get(name) or declared(name, "VARIANTS", []))]:
        for _ in range(2):
            chosen = settings_of(name, **given)
            state, reference_state = ESTIMATORS[name].new_state(), {}
            for _ in range(4):  # four steps in a row, for those that keep a state
                rows = random_rows(rng, **scores)
                expected = formula_of(name)(rows, chosen, reference_state)
                assert advantages(name, rows, chosen, state) == pytest.approx(expected, abs=TINY, rel=TINY), given


@pytest.mark.parametrize(
    "name", [name for name in SHAPERS if getattr(ESTIMATORS[name].settings_class(), "paper_scores", (1, 0)) != (1, 0)]
)
def test_equal_to_the_formula_at_the_scores_of_the_authors(name):
    """Where these are not 1 and 0. The settings name them, so an amount of reward is the number that the authors write."""
    rng, (right, wrong) = random.Random(name), ESTIMATORS[name].settings_class().paper_scores
    for given in ({}, {"advantage": "dr_grpo"}, {"combine": "decoupled", "advantage": "dr_grpo"}):
        chosen = settings_of(name, score_correct=right, score_wrong=wrong, **given)
        state, reference_state = ESTIMATORS[name].new_state(), {}
        for _ in range(4):
            rows = [replace(row, score=right if row.score else wrong) if row.real else row for row in random_rows(rng)]
            expected = formula_of(name)(rows, chosen, reference_state)
            assert chosen.score_unit == 1
            assert advantages(name, rows, chosen, state) == pytest.approx(expected, abs=TINY, rel=TINY)


@pytest.mark.parametrize("name", NAMES)
def test_another_threshold(name):
    rng = random.Random(7)
    chosen, state, reference_state = settings_of(name, correct_threshold=0.6), ESTIMATORS[name].new_state(), {}
    for _ in range(4):
        rows = random_rows(rng, graded=True)
        expected = formula_of(name)(rows, chosen, reference_state)
        assert advantages(name, rows, chosen, state) == pytest.approx(expected, abs=TINY, rel=TINY)


@pytest.mark.parametrize("name", sorted({"token_budget", *SHAPERS} - {"drpo"}))  # drpo has its own advantage
def test_verls_own_switch_counts_however_the_terms_are_combined(name):
    """``algorithm.norm_adv_by_std_in_grpo=False`` makes ``grpo`` the plain difference to the mean, and leaves rloo alone."""
    for combine in ("shaped_reward", "decoupled"):
        for given, meant in (("grpo", "dr_grpo"), ("rloo", "rloo")):
            efficiency = {"combine": combine, "advantage": given}
            chosen = read_settings(ESTIMATORS[name], {"norm_adv_by_std_in_grpo": False, "efficiency": efficiency})
            assert (chosen.advantage, chosen.combine) == (meant, combine)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_padding_and_nothing_at_all(name):
    chosen = settings_of(name)
    assert advantages(name, [Row(0.0, 0, "pad", real=False)] * 2, chosen) == [0.0, 0.0]
    assert advantages(name, [], chosen) == []
