"""Settings that conflict with our trainers, token weights or a self-teacher are refused on the driver, with the fix."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="verl 0.8 has no V1 trainer")

from tests.contract.conftest import LAUNCH
from tests.contract.test_start_up import OURS, launch, refusal, train_file  # noqa: F401  # fixtures
from verl_efficiency.verl import start_up

ACTOR, ROLLOUT_CORRECTION = "actor_rollout_ref.actor", "algorithm.rollout_correction"
SYNC = "trainer.v1.trainer_mode=efficiency_sync"
SHARDS = f"{ACTOR}.strategy=fsdp2"
SRPO = ("algorithm.adv_estimator=sample_routing", SYNC, SHARDS)
SDPO = ("algorithm.adv_estimator=self_distillation", SYNC, SHARDS)
VARIANCE = ("algorithm.adv_estimator=variance_routing", SYNC, SHARDS, "+algorithm.efficiency.distil=True")
T_SPMO = ("algorithm.adv_estimator=t_spmo", SYNC)
HF = "actor_rollout_ref.rollout.name=hf"
SAMPLED = ("+algorithm.efficiency.full_logit_distillation=False", "+algorithm.efficiency.alpha=1")


@pytest.mark.parametrize("method", ["sample_routing", "self_distillation", "t_spmo", "variance_routing"])
@pytest.mark.parametrize("prefix", ["", "efficiency."])
@pytest.mark.parametrize("mode", ["sync", "separate_async", "colocate_async"])
def test_another_trainer_is_refused(refusal, method, prefix, mode):  # noqa: F811
    overrides = [f"algorithm.adv_estimator={prefix}{method}", f"trainer.v1.trainer_mode={mode}", SHARDS]
    if method == "variance_routing":
        overrides.append("+algorithm.efficiency.distil=True")
    (line,) = refusal(*overrides)
    assert line.startswith(f"trainer.v1.trainer_mode: {method} needs efficiency_{mode} ")
    assert f"write trainer.v1.trainer_mode=efficiency_{mode} " in line


def advice(compose, *overrides):
    return [line for line in start_up.advice(compose(*overrides)) if "rollout_is" in line or "agent" in line]


@pytest.mark.parametrize("mode", ["efficiency_colocate_async", "efficiency_separate_async"])
@pytest.mark.parametrize("method", [SRPO, SDPO, VARIANCE], ids=["srpo", "sdpo", "variance"])
def test_a_teacher_of_older_rollouts_is_told_of_the_correction(compose, method, mode):
    given = (*method, f"trainer.v1.trainer_mode={mode}")
    (line,) = advice(compose, *given)
    assert line.startswith(f"{ROLLOUT_CORRECTION}.rollout_is: ")
    assert advice(compose, *given, f"{ROLLOUT_CORRECTION}.rollout_is=token") == []


@pytest.mark.parametrize("given", [SRPO, ("algorithm.adv_estimator=kimi", "trainer.v1.trainer_mode=colocate_async")])
def test_other_runs_are_not_told_of_it(compose, given):
    assert advice(compose, *given) == []


@pytest.mark.parametrize("method", ["drpo", "s_grpo"])
def test_a_method_published_with_another_mean_says_so(compose, method):
    where = f"{ACTOR}.loss_agg_mode"

    def lines(*overrides):
        told = start_up.advice(compose(f"algorithm.adv_estimator={method}", *overrides))
        return [line for line in told if line.startswith(where)]

    (line,) = lines()
    assert f"{method} is published with seq-mean-token-mean, and this run has token-mean" in line
    assert lines(line.rpartition("write ")[2]) == []


@pytest.mark.parametrize("given", [("s_grpo", "+algorithm.efficiency.rescale=False"), ("gr3",), ("grpo",)])
def test_a_method_that_leaves_the_mean_open_does_not(compose, given):
    told = start_up.advice(compose(f"algorithm.adv_estimator={given[0]}", *given[1:]))
    assert not [line for line in told if "loss_agg_mode" in line]


@pytest.mark.parametrize(("key", "loop"), [("default_agent_loop", "mine"), ("agent_loop_config_path", "/mine.yaml")])
def test_a_method_that_takes_one_output_says_so_before_an_agent_loop_of_ones_own(compose, key, loop):
    where = f"actor_rollout_ref.rollout.agent.{key}"
    for method in (SRPO, T_SPMO):
        (line,) = advice(compose, *method, f"{where}={loop}")
        assert line.startswith(f"{where}: ")
    assert advice(compose, "algorithm.adv_estimator=token_budget", f"{where}={loop}") == []
    assert advice(compose, *SRPO, "actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent") == []


@pytest.mark.parametrize("estimator", [SRPO[0], "algorithm.adv_estimator=grpo"])
def test_the_v0_trainer_does_not_take_its_place_in_silence(refusal, estimator):  # noqa: F811
    (line,) = refusal(estimator, SYNC, SHARDS, "trainer.use_v1=False")
    assert line.startswith("trainer.use_v1: ")


@pytest.mark.parametrize("method", [SRPO, SDPO, VARIANCE], ids=["srpo", "sdpo", "variance"])
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ("actor_rollout_ref.model.use_fused_kernels=True",),
            ["actor_rollout_ref.model.use_fused_kernels:", "needs False, not True", "no logits"],
        ),
        (
            (f"{ACTOR}.ulysses_sequence_parallel_size=2",),
            [f"{ACTOR}.ulysses_sequence_parallel_size:", "needs 1, not 2"],
        ),
        (
            (f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=2",),
            [f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size:", "needs 1, not 2"],
        ),
        (
            (f"{ACTOR}.fsdp_config.pad_to_length=True",),
            [f"{ACTOR}.fsdp_config.pad_to_length:", "needs False, not True"],
        ),
        (
            (f"{ACTOR}.loss_agg_mode=seq-mean-token-mean",),
            [f"{ACTOR}.loss_agg_mode:", "needs token-mean, not seq-mean-token-mean", "denominator"],
        ),
        (
            (f"{ACTOR}.use_kl_loss=True", "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1"),
            [f"{ACTOR}.use_kl_loss:", "needs False, not True", "reference"],
        ),
        (
            (f"{ACTOR}.strategy=fsdp",),
            [f"{ACTOR}.strategy:", "needs fsdp2, not fsdp", "FSDP1 keeps gathered weights"],
        ),
        (
            (f"{ACTOR}.fsdp_config.model_dtype=bf16",),
            [f"{ACTOR}.fsdp_config.model_dtype:", "needs fp32 or float32, not bf16", "teacher_regularization=none"],
        ),
        (
            (f"{ACTOR}.strategy=veomni",),
            [f"{ACTOR}.strategy:", "needs fsdp2, not veomni"],
        ),
        (
            ("distillation.enabled=True",),
            ["distillation.enabled:", "is its own teacher; set it to False"],
        ),
        (
            (f"{ROLLOUT_CORRECTION}.bypass_mode=True",),
            [f"{ROLLOUT_CORRECTION}.bypass_mode:", "set it to False, or full_logit_distillation=False, alpha=1"],
        ),
        (
            (f"{ROLLOUT_CORRECTION}.rollout_rs=token_k1",),
            [f"{ROLLOUT_CORRECTION}.rollout_rs:", "leave it null"],
        ),
        (
            ("algorithm.use_kl_in_reward=True", "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1"),
            ["algorithm.use_kl_in_reward:"],
        ),
        (
            ("+algorithm.efficiency.router=my_package.routers.mine",),
            ["algorithm.efficiency.router: 'my_package.routers.mine' cannot be imported", "package.module.function"],
        ),
        (
            ("+algorithm.efficiency.router=verl_efficiency.methods.routing.rout",),
            ["algorithm.efficiency.router: 'verl_efficiency.methods.routing.rout' cannot be imported"],
        ),
        (
            ("+algorithm.efficiency.router=mine",),
            ["algorithm.efficiency.router: 'mine' cannot be imported", "package.module.function"],
        ),
        (
            ("+algorithm.efficiency.router=verl_efficiency.methods.routing.SKIP",),
            ["algorithm.efficiency.router:", "is a int, not a function"],
        ),
        (
            ("+algorithm.efficiency.full_logit_distillation=False",),
            ["algorithm.efficiency.alpha:", "1 with full_logit_distillation=False"],
        ),
        (
            ("+algorithm.efficiency.teacher_update_rate=1.5",),
            ["algorithm.efficiency.teacher_update_rate:", "in [0, 1]", "1.5"],
        ),
        (
            ("+algorithm.efficiency.distilation_topk=20",),
            ["algorithm.efficiency:", "unknown setting 'distilation_topk'; did you mean 'distillation_topk'?"],
        ),
        (
            ("+algorithm.efficiency.teacher_regularization=trust-region",),
            ["algorithm.efficiency.teacher_regularization:", "unknown value 'trust-region'"],
        ),
        (
            ("+algorithm.efficiency.reprompt_template='{prompt}{solution}'",),
            ["algorithm.efficiency.reprompt_template:", "{feedback}"],
        ),
    ],
)
def test_one_line_with_the_setting_and_the_fix(refusal, method, overrides, words):  # noqa: F811
    (line,) = refusal(*method, *overrides)
    assert line.startswith(words[0])
    for word in words:
        assert word in line


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
@pytest.mark.parametrize("method", [SRPO, SDPO, VARIANCE], ids=["srpo", "sdpo", "variance"])
def test_rows_with_media_are_refused_and_empty_columns_are_not(refusal, launch, tmp_path, method, kind):  # noqa: F811
    file, media = tmp_path / "train.parquet", pa.list_(pa.struct({"bytes": pa.binary()}))
    given = (*method, f"data.train_files={file}", f"data.{kind}_key=mine")

    def write(*values):
        prompts = [[{"role": "user", "content": "What is it?"}]] * len(values)
        sources = ["openai/gsm8k"] * len(values)
        columns = {"prompt": prompts, "data_source": sources, "mine": pa.array(values, media)}
        pq.write_table(pa.table(columns), file)

    write(None, [], None)
    launch(*given)
    write(None, [], [{"bytes": b"123"}])
    (line,) = refusal(*given)
    name = method[0].split("=")[1]
    assert line == f"data.{kind}_key: the teacher of {name} reads text only, but rows of {file} have mine"
    launch(*T_SPMO, *given[len(method) :])


def test_megatron_is_refused():
    """The group ``model_engine`` selects it, so this configuration is composed again."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", [*LAUNCH, *SRPO[:2], "model_engine=megatron"])
    (line,) = start_up.check(config)
    assert line.startswith(f"{ACTOR}.strategy: sample_routing needs fsdp2, not megatron")


@pytest.mark.parametrize("aggregation", ["seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
@pytest.mark.parametrize("normalise", ["batch", "prompt"])
def test_t_spmo_is_scaled_for_one_aggregation(refusal, launch, aggregation, normalise):  # noqa: F811
    given = (*T_SPMO, f"{ACTOR}.loss_agg_mode={aggregation}")
    (line,) = refusal(*given, f"+algorithm.efficiency.normalise={normalise}")
    assert line.startswith(f"{ACTOR}.loss_agg_mode: t_spmo is scaled for token-mean, not {aggregation}")
    assert "algorithm.efficiency.normalise=none" in line
    launch(*given, "+algorithm.efficiency.normalise=none")


@pytest.mark.parametrize("loss", ["sapo", "geo_mean"])
@pytest.mark.parametrize("method", [SRPO, SDPO, VARIANCE, T_SPMO], ids=["srpo", "sdpo", "variance", "t_spmo"])
def test_losses_that_average_over_rollouts_are_refused(refusal, launch, method, loss):  # noqa: F811
    (line,) = refusal(*method, f"{ACTOR}.policy_loss.loss_mode={loss}")
    assert line.startswith(f"{ACTOR}.policy_loss.loss_mode: {method[0].split('=')[1]} works token by token, but {loss}")
    launch(*method, f"{ACTOR}.policy_loss.loss_mode=gspo")


def test_s_grpo_needs_a_loss_that_keeps_the_tokens_apart(refusal, launch):  # noqa: F811
    (line,) = refusal("algorithm.adv_estimator=s_grpo", f"{ACTOR}.policy_loss.loss_mode=geo_mean")
    assert line.startswith(f"{ACTOR}.policy_loss.loss_mode: s_grpo works token by token, but geo_mean")
    for loss in ("vanilla", "gspo", "sapo"):  # sapo averages over a rollout, and s_grpo's weights have mean 1 there
        launch("algorithm.adv_estimator=s_grpo", f"{ACTOR}.policy_loss.loss_mode={loss}")
    launch("algorithm.adv_estimator=kimi", f"{ACTOR}.policy_loss.loss_mode=geo_mean")


PACKED = (
    "data.custom_cls.path=pkg://verl_efficiency.verl.dataset",
    "data.custom_cls.name=PackedDataset",
    "data.dataloader_num_workers=0",
    "+data.efficiency.grouping=random",
)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (("algorithm.adv_estimator=hapo",), "hapo"),
        (("algorithm.adv_estimator=toggle",), "toggle"),
        (("algorithm.adv_estimator=token_budget", "+algorithm.efficiency.difficulty=running"), "token_budget"),
        ((*VARIANCE, "+algorithm.efficiency.store_responses=True"), "variance_routing"),
        (("algorithm.adv_estimator=hapo", "+algorithm.efficiency.prompt_column=extra_info.index"), "hapo"),
    ],
)
def test_a_memory_of_prompts_is_refused_where_every_epoch_has_new_ones(refusal, launch, overrides, name):  # noqa: F811
    (line,) = refusal(*overrides, *PACKED)
    assert line.startswith(f"data.efficiency.problems: {name} ")
    assert "`verl-efficiency pack`" in line
    assert ("difficulty=group" in line) == (name == "token_budget")
    launch(*overrides, *PACKED, "+data.efficiency.problems=1")
    launch(*overrides)


@pytest.mark.parametrize("estimator", ["token_budget", "kimi", "grpo", "variance_routing"])
def test_methods_without_such_a_memory_take_packs_of_every_epoch(launch, estimator):  # noqa: F811
    launch(f"algorithm.adv_estimator={estimator}", *PACKED)


def test_every_mistake_is_named_at_once(refusal):  # noqa: F811
    lines = refusal(
        *("algorithm.adv_estimator=sample_routing", "actor_rollout_ref.model.use_fused_kernels=True"),
        *(f"{ACTOR}.loss_agg_mode=seq-mean-token-mean", "distillation.enabled=True"),
    )
    assert [line.split(":")[0] for line in lines] == [
        *("trainer.v1.trainer_mode", f"{ACTOR}.strategy", "actor_rollout_ref.model.use_fused_kernels"),
        *(f"{ACTOR}.loss_agg_mode", "distillation.enabled"),
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        SRPO,
        SDPO,
        VARIANCE,
        T_SPMO,
        ("algorithm.adv_estimator=efficiency.sample_routing", SYNC, SHARDS),
        ("algorithm.adv_estimator=variance_routing",),  # without a teacher it is an estimator on any trainer
        ("algorithm.adv_estimator=variance_routing", SYNC),
        ("algorithm.adv_estimator=grpo", SYNC),  # our trainer with verl's own method: its metrics alone
        (*SRPO, *SAMPLED, f"{ROLLOUT_CORRECTION}.bypass_mode=True"),
        (*SDPO, "+algorithm.efficiency.teacher_regularization=none", f"{ACTOR}.fsdp_config.model_dtype=bf16"),
        (*SDPO, f"{ACTOR}.fsdp_config.model_dtype=float32"),
        (*SRPO, "trainer.device=cpu"),
        (*SRPO, "+algorithm.efficiency.router=verl_efficiency.methods.routing.self_distillation.route_all"),
        (*SRPO, "actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.rollout.name=sglang"),
        (*SRPO, HF, "actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora.merge=True"),
        (*T_SPMO, "actor_rollout_ref.model.use_fused_kernels=True"),  # no logits needed
        (*T_SPMO, f"{ACTOR}.ulysses_sequence_parallel_size=2"),
    ],
)
def test_a_good_configuration_passes(launch, caplog, overrides):  # noqa: F811
    config = launch(*overrides)
    assert config.trainer.checkpoint_callback_class is None
    assert not [record for record in caplog.records if record.name == "verl_efficiency"]


def test_the_token_limit_is_handed_on_where_a_method_asks_for_it(launch):  # noqa: F811
    config = launch(*SRPO, "data.max_response_length=77", "+algorithm.efficiency.truncated_demonstrations=False")
    assert config.algorithm.efficiency.max_response_length == 77
    config = launch(*SRPO, "data.max_response_length=77", "+algorithm.efficiency.max_response_length=50")
    assert config.algorithm.efficiency.max_response_length == 50


def test_stored_responses_are_saved_with_the_checkpoints(launch):  # noqa: F811
    config = launch(*VARIANCE, "+algorithm.efficiency.store_responses=True")
    assert config.trainer.checkpoint_callback_class == OURS


def test_a_missing_reference_column_is_named_with_the_nearest(refusal, launch, train_file):  # noqa: F811
    file = train_file(["4"], name="solution")
    reference = "+algorithm.efficiency.reference_column=extra_info."
    launch(*VARIANCE, file, f"{reference}solution")
    (line,) = refusal(*VARIANCE, file, f"{reference}solutoin")
    assert line.startswith("algorithm.efficiency.reference_column: unknown column 'extra_info.solutoin'")
    assert "did you mean 'extra_info.solution'?" in line


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("demonstration", "shortest", "variance_routing does not use it"),
        ("feedback_template", "'{feedback_raw}!'", "variance_routing does not use it"),
        ("reference_weight", "2", "only the form without a teacher uses it"),
    ],
)
def test_a_setting_that_a_method_would_ignore_is_refused(refusal, setting, value, words):  # noqa: F811
    (line,) = refusal(*VARIANCE, f"+algorithm.efficiency.{setting}={value}")
    assert line.startswith(f"algorithm.efficiency.{setting}:")
    assert words in line


def test_a_real_launch_with_a_router_that_is_nowhere_ends_before_ray(fresh, tmp_path):
    router = "+algorithm.efficiency.router=my_package.routers.mine"
    done = fresh("-m", "verl.trainer.main_ppo", *LAUNCH, *SRPO, router, cwd=tmp_path)
    assert done.returncode != 0
    assert "algorithm.efficiency.router: 'my_package.routers.mine' cannot be imported" in done.stderr
    assert "ray init kwargs" not in done.stdout + done.stderr
    assert done.stderr.count("Error: ") == 1


@pytest.mark.parametrize("lora", ["lora_rank=8", "lora.rank=8"])
def test_rollout_hf_takes_no_adapter(refusal, launch, lora):  # noqa: F811
    given = (*SRPO, HF, f"actor_rollout_ref.model.{lora}")
    (line,) = refusal(*given)
    assert line.startswith("actor_rollout_ref.model.lora.merge: rollout hf takes no LoRA adapter")
    assert line.endswith("write actor_rollout_ref.model.lora.merge=True")
    launch(*given, "actor_rollout_ref.model.lora.merge=True")


@pytest.mark.parametrize("split", ["tensor_model_parallel_size", "data_parallel_size"])
def test_rollout_hf_splits_no_model(refusal, split):  # noqa: F811
    (line,) = refusal("algorithm.adv_estimator=token_budget", HF, f"actor_rollout_ref.rollout.{split}=2")
    assert line.startswith(f"actor_rollout_ref.rollout.{split}: rollout hf keeps a copy of the model on one device")
    assert line.endswith(f"write actor_rollout_ref.rollout.{split}=1, not 2")
