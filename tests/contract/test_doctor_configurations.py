"""``verl-efficiency doctor`` on 80 configurations: silent on the good ones; for each mistake one line with place and fix.

The fixes are written here by hand. With the fix applied, doctor is silent.
"""

import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="written for verl 0.9")

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tests.contract.conftest import LAUNCH
from verl_efficiency.verl import compose as compose_module
from verl_efficiency.verl import doctor

GRPO, BUDGET, SRPO, SDPO, T_SPMO = (
    f"algorithm.adv_estimator={name}"
    for name in ("grpo", "token_budget", "sample_routing", "self_distillation", "t_spmo")
)
MANAGER = "reward.reward_manager.name=efficiency"
PATH = "reward.custom_reward_function.path=pkg://verl_efficiency.rewards"
NAME = "reward.custom_reward_function.name="
KWARGS = "+reward.custom_reward_function.reward_kwargs."
E = "+algorithm.efficiency."
ACTOR, ROLLOUT, MODEL = "actor_rollout_ref.actor.", "actor_rollout_ref.rollout.", "actor_rollout_ref.model."
SYNC, FSDP2 = "trainer.v1.trainer_mode=efficiency_sync", ACTOR + "strategy=fsdp2"
FIXED = (E + "b_min=100", E + "b_max=4000")
ACCURACY = (PATH, NAME + "accuracy", MANAGER)
CUSTOM = ("algorithm.adv_estimator=custom", E + "shaper=verl_efficiency.methods.shaping.kimi.kimi", *ACCURACY)
FILTER = "algorithm.filter_groups.enable=True"
ACC = "algorithm.filter_groups.metric=acc"
SAMPLER = "trainer.v1.sampler.custom_sampler."
KEEP = (SAMPLER + "path=pkg://verl_efficiency.verl.sampler", SAMPLER + "name=KeepSolvedGroups")
OWN = f"reward.custom_reward_function.path={Path(__file__).parents[1] / 'e2e' / 'recording_reward.py'}"
PACKED = (
    "data.custom_cls.path=pkg://verl_efficiency.verl.dataset",
    "data.custom_cls.name=PackedDataset",
    "data.dataloader_num_workers=0",
    "+data.efficiency.problems=3",
)
BATCHED = (PATH, NAME + "batched_accuracy", MANAGER)

GOOD = {
    "verl's grpo alone": (GRPO,),
    "verl's gae": ("algorithm.adv_estimator=gae", "critic.enable=True"),
    "verl's dapo manager": (GRPO, "reward.reward_manager.name=dapo", "+reward.reward_kwargs.overlong_buffer_cfg.len=9"),
    "one's own reward": (GRPO, MANAGER, OWN),
    "the accuracy": (GRPO, *ACCURACY),
    "by its module": (GRPO, PATH + ".accuracy", MANAGER),
    "a marker": (GRPO, *ACCURACY, KWARGS + "marker='####'", KWARGS + "strip_thinking=True"),
    "a marker of two texts": (GRPO, *ACCURACY, KWARGS + "marker='<answer>…</answer>'"),
    "budgets that follow the run": (BUDGET, *ACCURACY),
    "an alias": ("algorithm.adv_estimator=efficiency.token_budget", *ACCURACY),
    "a fixed budget": (BUDGET, *FIXED, *ACCURACY),
    "a difficulty column": (BUDGET, *FIXED, E + "difficulty=data", E + "difficulty_column=extra_info.difficulty"),
    "the running solve rate": (BUDGET, E + "difficulty=running", *ACCURACY),
    "dr_grpo by verl's switch": (BUDGET, "algorithm.norm_adv_by_std_in_grpo=False", *ACCURACY),
    "a function by its path": (
        "algorithm.adv_estimator=custom",
        E + "shaper=verl_efficiency.methods.shaping.laser.laser",
        E + "target_length=100",
        *ACCURACY,
    ),
    "decoupled": ("algorithm.adv_estimator=kimi", E + "combine=decoupled", *ACCURACY),
    "hapo": ("algorithm.adv_estimator=hapo", *ACCURACY),
    "s_grpo": ("algorithm.adv_estimator=s_grpo", ACTOR + "loss_agg_mode=seq-mean-token-mean", *ACCURACY),
    "gfpo": ("algorithm.adv_estimator=gfpo", *ACCURACY),
    "on the V0 trainer": (BUDGET, *FIXED, *ACCURACY, "trainer.use_v1=False"),
    "srpo": (SRPO, SYNC, FSDP2, *ACCURACY),
    "sdpo": (SDPO, SYNC, FSDP2, *ACCURACY),
    "srpo with LoRA": (SRPO, SYNC, FSDP2, MODEL + "lora_rank=8", MODEL + "lora.merge=True", *ACCURACY),
    "t_spmo with fused kernels": (T_SPMO, SYNC, "actor_rollout_ref.model.use_fused_kernels=True", *ACCURACY),
    "our trainer, verl's estimator": (GRPO, SYNC, *ACCURACY),
    "packed problems": (GRPO, *PACKED, *BATCHED),
    "packed, with a budget": (BUDGET, *PACKED, *BATCHED),
    "cosine as a reward": (GRPO, PATH, NAME + "cosine", MANAGER),
    "lcpo_max": (GRPO, PATH, NAME + "lcpo_max", MANAGER),
    "length_levels": (GRPO, PATH, NAME + "length_levels", MANAGER),
    "a budget as a reward": (GRPO, PATH, NAME + "token_budget", MANAGER, KWARGS + "b_min=100", KWARGS + "b_max=900"),
    "a sum of rewards": (GRPO, PATH, NAME + "composition", MANAGER, KWARGS + "terms=[{name: accuracy, weight: 1}]"),
    "verl's filter where equal is useless": (GRPO, *ACCURACY, FILTER, ACC),
    "nodes of others": (
        BUDGET,
        *ACCURACY,
        "+reward.efficiency.mine=1",
        "+algorithm.token_budget.mine=1",
        "+algorithm.mine.penalty=1",
        "+trainer.mine.penalty=1",
        "+actor_rollout_ref.efficiency={penalty: 1, mine: 1}",
        "+reward.custom_reward_function.mine=1",
        "+trainer.marker=x",
        "+reward.reward_kwargs.penalty=1",
        "+algorithm.mine=1",
    ),
    "settings of a method that does not run": (GRPO, *ACCURACY, "+efficiency.penalty=1", "+algorithm.kimi.weight=1"),
    "our filter": (BUDGET, *ACCURACY, FILTER, ACC, *KEEP),
    "on the CPU": (GRPO, *ACCURACY, "trainer.device=cpu", "+ray_kwargs.ray_init.num_gpus=1"),
}


class Mistake(NamedTuple):
    """One mistake in a good configuration.

    Attributes:
        good: the rest of the configuration.
        wrong: the overrides with the mistake.
        named: the place, as doctor names it.
        fix: what doctor says to write.
        right: the overrides in the place of ``wrong``, as a user reads the fix.
    """

    good: tuple[str, ...]
    wrong: tuple[str, ...]
    named: str
    fix: str
    right: tuple[str, ...]


MISTAKES = {
    "estimator misspelt": Mistake(
        ACCURACY, ("algorithm.adv_estimator=token_bugdet",), "algorithm.adv_estimator:", "'token_budget'", (BUDGET,)
    ),
    "estimator with hyphens": Mistake(
        ACCURACY, ("algorithm.adv_estimator=grpo-lead",), "algorithm.adv_estimator:", "'grpo_lead'",
        ("algorithm.adv_estimator=grpo_lead",),
    ),
    "a reward as the estimator": Mistake(
        (MANAGER, *PACKED), ("algorithm.adv_estimator=batched_accuracy",), "algorithm.adv_estimator:",
        f"write {GRPO} {PATH} {NAME}batched_accuracy", (GRPO, PATH, NAME + "batched_accuracy"),
    ),
    "setting misspelt": Mistake(
        (BUDGET, *ACCURACY), (E + "penaltty=0.3",), "algorithm.efficiency:", "'penalty'", (E + "penalty=0.3",)
    ),
    "value misspelt": Mistake(
        (BUDGET, *ACCURACY), (E + "difficulty=grup",), "algorithm.efficiency.difficulty:", "'group'",
        (E + "difficulty=group",),
    ),
    "an adapter that rollout hf does not take": Mistake(
        (SRPO, SYNC, FSDP2, *ACCURACY), (MODEL + "lora_rank=8",), MODEL + "lora.merge:", f"write {MODEL}lora.merge=True",
        (MODEL + "lora_rank=8", MODEL + "lora.merge=True"),
    ),
    "a text for a number": Mistake(
        (BUDGET, *ACCURACY), (E + "penalty=strong",), "algorithm.efficiency.penalty:", "must be float", (E + "penalty=0.3",)
    ),
    "the plus is missing": Mistake(
        (BUDGET, *ACCURACY), ("algorithm.efficiency.penalty=0.3",), "'algorithm.efficiency.penalty'",
        "use +algorithm.efficiency.penalty=0.3", (E + "penalty=0.3",),
    ),
    "the node misspelt": Mistake(
        (BUDGET, *ACCURACY), ("+algorithm.effciency.penalty=0.3",), "algorithm.effciency:", f"write {E}penalty=0.3",
        (E + "penalty=0.3",),
    ),
    "the node of a reward misspelt": Mistake(
        (GRPO, *ACCURACY), ("+reward.custom_reward_function.reward_kwarg.strip_thinking=True",),
        "reward.custom_reward_function.reward_kwarg:", f"write {KWARGS}strip_thinking=True",
        (KWARGS + "strip_thinking=True",),
    ),
    "a node at the root": Mistake(
        (BUDGET, *ACCURACY), ("+efficiency.length_weight=0.5",), "efficiency: nobody reads length_weight here",
        f"write {E}length_weight=0.5", (E + "length_weight=0.5",),
    ),
    "a node under another part of verl": Mistake(
        (BUDGET, *ACCURACY), ("+actor_rollout_ref.efficiency={penalty: 0.5, margin: 0.1}",), "actor_rollout_ref.efficiency:",
        f"write {E}penalty=0.5 {E}margin=0.1", (E + "penalty=0.5", E + "margin=0.1"),
    ),
    "a node named after the method": Mistake(
        ("algorithm.adv_estimator=kimi", *ACCURACY), ("+algorithm.kimi.weight=0.2",), "algorithm.kimi:",
        f"write {E}weight=0.2", (E + "weight=0.2",),
    ),
    "a setting of an own function, in a node named after the method": Mistake(
        CUSTOM, ("+algorithm.custom.weight=0.2",), "algorithm.custom:", f"write {E}weight=0.2",
        (E + "weight=0.2",),
    ),
    "a setting of an own function, one level too high": Mistake(
        CUSTOM, ("+algorithm.weight=0.2",), "algorithm.weight:", f"write {E}weight=0.2",
        (E + "weight=0.2",),
    ),
    "a setting one level too high": Mistake(
        (BUDGET, *ACCURACY), ("+algorithm.length_weight=0.5",), "algorithm.length_weight:", f"write {E}length_weight=0.5",
        (E + "length_weight=0.5",),
    ),
    "the same without the plus": Mistake(
        (BUDGET, *ACCURACY), ("algorithm.length_weight=0.5",), "'algorithm.length_weight'", f"'{E}length_weight'",
        (E + "length_weight=0.5",),
    ),
    "a reward's setting one level too high": Mistake(
        (GRPO, *ACCURACY), ("+reward.custom_reward_function.strip_thinking=True",), "reward.custom_reward_function:",
        f"write {KWARGS}strip_thinking=True", (KWARGS + "strip_thinking=True",),
    ),
    "a reward's setting in kwargs": Mistake(
        (GRPO, *ACCURACY), ("+reward.custom_reward_function.kwargs.strip_thinking=True",),
        "reward.custom_reward_function.kwargs:", f"write {KWARGS}strip_thinking=True", (KWARGS + "strip_thinking=True",),
    ),
    "a reward's setting where the managers read": Mistake(
        (GRPO, *ACCURACY), ("+reward.reward_kwargs.strip_thinking=True",), "reward.reward_kwargs.strip_thinking:",
        f"write {KWARGS}strip_thinking=True", (KWARGS + "strip_thinking=True",),
    ),
    "settings for verl's estimator": Mistake(
        ACCURACY, (GRPO, E + "target_length=100"), "algorithm.efficiency:", "set it to one of laser",
        ("algorithm.adv_estimator=laser", E + "target_length=100"),
    ),
    "an estimator that was removed": Mistake(
        ACCURACY, ("algorithm.adv_estimator=length_shaped", E + "shaper=kimi"), "algorithm.adv_estimator:",
        "length_shaped was removed", ("algorithm.adv_estimator=kimi",),
    ),
    "settings of another estimator": Mistake(
        (*ACCURACY, E + "target_length=100"), ("algorithm.adv_estimator=laser", E + "initial_price=0.1"),
        "algorithm.efficiency:", "'initial_price' is a setting of leash",
        ("algorithm.adv_estimator=leash", E + "initial_price=0.1"),
    ),
    "b_min above b_max": Mistake(
        (BUDGET, *ACCURACY, E + "b_max=100"), (E + "b_min=200",), "algorithm.efficiency.b_min:", "must not be above b_max",
        (E + "b_min=20",),
    ),
    "verl's key misspelt": Mistake(
        (GRPO, *ACCURACY), (ACTOR + "ppo_mini_batch_sise=8",), f"'{ACTOR}ppo_mini_batch_sise'",
        f"'{ACTOR}ppo_mini_batch_size'", (ACTOR + "ppo_mini_batch_size=8",),
    ),
    "verl's key misspelt, and added": Mistake(
        (GRPO, *ACCURACY), ("+trainer.total_epoch=3",), "+trainer.total_epoch:", "'trainer.total_epochs'",
        ("trainer.total_epochs=3",),
    ),
    "a key added that is there": Mistake(
        (GRPO, *ACCURACY), ("+algorithm.gamma=1.0",), "'algorithm.gamma'", "remove + prefix: 'algorithm.gamma=1.0'",
        ("algorithm.gamma=1.0",),
    ),
    "a marker without inner quotes": Mistake(
        (GRPO, *ACCURACY), (KWARGS + "marker=####",), KWARGS + "marker=####", f"\"{KWARGS}marker='####'\"",
        (KWARGS + "marker='####'",),
    ),
    "the old place of the reward": Mistake(
        (BUDGET, MANAGER), ("custom_reward_function.path=/my/reward.py",), "custom_reward_function.path:",
        "write reward.custom_reward_function.path=/my/reward.py", (PATH, NAME + "accuracy"),
    ),
    "the old place of the manager": Mistake(
        (BUDGET,), ("reward_model.reward_manager=dapo",), "reward_model.reward_manager:",
        "write reward.reward_manager.name=dapo", ("reward.reward_manager.name=dapo",),
    ),
    "the old place of the overlong buffer": Mistake(
        (GRPO, "reward.reward_manager.name=dapo"), ("+reward_model.reward_kwargs.overlong_buffer_cfg.len=9",),
        "reward_model.reward_kwargs.overlong_buffer_cfg.len:", "write +reward.reward_kwargs.overlong_buffer_cfg.len=9",
        ("+reward.reward_kwargs.overlong_buffer_cfg.len=9",),
    ),
    "the old place of the reward model": Mistake(
        (GRPO,), ("reward_model.model.path=/models/rm",), "reward_model.model.path:",
        "write reward.reward_model.model_path=/models/rm", ("reward.reward_model.model_path=/models/rm",),
    ),
    "manager misspelt": Mistake(
        (BUDGET, PATH, NAME + "accuracy"), ("reward.reward_manager.name=eficiency",), "reward.reward_manager.name:",
        "'efficiency'", (MANAGER,),
    ),
    "the manager does not tell the cost": Mistake(
        (GRPO, PATH, NAME + "cosine"), ("reward.reward_manager.name=naive",), "reward.reward_manager.name:",
        "set it to efficiency", (MANAGER,),
    ),
    "reward misspelt": Mistake(
        (GRPO, PATH, MANAGER), (NAME + "acuracy",), "reward.custom_reward_function.name:", "'accuracy'", (NAME + "accuracy",)
    ),
    "a reward's setting misspelt": Mistake(
        (GRPO, *PACKED, *BATCHED), (KWARGS + "format_wieght=0.2",), "reward.custom_reward_function.reward_kwargs:",
        "'format_weight'", (KWARGS + "format_weight=0.2",),
    ),
    "cosine pays for length": Mistake(
        (GRPO, PATH, NAME + "cosine", MANAGER, KWARGS + "correct_short=1.0"), (KWARGS + "correct_long=2.0",),
        "reward.custom_reward_function.reward_kwargs.correct_long:", "must not be above correct_short",
        (KWARGS + "correct_long=0.5",),
    ),
    "no such column": Mistake(
        (BUDGET, *FIXED, E + "difficulty=data"), (E + "difficulty_column=extra_info.dificulty",),
        "algorithm.efficiency.difficulty_column:", "'extra_info.difficulty'", (E + "difficulty_column=extra_info.difficulty",),
    ),
    "packing without its data set": Mistake(
        (GRPO, *BATCHED), ("+data.efficiency.problems=3",), "data.efficiency:",
        "data.custom_cls.path=pkg://verl_efficiency.verl.dataset data.custom_cls.name=PackedDataset", PACKED,
    ),
    "a method that needs our trainer": Mistake(
        (SRPO, FSDP2, *ACCURACY), ("trainer.v1.trainer_mode=sync",), "trainer.v1.trainer_mode:", f"write {SYNC}",
        (SYNC,),
    ),
    "our trainer misspelt": Mistake(
        (GRPO, *ACCURACY), ("trainer.v1.trainer_mode=efficency_sync",), "trainer.v1.trainer_mode:", "'efficiency_sync'",
        (SYNC,),
    ),
    "our trainer on V0": Mistake(
        (SDPO, SYNC, FSDP2, *ACCURACY), ("trainer.use_v1=False",), "trainer.use_v1:", "set it to True",
        ("trainer.use_v1=True",),
    ),
    "columns on V0": Mistake(
        (BUDGET, *ACCURACY, "trainer.use_v1=False"), (E + "difficulty=running",), "trainer.use_v1:",
        "difficulty=group", (E + "difficulty=group",),
    ),
    "FSDP 1": Mistake((SRPO, SYNC, *ACCURACY), (ACTOR + "strategy=fsdp",), ACTOR + "strategy:", f"write {FSDP2}", (FSDP2,)),
    "fused kernels": Mistake(
        (SDPO, SYNC, FSDP2, *ACCURACY), ("actor_rollout_ref.model.use_fused_kernels=True",),
        "actor_rollout_ref.model.use_fused_kernels:", "write actor_rollout_ref.model.use_fused_kernels=False",
        ("actor_rollout_ref.model.use_fused_kernels=False",),
    ),
    "no such router": Mistake(
        (SRPO, SYNC, FSDP2, *ACCURACY), (E + "router=mine",), "algorithm.efficiency.router:", "package.module.function",
        (E + "router=verl_efficiency.methods.routing.self_distillation.route_all",),
    ),
    "a filter by what nobody returns": Mistake(
        (GRPO, *ACCURACY, FILTER), ("algorithm.filter_groups.metric=seq_reward",), "algorithm.filter_groups.metric:",
        f"write {ACC}", (ACC,),
    ),
    "a filter by a text": Mistake(
        (GRPO, *ACCURACY, FILTER), ("algorithm.filter_groups.metric=answer",), "algorithm.filter_groups.metric:",
        f"write {ACC}", (ACC,),
    ),
    "a filter that drops what teaches": Mistake(
        (BUDGET, *ACCURACY, FILTER), (ACC,), "algorithm.filter_groups.enable:", f"write {ACC} {KEEP[0]} {KEEP[1]}",
        (ACC, *KEEP),
    ),
    "a filter that keeps the wrong": Mistake(
        (GRPO, PATH, NAME + "cosine", MANAGER, FILTER), ("algorithm.filter_groups.metric=reward",),
        "algorithm.filter_groups.metric:", f"write {ACC} {KEEP[0]} {KEEP[1]}", (ACC, *KEEP),
    ),
    "our filter by a shaped score": Mistake(
        (GRPO, PATH, NAME + "cosine", MANAGER, FILTER, *KEEP), ("algorithm.filter_groups.metric=reward",),
        "algorithm.filter_groups.metric:", f"write {ACC}", (ACC,),
    ),
    "a filter on V0": Mistake(
        (BUDGET, *FIXED, *ACCURACY, FILTER, ACC, *KEEP), ("trainer.use_v1=False",), "algorithm.filter_groups.enable:",
        "write trainer.use_v1=True", ("trainer.use_v1=True",),
    ),
    "our filter without the filter": Mistake(
        (BUDGET, *ACCURACY), KEEP, f"{SAMPLER}name:", f"write {FILTER}", (*KEEP, FILTER, ACC)
    ),
    "groups of one": Mistake(
        (BUDGET, *ACCURACY), (ROLLOUT + "n=1",), ROLLOUT + "n:", f"write {ROLLOUT}n=8", (ROLLOUT + "n=8",)
    ),
    "groups of one for verl's estimator": Mistake(
        (GRPO, *ACCURACY), (ROLLOUT + "n=1",), ROLLOUT + "n:", f"write {ROLLOUT}n=8", (ROLLOUT + "n=8",)
    ),
    "an undeclared reward on V0": Mistake(
        (GRPO, MANAGER, OWN), ("trainer.use_v1=False",),
        "reward.custom_reward_function.name:", "write trainer.use_v1=True", ("trainer.use_v1=True",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file that every method and reward here can train on, as overrides."""
    told = {"split": "train", "difficulty": 0.5, "target_tokens": 100, "length_level": "short"}
    rows = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"{number}+{number}? Use \\boxed{{}}, <answer> or ####."}],
            "reward_model": {"style": "rule", "ground_truth": str(2 * number)},
            "extra_info": {"index": number, **told},
        }
        for number in range(1, 9)
    ]
    file = tmp_path_factory.mktemp("data") / "problems.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    return f"data.train_files={file}", f"data.val_files={file}"


@pytest.fixture
def said(monkeypatch, compose, files):
    """What doctor says of a configuration, other than that something is well.

    Hydra composes only what the quick way of the other tests refuses.
    """
    hydra = compose_module._hydra

    def quick(overrides):
        try:
            parsed = OverridesParser.create().parse_overrides(overrides)
            if any(o.is_add() and OmegaConf.select(compose(), o.key_or_group) is not None for o in parsed):
                return hydra([*LAUNCH, *overrides])
            return compose(*overrides)
        except (OmegaConfBaseException, HydraException):
            return hydra([*LAUNCH, *overrides])

    compose_module.verls_configuration()  # kept from here on, and without LAUNCH
    monkeypatch.setattr(compose_module, "_hydra", quick)
    there = [*files, "actor_rollout_ref.rollout.name=hf"]
    return lambda *overrides: [
        finding.text for finding in doctor.examine_configuration([*there, *overrides]) if finding.level != "ok"
    ]


def test_there_are_enough_of_both():
    assert len(GOOD) >= 30
    assert len(MISTAKES) >= 30


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_said_of_a_good_one(said, name):
    assert said(*GOOD[name]) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_a_fix_that_is_accepted(said, name):
    mistake = MISTAKES[name]
    (line,) = said(*mistake.good, *mistake.wrong)
    assert mistake.named in line
    assert mistake.fix in line.replace(mistake.named, "", 1)
    assert "\n" not in line
    assert said(*mistake.good, *mistake.right) == []
