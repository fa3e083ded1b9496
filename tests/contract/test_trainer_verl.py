"""Our trainers and their worker: what they take over from verl, what they add, and how they are reached."""

import dataclasses
import inspect
import json
import math
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="verl 0.8 has no V1 trainer")

import torch
import transfer_queue
from tensordict import TensorDict
from torch import nn
from transfer_queue import KVBatchMeta
from typer.testing import CliRunner
from verl.single_controller.base.decorator import MAGIC_ATTR
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import PPOTrainer, PPOTrainerSync, get_trainer_cls
from verl.utils import tensordict_utils as tu
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list
from verl.workers.engine_workers import ActorRolloutRefWorker

from verl_efficiency.adapter.rollouts import complete, prompt_name
from verl_efficiency.adapter.state import STARTS_AGAIN
from verl_efficiency.cli import app
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl import run, start_up
from verl_efficiency.verl import trainer as trainer_module
from verl_efficiency.verl.average import WeightAverage
from verl_efficiency.verl.batch import Batch, read, read_batch, write
from verl_efficiency.verl.distillation_loss import DistillationLoss, StudentTopk, TeacherTargets
from verl_efficiency.verl.trainer import EfficiencySync, EfficiencyTrainer
from verl_efficiency.verl.worker import DistillationWorker, _put_teacher_prompts

HOOKS = (
    *("_next_train_batch", "prepare_step"),  # of t_spmo's replay
    *("_build_replay_buffer", "_init_resource_pool_mgr", "_load_checkpoint"),
    *("_compute_old_log_prob", "_compute_advantage", "_update_actor"),
)
SYNC = "trainer.v1.trainer_mode=efficiency_sync"


@pytest.fixture(autouse=True)
def _fresh_state():
    run.reset()
    yield
    run.reset()


REGISTERED = """
import json
import verl
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
import verl.trainer.ppo.v1
print(json.dumps({name: f"{cls.__module__}.{cls.__name__}" for name, cls in TRAINER_REGISTRY.items()}))
"""


@pytest.mark.parametrize(
    ("plugins", "modules", "found"),
    [("auto", "", True), ("none", "verl_efficiency.verl.plugin", True), ("none", "", False)],
    ids=["entry point", "external module", "without the plugin"],
)
def test_the_mode_is_known_to_a_stock_launch(fresh, plugins, modules, found):
    given = {"VERL_USE_EXTERNAL_PLUGINS": plugins, "VERL_USE_EXTERNAL_MODULES": modules}
    done = fresh(REGISTERED, **given, VERL_PLATFORM="")  # which means nothing to verl without the plugin
    assert done.returncode == 0, done.stderr
    registry = json.loads(done.stdout.splitlines()[-1])
    names = {"sync": "Sync", "colocate_async": "ColocateAsync", "separate_async": "SeparateAsync"} if found else {}
    ours = {f"efficiency_{mode}": f"verl_efficiency.verl.trainer.Efficiency{name}" for mode, name in names.items()}
    assert {name: path for name, path in registry.items() if path.startswith("verl_efficiency")} == ours
    assert registry["sync"] == "verl.trainer.ppo.v1.trainer_sync.PPOTrainerSync"


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "separate_async"])
def test_each_is_verls_trainer_but_for_the_named_methods(mode):
    ours, theirs = get_trainer_cls(f"efficiency_{mode}"), get_trainer_cls(mode)
    assert ours.__mro__[1:3] == (EfficiencyTrainer, theirs)
    own = {name for cls in ours.__mro__[:2] for name, value in vars(cls).items() if inspect.isfunction(value)}
    assert own <= {"__init__", "_worker", *HOOKS}
    for name in dir(theirs):
        if not name.startswith("__") and name not in (*HOOKS, "_abc_impl"):
            assert getattr(ours, name) is getattr(theirs, name), name


@pytest.mark.parametrize("name", ["__init__", *HOOKS])
def test_verl_calls_these_methods_with_these_arguments(name):
    if name == "prepare_step" and not hasattr(PPOTrainer, name):
        pytest.skip("verl before 0.9.1 does not call prepare_step, so it logs no metrics of t_spmo's replay")
    ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (EfficiencyTrainer, PPOTrainer))
    assert list(ours) == list(theirs)


def test_verl_takes_these_steps_in_this_order():
    """Rows are routed before the pass for ``old_log_probs``, scored between advantages and update."""
    trainer, metrics = MagicMock(), {}
    trainer.use_reference_policy = trainer.use_critic = False
    trainer.config.trainer.critic_warmup = trainer.global_steps = 0
    trainer.replay_buffer.sample.return_value = MagicMock(), {}
    PPOTrainer._step_once(trainer, metrics, {}, 4)
    called = [call[0] for call in trainer.method_calls]
    steps = ["replay_buffer.sample", "_balance_batch", "_compute_old_log_prob", "_compute_advantage", "_update_actor"]
    assert [name for name in called if name in steps] == steps
    for name in ("_compute_old_log_prob", "_compute_advantage", "_update_actor"):
        (call,) = getattr(trainer, name).call_args_list
        assert set(call.kwargs) == {"metrics"}  # and the batch by its place


def test_the_set_up_reads_the_worker_first_and_the_checkpoint_last():
    source = inspect.getsource(PPOTrainer._setup)
    order = ["_init_tokenizer()", "_init_resource_pool_mgr()", "role_worker_mapping[actor_role]", ".init_model()"]
    places = [source.index(call) for call in [*order, "self._load_checkpoint()"]]
    assert places == sorted(places)
    source = inspect.getsource(PPOTrainer.__init__)
    assert source.index("self.trainer_mode =") < source.index("self._build_replay_buffer()")


# A rollout pool of its own, and batches of 4 prompts between two weight syncs.
POOL = (
    *("actor_rollout_ref.rollout.nnodes=1", "actor_rollout_ref.rollout.n_gpus_per_node=1"),
    *("actor_rollout_ref.rollout.checkpoint_engine.backend=nccl", "data.train_batch_size=12"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size=4", "trainer.v1.separate_async.parameter_sync_step=3"),
)


@pytest.mark.parametrize(("mode", "syncs"), [("sync", 1), ("colocate_async", 1), ("separate_async", 3)])
def test_to_verl_it_is_its_own_trainer(compose, mode, syncs):
    """What verl compares with its own names, the buffer that it chooses by them, and the settings of its mode."""
    ours, theirs = (
        get_trainer_cls(name)(compose(*POOL, f"algorithm.adv_estimator={method}", f"trainer.v1.trainer_mode={name}"))
        for name, method in ((f"efficiency_{mode}", "sample_routing"), (mode, "grpo"))
    )
    assert ours.trainer_mode == theirs.trainer_mode == mode
    assert type(ours.replay_buffer) is type(theirs.replay_buffer)
    assert ours.replay_buffer.trainer_mode == mode
    assert ours.replay_buffer.trainer_config == theirs.replay_buffer.trainer_config
    assert ours.parameter_sync_step == theirs.parameter_sync_step == syncs
    assert ours.self_teacher is None  # until the tokenizer is there


def test_the_teachers_average_moves_once_per_step(compose, monkeypatch):
    """After the last of three updates, and not if verl has discarded the gradient of one of them."""
    trainer = get_trainer_cls("efficiency_separate_async")(
        compose(*POOL, "algorithm.adv_estimator=sample_routing", "trainer.v1.trainer_mode=efficiency_separate_async")
    )
    updates, norms = [], iter([1.0, 2.0, 3.0, float("nan"), 1.0, 1.0, 1.0, 1.0, 1.0])

    def stock(self, batch, metrics):
        metrics["actor/grad_norm"] = next(norms)
        return batch

    monkeypatch.setattr(PPOTrainer, "_update_actor", stock)
    trainer.self_teacher = SimpleNamespace(update=lambda metrics, step, norm: updates.append((step, norm)))
    trainer.timing_raw = {}
    for trainer.global_steps in (1, 2, 3):
        for trainer.local_trigger_step in range(3):
            trainer._update_actor("batch", {})
    assert [step for step, _ in updates] == [1, 2, 3]
    assert [math.isfinite(norm) for _, norm in updates] == [True, False, True]


@pytest.mark.parametrize(
    ("overrides", "taught"),
    [
        (("algorithm.adv_estimator=sample_routing",), True),
        (("algorithm.adv_estimator=self_distillation",), True),
        (("algorithm.adv_estimator=variance_routing", "+algorithm.efficiency.distil=True"), True),
        (("algorithm.adv_estimator=variance_routing",), False),
        (("algorithm.adv_estimator=t_spmo",), False),
        (("algorithm.adv_estimator=grpo",), False),
    ],
)
def test_only_a_method_with_a_teacher_changes_the_worker(compose, monkeypatch, overrides, taught):
    def stock(self):
        self.role_worker_mapping = {Role.ActorRollout: "verl's actor", Role.Critic: "verl's critic"}

    monkeypatch.setattr(PPOTrainer, "_init_resource_pool_mgr", stock)
    trainer = EfficiencySync(compose(*overrides, SYNC))
    trainer.tokenizer = None
    trainer._init_resource_pool_mgr()
    actor = trainer.role_worker_mapping[Role.ActorRollout]
    assert trainer.role_worker_mapping[Role.Critic] == "verl's critic"
    assert (trainer.self_teacher is not None) == taught
    if taught:
        assert actor.__ray_metadata__.class_name == "DistillationWorker"
    else:
        assert actor == "verl's actor"


def rows(reward_infos, padding=0, keys=None):
    count = len(reward_infos)
    return Batch(
        keys=tuple(keys or [f"u{row}_0_0" for row in range(count)]),
        uids_B=np.array([f"u{row}" for row in range(count)], dtype=object),
        real_B=tuple(row < count - padding for row in range(count)),
        scores_B=torch.arange(count, dtype=torch.float32),
        responses_B=tuple(torch.arange(row + 1) for row in range(count)),
        masks_B=tuple(torch.ones(row + 1) for row in range(count)),
        reward_infos=tuple(reward_infos),
    )


@pytest.mark.parametrize("taught", [True, False])
def test_the_steps_in_between(monkeypatch, compose, taught):
    method = "sample_routing" if taught else "kimi"
    calls, trainer = [], EfficiencySync(compose(f"algorithm.adv_estimator={method}", SYNC))

    def stock(name):
        def method(self, batch, metrics):
            calls.append(f"verl {name}")
            metrics["actor/grad_norm"] = 1.0
            if name == "_compute_advantage":  # where the estimator runs
                run.report(ESTIMATORS["sample_routing"], {"distil_share": 0.5})
            return f"{batch}+"

        return method

    def step(name):
        return lambda *_: calls.append(name)

    for name in HOOKS[-3:]:
        monkeypatch.setattr(PPOTrainer, name, stock(name))
    several = rows([{"acc": 1.0}, {"acc": 0.0}, {}], padding=1)
    monkeypatch.setattr(trainer_module, "read_batch", lambda *_: several)
    trainer.self_teacher = SimpleNamespace(**{n: step(n) for n in ("route", "teach", "update")}) if taught else None
    trainer.timing_raw, trainer.global_steps, metrics = {}, 1, {}
    assert trainer._compute_old_log_prob("batch", metrics) == "batch+"
    assert trainer._compute_advantage("batch", metrics) == "batch+"
    assert trainer._update_actor("batch", metrics) == "batch+"
    ours = {"route", "teach", "update"} if taught else set()
    every = ["route", "verl _compute_old_log_prob", "verl _compute_advantage", "teach", "verl _update_actor", "update"]
    assert calls == [name for name in every if name.startswith("verl") or name in ours]
    assert metrics == {"reward/acc": 0.5, "sample_routing/distil_share": 0.5, "actor/grad_norm": 1.0}
    assert set(trainer.timing_raw) == ({"teacher", "teacher_update"} if taught else set())


def test_the_metrics_of_a_step_are_not_those_of_the_one_before():
    run.begin_step(run.step())
    run.report(ESTIMATORS["kimi"], {"a": 1.0, "b": 2.0})
    run.begin_step(run.step())
    run.report(ESTIMATORS["kimi"], {"b": 3.0})
    assert run.reported() == {"kimi/b": 3.0}


def test_thinking_is_counted_where_the_method_pays_for_it(monkeypatch, compose):
    """What the estimator finds: a prompt that opens the thinking, one that does not, and a tool inside of the thinking."""
    pieces = ["<think>", "</think>", "a", "\n"]
    tokenizer = MagicMock(get_vocab=lambda: {piece: number for number, piece in enumerate(pieces)})
    tokenizer.decode = lambda ids: "".join(pieces[number] for number in ids)
    several = dataclasses.replace(
        rows([{}, {}, {}]),
        responses_B=(torch.tensor([2, 1, 2, 2]), torch.tensor([2, 2]), torch.tensor([0, 2, 2, 1, 2])),
        masks_B=(torch.ones(4), torch.ones(2), torch.tensor([1, 1, 0, 1, 1])),
        prompts_B=(torch.tensor([2, 0, 3]), torch.tensor([2]), torch.tensor([0, 2])),
    )
    monkeypatch.setattr(
        *(trainer_module, "read_batch"),
        lambda batch, columns: several if columns == {"masks", "responses", "prompts"} else None,
    )
    monkeypatch.setattr(PPOTrainerSync, "_compute_old_log_prob", lambda self, batch, metrics: batch)
    config = compose("algorithm.adv_estimator=kimi", SYNC, "+algorithm.efficiency.cost=answer")
    trainer = EfficiencySync(config)
    trainer.tokenizer = tokenizer
    trainer._compute_old_log_prob("batch", {})
    assert run.current_step().thinking_B.tolist() == [2, 0, 3]


@pytest.mark.parametrize(
    ("overrides", "key", "remedy"),
    [
        (["algorithm.adv_estimator=grlc"], "trainer.v1.trainer_mode", SYNC),
        (["algorithm.adv_estimator=kimi", "+algorithm.efficiency.cost=answer"], "trainer.v1.trainer_mode", SYNC),
        (
            ["algorithm.adv_estimator=kimi", "+algorithm.efficiency.cost=thinking"],
            "trainer.v1.trainer_mode",
            "+algorithm.efficiency.cost=generated",
        ),
        (
            ["algorithm.adv_estimator=pass_rate", "trainer.use_v1=False"],
            "trainer.use_v1",
            "+algorithm.efficiency.context_weight=0",
        ),
        (
            ["algorithm.adv_estimator=gfpo", "+algorithm.efficiency.cost=context", "trainer.use_v1=False"],
            "trainer.use_v1",
            "trainer.use_v1=True",
        ),
    ],
)
def test_what_a_trainer_cannot_count_is_refused_with_the_way_to_get_it(compose, overrides, key, remedy):
    (problem,) = start_up.check(compose(*overrides))
    assert problem.startswith(f"{key}: ")
    for part in remedy.removeprefix("+").split("="):
        assert part in problem
    assert start_up.check(compose(*overrides, remedy)) == []


def test_rows_in_the_order_of_their_keys_do_not_depend_on_how_verl_balanced_them():
    keys = ["b_2_0", "a_10_0", "b_10_0", "a_2_1", "a_2_0", "pad9f_0_0", "with_line_0_0"]
    one = rows([{"n": n} for n in range(7)], padding=1, keys=keys)
    ordered = one.in_order_of_keys()
    assert ordered.keys == ("a_2_0", "a_2_1", "a_10_0", "b_2_0", "b_10_0", "pad9f_0_0", "with_line_0_0")
    for row, key in enumerate(ordered.keys):
        before = keys.index(key)
        assert ordered.scores_B[row] == before
        assert ordered.uids_B[row] == f"u{before}"
        assert ordered.lengths_B[row] == len(ordered.responses_B[row]) == len(ordered.masks_B[row]) == before + 1
        assert ordered.reward_infos[row] == {"n": before}
        assert ordered.real_B[row] == (before < 6)
    assert ordered.prompts_B == ()  # not read
    turned = one.in_order_of_keys().in_order_of_keys()
    assert turned.keys == ordered.keys


def test_a_step_hands_over_responses_and_feedback_in_words_only():
    step = rows([{"feedback": "more"}, {"feedback": "  "}, {"feedback": 3.0}, {}]).step
    assert step.feedback_B == ("more", None, None, None)
    assert [len(response) for response in step.responses_B] == [1, 2, 3, 4]


@pytest.fixture
def queue(monkeypatch):
    """TransferQueue's two calls; like it, ``get`` leaves out a field that not all rows have."""
    stored: dict[str, dict] = {}

    def get(keys, partition_id, select_fields):
        shared = [name for name in select_fields if all(name in stored[key] for key in keys)]
        lists = {name: [stored[key][name] for key in keys] for name in shared}
        return {
            name: nested_tensor_from_tensor_list(values, ragged_idx=1) if torch.is_tensor(values[0]) else values
            for name, values in lists.items()
        }

    def put(keys, partition_id, fields):
        for name in fields.keys():  # noqa: SIM118  # a TensorDict
            for key, value in zip(keys, fields[name].unbind(), strict=True):
                stored[key][name] = value

    monkeypatch.setattr(transfer_queue, "kv_batch_get", get)
    monkeypatch.setattr(transfer_queue, "kv_batch_put", put)
    return stored


def test_a_field_that_not_all_rows_have_is_an_error(queue):
    queue |= {"a": {"x": torch.ones(2), "y": torch.ones(1)}, "b": {"x": torch.ones(3)}}
    meta = KVBatchMeta(["a", "b"], [{}, {}], "train", None, {})
    assert [len(x) for x in read(["a", "b"], meta, "x")["x"].unbind()] == [2, 3]
    with pytest.raises(KeyError, match="not all 2 rows of the batch have the fields y, z"):
        read(["a", "b"], meta, "x", "y", "z")
    assert read(["a"], meta, "x", "y")["y"].unbind()[0].tolist() == [1.0]


def test_what_is_written_is_read_back_row_by_row_also_empty(queue):
    queue |= {"a": {}, "b": {}, "c": {}}
    meta = KVBatchMeta(["a", "b", "c"], [{}] * 3, "train", None, {})
    values = [torch.rand(2, 4), torch.rand(0, 4), torch.rand(3, 4)]
    write(["c", "a", "b"], meta, x=values)
    assert [queue[key]["x"].shape for key in "abc"] == [(0, 4), (3, 4), (2, 4)]
    for key, value in zip("cab", values, strict=True):
        assert torch.equal(queue[key]["x"], value)


SMALL = {"uid", "extra_fields"}  # a few bytes per row; every other field holds all tokens of the batch
TEACHER = {"rm_scores", "response_mask"}


@pytest.mark.parametrize(
    ("name", "given", "fields"),
    [
        *((name, {}, set()) for name in ("grpo", "kimi", "gfpo", "hapo", "s_grpo", "variance_routing")),
        ("token_budget", {"difficulty": "running"}, set()),
        ("kimi", {"cost": "turns"}, set()),
        ("kimi", {"cost": "thinking"}, {"responses", "response_mask", "prompts"}),
        ("grlc", {}, {"responses", "response_mask", "prompts"}),
        ("t_spmo", {}, {"responses"}),
        ("t_spmo", {"replay": 2}, {"responses", "prompts", *TEACHER}),
        ("sample_routing", {}, TEACHER),
        ("concise_teacher", {}, TEACHER),
        ("variance_routing", {"distil": True}, TEACHER),
        ("variance_routing", {"distil": True, "store_responses": True}, {"responses", *TEACHER}),
        ("self_distillation", {"router": "my.router"}, {"responses", *TEACHER}),
        ("self_distillation", {"truncated_demonstrations": False, "max_response_length": 9}, {"responses", *TEACHER}),
    ],
)
def test_a_method_fetches_only_what_it_needs(monkeypatch, compose, name, given, fields):
    asked = []

    def get(keys, partition_id, select_fields):
        asked.extend(select_fields)
        found = {"uid": ["a"], "extra_fields": [{}]}
        return found | {field: nested_tensor_from_tensor_list([torch.ones(2)], ragged_idx=1) for field in fields}

    monkeypatch.setattr(transfer_queue, "kv_batch_get", get)
    settings = [f"+algorithm.efficiency.{key}={value}" for key, value in given.items()]
    trainer = EfficiencySync(compose(f"algorithm.adv_estimator={name}", SYNC, *settings))
    read_batch(KVBatchMeta(["a_0_0"], [{}], "train", None, {}), trainer.reads)
    assert sorted(asked) == sorted(SMALL | fields)


@pytest.mark.parametrize("columns", [{"scores", "masks", "responses", "prompts"}, {"masks"}, ()])
def test_a_batch_is_read(queue, columns):
    def row(uid, score, mask, **extra):
        ids = torch.arange(len(mask))
        scores = torch.zeros(len(mask))
        scores[-1] = score
        fields = {"uid": uid, "responses": ids, "response_mask": torch.tensor(mask), "rm_scores": scores}
        return fields | {"extra_fields": extra, "prompts": torch.arange(4)}

    queue["a_0_0"] = row("a", 1.0, [1, 0, 1], reward_extra_info={"acc": 1.0})
    queue["a_1_0"] = row("a", 0.25, [1], other=3)
    queue["pad1_0_0"] = row("pad1", 0.0, [0], reward_extra_info={"acc": 1.0})  # verl copies the first row's
    tags = [{}, {"is_padding": False}, {"is_padding": True}]
    batch = read_batch(KVBatchMeta(list(queue), tags, "train", None, {}), columns)
    assert batch.keys == ("a_0_0", "a_1_0", "pad1_0_0")
    assert batch.uids_B.tolist() == ["a", "a", "pad1"]
    assert batch.real_B == (True, True, False)
    assert batch.reward_infos == ({"acc": 1.0}, {}, {})
    assert batch.scores_B.tolist() == ([1.0, 0.25, 0.0] if "scores" in columns else [])
    assert batch.lengths_B.tolist() == ([2, 1, 0] if "masks" in columns else [])
    assert [len(response) for response in batch.responses_B] == ([3, 1, 1] if "responses" in columns else [])
    assert [len(prompt) for prompt in batch.prompts_B] == ([4, 4, 4] if "prompts" in columns else [])
    assert (batch.step.responses_B is None) == ("responses" not in columns)


def rollouts_of(labels):
    count = len(labels)
    real_B = torch.tensor([not label.startswith("pad") for label in labels])
    return Rollouts.build(torch.zeros(count), torch.ones(count), labels, real_B=real_B)


def completed(monkeypatch, method, given, columns, step=None, labels=("a", "b", "b", "pad")):
    """``complete`` for a data set with these columns."""
    monkeypatch.setattr(transfer_queue, "kv_list", lambda partition: {partition: [f"{u}_0_0" for u in columns]})
    monkeypatch.setattr(
        *(transfer_queue, "kv_batch_get"),
        lambda keys, partition_id, select_fields: {
            field: [columns[key.rsplit("_", 2)[0]].get(field) for key in keys] for field in select_fields
        },
    )
    method = ESTIMATORS[method]
    settings = method.build_settings(given, "algorithm.efficiency")
    return complete(rollouts_of(list(labels)), settings, run.state_of(method), step or run.step())


def question(text):
    return [{"role": "user", "content": text}]


def test_references_come_from_the_column_first_and_then_from_what_was_stored(monkeypatch):
    columns = {
        "a": {"raw_prompt": question("1+1"), "extra_info": {"solution": "two"}},
        "b": {"raw_prompt": question("2+2"), "extra_info": {"solution": ""}},
        "c": {"raw_prompt": question("3+3"), "extra_info": {"solution": None}},
    }
    labels = ("a", "b", "c", "pad")
    given = {"distil": True, "reference_column": "extra_info.solution"}
    assert completed(monkeypatch, "variance_routing", given, columns, labels=labels).references_G == (
        *("two", None, None),
        None,
    )
    given |= {"store_responses": True}
    state = run.state_of(ESTIMATORS["variance_routing"])
    for number, text in ((1, "2"), (2, "4")):
        name = prompt_name(question(f"{number}+{number}"))
        state.texts[name], state.lengths[name] = text, 1
    found = completed(monkeypatch, "variance_routing", given, columns, labels=labels)
    assert found.references_G == ("two", "4", None, None)
    assert found.prompt_ids_G[1] == prompt_name(question("2+2"))
    del given["reference_column"]
    assert completed(monkeypatch, "variance_routing", given, columns, labels=labels).references_G == (
        "2",
        "4",
        None,
        None,
    )


def test_a_column_that_a_row_lacks_is_named(monkeypatch):
    given = {"distil": True, "reference_column": "extra_info.solution"}
    columns = {"a": {"extra_info": {"solution": "x"}}, "b": {"extra_info": {"index": 3}}}
    with pytest.raises(KeyError, match=r"no column 'extra_info\.solution'"):
        completed(monkeypatch, "variance_routing", given, columns)


def test_responses_and_feedback_are_handed_over_to_those_who_read_them(monkeypatch):
    step = run.step(responses_B=tuple(torch.arange(n) for n in range(4)), feedback_B=("x", None, None, None))
    found = completed(monkeypatch, "t_spmo", {}, {}, step)
    assert (found.responses_B, found.feedback_B) == (step.responses_B, None)
    found = completed(monkeypatch, "sample_routing", {}, {}, step)
    assert (found.responses_B, found.feedback_B) == (None, step.feedback_B)
    found = completed(monkeypatch, "sample_routing", {"include_environment_feedback": False}, {}, step)
    assert found.feedback_B is None


# The worker


def parameters_of(cls, name):
    """Names and defaults, without what ``ray.remote`` adds to the methods of a class."""
    parameters = inspect.signature(inspect.unwrap(getattr(cls, name))).parameters.values()
    return [(p.name, p.default) for p in parameters if not p.name.startswith("_ray")]


@pytest.mark.parametrize("name", ["compute_log_prob", "update_actor", "save_checkpoint", "load_checkpoint"])
def test_the_worker_takes_the_place_of_verls(name):
    assert parameters_of(DistillationWorker, name) == parameters_of(ActorRolloutRefWorker, name)
    dispatch, stock = (getattr(getattr(cls, name), MAGIC_ATTR) for cls in (DistillationWorker, ActorRolloutRefWorker))
    assert (dispatch["execute_mode"], dispatch["blocking"]) == (stock["execute_mode"], stock["blocking"])
    if not isinstance(stock["dispatch_mode"], dict):
        assert dispatch["dispatch_mode"] == stock["dispatch_mode"]
    else:
        for side in ("dispatch_fn", "collect_fn"):
            a, b = dispatch["dispatch_mode"][side], stock["dispatch_mode"][side]
            assert (getattr(a, "func", a), getattr(a, "args", ())) == (getattr(b, "func", b), getattr(b, "args", ()))


class Actor:
    """verl's TrainingWorker as far as ours uses it."""

    def __init__(self):
        self.engine = SimpleNamespace(module=nn.Linear(2, 2))
        self.model_config = SimpleNamespace(hf_config=SimpleNamespace(max_position_embeddings=7))
        self.loss_fn, self.seen, self.fails = "stock", [], False

    def set_loss_fn(self, loss):
        self.loss_fn = loss

    def infer_batch(self, data):
        self.seen.append((self.loss_fn, data, self.engine.module.weight.detach().clone()))
        if self.fails:
            raise RuntimeError("the pass failed")
        output = data.copy()
        if isinstance(self.loss_fn, StudentTopk):
            output["distil_topk_ids"] = jagged(IDS)
        elif isinstance(self.loss_fn, TeacherTargets):
            logps = [LOGPS[row] for row in data["distil_row"].values().tolist()]
            output["distil_teacher_logps"] = jagged([part.to(self.loss_fn.dtype or part.dtype) for part in logps])
        return output

    def train_mini_batch(self, data):
        self.seen.append((self.loss_fn, data, None))
        return data

    def save_checkpoint(self, path, *_):
        self.seen.append(("saved", path, None))

    def load_checkpoint(self, path, *_):
        self.seen.append(("loaded", path, None))
        with torch.no_grad():
            self.engine.module.weight.fill_(7.0)


# Two rows of which one is distilled, in two tokens, with K = 2.
IDS = [torch.tensor([[3, 1], [0, 2]], dtype=torch.int32), torch.zeros(0, 2, dtype=torch.int32)]
LOGPS = {4: torch.tensor([[-0.1, -3.0], [-1.0, -0.7]]), 7: torch.zeros(0, 2)}


def jagged(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def noted(worker):
    """``worker`` after the student's pass."""
    worker.compute_log_prob(batch(compute_loss=False, distil_topk=2))
    worker.actor.seen.clear()
    return worker


def started(**given):
    worker = object.__new__(DistillationWorker)
    worker.actor, worker.role, worker.enable_routing_replay = Actor(), "actor", False
    worker.loss_fn = SimpleNamespace(keywords={"config": None})
    worker.start_distillation(DistillationSettings(**given))
    return worker


def nested(*values):
    return torch.nested.as_nested_tensor([torch.tensor(value) for value in values], layout=torch.jagged)


def batch(**values):
    data = TensorDict(
        {
            "prompts": nested([1, 2], [3]),
            "responses": nested([5, 6, 7], [8]),
            "input_ids": nested([1, 2, 5, 6, 7], [3, 8]),
            "teacher_prompts": nested([1, 2, 9, 9], [3, 9]),
            "distil_row": nested([4], [7]),
        },
        batch_size=2,
    )
    tu.assign_non_tensor(data, **values)
    return data


def flags(data):
    names = ("compute_loss", "distillation_use_topk", "distillation_only")
    return tuple(tu.get_non_tensor_data(data, name, None) for name in names)


def test_the_teachers_prompt_takes_the_place_of_the_students():
    data = batch()
    _put_teacher_prompts(data)
    assert [row.tolist() for row in data["input_ids"].unbind()] == [[1, 2, 9, 9, 5, 6, 7], [3, 9, 8]]
    assert [row.tolist() for row in data["prompts"].unbind()] == [[1, 2, 9, 9], [3, 9]]
    assert [row.tolist() for row in data["position_ids"].unbind()] == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 2]]
    assert "teacher_prompts" not in data


def test_the_students_pass_is_verls_unless_its_top_k_is_asked_for():
    worker = started()
    loss = worker.actor.loss_fn
    assert isinstance(loss, DistillationLoss)
    worker.compute_log_prob(batch(compute_loss=False))
    used, data, _ = worker.actor.seen.pop()
    assert used is loss
    assert flags(data) == (False, None, None)
    worker.compute_log_prob(batch(compute_loss=False, distil_topk=5))
    used, data, _ = worker.actor.seen.pop()
    assert isinstance(used, StudentTopk)
    assert used.k == 5
    assert flags(data) == (True, True, False)
    assert worker.actor.loss_fn is loss


@pytest.mark.parametrize(("dtype", "stored"), [("float16", torch.float16), ("float32", torch.float32)])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_targets_stay_in_the_worker_until_the_update_has_them(dtype, stored, order):
    worker = started(target_dtype=dtype)
    output = worker.compute_log_prob(batch(compute_loss=False, distil_topk=2))
    assert "distil_topk_ids" not in output  # which verl would write into TransferQueue
    output = worker.teacher_log_probs(tu.index_select_tensor_dict(batch(), order))
    assert "distil_teacher_logps" not in output
    asked = worker.actor.seen[-1][1]["distil_topk_ids"].unbind()
    assert all(torch.equal(ids, IDS[row]) for ids, row in zip(asked, order, strict=True))

    data = batch(distillation_use_topk=False, distillation_only=False)
    data["distil_weight"] = nested([0.0, 1.0, 1.0], [0.0])
    worker.update_actor(data)
    given = worker.actor.seen[-1][1]
    for row, ids, logps in zip(
        (4, 7), *(given[n].unbind() for n in ("distil_topk_ids", "distil_teacher_logps")), strict=True
    ):
        assert torch.equal(ids, IDS[0] if row == 4 else IDS[1])
        assert torch.equal(logps, LOGPS[row].to(stored))
    assert worker.targets.ids == worker.targets.logps == {}


def test_rows_that_the_teacher_did_not_score_have_no_targets():
    worker = noted(started())
    worker.teacher_log_probs(tu.index_select_tensor_dict(batch(), [0]))
    data = batch(distillation_use_topk=False, distillation_only=False)
    data["distil_weight"] = nested([0.0, 1.0, 1.0], [0.0])
    worker.update_actor(data)
    assert worker.actor.seen[-1][1]["distil_teacher_logps"].offsets().tolist() == [0, 2, 2]


def test_a_row_of_another_rank_is_an_error():
    worker = noted(started())
    data = batch()
    data["distil_row"] = nested([4], [5])
    with pytest.raises(RuntimeError, match="given 1 rows of the batch that it has no targets for, the first is row 5"):
        worker.teacher_log_probs(data)


@pytest.mark.parametrize("fails", [False, True])
def test_the_teachers_pass_has_its_weights_and_leaves_none_behind(fails):
    worker = noted(started(teacher_update_rate=0.5))
    actor, loss = worker.actor, worker.actor.loss_fn
    before = actor.engine.module.weight.detach().clone()
    with torch.no_grad():
        actor.engine.module.weight.add_(2.0)
    worker.update_teacher()
    student, actor.fails = actor.engine.module.weight.detach().clone(), fails
    if fails:
        with pytest.raises(RuntimeError, match="the pass failed"):
            worker.teacher_log_probs(batch())
    else:
        worker.teacher_log_probs(batch())
    used, data, weights = actor.seen.pop()
    assert isinstance(used, TeacherTargets)
    assert flags(data) == (True, True, True)
    torch.testing.assert_close(weights, before + 1.0)
    assert torch.equal(actor.engine.module.weight, student)
    assert actor.loss_fn is loss


@pytest.mark.parametrize(("positions", "said"), [(6, 1), (7, 0), (None, 0)])
def test_a_teacher_that_reads_beyond_the_models_positions_is_noticed_once(caplog, positions, said):
    worker = noted(started())
    worker.actor.model_config.hf_config.max_position_embeddings = positions
    for _ in range(2):
        worker.teacher_log_probs(batch())  # four tokens of the teacher's prompt, three of the response
    found = [record.getMessage() for record in caplog.records if "max_position_embeddings" in record.getMessage()]
    assert len(found) == said
    assert all("7 tokens" in text and "6 positions" in text for text in found)


def test_without_an_average_the_teacher_is_the_actor_as_it_is():
    worker = noted(started(teacher_regularization="none"))
    assert worker.average is None
    worker.teacher_log_probs(batch())
    assert torch.equal(worker.actor.seen[-1][2], worker.actor.engine.module.weight)


@pytest.mark.parametrize(("targets", "full", "ours"), [(True, True, True), (False, True, False), (True, False, False)])
def test_the_update_reads_the_logits_only_on_a_batch_with_targets(targets, full, ours):
    worker = started(full_logit_distillation=full, alpha=1.0)
    if ours:
        noted(worker).teacher_log_probs(batch())
    data = batch(distillation_use_topk=False, distillation_only=False)
    if targets:
        data["distil_weight"] = nested([0.0, 1.0, 1.0], [0.0])
    worker.update_actor(data)
    assert flags(worker.actor.seen[-1][1])[1:] == (ours, ours)


def test_the_checkpoint_holds_the_teacher(tmp_path, caplog):
    worker = started()
    with torch.no_grad():
        worker.average.average["weight"].fill_(3.0)
    worker.save_checkpoint(str(tmp_path))
    assert worker.actor.seen == [("saved", str(tmp_path), None)]
    again = started()
    again.load_checkpoint(str(tmp_path))
    assert (again.average.average["weight"] == 3.0).all()
    assert (again.actor.engine.module.weight == 7.0).all()
    assert not caplog.text

    (tmp_path / "teacher_world_size_1_rank_0.pt").unlink()
    with pytest.raises(SettingsError, match="average of the self-teacher"):
        again.load_checkpoint(str(tmp_path))
    (tmp_path / STARTS_AGAIN).touch()
    again.load_checkpoint(str(tmp_path))
    assert (again.average.average["weight"] == 7.0).all()
    assert str(tmp_path) in caplog.text


def test_the_teacher_goes_where_verl_sends_the_actors_checkpoint(tmp_path):
    worker = started()
    worker.save_checkpoint(str(tmp_path / "actor"), str(tmp_path / "mounted" / "actor"))
    names = [sorted(file.name for file in (tmp_path / folder / "actor").iterdir()) for folder in (".", "mounted")]
    assert names == [["teacher_world_size_1_rank_0.pt"]] * 2
    worker.save_checkpoint(None)  # verl then saves nothing


def test_the_teacher_is_read_before_verl_may_delete_the_folder(tmp_path):
    worker = started()
    worker.save_checkpoint(str(tmp_path))
    stock = worker.actor.load_checkpoint

    def load_and_delete(path, *_):
        (tmp_path / "teacher_world_size_1_rank_0.pt").unlink()
        stock(path)

    worker.actor.load_checkpoint = load_and_delete
    worker.average.average["weight"].fill_(-1.0)
    worker.load_checkpoint(str(tmp_path), None, True)
    assert not (worker.average.average["weight"] == 7.0).any()


def test_a_fresh_run_starts_the_teacher_from_the_actor(tmp_path):
    """verl loads nothing then; with the path None nothing is touched."""
    worker = started()
    kept = worker.average.average["weight"].clone()
    worker.load_checkpoint(None)
    assert torch.equal(worker.average.average["weight"], kept)
    assert isinstance(worker.average, WeightAverage)


# verl-efficiency train


ARGUMENTS = [
    *("--config-path", "/my/configs", "-cn", "mine", "--cfg", "job", "--multirun"),
    *("algorithm.adv_estimator=sample_routing", "+algorithm.efficiency.reprompt_template='{prompt} {solution}'"),
    *("~critic", "++a.b=[1, 2]", "data.train_files=a=b.parquet", "--", "-x"),
]


def launched(monkeypatch, *arguments):
    seen = []
    monkeypatch.setattr("runpy.run_module", lambda *a, **k: seen.append((a, k, list(sys.argv))))
    monkeypatch.setattr(sys, "argv", ["verl-efficiency"])
    result = CliRunner().invoke(app, ["train", *arguments])
    return result, seen


def test_train_hands_everything_on_to_verls_main(monkeypatch):
    result, seen = launched(monkeypatch, *[a for a in ARGUMENTS if a != "--"])
    assert result.exit_code == 0, result.output
    ((where, how, argv),) = seen
    assert where == ("verl.trainer.main_ppo",)
    assert how == {"run_name": "__main__", "alter_sys": True}
    assert argv == ["verl.trainer.main_ppo", *(a for a in ARGUMENTS if a != "--"), SYNC]


def test_train_without_arguments_is_verls_default_launch(monkeypatch):
    _, seen = launched(monkeypatch)
    assert seen[0][2] == ["verl.trainer.main_ppo", SYNC]


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "efficiency_async"])
@pytest.mark.parametrize("prefix", ["", "+"])
def test_train_refuses_another_trainer(monkeypatch, mode, prefix):
    result, seen = launched(monkeypatch, f"{prefix}trainer.v1.trainer_mode={mode}")
    assert isinstance(result.exception, SettingsError)
    assert f"{prefix}trainer.v1.trainer_mode={mode}: this command takes efficiency_sync, " in str(result.exception)
    assert seen == []


@pytest.mark.parametrize("mode", ["efficiency_sync", "efficiency_separate_async"])
def test_train_takes_its_own_trainers(monkeypatch, mode):
    given = f"trainer.v1.trainer_mode={mode}"
    result, seen = launched(monkeypatch, given)
    assert result.exit_code == 0
    assert seen[0][2] == ["verl.trainer.main_ppo", given, given]


def test_train_prints_verls_configuration(fresh, tmp_path):
    done = fresh(
        *("-m", "verl_efficiency.cli", "train", "--cfg", "job", "algorithm.adv_estimator=sample_routing"),
        *("+algorithm.efficiency.distillation_topk=7", "actor_rollout_ref.model.path=/nowhere/model"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    from omegaconf import OmegaConf

    config = OmegaConf.create(done.stdout[done.stdout.index("actor_rollout_ref:") :])
    assert config.trainer.v1.trainer_mode == "efficiency_sync"
    assert config.algorithm.adv_estimator == "sample_routing"
    assert config.algorithm.efficiency == {"distillation_topk": 7}
    assert config.actor_rollout_ref.model.path == "/nowhere/model"
