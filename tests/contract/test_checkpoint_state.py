"""The states of our methods travel with verl's checkpoints: a resumed run goes on as the uninterrupted one would have."""

import copy
import json
import logging
import random
from pathlib import Path

import pytest

pytest.importorskip("verl.trainer.ppo.checkpoint_callback", reason="verl before 0.9.1 has no checkpoint callback")

from omegaconf import OmegaConf
from verl.trainer import main_ppo
from verl.trainer.ppo import checkpoint_callback as callbacks
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.utils import hdfs_io

from tests.contract.test_estimators_verl import batch
from tests.unit.test_token_budget import random_rows
from verl_efficiency.adapter.state import FILE_NAME, STARTS_AGAIN, StateFiles
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.methods.shaping.token_budget import TokenBudgetState
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl import run
from verl_efficiency.verl.checkpoint import StateCallback
from verl_efficiency.verl.hdfs import upload

LEASH = "verl_efficiency.methods.shaping.leash.leash"


@pytest.fixture(autouse=True)
def _fresh_state():
    run.reset()


@pytest.fixture
def config(compose, tmp_path):
    """A launch of ``token_budget`` that was checked at start-up, with its own checkpoint folder."""

    def launched(*overrides, name="token_budget"):
        composed = compose(
            f"algorithm.adv_estimator={name}", f"trainer.default_local_dir={tmp_path / 'checkpoints'}", *overrides
        )
        main_ppo.validate_config(config=composed, use_reference_policy=False, use_critic=False)
        OmegaConf.resolve(composed)
        return composed

    return launched


def save(callback, config, step):
    """As ``PPOTrainer._save_checkpoint`` does: the folder, the name of the latest, then the callback."""
    folder = Path(config.trainer.default_local_dir) / f"global_step_{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "latest_checkpointed_iteration.txt").write_text(str(step))
    callback.on_save(trainer=None, global_step=step, checkpoint_dir=str(folder), async_save=False)
    return folder


def states():
    return copy.deepcopy(run._states)


def learn(config, rows):
    data = compute_advantage(batch(rows), adv_estimator=config.algorithm.adv_estimator, config=config.algorithm)
    return data.batch["advantages"].tolist()


STEPS = [random_rows(random.Random(seed)) for seed in range(5)]


@pytest.mark.parametrize("mode", ["auto", "resume_path"])
def test_a_resumed_run_goes_on_as_the_uninterrupted_one(config, mode):
    no_floor = "+algorithm.efficiency.budget_floor=null"  # on such rows the floor would hide the budgets of the state
    whole = config("trainer.resume_mode=disable", no_floor)
    callbacks.build_checkpoint_callback(whole)
    uninterrupted = [learn(whole, rows) for rows in STEPS]

    first = config(no_floor)
    callback = callbacks.build_checkpoint_callback(first)
    assert isinstance(callback, StateCallback)
    resumed = [learn(first, rows) for rows in STEPS[:2]]
    save(callback, first, 1)
    resumed.append(learn(first, STEPS[2]))
    folder = save(callback, first, 3)
    learn(first, STEPS[0])  # after the checkpoint, and then the machine is lost

    overrides = (
        ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}"] if mode == "resume_path" else []
    )
    second = config(no_floor, *overrides)
    callbacks.build_checkpoint_callback(second)
    resumed += [learn(second, rows) for rows in STEPS[3:]]
    assert resumed == uninterrupted
    assert resumed[3:] != [learn(second, rows) for rows in STEPS[3:]]  # the state does matter


def test_solve_rates_are_saved_too(config):
    callback = callbacks.build_checkpoint_callback(config())
    state = run.state_of(ESTIMATORS["token_budget"])
    state.low, state.high, state.solve_rates = 0.1 + 0.2, 1e300, {"ab12": 1 / 3, "Ünicode": 0.5}
    folder = save(callback, callback.config, 7)
    saved = json.loads((folder / FILE_NAME).read_text())
    assert saved["token_budget"]["low"] == 0.1 + 0.2
    callbacks.build_checkpoint_callback(config())
    assert run.state_of(ESTIMATORS["token_budget"]) == TokenBudgetState(
        low=0.1 + 0.2, high=1e300, solve_rates={"ab12": 1 / 3, "Ünicode": 0.5}
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [  # those at which state matters on responses of up to 200 tokens; hapo's prompts are in TransferQueue, see its unit test
        ("laser_d", ["+algorithm.efficiency.max_response_length=200", "+algorithm.efficiency.update_every=2"]),
        ("laser_de", ["+algorithm.efficiency.max_response_length=200", "+algorithm.efficiency.update_every=2"]),
        ("short_rl", ["+algorithm.efficiency.length_tolerance=5", "+algorithm.efficiency.accuracy_tolerance=0"]),
        ("leash", ["+algorithm.efficiency.target_length=20", "+algorithm.efficiency.step=0.1"]),
        ("a_dlp", []),
        ("custom", [f"+algorithm.efficiency.shaper={LEASH}", "+algorithm.efficiency.target_length=20"]),
    ],
)
def test_so_does_one_of_every_method_that_keeps_a_state(config, name, settings):
    whole = config("trainer.resume_mode=disable", *settings, name=name)
    callbacks.build_checkpoint_callback(whole)
    uninterrupted = [learn(whole, rows) for rows in STEPS]
    final = states()

    first = config(*settings, name=name)
    callback = callbacks.build_checkpoint_callback(first)
    resumed = [learn(first, rows) for rows in STEPS[:3]]
    save(callback, first, 3)
    learn(first, STEPS[0])  # after the checkpoint, and then the machine is lost

    second = config(*settings, name=name)
    callbacks.build_checkpoint_callback(second)
    resumed += [learn(second, rows) for rows in STEPS[3:]]
    assert resumed == uninterrupted
    assert states() == final
    run.reset()
    fresh = [learn(second, rows) for rows in STEPS[3:]]
    assert (fresh, states()) != (uninterrupted[3:], final)  # the state does matter


def test_a_new_run_starts_anew(config, caplog):
    launched = config()
    callback = callbacks.build_checkpoint_callback(launched)
    learn(launched, STEPS[0])
    save(callback, launched, 1)
    for overrides in (["trainer.resume_mode=disable"], ["trainer.default_local_dir=/nowhere/else"]):
        learn(launched, STEPS[0])
        callbacks.build_checkpoint_callback(config(*overrides))
        assert states() == {}
    assert not [record for record in caplog.records if record.name == "verl_efficiency"]


def test_a_relative_folder_is_found_from_where_verl_looks(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    launched = config("trainer.default_local_dir=relative/checkpoints")
    callback = callbacks.build_checkpoint_callback(launched)
    learn(launched, STEPS[0])
    before = states()
    save(callback, launched, 1)
    callbacks.build_checkpoint_callback(config("trainer.default_local_dir=relative/checkpoints"))
    assert states() == before


def test_a_checkpoint_without_our_file_is_refused_and_the_user_may_allow_it(config, caplog):
    launched = config()
    folder = save(callbacks.build_checkpoint_callback(launched), launched, 4)
    (folder / FILE_NAME).unlink()
    with pytest.raises(SettingsError, match=f"{folder}.*state of token_budget.*touch {folder / STARTS_AGAIN}"):
        callbacks.build_checkpoint_callback(config())
    (folder / STARTS_AGAIN).touch()
    with caplog.at_level(logging.WARNING):
        callbacks.build_checkpoint_callback(config())
    assert states() == {}
    assert "state of token_budget" in caplog.text
    # Fixed budgets and no guard carry nothing, so nothing is missing.
    (folder / STARTS_AGAIN).unlink()
    fixed = [f"+algorithm.efficiency.{given}" for given in ("b_min=1", "b_max=9", "accuracy_guard=null")]
    StateCallback(config(*fixed))


def test_a_state_is_saved_before_the_method_was_called(config):
    launched = config()
    folder = save(callbacks.build_checkpoint_callback(launched), launched, 1)
    assert set(json.loads((folder / FILE_NAME).read_text())) == {"token_budget"}
    callbacks.build_checkpoint_callback(config())
    assert states() == {"token_budget": TokenBudgetState()}


HDFS = """#!/bin/sh
# hdfs dfs -mkdir -p FOLDER | -put -f FILE TARGET, below a folder on the disk
[ "$1" = dfs ] || exit 9
case $2 in
  -mkdir) mkdir -p "$ROOT/${4#hdfs://}";;
  -put) [ -z "$FULL" ] && cp "$4" "$ROOT/${5#hdfs://}";;
  *) exit 9;;
esac
"""


@pytest.fixture
def hdfs(tmp_path, monkeypatch):
    """A command ``hdfs``, as verl calls it; returns the folder that holds ``hdfs://``."""
    command = tmp_path / "bin" / "hdfs"
    command.parent.mkdir()
    command.write_text(HDFS)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.setenv("ROOT", str(tmp_path / "hdfs"))
    monkeypatch.setattr(hdfs_io, "_HDFS_BIN_PATH", str(command))  # verl looks it up at import
    return tmp_path / "hdfs"


def test_the_state_goes_to_hdfs_too(config, hdfs, tmp_path):
    launched = config("trainer.default_hdfs_dir=hdfs://name/run")
    callback = callbacks.build_checkpoint_callback(launched)
    learn(launched, STEPS[0])
    folder = save(callback, launched, 2)
    copied = hdfs / "name" / "run" / "global_step_2" / FILE_NAME
    assert copied.read_text() == (folder / FILE_NAME).read_text()
    mounted = config(f"trainer.default_hdfs_dir={tmp_path / 'mounted'}")  # verl takes any folder there
    save(StateCallback(mounted), mounted, 3)
    assert (tmp_path / "mounted" / "global_step_3" / FILE_NAME).exists()


def test_stored_responses_go_to_hdfs_too(hdfs, tmp_path):
    files = StateFiles().write(
        {"variance_routing": StoredResponses({"p": "text"}, {"p": 1})}, tmp_path / "global_step_5"
    )
    upload(files, tmp_path / "global_step_5", "hdfs://name/global_step_5")
    assert StateFiles().read(ESTIMATORS["variance_routing"], hdfs / "name" / "global_step_5").texts == {"p": "text"}


def test_a_copy_to_hdfs_that_fails_stops_the_run(config, hdfs, monkeypatch):
    launched = config("trainer.default_hdfs_dir=hdfs://name/run")
    callback = callbacks.build_checkpoint_callback(launched)
    monkeypatch.setenv("FULL", "1")
    with pytest.raises(RuntimeError, match="hdfs://name/run/global_step_2"):
        save(callback, launched, 2)


def test_no_hdfs_command_is_told_at_start_up(config, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"trainer\.default_hdfs_dir: .*`hdfs`"):
        config("trainer.default_hdfs_dir=hdfs://name/run")
    config("trainer.default_hdfs_dir=/a/mounted/folder")
    config("trainer.default_hdfs_dir=hdfs://name/run", name="kimi")  # saves nothing of ours


def test_a_callback_derived_from_ours_saves_too(config, tmp_path):
    calls = []

    class Mine(StateCallback):
        def on_save(self, trainer, global_step, checkpoint_dir, async_save=False, **kwargs):
            super().on_save(trainer, global_step, checkpoint_dir, async_save, **kwargs)
            calls.append(global_step)

    launched = config()
    learn(launched, STEPS[0])
    folder = save(Mine(launched), launched, 2)
    assert calls == [2]
    assert (folder / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("saved", "names"),
    [
        ({"leash": {"price": 0.1}}, ["token_budget", "leash"]),
        ({"token_budget": {"loww": 0.1}}, ["token_budget", "loww", "low"]),
    ],
)
def test_a_state_of_another_method_or_version_is_refused(config, saved, names):
    launched = config()
    folder = save(callbacks.build_checkpoint_callback(launched), launched, 4)
    (folder / FILE_NAME).write_text(json.dumps(saved))
    with pytest.raises(SettingsError) as error:
        callbacks.build_checkpoint_callback(config())
    assert all(name in str(error.value) for name in names)
