"""gfpo and grpo_roc: numbers by hand."""

import pytest

from tests.unit.reference import Row
from tests.unit.shaping.batches import advantages, run, settings_of
from verl_efficiency.methods.selection.gfpo import GfpoState
from verl_efficiency.settings import SettingsError


def test_gfpo_by_length_by_hand():
    rows = [Row(1.0, 40, "a"), Row(0.0, 10, "a"), Row(1.0, 20, "a"), Row(1.0, 30, "a"), Row(0.0, 50, "a")]
    # half of five is three: lengths 10, 20, 30 with scores 0, 1, 1, mean ⅔
    values = advantages("gfpo", rows, settings_of("gfpo", advantage="dr_grpo"))
    assert [round(value, 4) for value in values] == [0, -0.6667, 0.3333, 0.3333, 0]
    # two: 10 and 20 tokens
    assert advantages("gfpo", rows, settings_of("gfpo", keep=2, advantage="dr_grpo")) == [0, -0.5, 0.5, 0, 0]
    # one has nothing to be compared with and keeps its score, as everywhere
    assert advantages("gfpo", rows, settings_of("gfpo", keep=1, advantage="dr_grpo")) == [0] * 5
    assert advantages("gfpo", rows, settings_of("gfpo", keep=9, advantage="dr_grpo")) == [0.4, -0.6, 0.4, 0.4, -0.6]


def test_gfpo_keeps_more_of_harder_groups_by_hand():
    """Groups of four: ¼ kept is one, ⅜ two, ½ two. The quarters are of all groups of the run so far."""
    state, chosen = (
        GfpoState(),
        settings_of("gfpo", adaptive=True, keep_hardest=1.0, keep_hard=0.75, advantage="dr_grpo"),
    )

    def group(name, right):
        return [Row(float(number < right), 10 + number, name) for number in range(4)]

    rows = [row for name, right in (("a", 0), ("b", 1), ("c", 2), ("d", 4)) for row in group(name, right)]
    values = run("gfpo", rows, chosen, state).advantages_B.tolist()
    # a, hardest: all four, nobody right. b: three of scores 1, 0, 0. c: two, both right. d: one, which keeps its score.
    assert values == pytest.approx([0, 0, 0, 0, 2 / 3, -1 / 3, -1 / 3, 0, 0, 0, 0, 0, 1, 0, 0, 0])
    assert (state.means, state.counts) == ([0.0, 0.25, 0.5, 1.0], [1, 1, 1, 1])
    # three of six groups are all right now
    outcome = run("gfpo", [*group("e", 4), *group("f", 4)], chosen, state)
    assert (state.means, state.counts) == ([0.0, 0.25, 0.5, 1.0], [1, 1, 1, 3])
    assert [state.quarter(mean) for mean in state.means] == [0, 1, 1, 3]  # middles 0.5, 1.5, 2.5 and 4.5 of 6
    assert outcome.metrics["kept"] == 0.25


def test_gfpo_refuses_settings_that_would_not_count():
    for given, named in (
        ({"keep": 2, "adaptive": True}, "keep"),
        ({"keep_hard": 0.6}, "keep_hard"),
        ({"keep_easy": 0.0, "adaptive": True}, "keep_easy"),
    ):
        with pytest.raises(SettingsError, match=f"here.{named}: "):
            settings_of("gfpo", **given)


def test_gfpo_by_token_efficiency_by_hand():
    rows = [Row(1.0, 40, "a"), Row(0.0, 10, "a"), Row(0.5, 10, "a"), Row(1.0, 100, "a")]
    # score per token: 0.025, 0, 0.05, 0.01; the best two score 1 and 0.5
    chosen = settings_of("gfpo", metric="token_efficiency", advantage="dr_grpo")
    assert advantages("gfpo", rows, chosen) == [0.25, 0, -0.25, 0]


def test_of_equals_the_higher_score_and_then_the_earlier_one_is_kept():
    rows = [Row(0.0, 10, "a"), Row(1.0, 10, "a"), Row(0.0, 10, "a"), Row(0.0, 10, "a")]
    assert advantages("gfpo", rows, settings_of("gfpo", advantage="dr_grpo")) == [-0.5, 0.5, 0, 0]


def test_grpo_roc_by_hand():
    right = [Row(1.0, length, "a") for length in (60, 10, 50, 20, 40, 30)]
    wrong = [Row(0.0, 5, "a"), Row(0.0, 99, "a")]
    # four of eight: 3 right and 1 wrong in proportion, held at 2 wrong and so 2 right: the shortest ones
    outcome = run("grpo_roc", right + wrong, settings_of("grpo_roc", advantage="dr_grpo"))
    assert outcome.advantages_B.tolist() == [0, 0.5, 0, 0.5, 0, 0, -0.5, -0.5]
    assert outcome.metrics == {"solve_rate": 0.75, "kept_solve_rate": 0.5, "kept": 0.5}
    # with at least one of each: 3 right, 1 wrong (the first)
    chosen = settings_of("grpo_roc", min_correct=1, min_wrong=1, advantage="dr_grpo")
    assert advantages("grpo_roc", right + wrong, chosen) == [0, 0.25, 0, 0.25, 0, 0.25, -0.75, 0]


def test_grpo_roc_keeps_small_groups_whole():
    rows = [Row(1.0, 10, "a"), Row(0.0, 20, "a"), Row(1.0, 30, "b")]
    chosen = settings_of("grpo_roc", keep=4, advantage="dr_grpo")
    assert advantages("grpo_roc", rows, chosen) == [0.5, -0.5, 1.0]
