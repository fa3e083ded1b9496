"""Every key that verl has moved is named, and following the advice passes the check."""

import re

import pytest

pytest.importorskip("verl")

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from verl_efficiency.verl import start_up
from verl_efficiency.verl.checks.moved import check_moved_keys

# Hand-written from verl's migrate_legacy_reward_impl; the keys of `rollout` keep their names.
NEW = {
    "custom_reward_function.path": "reward.custom_reward_function.path",
    "custom_reward_function.name": "reward.custom_reward_function.name",
    "+custom_reward_function.reward_kwargs.format_weight": "+reward.custom_reward_function.reward_kwargs.format_weight",
    "reward_model.num_workers": "reward.num_workers",
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model.enable": "reward.reward_model.enable",
    "reward_model.enable_resource_pool": "reward.reward_model.enable_resource_pool",
    "reward_model.n_gpus_per_node": "reward.reward_model.n_gpus_per_node",
    "reward_model.nnodes": "reward.reward_model.nnodes",
    "reward_model.reward_loop_source": "reward.reward_manager.source",
    "reward_model.reward_loop_module_path": "reward.reward_manager.module.path",
    "reward_model.reward_loop_class_name": "reward.reward_manager.module.name",
    "reward_model.model.path": "reward.reward_model.model_path",
    "reward_model.model.external_lib": None,
    "reward_model.model.trust_remote_code": None,
    "reward_model.rollout.name": "reward.reward_model.rollout.name",
    "reward_model.rollout.dtype": "reward.reward_model.rollout.dtype",
    "reward_model.rollout.max_model_len": "reward.reward_model.rollout.max_model_len",
    "+reward_model.reward_kwargs.max_resp_len": "+reward.reward_kwargs.max_resp_len",
    "+reward_model.reward_kwargs.overlong_buffer_cfg.enable": "+reward.reward_kwargs.overlong_buffer_cfg.enable",
    "sandbox_fusion.url": "reward.sandbox_fusion.url",
    "sandbox_fusion.max_concurrent": "reward.sandbox_fusion.max_concurrent",
    "sandbox_fusion.memory_limit_mb": "reward.sandbox_fusion.memory_limit_mb",
}


@pytest.mark.parametrize(("old", "new"), NEW.items())
def test_an_old_key_is_named_with_its_new_place(compose, old, new):
    (line,) = check_moved_keys(compose(f"{old}=7"))
    assert line.startswith(f"{old.lstrip('+')}: ")
    if new is None:
        assert "write" not in line
    else:
        assert line.endswith(f"write {new}=7")


def test_every_old_key_of_this_verl_is_known(compose):
    """All at once: one line each, and the advice followed leaves none."""
    config = compose()
    old = []
    for root in ("custom_reward_function", "reward_model", "sandbox_fusion"):
        flat = OmegaConf.to_container(config[root])
        old += [f"{root}.{key}.{inner}" for key in flat for inner in flat[key] or ()]
        old += [f"{root}.{key}" for key in flat if flat[key] is None]
    assert len(old) > 35
    lines = list(check_moved_keys(compose(*(f"{key}=7" for key in old))))
    assert sorted(line.split(":")[0] for line in lines) == sorted(old)
    advised = [match[1] for line in lines if (match := re.search(r"write (\S+)$", line))]
    assert len(advised) == len(old) - 2  # the two that have no other place
    for override in OverridesParser.create().parse_overrides(advised):
        found = OmegaConf.select(compose(*advised), override.key_or_group)
        assert found == 7
    assert list(check_moved_keys(compose(*advised))) == []


@pytest.mark.parametrize(
    ("old", "right"),
    [
        (
            "custom_reward_function.path='/my folder/reward.py'",
            "reward.custom_reward_function.path with the same value",
        ),
        (
            "+custom_reward_function.reward_kwargs.terms=[1,2]",
            "+reward.custom_reward_function.reward_kwargs.terms with the same",
        ),
    ],
)
def test_a_value_that_the_shell_would_change_is_not_written_out(compose, old, right):
    (line,) = check_moved_keys(compose(old))
    assert right in line


def test_a_good_configuration_has_none(compose):
    assert start_up.check(compose("reward.num_workers=3")) == []
