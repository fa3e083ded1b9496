"""Which rollouts are restarted, and where: by hand, and what must hold of the draw."""

import collections
import dataclasses
import doctest

import pytest

from tests.unit.test_t_spmo import TREE, Row, build
from verl_efficiency.methods.selection import replay as module
from verl_efficiency.methods.selection.replay import replay_prefixes
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings
from verl_efficiency.settings import SettingsError


def replayed(rows, step=0, **chosen):
    row_R, length_R = replay_prefixes(build(rows), TSpmoSettings(**{"replay": 8, **chosen}), step)
    return list(zip(row_R.tolist(), length_R.tolist(), strict=True))


def test_replay_before_the_largest_credit():
    assert replayed(TREE) == [(4, 2)]  # 4·5, before 8
    swapped = [dataclasses.replace(row, score=float(row.tokens[1] == 5)) for row in TREE]
    assert replayed(swapped) == [(3, 1)]  # only the first split tells right from wrong, and |A(4, 6)| = ⅔ > ⅓


def test_replay_at_the_deepest_credit():
    assert replayed(TREE, replay_rule="deepest") == [(4, 2)]  # 4·5·7·7 is deeper, but nothing is to be learnt there
    late = [dataclasses.replace(row, score=float(place != 0) / 8 + row.score) for place, row in enumerate(TREE)]
    assert replayed(late, replay_rule="deepest") == [(0, 4)]  # |A| of 1 is ⅛ · ⅔, of 3 ⅛ · ⅓
    assert replayed(late) == [(4, 2)]


def test_replay_of_ties_takes_the_earliest():
    rows = [Row((1, 1, 1, 4), 1.0), Row((1, 1, 1, 5), 0.0), Row((2, 1), 1.0), Row((2, 3), 0.0)]
    assert replayed(rows) == [(2, 1)]  # four pairs of ½: the shortest prefix, then the first row
    assert replayed(rows, replay_rule="deepest") == [(0, 3)]


def test_replay_leaves_out_prompts_without_a_usable_branch():
    at_once = [Row((1, 1), 1.0), Row((2, 2), 0.0)]
    all_right = [Row((1, 1), 1.0, 1), Row((1, 2), 1.0, 1)]
    padding = [Row((1, 1), 1.0, 2, False), Row((1, 2), 0.0, 2, False)]
    for rule in ("credit", "deepest"):
        assert replayed(at_once + all_right + padding, replay_rule=rule) == []
    for step in range(20):
        ((row, length),) = replayed(at_once + all_right + padding, step, replay_rule="random")
        assert row in (0, 1)
        assert length == 1


def test_replay_draws_prompts_evenly_and_again_the_same():
    rows = [Row((0, token), float(token), group) for group in range(40) for token in (0, 1)]
    drawn = [replayed(rows, step, replay=10) for step in range(200)]
    assert drawn == [replayed(rows, step, replay=10) for step in range(200)]
    assert drawn != [replayed(rows, step, replay=10, replay_seed=1) for step in range(200)]
    assert all(len({row // 2 for row, _ in pairs}) == 10 for pairs in drawn)
    times = collections.Counter(row // 2 for pairs in drawn for row, _ in pairs)
    assert len(times) == 40
    assert all(25 <= times[group] <= 75 for group in range(40))  # 50 expected, standard deviation 6
    assert len(replayed(rows, replay=99)) == 40


def test_random_replay_reaches_every_place_of_every_rollout():
    rows = [Row((0, 1, 2, 3), 1.0), Row((0, 1, 5), 0.0), Row((6,), 0.0), Row((0, 1, 5), 0.0, real=False)]
    times = collections.Counter(pair for step in range(400) for pair in replayed(rows, step, replay_rule="random"))
    assert set(times) == {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)}
    assert 160 <= sum(times[pair] for pair in times if pair[0] == 0) <= 240  # 200 expected, standard deviation 10


@pytest.mark.parametrize("setting", ["replay", "replay_seed"])
def test_a_negative_number_is_refused(setting):
    with pytest.raises(SettingsError, match=f"^{setting}: must be a .*number.*, got -1"):
        TSpmoSettings(**{setting: -1})


def test_examples():
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
