"""What must hold for every estimator of the catalog, on random batches."""

import dataclasses
import itertools
import math
import random

import pytest

from tests.unit import reference
from tests.unit.reference import Row, groups_of
from tests.unit.shaping.batches import LIMIT, NAMES, advantages, declared, has, random_rows, run, settings_of
from verl_efficiency.methods.catalog import ESTIMATORS, SHAPERS
from verl_efficiency.settings import SettingsError

TINY = 1e-9
ALL = tuple(
    name for name in ESTIMATORS if not settings_of(name).reads_responses
)  # those need token ids, see their tests
every_method = pytest.mark.parametrize("name", ALL)


def two_steps(name, rows, chosen):
    """Advantages of the second of two steps on the same batch: with a history, where the method keeps one."""
    state = ESTIMATORS[name].new_state()
    run(name, rows, chosen, state)
    return advantages(name, rows, chosen, state)


def batches(name, count=12, **options):
    rng = random.Random(name)
    return [random_rows(rng, **options) for _ in range(count)]


def length_of(rows):
    return lambda number: rows[number].length


@every_method
def test_finite_and_zero_on_padding(name):
    for rows in batches(name, graded=True):
        for row, advantage in zip(rows, two_steps(name, rows, settings_of(name)), strict=True):
            assert math.isfinite(advantage)
            assert row.real or advantage == 0


@every_method
def test_finite_at_the_ends_of_the_scale(name):
    """Responses of a billion tokens beside empty ones, scores of a million and of minus a million, and next to nothing between
    two lengths or two scores."""
    lengths, scores = [0, 1, 10**9, 10**9 + 1], [0.0, 1e-12, 1.0, 1.0 + 1e-12, 1e6, -1e6]
    rng = random.Random(name)
    for _ in range(12):
        rows = [Row(rng.choice(scores), rng.choice(lengths), f"g{number // 4}") for number in range(24)]
        outcome = run(name, rows, settings_of(name))
        assert all(map(math.isfinite, outcome.advantages_B.tolist()))
        assert all(math.isfinite(value) for value in outcome.metrics.values())


@every_method
def test_the_order_of_rows_and_the_names_of_groups_say_nothing(name):
    """Of equal rollouts selection takes the first, and grpo_roc any of the wrong ones: those are compared as a set."""
    rng = random.Random(1)
    for rows in batches(name):
        chosen = settings_of(name)
        order = rng.sample(range(len(rows)), len(rows))
        names = {row.group: row.group if row.group.startswith("pad") else f"uid-{rng.random()}" for row in rows}
        shuffled = [dataclasses.replace(rows[i], group=names[rows[i].group]) for i in order]
        old_names = {new: old for old, new in names.items()}

        def by_rollout(rows, values, old_names):
            alike = [(row.score, row.length) if row.score or name != "grpo_roc" else (0, 0) for row in rows]
            groups = [old_names.get(row.group, row.group) for row in rows]
            return sorted(zip(groups, alike, values, strict=True))

        plain = by_rollout(rows, two_steps(name, rows, chosen), {})
        moved = by_rollout(shuffled, two_steps(name, shuffled, chosen), old_names)
        assert [row[:2] for row in moved] == [row[:2] for row in plain]
        assert [row[2] for row in moved] == pytest.approx([row[2] for row in plain], abs=TINY)


@every_method
def test_no_reward_for_wrong_and_short(name):
    """Of two wrong rollouts of a group the shorter one never gets more, unless it is a trait of the method.

    Answers at the limit are left out: laser_de and cosine value those that were cut off less than any other.
    """
    gained = False
    for rows in batches(name, count=30):
        values = two_steps(name, rows, settings_of(name))
        for members in groups_of(rows).values():
            wrong = [i for i in members if rows[i].score == 0 and rows[i].length < LIMIT - 16]
            wrong.sort(key=length_of(rows))
            for shorter, longer in itertools.pairwise(wrong):
                if rows[shorter].length < rows[longer].length:
                    gained |= values[shorter] > values[longer] + TINY
    assert gained == has(name, "rewards_short_wrong")


@pytest.mark.parametrize("name", [name for name in SHAPERS if has(name, "rewards_short_wrong")])
def test_decoupled_leaves_wrong_answers_alone(name):
    for rows in batches(name):
        values = two_steps(name, rows, settings_of(name, combine="decoupled", advantage="grpo"))
        plain = reference.group_advantage("grpo", [row.score for row in rows], rows)
        for row, value, accuracy in zip(rows, values, plain, strict=True):
            assert row.score == 1 or value == pytest.approx(accuracy, abs=TINY)


@every_method
def test_equal_lengths_change_nothing(name):
    """With 0/1 scores and advantage grpo: where all lengths of a group are equal, its advantages are those of GRPO.

    Groups of one are left out: they have nothing to be compared with, and keep their (shaped) reward. Equal terms for all
    correct and for all wrong rollouts shift and stretch the rewards, which GRPO's normalisation undoes up to its ε.
    """
    changed = False
    for rows in batches(name):
        rng = random.Random(len(rows))
        length = {row.group: rng.randint(1, LIMIT - 20) for row in rows}
        rows = [dataclasses.replace(row, length=length[row.group] if row.real else 0) for row in rows]
        state = ESTIMATORS[name].new_state()
        values = advantages(name, rows, settings_of(name, **{} if name == "drpo" else {"advantage": "grpo"}), state)
        plain = reference.group_advantage("grpo", [row.score for row in rows], rows)
        for members in groups_of(rows).values():
            if len(members) > 1:
                changed |= [values[i] for i in members] != pytest.approx([plain[i] for i in members], abs=1e-3)
    assert changed == has(name, "equal_lengths_matter")


@pytest.mark.parametrize("name", [name for name in SHAPERS if not has(name, "equal_lengths_matter")])
def test_equal_lengths_change_nothing_when_decoupled(name):
    """Exactly, not up to GRPO's ε: the length terms of the correct are equal, and centred."""
    for rows in batches(name):
        rows = [dataclasses.replace(row, length=100 if row.real else 0) for row in rows]
        values = advantages(name, rows, settings_of(name, combine="decoupled", advantage="grpo"))
        plain = reference.group_advantage("grpo", [row.score for row in rows], rows)
        assert values == pytest.approx(plain, abs=TINY)


@pytest.mark.parametrize("name", sorted(SHAPERS))
def test_a_longer_correct_answer_never_gets_more(name):
    for rows in batches(name, count=30):
        values = two_steps(name, rows, settings_of(name))
        for members in groups_of(rows).values():
            right = sorted((i for i in members if rows[i].score == 1), key=length_of(rows))
            for shorter, longer in itertools.pairwise(right):
                assert values[longer] <= values[shorter] + TINY


NEED_THE_LIMIT = [name for name in NAMES if hasattr(ESTIMATORS[name].settings_class(), "max_response_length")]


@pytest.mark.parametrize("name", NEED_THE_LIMIT)
def test_without_the_limit_it_says_what_to_set(name):
    chosen = ESTIMATORS[name].build_settings({}, "here")
    if name == "arora":  # without a limit nothing counts as cut off
        assert run(name, [Row(1.0, 5, "a")], chosen)
        return
    with pytest.raises(SettingsError, match="max_response_length"):
        run(name, [Row(1.0, 5, "a")], chosen)


ANYTHING_GOES = {  # (method, setting) pairs without a wrong number
    *((name, "score_wrong") for name in NAMES),
    *(
        ("cosine", name)
        for name in ("correct_shortest", "correct_longest", "wrong_shortest", "wrong_longest", "exceed")
    ),
    *(("grpo_lead", name) for name in ("midpoint", "steepness")),
    *(("truncation", name) for name in ("truncated_value",)),
    *(("s_grpo", name) for name in ("seed",)),
    *((method, "prompt_column") for method in ("hapo", "toggle")),
}


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_refused_by_name(name):
    for field in dataclasses.fields(ESTIMATORS[name].settings_class()):
        free = field.name in declared(name, "ANY_NUMBER", ()) or (name, field.name) in ANYTHING_GOES
        if free or field.name == "correct_threshold" or isinstance(field.default, bool):
            continue
        nonsense = "nonsense" if isinstance(field.default, str) else type(field.default or 1)(-5)
        if field.name == "wrong_reward":
            nonsense = 5.0
        with pytest.raises(SettingsError, match=field.name):
            ESTIMATORS[name].build_settings({field.name: nonsense}, "here")
