"""``verl-efficiency doctor``: one line per finding, exit code 1 where a run would fail or silently do something else."""

import importlib.metadata
import importlib.util

import pytest

pytest.importorskip("verl")

import verl
from packaging.version import Version

from verl_efficiency.verl import doctor
from verl_efficiency.verl import probe as probing
from verl_efficiency.verl.probe import probe

pytestmark = pytest.mark.skipif(Version(verl.__version__) < Version("0.9"), reason="written for verl 0.9")

GOOD = (
    "algorithm.adv_estimator=token_budget",
    "reward.reward_manager.name=efficiency",
    "actor_rollout_ref.rollout.n=8",
)


@pytest.fixture
def findings(monkeypatch):
    """(level, text) of every finding; what a fresh interpreter would see is looked at in this one, which is quicker."""
    monkeypatch.delenv("VERL_USE_EXTERNAL_MODULES", raising=False)
    monkeypatch.delenv("VERL_USE_EXTERNAL_PLUGINS", raising=False)
    monkeypatch.setattr(doctor, "probe_here", probe)
    return lambda *arguments: [tuple(finding) for finding in doctor.examine([*map(str, arguments)], ray_worker=False)]


@pytest.fixture
def failures(findings):
    return lambda *arguments: [text for level, text in findings(*arguments) if level == "fail"]


def test_a_late_answer_is_not_called_an_import_that_fails(monkeypatch):
    monkeypatch.setattr(probing, "PATIENCE", 0.01)
    assert "no answer" in probing.probe_here()["error"]


def test_all_is_well(findings):
    found = findings(*GOOD, "+algorithm.efficiency.penalty=0.5")
    assert {level for level, _ in found} == {"ok"}
    text = "\n".join(text for _, text in found)
    assert f"verl {verl.__version__}, python 3." in text
    assert "verl loads the plugin by its entry point (verl_efficiency = verl_efficiency.verl.plugin)" in text
    assert "in this interpreter: estimators" in text
    assert "token_budget" in text
    assert "configuration: algorithm.adv_estimator=token_budget" in text
    assert "penalty=0.5" in text.split("settings in force: ")[1]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("--penalty=3", ["has no leading --", "write penalty=3"]), ("--no-rya", ["--no-rya: ", "no such option"])],
)
def test_an_argument_with_dashes_is_refused(argument, words):
    from typer.testing import CliRunner

    from verl_efficiency.cli import app

    result = CliRunner().invoke(app, ["doctor", argument])
    assert result.exit_code != 0
    for word in words:
        assert word in str(result.exception)


def test_a_misspelt_estimator_is_not_answered_with_aliases(failures):
    (line,) = failures("algorithm.adv_estimator=token_bugdet")
    assert "efficiency." not in line
    assert ", token_budget" in line
    (line,) = failures("algorithm.adv_estimator=efficiency.token_bugdet")
    assert "'efficiency.token_budget'" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["algorithm.adv_estimator=token_bugdet"], ["unknown estimator 'token_bugdet'; did you mean 'token_budget'?"]),
        ([GOOD[0], "+algorithm.efficiency.penaltty=1"], ["unknown setting 'penaltty'; did you mean 'penalty'?"]),
        (["custom_reward_function.path=/my/reward.py"], ["ignores the key", "reward.custom_reward_function.path"]),
        (["algorithm.adv_estimater=token_budget"], ["verl refuses the configuration", "adv_estimater"]),
        (["data=5"], ["verl refuses the configuration", "must be a string or a list"]),
        (
            [*GOOD, "data.train_files=/d/lr=1/a.parquet"],
            ["Hydra cannot read this", "\"data.train_files='/d/lr=1/a.parquet'\""],
        ),
        ([*GOOD, "data.train_files=/é/it's"], ["data.train_files=/é/it's: ", "\"data.train_files='/é/it\\'s'\""]),
        (
            [*GOOD, "data.train_files=/a,/b"],
            ["a text with a comma", "\"data.train_files='/a,/b'\"", "data.train_files=[/a,/b]"],
        ),
        ([*GOOD, "data.train_files"], ["data.train_files: ", "key=value"]),
        (["data.max_response_length=null"], ["data.max_response_length: must be a whole number, got null"]),
        (["actor_rollout_ref.rollout.response_length=null"], ["rollout.response_length: must be a whole number"]),
        (["algorithm.adv_estimator=grpo", "nowhere.yaml"], ["nowhere.yaml: no such file"]),
    ],
)
def test_a_wrong_configuration_is_one_line(failures, arguments, words):
    (line,) = failures(*arguments)
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.fixture
def yaml(tmp_path):
    def written(text):
        (tmp_path / "mine.yaml").write_text(text)
        return tmp_path / "mine.yaml"

    return written


def test_a_yaml_file_is_read_like_overrides(findings, yaml):
    rollout = "actor_rollout_ref: {rollout: {n: 8}}\n"
    found = findings(yaml(f"algorithm:\n  adv_estimator: token_budget\n  efficiency: {{penalty: 0.25}}\n{rollout}"))
    assert {level for level, _ in found} == {"ok"}
    assert "penalty=0.25" in found[-1][1]


def test_a_key_that_nobody_reads_is_named_with_the_nearest(failures, yaml):
    (line,) = failures(yaml("actor_rollout_ref:\n  actor:\n    ppo_mini_batch_sise: 8\n"))
    assert "unknown key 'actor_rollout_ref.actor.ppo_mini_batch_sise'" in line
    assert "did you mean 'actor_rollout_ref.actor.ppo_mini_batch_size'?" in line
    assert "mine.yaml" in line


@pytest.mark.parametrize(
    ("text", "key", "right"),
    [
        ("efficiency: {length_weight: 0.5}", "efficiency", "algorithm.efficiency.length_weight"),
        ("algorithm: {length_weight: 0.5}", "algorithm.length_weight", "algorithm.efficiency.length_weight"),
        ("algorithm: {kimi: {weight: 0.5}}", "algorithm.kimi", "algorithm.efficiency.weight"),
        ("reward: {marker: x}", "reward.marker", "reward.custom_reward_function.reward_kwargs.marker"),
        ("algorithm: {gama: 0.5}", "algorithm.gama", "algorithm.gamma"),
    ],
)
def test_a_setting_of_ours_in_a_wrong_place_of_a_yaml_file_is_named(failures, yaml, text, key, right):
    (line,) = failures(yaml(text + "\n"))
    assert f"unknown key '{key}'; did you mean '{right}'?" in line


def test_a_wrong_setting_in_a_yaml_file_is_named(failures, yaml):
    (line,) = failures(yaml("algorithm:\n  adv_estimator: token_budget\n  efficiency: {penaltty: 0.25}\n"))
    assert "algorithm.efficiency: unknown setting 'penaltty'; did you mean 'penalty'?" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("algorithm: {adv_estimator: token_budget\n", ["line 2: is not YAML"]),
        ("algorithm:\n  adv_estimator: x\n - y\n", ["line 3: is not YAML"]),
        ("algorithm:\n\tadv_estimator: x\n", ["line 2: is not YAML"]),
        ("a: 1\na: 2\n", ["line 2: is not YAML", "duplicate key"]),
        ("- algorithm\n", ["must hold settings (name: value), got List"]),
        ("algorithm\n", ["must hold settings"]),
        ("7\n", ["is not YAML"]),
        (b"a: caf\xe9\n", ["is not UTF-8", "0xe9"]),
        ("algorithm: {}\n".encode("utf-16"), ["mine.yaml"]),
        (b"\0\1\2", ["is not YAML"]),
    ],
)
def test_a_file_that_is_not_yaml_is_one_line(failures, yaml, content, words):
    path = yaml("")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (line,) = failures(path)
    assert line.startswith(str(path))
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_yaml_file_with_a_bom_and_an_empty_one_are_read(failures, yaml, tmp_path):
    assert failures(yaml("\ufeffalgorithm:\n  adv_estimator: token_budget\n")) == []
    assert failures(yaml("")) == []
    (line,) = failures(tmp_path)
    assert "no such file" in line


def test_data_and_code_are_looked_at(failures, data_file, tmp_path):
    assert failures(*GOOD, f"data.train_files={data_file}") == []
    (line,) = failures(*GOOD, f"data.train_files={tmp_path / 'absent.parquet'}")
    assert line.startswith("data.train_files: there is no file")
    (line,) = failures(
        "reward.custom_reward_function.path=/nowhere/reward.py"
    )  # does not use this package, but doctor is asked
    assert line.startswith("reward.custom_reward_function.path: there is no file /nowhere/reward.py")


def test_an_override_wins_over_a_file_as_on_every_command_line(findings, yaml):
    found = findings(yaml("algorithm: {adv_estimator: grpo}\n"), GOOD[0])
    assert "configuration: algorithm.adv_estimator=token_budget" in [text for _, text in found]


def test_a_plugin_that_is_kept_out_is_named_with_the_fix(failures, monkeypatch):
    lines = failures()
    assert lines == []
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "other")
    (line,) = failures()
    assert "VERL_USE_EXTERNAL_PLUGINS=other keeps the plugin out" in line
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "other,verl_efficiency")
    assert failures() == []


def test_the_environment_variable_will_do_as_well(findings, monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "some.other, verl_efficiency.verl.plugin")
    found = findings()
    assert {level for level, _ in found} == {"ok"}


@pytest.mark.parametrize(
    ("version", "levels"),
    [("0.9.1", []), ("0.8.0", ["warn", "fail"]), ("0.10.0", ["warn"])],
)
def test_versions(findings, monkeypatch, version, levels):
    monkeypatch.delenv("VERL_USE_EXTERNAL_MODULES", raising=False)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "verl" else real(name))
    others = [finding for finding in findings() if finding[0] != "ok"]
    assert [level for level, _ in others] == levels
    if version == "0.8.0":
        assert others[0][1].startswith("does not work with verl 0.8.0: ")
        assert "export VERL_USE_EXTERNAL_MODULES=verl_efficiency.verl.plugin" in others[1][1]
    elif levels:
        assert others[0][1] == "verl 0.10.0 is untested; tested are 0.8.0, 0.9.0, 0.9.1"


# A launch: verl's own check runs too.
LAUNCHED = ("data.train_batch_size=8", "actor_rollout_ref.rollout.n=8", "actor_rollout_ref.rollout.name=vllm",
            "actor_rollout_ref.actor.use_dynamic_bsz=True", "actor_rollout_ref.actor.ppo_mini_batch_size=8",
            "trainer.n_gpus_per_node=8", "data.max_prompt_length=512", "data.max_response_length=1024")  # fmt: skip
ROLLOUT = "actor_rollout_ref.rollout"
WORKERS = "+ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES"


@pytest.mark.parametrize(
    ("wrong", "level", "words"),
    [
        (None, None, []),
        ("data.train_batch_size=many", "fail", ["data.train_batch_size: must be a number, got 'many'", "1024"]),
        ("trainer.val_before_train=maybe", "fail", ["trainer.val_before_train: must be true or false, got 'maybe'"]),
        ("actor_rollout_ref.rollout.n=0", "fail", ["actor_rollout_ref.rollout.n: must be", "at least 1, got 0"]),
        ("trainer.total_training_steps=all", "fail", ["trainer.total_training_steps: must be", "'all'"]),
        (
            "actor_rollout_ref.model.path=/nowhere",
            "fail",
            ["actor_rollout_ref.model.path: there is no folder /nowhere"],
        ),
        ("trainer.logger=[consol]", "fail", ["trainer.logger", "'consol'", "'console'"]),
        (
            "reward.reward_manager=efficiency",
            "fail",
            ["got 'efficiency'", "write reward.reward_manager.name=efficiency"],
        ),
        (
            "actor_rollout_ref.rollout=vllm",
            "fail",
            ["actor_rollout_ref.rollout: must", "write actor_rollout_ref.rollout.name=vllm"],
        ),
        ("trainer=7", "fail", ["trainer: must hold settings (name: value), got 7"]),
        ("data.max_response_length=null", "fail", ["data.max_response_length: must be a whole number, got null"]),
        ("data.max_response_length=1024.5", "fail", ["data.max_response_length: must be a whole number, got 1024.5"]),
        (f"{ROLLOUT}.n=null", "fail", [f"{ROLLOUT}.n: must be a whole number, got null"]),
        (f"{ROLLOUT}.n=4.0", "fail", [f"{ROLLOUT}.n: must be a whole number, got 4.0"]),
        (f"{ROLLOUT}.tensor_model_parallel_size=null", "fail", ["tensor_model_parallel_size: must be a whole number"]),
        ("reward.reward_manager=null", "fail", ["reward.reward_manager.name: must be a name, got null"]),
        ("actor_rollout_ref.rollout=null", "fail", [f"{ROLLOUT}.n: must be a whole number, got null"]),
        ("trainer.nnodes=null", "fail", ["trainer.nnodes: must be a whole number, got null"]),
        ("algorithm.adv_estimator=null", "fail", ["algorithm.adv_estimator: must be a name, got null"]),
        ("algorithm.adv_estimator=[grpo]", "fail", ["algorithm.adv_estimator: must be a name, got ['grpo']"]),
        ("reward.reward_manager.name=null", "fail", ["reward.reward_manager.name: must be a name, got null"]),
        ("data.train_batch_size=0", "fail", ["data.train_batch_size: must be a number of at least 1, got 0"]),
        ("data.gen_batch_size=-8", "fail", ["data.gen_batch_size: must be a number of at least 1, got -8"]),
        ("actor_rollout_ref.actor.optim.lr=-1e-6", "fail", ["optim.lr: must be a number of at least 0, got -1e-06"]),
        ("actor_rollout_ref.model.lora_rank=-4", "fail", ["lora_rank: must be a number of at least 0, got -4"]),
        (f"{ROLLOUT}.gpu_memory_utilization=4", "fail", ["above 0 and at most 1, got 4"]),
        (f"{ROLLOUT}.gpu_memory_utilization=0", "fail", ["above 0 and at most 1, got 0"]),
        (f"{ROLLOUT}.tensor_model_parallel_size=0", "fail", ["tensor_model_parallel_size: must be", "got 0"]),
        (f"{ROLLOUT}.tensor_model_parallel_size=3", "fail", ["on 3 GPUs", "the 8 GPUs", "write 2, not 3"]),
        (f"{ROLLOUT}.tensor_model_parallel_size=16", "fail", ["on 16 GPUs", "the 8 GPUs", "write 8, not 16"]),
        (f"{ROLLOUT}.max_model_len=1535", "fail", ["max_model_len: 1535 tokens", "the 1536 of", "write 1536, or null"]),
        ("trainer.save_freq=0", "warn", ["trainer.save_freq: 0 means never", "write -1"]),
        (f"{WORKERS}='a_module'", "warn", ["there is no module 'a_module' on this machine"]),
        ("actor_rollout_ref.actor.loss_agg_mode=mean", "fail", ["verl refuses the configuration", "mean"]),
        ("actor_rollout_ref.rollout.name=vlm", "warn", ["actor_rollout_ref.rollout.name: 'vlm'", "'vllm'"]),
        ("actor_rollout_ref.actor.fsdp_config.model_dtype=bfp16", "warn", ["model_dtype", "'bfp16'"]),
        ("actor_rollout_ref.actor.strategy=fsdp3", "warn", ["actor_rollout_ref.actor.strategy", "'fsdp3'", " fsdp2,"]),
    ],
)
def test_a_wrong_value_of_a_setting_of_verl(compose, tmp_path, wrong, level, words):
    given = [*LAUNCHED, f"actor_rollout_ref.model.path={tmp_path}", *([wrong] if wrong else [])]
    found = [finding for finding in doctor.examine_composed(compose(*given), given) if finding.level != "ok"]
    assert {finding.level for finding in found} == ({level} if level else set())
    text = "\n".join(finding.text for finding in found)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("name", ["dr_grpo", "dapo", "gspo"])
def test_a_published_algorithm_that_is_no_estimator_is_named_with_verls_settings(compose, name):
    given = [*LAUNCHED, f"algorithm.adv_estimator={name}"]
    (warning,) = [
        finding.text for finding in doctor.examine_composed(compose(*given), given) if finding.level == "warn"
    ]
    assert warning.startswith(f"algorithm.adv_estimator: {name!r} is not registered here")
    assert "did you mean" not in warning
    right = [*LAUNCHED, *(word for word in warning.split() if "=" in word)]
    assert len(right) == len(LAUNCHED) + 2
    assert [finding for finding in doctor.examine_composed(compose(*right), right) if finding.level != "ok"] == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("verl", ["verl is not installed", "pip install verl==0.9.1"]),
        ("transfer_queue", ["TransferQueue is missing", "pip install 'TransferQueue>=0.1.10'"]),
    ],
)
def test_a_package_that_is_missing_is_named(failures, monkeypatch, missing, words):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else real(name, *rest))
    (line,) = failures()
    for word in words:
        assert word in line


WELL = {
    "loaded": True,
    "warnings": [],
    "estimators": [name for method in doctor.ESTIMATORS for name in (method, f"efficiency.{method}")],
    "manager": True,
    "checked": True,
    "cpu": True,
    "accelerator": False,
}


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        ({"error": "verl cannot be imported: ImportError: no torch"}, "fail", "ImportError: no torch"),
        ({**WELL, "loaded": False}, "fail", "the plugin is not loaded: verl did not import it"),
        ({**WELL, "loaded": False, "warnings": ["it failed: X"]}, "fail", "the plugin is not loaded: it failed: X"),
        ({**WELL, "manager": False}, "fail", "the reward manager 'efficiency' is not registered"),
        ({**WELL, "checked": False}, "fail", "settings would not be checked at start-up"),
        (
            {**WELL, "estimators": [name for name in WELL["estimators"] if name != "token_budget"]},
            "warn",
            "registered token_budget; ours are efficiency.token_budget",
        ),
        ({**WELL, "estimators": []}, "fail", "estimators that are not registered: token_budget, "),
        ({**WELL, "warnings": ["cannot register X: Y"]}, "warn", "cannot register X: Y"),
        (WELL, "ok", "CPU mode is on (VERL_PLATFORM=cpu)"),
        ({**WELL, "accelerator": True}, "ok", "CPU mode is on; unset VERL_PLATFORM to use the accelerator"),
        ({**WELL, "cpu": False}, "warn", "to train on the CPU, export VERL_PLATFORM=cpu"),
        ({**WELL, "cpu": False, "accelerator": True}, "ok", "CPU mode is off, and there is an accelerator"),
    ],
)
def test_what_a_process_sees(findings, monkeypatch, seen, level, words):
    monkeypatch.setattr(doctor, "probe_here", lambda: seen)
    matching = [found for found, text in findings() if text == f"in this interpreter: {words}" or words in text]
    assert matching == [level]


def test_a_broken_process_ends_the_examination(findings, monkeypatch):
    monkeypatch.setattr(doctor, "probe_here", lambda: {"error": "x"})
    assert findings(*GOOD)[-1] == ("fail", "in this interpreter: x")


@pytest.mark.e2e
def test_the_command_looks_into_a_ray_worker_and_exits_with_0(fresh):
    command = "import sys; from verl_efficiency.cli import main; main()"
    done = fresh("-c", command, "doctor", *GOOD, COLUMNS="300", VERL_USE_EXTERNAL_MODULES="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in a Ray worker: estimators" in done.stdout
    assert "settings in force: TokenBudgetSettings(" in done.stdout
    assert "FAIL" not in done.stdout


def test_what_is_logged_at_start_up_is_a_finding(findings, tmp_path):
    import json

    row = {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": "1+1?"}],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 0},
    }
    (tmp_path / "sums.jsonl").write_text(json.dumps(row) + "\n")
    files = [f"data.{key}={tmp_path / 'sums.jsonl'}" for key in ("train_files", "val_files")]
    reward = [f"reward.custom_reward_function.{x}" for x in ("path=pkg://verl_efficiency.rewards", "name=accuracy")]
    warned = [text for level, text in findings(*GOOD, *reward, *files) if level == "warn"]
    assert [line.split(":")[0] for line in warned if "--ending" in line] == ["data.train_files", "data.val_files"]


@pytest.mark.parametrize(
    "right",
    [
        f"{ROLLOUT}.tensor_model_parallel_size=8",
        f"{ROLLOUT}.max_model_len=1536",
        f"{ROLLOUT}.gpu_memory_utilization=1",
        "actor_rollout_ref.actor.optim.lr=0",
        "actor_rollout_ref.actor.optim.lr=1",
        "data.gen_batch_size=null",
        "data.val_batch_size=null",
        "trainer.total_training_steps=null",
        "reward.sandbox_fusion=null",
        "reward.reward_manager.name=dapo",
        "data.max_response_length=${data.max_prompt_length}",
        "trainer.save_freq=-1",
        f"{WORKERS}='verl_efficiency.verl.plugin,json.decoder'",
    ],
)
def test_the_last_right_value_is_no_finding(compose, tmp_path, right):
    given = [*LAUNCHED, f"actor_rollout_ref.model.path={tmp_path}", right]
    assert [finding for finding in doctor.examine_composed(compose(*given), given) if finding.level != "ok"] == []


def test_a_pool_of_rollouts_holds_whole_copies_too(compose, tmp_path):
    pool = [f"{ROLLOUT}.nnodes=1", f"{ROLLOUT}.n_gpus_per_node=2", f"{ROLLOUT}.tensor_model_parallel_size=4"]
    given = [*LAUNCHED, f"actor_rollout_ref.model.path={tmp_path}", *pool]
    (line,) = [finding.text for finding in doctor.examine_composed(compose(*given), given) if finding.level == "fail"]
    assert f"the 2 GPUs of {ROLLOUT}.nnodes and {ROLLOUT}.n_gpus_per_node; write 2, not 4" in line
