"""Methods that are not in the catalog: by the path of a function, and by the entry point of an installed package."""

import dataclasses
import importlib.metadata
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.unit.reference import Row
from tests.unit.shaping.batches import advantages, run
from tests.unit.test_rollouts import build
from verl_efficiency import cli
from verl_efficiency.methods import own
from verl_efficiency.methods.catalog import ESTIMATORS, REMOVED
from verl_efficiency.methods.outcome import Outcome
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing.self_distillation import SelfDistillationSettings
from verl_efficiency.methods.shaping.base import ShapingSettings
from verl_efficiency.openrlhf.options import take_options
from verl_efficiency.settings import SettingsError

HERE = "tests.unit.test_own_methods"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "flat_penalty"
ROWS = [Row(1.0, 10, "a"), Row(1.0, 20, "a"), Row(0.0, 5, "a")]
# weight 0.3: rewards 1 − 0.15, 1 − 0.3, 0; mean 1.55 / 3
FLAT = [0.85 - 1.55 / 3, 0.7 - 1.55 / 3, -1.55 / 3]


@dataclass(frozen=True)
class CountingSettings(ShapingSettings):
    step: float = 1.0

    @property
    def keeps_state(self) -> bool:
        return True


@dataclass(frozen=True)
class ForgetfulSettings(ShapingSettings):
    pass


@dataclass
class Count:
    seen: float = 0.0
    names: list[str] = field(default_factory=list)


def counting(rollouts: Rollouts, settings: CountingSettings, state: Count) -> Outcome:
    state.seen += settings.step
    return Outcome(torch.full_like(rollouts.scores_B, state.seen), {"seen": state.seen})


def plain(rollouts, settings):
    return Outcome(rollouts.scores_B, {})


def forgetful(rollouts: Rollouts, settings: ForgetfulSettings, state: Count) -> Outcome:
    return plain(rollouts, settings)


def teaching(rollouts: Rollouts, settings: SelfDistillationSettings) -> Outcome:
    return plain(rollouts, settings)


def unsettled(rollouts: Rollouts, settings: dict) -> Outcome:
    return plain(rollouts, settings)


def unreadable(rollouts: "Nowhere", settings) -> Outcome:  # noqa: F821
    return plain(rollouts, settings)


def alone(rollouts):
    return plain(rollouts, None)


async def later(rollouts, settings):
    return plain(rollouts, settings)


def nothing(rollouts, settings):
    return None


def too_few(rollouts, settings):
    return Outcome(rollouts.scores_B[:1], {})


def not_finite(rollouts, settings):
    return Outcome(rollouts.scores_B / 0, {})


def settings_of(shaper, **given):
    return ESTIMATORS["custom"].build_settings({"shaper": shaper, **given}, "here")


def test_a_function_by_its_path():
    kimi = settings_of("verl_efficiency.methods.shaping.kimi.kimi", weight=0.2)
    expected = ESTIMATORS["kimi"].build_settings({"weight": 0.2}, "here")
    assert advantages("custom", ROWS, kimi) == advantages("kimi", ROWS, expected)
    assert advantages("custom", ROWS, settings_of(f"{HERE}.plain")) == [1, 1, 0]
    assert settings_of(f"{HERE}.plain", advantage="rloo", correct_threshold=0.9).correct_threshold == 0.9


def test_its_state_is_carried_on_saved_and_not_another_functions():
    state = ESTIMATORS["custom"].new_state()
    chosen = settings_of(f"{HERE}.counting", step=2)
    assert chosen.keeps_state
    for expected in (2, 4):
        assert run("custom", ROWS, chosen, state).metrics == {"seen": expected}
    saved = json.loads(json.dumps(dataclasses.asdict(state)))
    resumed = ESTIMATORS["custom"].restored_state(saved)
    assert run("custom", ROWS, chosen, resumed).metrics == {"seen": 6}
    run("custom", ROWS, settings_of("verl_efficiency.methods.shaping.leash.leash"), resumed)
    assert run("custom", ROWS, chosen, resumed).metrics == {"seen": 2}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["here.shaper: ", "package.module.function"]),
        ({"shaper": 3}, ["here.shaper: ", "3"]),
        ({"shapre": "a.b"}, ["here: ", "did you mean 'shaper'"]),
        ({"shaper": "kimi"}, ["here.shaper: ", "'kimi'"]),
        ({"shaper": "a b.c"}, ["here.shaper: ", "'a b.c'"]),
        ({"shaper": "no_such_package.module.function"}, ["here.shaper: ", "ModuleNotFoundError", "no_such_package"]),
        ({"shaper": f"{HERE}.no_such_function"}, ["here.shaper: ", "no_such_function"]),
        ({"shaper": f"{HERE}.HERE"}, ["here.shaper: ", "plain function"]),
        ({"shaper": f"{HERE}.later"}, ["here.shaper: ", "plain function"]),
        ({"shaper": f"{HERE}.alone"}, ["here.shaper: ", "(rollouts, settings)"]),
        ({"shaper": f"{HERE}.unsettled"}, ["here.shaper: ", "ShapingSettings", "dict"]),
        ({"shaper": f"{HERE}.unreadable"}, ["here.shaper: ", "Nowhere"]),
        ({"shaper": f"{HERE}.teaching"}, ["here.shaper: ", "is an estimator"]),
        ({"shaper": f"{HERE}.forgetful"}, ["here.shaper: ", "ForgetfulSettings.keeps_state"]),
        ({"shaper": f"{HERE}.counting", "stpe": 1}, ["here: ", "did you mean 'step'"]),
        ({"shaper": f"{HERE}.counting", "step": "two"}, ["here.step: ", "'two'"]),
    ],
)
def test_what_cannot_run_is_refused_by_name(given, words):
    with pytest.raises(SettingsError) as error:
        ESTIMATORS["custom"].build_settings(given, "here")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "word"), [("nothing", "NoneType"), ("too_few", r"\(3,\), got \(1,\)"), ("not_finite", "finite")]
)
def test_a_result_that_no_trainer_could_use_is_refused(name, word):
    with pytest.raises((TypeError, ValueError), match=f"{name}.*{word}"):
        run("custom", ROWS, settings_of(f"{HERE}.{name}"))


# Entry points --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put packages on the path as pip leaves them: ``installed(name, points, module=source)``."""

    def install(name, points, **modules):
        folder = tmp_path / name
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{point} = {value}" for point, value in points.items())
        (info / "entry_points.txt").write_text(f"[{own.GROUP}]\n{lines}\n")
        for module, source in modules.items():
            (folder / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        own.offers.cache_clear()

    yield install
    own.offers.cache_clear()


@pytest.fixture
def example(installed, tmp_path):
    """``docs/examples/flat_penalty``, with the entry point that its pyproject.toml declares."""
    text = (EXAMPLE / "pyproject.toml").read_text()
    (point,) = [line for line in text.split(f'entry-points."{own.GROUP}"]\n')[1].splitlines() if "=" in line][:1]
    name, value = (part.strip(' "') for part in point.split("="))
    installed("flat-penalty", {name: value})
    shutil.copytree(EXAMPLE / "flat_penalty", tmp_path / "flat-penalty" / "flat_penalty")
    yield
    sys.modules.pop("flat_penalty", None)


def test_the_example_is_a_method_like_any_other(example):
    method = own.all_estimators()["flat_penalty"]
    assert "flat_penalty" not in sys.modules, "it is loaded when somebody asks for it"
    assert "flat_penalty" not in ESTIMATORS
    chosen = method.build_settings({"weight": 0.3, "advantage": "dr_grpo"}, "here")
    assert method.function()(build(ROWS), chosen, method.new_state()).advantages_B.tolist() == pytest.approx(FLAT)
    with pytest.raises(SettingsError, match=r"here\.weight: must be a number of at least 0, got -1"):
        method.build_settings({"weight": -1}, "here")
    with pytest.raises(SettingsError, match="did you mean 'weight'"):
        method.build_settings({"wieght": 1}, "here")


def test_openrlhfs_flags_know_it(example):
    options, rest = take_options(
        ["--efficiency.method", "flat_penalty", "--efficiency.weight", "0.3", "--train.batch_size", "8"]
    )
    assert options.row().name == "flat_penalty"
    assert options.build_settings().weight == 0.3
    assert rest == ["--train.batch_size", "8"]
    with pytest.raises(SettingsError, match=r"--efficiency: unknown setting 'wieght'; did you mean 'weight'"):
        take_options(["--efficiency.method", "flat_penalty", "--efficiency.wieght", "1"])
    with pytest.raises(SettingsError, match="did you mean 'flat_penalty'"):
        take_options(["--efficiency.method", "flat_penlaty"])


def test_its_page(example, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 200, raising=False)
    shown = CliRunner().invoke(cli.app, ["methods", "flat_penalty"])
    assert shown.exit_code == 0
    for word in ("flat_penalty", "weight", "0.1", "algorithm.adv_estimator", "combine", "flat-penalty 1.0"):
        assert word in shown.output
    table = CliRunner().invoke(cli.app, ["methods"])
    assert table.exit_code == 0
    assert "flat_penal" in table.output


def test_a_broken_package_stops_nobody_else(installed):
    broken = {"raises": "raise RuntimeError('no licence')", "exits": "import sys; sys.exit(3)", "empty": ""}
    for module, source in broken.items():
        installed(f"pkg-{module}", {f"of_{module}": f"{module}:method"}, **{module: source})
    offered = own.offers()
    assert set(offered.methods) == {"of_raises", "of_exits", "of_empty"}
    assert offered.problems == ()
    for name, words in {
        "of_raises": ["pkg-raises 1.0", "RuntimeError", "no licence"],
        "of_exits": ["pkg-exits 1.0", "SystemExit", "3"],
        "of_empty": ["pkg-empty 1.0", "method"],
    }.items():
        with pytest.raises(SettingsError) as error:
            own.all_estimators()[name].build_settings({}, "here")
        for word in words:
            assert word in str(error.value)
    table = CliRunner().invoke(cli.app, ["methods"])
    assert table.exit_code == 0


def test_a_name_that_is_taken_is_refused_and_both_owners_are_named(installed):
    installed("pkg-one", {"twice": "one:method", "kimi": "one:method"}, one="")
    installed("pkg-two", {"twice": "two:method", "own": "two:method"}, two="")
    offered = own.offers()
    assert set(offered.methods) == {"own"}
    assert set(offered.refused) - set(REMOVED) == {"twice", "kimi"}
    for owner in ("pkg-one 1.0", "pkg-two 1.0"):
        assert owner in offered.refused["twice"]
    for owner in ("pkg-one 1.0", "verl-efficiency"):
        assert owner in offered.refused["kimi"]
    assert own.all_estimators()["kimi"] is ESTIMATORS["kimi"]
    assert len(offered.problems) == 2
    with pytest.raises(SettingsError, match=r"pkg-two 1\.0"):
        take_options(["--efficiency.method", "twice"])


@pytest.mark.parametrize(
    ("name", "value"), [("my-method", "one:method"), ("mine", "one"), ("mine", "one:"), ("mine", "one two:method")]
)
def test_an_entry_point_of_another_form_is_one_line(installed, name, value):
    installed("pkg-one", {name: value}, one="")
    offered = own.offers()
    assert offered.methods == {}
    (problem,) = offered.problems
    assert "pkg-one 1.0" in problem
    assert name in problem


def test_metadata_that_cannot_be_read_is_one_line(monkeypatch):
    def unreadable(**_):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(importlib.metadata, "entry_points", unreadable)
    own.offers.cache_clear()
    try:
        offered = own.offers()
        assert offered.methods == {}
        assert "UnicodeDecodeError" in offered.problems[0]
        assert set(own.all_estimators()) == set(ESTIMATORS)
    finally:
        own.offers.cache_clear()
