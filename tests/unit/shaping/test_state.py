"""State: carried from step to step, the same whether or not a run was interrupted."""

import dataclasses
import json
import random

import pytest

from tests.unit.reference import Row
from tests.unit.shaping.batches import NAMES, advantages, random_rows, run, settings_of
from tests.unit.test_rollouts import build
from verl_efficiency.methods.catalog import ESTIMATORS, SHAPERS

STATEFUL = [name for name in NAMES if ESTIMATORS[name].new_state() is not None]

STATE_WITH = {"gfpo": {"adaptive": True}}  # the settings at which a state is kept, where not always


def test_which_methods_keep_a_state():
    assert {"a_dlp", "gfpo", "hapo", "laser_d", "laser_de", "leash", "short_rl", "toggle"} <= set(STATEFUL)
    for name in NAMES:
        assert settings_of(name, **STATE_WITH.get(name, {})).keeps_state == (name in STATEFUL)
    assert not settings_of("gfpo").keeps_state
    assert {"hapo", "toggle"} <= {name for name in NAMES if settings_of(name).names_prompts}


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("by_path", [False, True], ids=["", "custom"])
def test_a_state_that_was_saved_and_loaded_goes_on_as_if_nothing_had_happened(name, by_path):
    rng = random.Random(name)
    steps = [random_rows(rng) for _ in range(6)]
    chosen = settings_of(name, **STATE_WITH.get(name, {}))
    if by_path:
        name, chosen = "custom", through_custom(name, chosen)
    method = ESTIMATORS[name]

    whole = method.new_state()
    uninterrupted = [advantages(name, rows, chosen, whole) for rows in steps]
    first = method.new_state()
    resumed = [advantages(name, rows, chosen, first) for rows in steps[:3]]
    saved = json.dumps(dataclasses.asdict(first))
    second = dataclasses.replace(method.new_state(), **json.loads(saved))  # as verl/run.py restores it
    resumed += [advantages(name, rows, chosen, second) for rows in steps[3:]]
    assert resumed == uninterrupted
    assert second == whole
    assert json.dumps(dataclasses.asdict(first)) == saved  # what is saved does not change with the run that goes on
    assert second != method.new_state()


def test_padding_alone_moves_no_price():
    for name in ("leash", "a_dlp"):
        state = ESTIMATORS[name].new_state()
        outcome = run(name, [Row(0.0, 0, "pad", real=False)], settings_of(name), state)
        assert state.price == outcome.metrics["price"] == settings_of(name).initial_price


def test_the_price_of_leash_by_hand():
    state, chosen = (
        ESTIMATORS["leash"].new_state(),
        settings_of("leash", target_length=100.0, initial_price=0.5, step=0.4),
    )
    long, short = [Row(1.0, 150, "a"), Row(0.0, 150, "a")], [Row(1.0, 0, "a"), Row(0.0, 20, "a")]
    run("leash", long, chosen, state)
    assert state.price == pytest.approx(0.5 + 0.4 * 0.5)
    run("leash", short, chosen, state)
    assert state.price == pytest.approx(0.7 - 0.4 * 0.9)
    run("leash", short, chosen, state)
    assert state.price == 0.0  # 0.34 − 0.36 is held at 0
    for _ in range(15):
        run("leash", long, chosen, state)
    assert state.price == 2.0  # max_price


def test_the_price_of_a_dlp_by_hand():
    state, chosen = ESTIMATORS["a_dlp"].new_state(), settings_of("a_dlp", reference_accuracy=0.75, step=0.01)
    run("a_dlp", [Row(1.0, 5, "a"), Row(1.0, 5, "a")], chosen, state)
    assert state.price == pytest.approx(0.001 + 0.01 * 0.25)
    run("a_dlp", [Row(1.0, 5, "a"), Row(0.0, 5, "a")], chosen, state)
    assert state.price == pytest.approx(0.001)
    run("a_dlp", [Row(0.0, 5, "a"), Row(0.0, 5, "a")], chosen, state)
    assert state.price == 0.0


def test_the_history_of_hapo_by_hand():
    """Step 1 knows nothing; a prompt that comes twice in a step is compared with what was known before it."""
    state, chosen = ESTIMATORS["hapo"].new_state(), settings_of("hapo", advantage="dr_grpo")
    first = [Row(1.0, 40, "a"), Row(0.0, 90, "a"), Row(0.0, 5, "b"), Row(0.0, 7, "b")]
    assert advantages("hapo", first, chosen, state) == [0.5, -0.5, 0.0, 0.0]
    assert state.shortest == {"a": 40}
    # cos(½ π · 20/40) = 0.7071 for the right one; the wrong one at 40 loses nothing: rewards 1.7071 and 0
    values = advantages("hapo", [Row(1.0, 20, "a"), Row(0.0, 40, "a")], chosen, state)
    assert values == pytest.approx([0.8535534, -0.8535534])
    assert state.shortest == {"a": 20}
    run("hapo", [Row(1.0, 500, "a"), Row(1.0, 0, "a")], chosen, state)  # longer, or empty: nothing new
    assert state.shortest == {"a": 20}


@pytest.mark.parametrize("name", ["hapo", "toggle"])
def test_without_names_of_prompts_it_says_so(name):
    with pytest.raises(ValueError, match="prompt_ids_G"):
        ESTIMATORS[name].function()(build([Row(1.0, 5, "a")]), settings_of(name), ESTIMATORS[name].new_state())


def test_the_phases_and_budgets_of_toggle_by_hand():
    """Two steps with budgets, two without. The budget of the first correct answers stays, whatever comes later."""
    state, chosen = ESTIMATORS["toggle"].new_state(), settings_of("toggle", phase_steps=2, advantage="dr_grpo")
    first = [Row(1.0, 10, "a"), Row(1.0, 20, "a"), Row(1.0, 60, "a"), Row(0.0, 5, "b"), Row(1.0, 99, "c")]
    # a: median 20, so 60 is over it and counts 0: mean ⅔. b is unsolved. c is its own budget.
    assert advantages("toggle", first, chosen, state) == pytest.approx([1 / 3, 1 / 3, -2 / 3, 0, 1])
    assert (state.steps, state.budgets) == (1, {"a": 20.0, "c": 99.0})
    hard = [Row(1.0, 90, "a"), Row(0.0, 5, "a"), Row(0.0, 5, "a"), Row(1.0, 90, "b"), Row(1.0, 30, "b")]
    # a: mean ⅓ is below the threshold of ½, so nobody is limited. b: its first correct answers, budget 60.
    assert advantages("toggle", hard, chosen, state) == pytest.approx([2 / 3, -1 / 3, -1 / 3, -0.5, 0.5])
    assert (state.steps, state.budgets) == (2, {"a": 20.0, "c": 99.0, "b": 60.0})
    free = [Row(1.0, 90, "a"), Row(1.0, 20, "a")]
    for _ in range(2):
        assert advantages("toggle", free, chosen, state) == [0, 0]
    assert advantages("toggle", free, chosen, state) == [-0.5, 0.5]  # with budgets again
    run("toggle", [Row(0.0, 0, "pad", real=False)], chosen, state)
    assert (state.steps, state.budgets) == (5, {"a": 20.0, "c": 99.0, "b": 60.0})  # padding alone is not a step


def test_the_targets_of_laser_d_by_hand():
    """Chosen at the first step, and after every second one from the rollouts since."""
    chosen = settings_of("laser_d", max_response_length=100, grid_points=10, update_every=2)
    state = ESTIMATORS["laser_d"].new_state()
    easy = [Row(1.0, length, "a") for length in (15, 25, 35, 45, 55, 65)]  # n_right = 4: a quarter must be covered
    run("laser_d", easy, chosen, state)
    assert state.targets == [100, 100, 30]  # two of six within 30
    longer = [dataclasses.replace(row, length=row.length + 30) for row in easy]
    run("laser_d", longer, chosen, state)
    assert state.targets == [100, 100, 30]
    run("laser_d", longer, chosen, state)  # four of twelve within 60
    assert state.targets == [100, 100, 60]
    medium = [
        Row(1.0, 90, "b"),
        Row(1.0, 22, "b"),
        Row(0.0, 11, "b"),
        Row(0.0, 12, "b"),
    ]  # n_right = 1: all must be covered
    for _ in range(2):
        run("laser_d", medium, chosen, state)
    assert state.targets == [100, 90, 60]  # nothing easy was seen: that target stays


def test_laser_d_goes_on_with_another_grid():
    state = ESTIMATORS["laser_d"].new_state()
    rows = [Row(1.0, 5, "a"), Row(1.0, 90, "a")]
    run("laser_d", rows, settings_of("laser_d", max_response_length=100, grid_points=10, update_every=5), state)
    run("laser_d", rows, settings_of("laser_d", max_response_length=100, grid_points=4, update_every=5), state)
    assert [len(counts) for counts in state.counts] == [5, 5, 5]
    assert sum(map(sum, state.counts)) == 2


def test_short_rl_pauses_below_its_best_by_hand():
    state, chosen = ESTIMATORS["short_rl"].new_state(), settings_of("short_rl", length_tolerance=0.0)
    good = [Row(1.0, 10, "a"), Row(1.0, 20, "a")]
    assert run("short_rl", good, chosen, state).metrics["shaping_on"] == 1
    worse = [*good, Row(0.0, 5, "a"), Row(0.0, 5, "a")]
    assert run("short_rl", worse, chosen, state).metrics["shaping_on"] == 0
    assert state.best_accuracy == 1.0


def through_custom(name, chosen):
    given = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)}
    path = f"{ESTIMATORS[name].module}.{name}"
    return ESTIMATORS["custom"].build_settings({"shaper": path, **given}, "here")


def test_custom_is_the_method_that_it_names():
    rng = random.Random(3)
    for name in SHAPERS:
        chosen = settings_of(name)
        through = through_custom(name, chosen)
        assert (through.keeps_state, through.names_prompts) == (chosen.keeps_state, chosen.names_prompts)
        state, own = ESTIMATORS["custom"].new_state(), ESTIMATORS[name].new_state()
        for _ in range(2):
            rows = random_rows(rng)
            assert advantages("custom", rows, through, state) == advantages(name, rows, chosen, own)


def test_custom_with_another_function_starts_again():
    state, rows = ESTIMATORS["custom"].new_state(), [Row(1.0, 500, "a"), Row(0.0, 5, "a")]
    run(
        "custom",
        rows,
        through_custom("leash", settings_of("leash", target_length=10.0, initial_price=0.01, step=0.02)),
        state,
    )
    assert state.values["price"] == pytest.approx(0.01 + 0.02 * (252.5 / 10 - 1))
    run("custom", rows, through_custom("a_dlp", settings_of("a_dlp", step=0.001)), state)
    assert state.values["price"] == pytest.approx(0.001 - 0.001 * 0.12)
