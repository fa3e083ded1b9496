"""What several contract tests need: a fresh interpreter, and verl's own configuration."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# What verl asks of every launch, for one process without a GPU. The model does not exist, so nothing may try to load it.
LAUNCH = (
    "algorithm.adv_estimator=grpo",
    "data.train_batch_size=8",
    "actor_rollout_ref.model.path=nowhere/model",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1",
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    "trainer.n_gpus_per_node=1",
)


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    """A file in verl's form that every method and reward can train on.

    It has rows for any batch of a recipe, one in each row group, so the checks look at 16 of them only.
    """
    told = {"split": "train", "difficulty": 0.5, "target_tokens": 100, "length_level": "short"}
    rows = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"{number}+{number}? Use \\boxed{{}}."}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(2 * number)},
            "extra_info": {"index": number, **told},
        }
        for number in range(1, 257)
    ]
    file = tmp_path_factory.mktemp("data") / "problems.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=1)
    return file


@pytest.fixture(scope="session")
def compose(data_file):
    """verl's ``ppo_trainer`` configuration, composed by Hydra as ``main_ppo`` does, with these overrides.

    Hydra takes half a second, so it composes once; the overrides follow by its own grammar. The data files are there.
    """
    import verl
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        base = hydra_compose("ppo_trainer", [*LAUNCH, f"data.train_files={data_file}", f"data.val_files={data_file}"])

    def composed(*overrides):
        config = copy.deepcopy(base)
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=override.is_add())
        return config

    return composed


@pytest.fixture(scope="session")
def fresh():
    """Run Python in its own interpreter: ``fresh("code")`` or ``fresh("-m", "module", …)``, with more environment."""

    def run(*arguments, cwd=None, timeout=240, **environment):
        arguments = ("-c", *arguments) if len(arguments) == 1 else arguments
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


# Any text is right: names, folders, templates, variables of the workers.
FREE = (
    *("trainer.project_name", "trainer.experiment_name", "trainer.default_local_dir"),
    *("data.efficiency.separator", "data.efficiency.instruction", "data.apply_chat_template_kwargs."),
    *("ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH", "hydra."),
    *(f"ray_kwargs.ray_init.{name}" for name in ("num_cpus", "num_gpus", "include_dashboard", "object_store_memory")),
)
# Settings for which the second wrong value is right, and why.
RIGHT_TOO = {
    "data.seed": "a seed may be any whole number",
    "actor_rollout_ref.actor.optim.lr_warmup_steps": "below 0 means the share that lr_warmup_steps_ratio gives",
    "data.efficiency.problem_template": "any text with {problem} in it",
    "actor_rollout_ref.model.path": "a hub may have a model of any name",
}


def second_wrong_value(right):
    """A value of the right type that is out of range, or nearly a known name: -7 for a number, ``fsdp2x`` for fsdp2."""
    if isinstance(right, bool):
        return 7
    if isinstance(right, str):
        return f"{right}x"
    if isinstance(right, list):
        return [*right[:-1], second_wrong_value(right[-1])]
    return {"nonsense": 7} if isinstance(right, dict) else -7


@pytest.fixture(scope="session")
def missed(compose):
    """The settings of a launch with a wrong value that ``verl-efficiency doctor`` would not name; each key is tried once.

    The first wrong value is ``/nonsense``: no number, no known name, no file. The second is :func:`second_wrong_value`. A
    finding names a wrong value by the value or by its setting. The launch as it stands must have no failure.
    """
    from omegaconf import OmegaConf, open_dict

    from verl_efficiency.verl import doctor

    tried = set()

    def names_it(config, path, wrong, words):
        right = OmegaConf.select(config, path)
        with open_dict(config):  # a deep copy for each would take most of the time
            OmegaConf.update(config, path, wrong, merge=False)
            findings = [finding.text for finding in doctor.examine_composed(config, []) if finding.level != "ok"]
            OmegaConf.update(config, path, right, merge=False)
        return any(word in text for text in findings for word in words)

    def of(overrides):
        overrides = [override for override in overrides if not override.startswith("hydra.")]
        config = compose(*overrides)
        examined = doctor.examine_composed(config, overrides)
        assert [finding.text for finding in examined if finding.level == "fail"] == []
        found_nothing = []
        for path in dict.fromkeys(override.lstrip("+").partition("=")[0] for override in overrides):
            if path in tried or path.startswith(FREE):
                continue
            tried.add(path)
            node = OmegaConf.select(config, path)
            right = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
            if not names_it(config, path, ["/nonsense"] if isinstance(right, list) else "/nonsense", ["nonsense"]):
                found_nothing.append(path)
            wrong = second_wrong_value(right)
            if path not in RIGHT_TOO and not names_it(config, path, wrong, [path, str(wrong)]):
                found_nothing.append(f"{path}={wrong}")
        return found_nothing

    return of
