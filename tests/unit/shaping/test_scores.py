"""One score scale, and groups that nobody solved."""

import dataclasses
import logging
import random

import pytest

from tests.unit.reference import Row, groups_of
from tests.unit.shaping.batches import advantages, has, random_rows, run, settings_of
from verl_efficiency.methods.catalog import ESTIMATORS, SHAPERS
from verl_efficiency.methods.shaping import base

SCALED = sorted({*SHAPERS, "token_budget"} - {"drpo"})  # drpo reads nothing but correctness from the score
# Scores of a right and of a wrong answer in the authors' code, where they are not 1 and 0.
AUTHORS = {
    **dict.fromkeys(["kimi", "laser", "laser_d", "laser_de"], (1.0, -0.5)),
    **dict.fromkeys(["leash", "grpo_lead", "overlong"], (1.0, -1.0)),
    "short_rl": (3.0, -0.5),
}
SCALES = [(1.0, -1.0), (3.0, -0.5), (10.0, 0.0)]


def of_scale(name, right, wrong, **given):
    return settings_of(name, score_correct=right, score_wrong=wrong, **given)


def on_scale(rows, right, wrong):
    return [dataclasses.replace(row, score=wrong + (right - wrong) * row.score) if row.real else row for row in rows]


def test_the_scores_of_the_authors():
    assert {name: ESTIMATORS[name].settings_class().paper_scores for name in AUTHORS} == AUTHORS


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("name", SCALED)
def test_the_scale_of_the_scores_changes_nothing_but_the_scale(name, scale):
    """Told the scores, a method gives the same advantages under grpo, and scaled ones under dr_grpo."""
    rng = random.Random(f"{name}{scale}")
    for combine in ("shaped_reward", "decoupled"):
        for advantage, ratio, tolerance in (("dr_grpo", scale[0] - scale[1], 1e-9), ("grpo", 1.0, 1e-3)):
            given = {"combine": combine, "advantage": advantage}
            if name == "truncation":
                given["correct_boost"] = 0.0  # an amount of advantage, not of reward
            rows = [row for row in random_rows(rng) if row.real]
            alone = {members[0] for members in groups_of(rows).values() if len(members) == 1}  # these keep their reward
            plain = advantages(name, rows, settings_of(name, **given))
            told = advantages(name, on_scale(rows, *scale), of_scale(name, *scale, **given))
            for number, (one, other) in enumerate(zip(plain, told, strict=True)):
                if number not in alone:
                    assert other == pytest.approx(ratio * one, abs=tolerance * scale[0], rel=tolerance)


def test_kimi_and_laser_at_0_and_1_by_hand():
    """0.4 / 1.5 = 0.2667 between the shortest and the longest; 0.5 / 1.5 = 0.3333 for the one within the target."""
    rows = [Row(1.0, 10, "a"), Row(1.0, 30, "a")]
    kimi = advantages("kimi", rows, settings_of("kimi", advantage="dr_grpo"))
    assert kimi == pytest.approx([0.4 / 1.5 / 2, -0.4 / 1.5 / 2])
    laser = advantages("laser", rows, settings_of("laser", target_length=20.0, advantage="dr_grpo"))
    assert laser == pytest.approx([0.5 / 1.5 / 2, -0.5 / 1.5 / 2])


def test_leash_never_makes_a_wrong_answer_pay_at_0_and_1():
    """clip(s − λ/2 · max(0, L/T − 1), 0, 1): at λ = 0.8 and T = 100, 150 tokens cost a right answer 0.2, and 500 all of it."""
    chosen = settings_of("leash", target_length=100.0, initial_price=0.8, step=0.0, advantage="dr_grpo")
    rows = [Row(1.0, 150, "a"), Row(1.0, 500, "a"), Row(0.0, 500, "a"), Row(0.0, 50, "a")]
    assert advantages("leash", rows, chosen) == pytest.approx([0.6, -0.2, -0.2, -0.2])
    unsolved = [Row(0.0, length, "b") for length in (10, 200, 300, 900)]
    for advantage in ("grpo", "dr_grpo", "rloo"):
        assert advantages("leash", unsolved, dataclasses.replace(chosen, advantage=advantage)) == [0.0] * 4


def test_a_score_outside_of_the_scale_of_leash_is_not_clipped_by_itself():
    chosen = settings_of("leash", target_length=100.0, initial_price=0.2, step=0.0, advantage="dr_grpo")
    # 200 tokens cost 0.1; −0.5 may not fall further; 1.2 falls to 1.1: rewards 1.1, −0.5, 0, mean 0.2
    rows = [Row(1.2, 200, "a"), Row(-0.5, 200, "a"), Row(0.0, 200, "a")]
    assert advantages("leash", rows, chosen) == pytest.approx([0.9, -0.7, -0.2])


def test_scores_below_the_scale_are_named_once(caplog):
    base._warned.clear()
    rows = [Row(1.0, 5, "a"), Row(-1.0, 7, "a")]
    with caplog.at_level(logging.WARNING, logger="verl_efficiency"):
        run("kimi", rows, settings_of("kimi"))
        run("kimi", [Row(1.0, 5, "a"), Row(-2.0, 7, "a")], settings_of("kimi"))
        assert len(caplog.messages) == 1
        assert all(word in caplog.messages[0] for word in ("KimiSettings", "-1", "score_wrong", "score_correct"))
        caplog.clear()
        base._warned.clear()
        run("kimi", rows, of_scale("kimi", 1.0, -1.0))
        run("kimi", [Row(1.0, 5, "a"), Row(-1.0, 0, "pad", real=False)], settings_of("kimi"))
        assert caplog.messages == []


# Groups that nobody solved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(SHAPERS) - {"drpo"}))
def test_unsolved_groups_are_left_alone_when_asked(name):
    """Where a method shapes wrong answers, all-wrong groups have advantages; with ``unsolved=leave`` none has."""
    rows = [Row(1.0, 50, "a"), Row(0.0, 90, "a"), *(Row(0.0, length, "b") for length in (20, 60, 150, 250))]
    shaped = {}
    for unsolved in ("as_published", "leave"):
        chosen, state = settings_of(name, unsolved=unsolved), ESTIMATORS[name].new_state()
        if name == "hapo":
            state.shortest = {"b": 40}
        if name == "laser_de":
            state.steps, state.targets = 1, [100, 100, 100]
        outcome = run(name, rows, chosen, state)
        shaped[unsolved] = any(outcome.advantages_B.tolist()[2:])
        assert (outcome.metrics["unsolved_share"] > 0) == shaped[unsolved]
    assert shaped == {"as_published": has(name, "shapes_unsolved"), "leave": False}


def test_the_share_of_unsolved_groups_by_hand():
    """alp at 0.01 a token, K = 2: group a (½ solved) rewards 0.95, −0.15 (advantages ±0.55, 10 and 30 tokens); group b
    (floor ½) −0.05 and −0.15 (±0.05, 10 and 30 tokens): 40 · 0.05 / (40 · 0.55 + 40 · 0.05)."""
    rows = [Row(1.0, 10, "a"), Row(0.0, 30, "a"), Row(0.0, 10, "b"), Row(0.0, 30, "b")]
    chosen = settings_of("alp", beta=0.01, advantage="dr_grpo", unsolved="as_published")
    outcome = run("alp", rows, chosen)
    assert outcome.advantages_B.tolist() == pytest.approx([0.55, -0.55, 0.05, -0.05])
    assert outcome.metrics["unsolved_share"] == pytest.approx(0.05 / 0.6)
    assert run("alp", rows, dataclasses.replace(chosen, unsolved="leave")).metrics["unsolved_share"] == 0


def test_alp_says_that_its_paper_leaves_hard_problems_alone():
    (warning,) = settings_of("alp", unsolved="as_published").warnings
    assert "unsolved=leave" in warning
    assert settings_of("alp").warnings == ()
    for given in ({"combine": "decoupled"}, {"beta": 0.0}):
        assert settings_of("alp", unsolved="as_published", **given).warnings == ()
    assert settings_of("kimi").warnings == ()


# The calibration of gr3 ---------------------------------------------------------------------------------------------------


def test_the_calibration_of_gr3_by_hand():
    """One right of two: the rule is 1/(1 + α) ≥ ½ · 1/(1 + α x), with x its length over the mean length.

    Right 10, wrong 70 tokens: mean 40, x = ¼. 1/(1 + α) ≥ ½/(1 + α/4) holds up to 2 + α/2 ≥ 1 + α, α = 2. A second group of
    right 30, wrong 50 (x = ¾) always holds: 2 + 1.5 α ≥ 1 + α. All right: not counted.
    """
    short = [Row(1.0, 10, "a"), Row(0.0, 70, "a"), Row(1.0, 5, "c"), Row(1.0, 9, "c")]
    usual = [Row(1.0, 30, "b"), Row(0.0, 50, "b")]
    assert run("gr3", short, settings_of("gr3")).metrics["calibrated_alpha"] == 2.0
    assert run("gr3", usual, settings_of("gr3")).metrics["calibrated_alpha"] == 4.0
    assert run("gr3", [*short, *usual], settings_of("gr3")).metrics["calibrated_alpha"] == 2.0
    for alpha, share in ((1.9, 1.0), (2.1, 0.5)):
        assert run("gr3", [*short, *usual], settings_of("gr3", alpha=alpha)).metrics["calibrated"] == share
    all_right = run("gr3", short[2:], settings_of("gr3")).metrics
    assert (all_right["calibrated"], all_right["calibrated_alpha"]) == (1.0, 0.0)
