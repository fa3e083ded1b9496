"""Installed but unused, the plugin leaves every run alone: its names, its keys, its version of verl."""

import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from verl.trainer import main_ppo
from verl.trainer.ppo import core_algos

from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl import cpu, estimators, plugin, start_up
from verl_efficiency.verl.checks.concern import concerns_us
from verl_efficiency.verl.checks.places import advise_on_places, check_misplaced
from verl_efficiency.verl.cpu_switch import cpu_mode


@pytest.fixture
def validated(compose):
    """verl's own check, as main_ppo calls it, and ours with it."""

    def run(*overrides):
        config = compose(*overrides)
        main_ppo.validate_config(config, False, False)
        return config

    return run


def ours(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "verl_efficiency"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.adv_estimator=dapo"],  # near drpo
        ["algorithm.adv_estimator=gspo"],  # near gfpo and s_grpo
        ["algorithm.adv_estimator=my_cosine"],
        ["algorithm.adv_estimator=grpo_with_baseline"],
        ["algorithm.adv_estimator=length_penalty"],
        ["reward.reward_manager.name=my_manager"],
        ["reward.reward_manager.name=efficient"],
        ["custom_reward_function.path=/my/reward.py"],
        ["reward_model.reward_manager=dapo"],
        ["actor_rollout_ref.rollout.n=1"],
        ["algorithm.filter_groups.enable=True", "algorithm.filter_groups.metric=seq_reward"],
        ["trainer.project_name=verl_efficiency"],
        ["data.train_files=/data/verl_efficiency/train.parquet"],
    ],
)
def test_a_run_of_somebody_else_is_left_alone(validated, compose, caplog, overrides):
    before = compose(*overrides)
    if cpu_mode():
        cpu.tell_ray_workers(before)
    assert validated(*overrides) == before
    assert ours(caplog) == []


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        (["algorithm.adv_estimator=token_budgt"], "token_budget"),
        (["algorithm.adv_estimator=Token_Budget"], "token_budget"),
        (["algorithm.adv_estimator=shorter-better"], "shorter_better"),
        (["algorithm.adv_estimator=efficiency.anything"], "efficiency."),
        (["algorithm.adv_estimator=accuracy"], "accuracy is a reward"),
        (["reward.reward_manager.name=Efficiency"], "efficiency"),
        (["reward.reward_manager.name=effciency"], "efficiency"),
        (["trainer.v1.trainer_mode=eficiency_sync"], "efficiency_sync"),
        (["trainer.v1.trainer_mode=efficiency_separate_asinc"], "efficiency_separate_async"),
        (["+algorithm.efficency.penalty=1"], "algorithm.efficiency"),
        (["+data.eficiency.problems=3"], "data.efficiency"),
        (["custom_reward_function.path=pkg://verl_efficiency.rewards"], "reward.custom_reward_function.path"),
    ],
)
def test_near_misses_of_our_own_names_are_refused(validated, overrides, right):
    with pytest.raises(SettingsError, match=right):
        validated(*overrides)


@pytest.mark.parametrize("name", [estimator.value for estimator in core_algos.AdvantageEstimator])
def test_no_estimator_of_verl_is_taken_for_one_of_ours(compose, name):
    assert not concerns_us(compose(f"algorithm.adv_estimator={name}"))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_key_of_verl_is_taken_for_a_setting_of_ours(compose, name):
    path = ["reward.custom_reward_function.path=pkg://verl_efficiency.rewards"]
    rewards = [[*path, f"reward.custom_reward_function.name={reward}"] for reward in ("accuracy", "cosine", "lcpo_max")]
    for reward in rewards:
        config = compose(f"algorithm.adv_estimator={name}", *reward)
        assert [*check_misplaced(config), *advise_on_places(config)] == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["+efficiency.penalty=1"],
        ["+reward.efficiency.penalty=1"],
        ["+algorithm.penalty=1"],
        ["+algorithm.token_budget.penalty=1"],
        ["+reward.custom_reward_function.marker=1"],
    ],
)
def test_a_run_that_does_not_use_us_may_have_keys_of_any_name(validated, caplog, overrides):
    validated(*overrides)
    assert ours(caplog) == []


@pytest.fixture
def registry(monkeypatch):
    """verl's registry of estimators; what a test registers is gone after it."""
    monkeypatch.setattr(core_algos, "ADV_ESTIMATOR_REGISTRY", dict(core_algos.ADV_ESTIMATOR_REGISTRY))
    return core_algos.ADV_ESTIMATOR_REGISTRY


def test_a_name_of_ours_that_somebody_registers_later_is_theirs(registry, caplog):
    def theirs(**_):
        return None

    core_algos.register_adv_est("kimi")(theirs)
    assert core_algos.get_adv_estimator_fn("kimi") is theirs
    assert registry["efficiency.kimi"].__module__ == "verl_efficiency.verl.estimators"
    (line,) = ours(caplog)
    assert "efficiency.kimi" in line
    assert start_up.estimator_of(SimpleNamespace(algorithm=SimpleNamespace(adv_estimator="kimi"))) is None


def test_an_estimator_that_is_registered_later_may_have_any_other_name(registry, validated, caplog):
    core_algos.register_adv_est("token_budgets")(lambda **_: None)
    validated("algorithm.adv_estimator=token_budgets")
    assert [line for line in ours(caplog) if "rollout.n" not in line] == []


@pytest.mark.parametrize("taken", ["kimi", "efficiency.kimi"])
def test_a_name_of_ours_that_is_taken_already_stays_theirs(monkeypatch, caplog, taken):
    theirs = object()
    monkeypatch.setattr(core_algos, "ADV_ESTIMATOR_REGISTRY", {taken: theirs})
    estimators.register(core_algos)
    assert core_algos.ADV_ESTIMATOR_REGISTRY[taken] is theirs
    assert len(core_algos.ADV_ESTIMATOR_REGISTRY) == 2 * len(ESTIMATORS)
    (line,) = ours(caplog)
    assert repr(taken) in line


def test_a_reward_manager_of_our_name_stays_theirs_and_ours_is_reached_by_its_path(fresh):
    program = (
        "import sys\n"
        "from verl.experimental.reward_loop.reward_manager import registry\n"
        "class Theirs: pass\n"
        "registry.REWARD_MANAGER['efficiency'] = Theirs\n"
        "sys.modules.pop('verl_efficiency.verl.reward_manager', None)\n"
        "from verl.utils.import_utils import load_extern_object\n"
        "ours = load_extern_object('pkg://verl_efficiency.verl.reward_manager', 'EfficiencyRewardManager')\n"
        "print(registry.REWARD_MANAGER['efficiency'] is Theirs, ours.__name__)\n"
    )
    done = fresh(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True EfficiencyRewardManager"
    assert "reward.reward_manager.source=importlib" in done.stderr


def test_a_registration_that_fails_is_a_warning_and_the_import_goes_on(caplog):
    def broken(module):
        raise AttributeError("verl moved it")

    plugin._when_imported("verl.utils.config", "the thing", broken)  # imported long ago, so it happens now
    (line,) = ours(caplog)
    for word in ("the thing", "AttributeError", "verl moved it", "doctor"):
        assert word in line


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(validate_config=lambda cfg: "as ever"),
        SimpleNamespace(validate_config=lambda: "as ever"),
        SimpleNamespace(),
    ],
)
def test_a_verl_whose_check_looks_otherwise_can_still_be_imported(caplog, module):
    before = dict(vars(module))
    start_up.patch_validate_config(module)
    assert vars(module) == before
    (line,) = ours(caplog)
    assert "not checked at start-up" in line


def test_the_configuration_is_found_wherever_verl_hands_it_over(compose, caplog):
    """A check with more arguments before it, and with a result."""
    caplog.set_level(logging.WARNING)
    module = SimpleNamespace(validate_config=lambda use_critic, config, strict=True: ("checked", use_critic, strict))
    start_up.patch_validate_config(module)
    assert module.validate_config(False, compose(), strict=False) == ("checked", False, False)
    with pytest.raises(SettingsError, match="penaltty"):
        module.validate_config(
            False, config=compose("algorithm.adv_estimator=token_budget", "+algorithm.efficiency.penaltty=1")
        )
