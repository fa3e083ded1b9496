"""verl 0.9.1 without a GPU: CPU mode is asked for, every patch fits, and the rollout `hf` samples what it says."""

# ruff: noqa: E402  what needs verl is imported after it is known to be there

import asyncio
import functools
import importlib.util
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

verl = pytest.importorskip("verl", minversion="0.9")

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from verl.trainer import main_ppo
from verl.workers.config import HFModelConfig, RolloutConfig

from tests.contract.conftest import LAUNCH
from verl_efficiency.evaluation.sampling import Completion, Draw, generate
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.cpu import hf_rollout, patches
from verl_efficiency.verl.cpu.hf_server import HFServer, check_complete, load_weights, read_sampling_params
from verl_efficiency.verl.cpu_switch import SWITCH, cpu_mode

torch.set_num_threads(1)  # these models are tiny, and threads that wait for a busy core are many times slower
needs_cpu_machine = pytest.mark.skipif(not cpu_mode(), reason="VERL_PLATFORM is set to something else")
EOS = 1


# ---- the switch: without it nothing is touched ------------------------------------------------------------------------

# Reports everything that activation changes, one fact a line.
FACTS = """
import importlib.metadata, os, sys
import verl
from verl.plugin.platform import PlatformRegistry, get_platform
from verl.utils import distributed, fsdp_utils
from verl.workers.rollout.base import _ROLLOUT_REGISTRY
print("plugin", "verl_efficiency.verl.plugin" in sys.modules)
print("platform", get_platform().device_name)
print("registered", "cpu" in PlatformRegistry.registered_names())
print("cpu_modules", any(f"{name}.".startswith("verl_efficiency.verl.cpu.") for name in sys.modules))
print("engine", os.environ.get("VERL_ENGINE_DEVICE"))
print("torch.cpu", hasattr(torch.cpu, "empty_cache"))
print("backend", distributed.initialize_global_process_group_ray.__defaults__)
print("offload", isinstance(fsdp_utils.CPUOffloadPolicy, type))
print("rollout", ("hf", "async") in _ROLLOUT_REGISTRY)
print("metadata", importlib.metadata.version.__module__)
"""
UNTOUCHED = {
    "plugin": "True",
    "platform": "cuda",
    "registered": "False",
    "cpu_modules": "False",
    "engine": "None",
    "torch.cpu": "False",
    "backend": "(None, None)",
    "offload": "True",
    "rollout": "False",
    "metadata": "importlib.metadata",
}


def facts(before: str = "", **env: str) -> dict[str, str]:
    """What a fresh interpreter reports after `import verl`, with ``before`` run first; the switch only if ``env`` has it."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("VERL_ENGINE_DEVICE", SWITCH)}
    result = subprocess.run(
        [sys.executable, "-c", f"import torch\n{before}\n{FACTS}"],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    return dict(line.split(" ", 1) for line in result.stdout.splitlines())


def test_nothing_is_touched_where_nobody_asked_with_or_without_a_gpu():
    """The head node of a GPU cluster may have no GPU. That does not turn CPU mode on."""
    assert facts() == UNTOUCHED
    assert facts("torch.cuda.is_available = lambda: True") == UNTOUCHED


# Our run passes the start-up checks, and every module outside of cpu/ is imported.
WHOLE_PLUGIN = """
import importlib, pkgutil, sys
import hydra
import verl_efficiency.verl as ours
from verl.trainer import main_ppo

with hydra.initialize_config_module("verl.trainer.config", version_base=None):
    config = hydra.compose("ppo_trainer", sys.argv[1:])
main_ppo.validate_config(config, False, False)
for module in pkgutil.iter_modules(ours.__path__, f"{ours.__name__}."):
    if module.name != "verl_efficiency.verl.cpu":
        importlib.import_module(module.name)
print("imported", sum(name.startswith("verl_efficiency.verl.") for name in sys.modules))
print("cpu modules", [name for name in sys.modules if f"{name}.".startswith("verl_efficiency.verl.cpu.")])
"""


def test_a_run_of_ours_on_a_machine_with_gpus_imports_nothing_of_the_cpu_folder(fresh, data_file):
    data = (f"data.train_files={data_file}", f"data.val_files={data_file}")
    done = fresh("-c", WHOLE_PLUGIN, *LAUNCH, "algorithm.adv_estimator=token_budget", *data, **{SWITCH: ""})
    assert done.returncode == 0, done.stderr
    imported, cpu_modules = done.stdout.splitlines()[-2:]
    assert int(imported.split()[1]) > 20
    assert cpu_modules == "cpu modules []"


def test_a_platform_that_the_user_chose_is_respected():
    assert facts(VERL_PLATFORM="nvidia") == UNTOUCHED


@pytest.mark.parametrize("before", ["", "torch.cuda.is_available = lambda: True"])
def test_where_the_cpu_is_asked_for_it_is_set_up(before):
    assert facts(before, VERL_PLATFORM="cpu") == {
        **UNTOUCHED,
        "platform": "cpu",
        "registered": "True",
        "cpu_modules": "True",
        "engine": "cuda",
        "torch.cpu": "True",
        "backend": "(None, 'cpu:gloo')",
        "offload": "False",
        "rollout": "True",
    }


@pytest.mark.parametrize(
    ("value", "expected"), [("cpu", True), (" CPU ", True), ("nvidia", False), ("", False), (None, False)]
)
def test_the_switch_is_verls_own_variable(monkeypatch, value, expected):
    monkeypatch.delenv(SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    assert cpu_mode() is expected


def test_the_switch_reaches_the_workers_of_a_cluster_that_runs_already(compose):
    config = compose("+ray_kwargs.ray_init.runtime_env.env_vars.MINE=1")
    main_ppo.validate_config(config, False, False)
    assert config.ray_kwargs.ray_init.runtime_env.env_vars == {"MINE": 1, "VERL_PLATFORM": "cpu"}
    assert config.ray_kwargs.ray_init.runtime_env.py_executable is None


def test_a_run_on_the_cpu_without_the_switch_is_refused(compose, monkeypatch):
    wanted = ("algorithm.adv_estimator=token_budget", "trainer.device=cpu")
    main_ppo.validate_config(compose(*wanted), False, False)
    monkeypatch.setenv(SWITCH, "")
    with pytest.raises(SettingsError, match="export VERL_PLATFORM=cpu"):
        main_ppo.validate_config(compose(*wanted), False, False)


# ---- patches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "place"),
    [
        (patches.one_backend_for_gloo, "utils/distributed.py"),
        (patches.offload_without_pinning, "utils/fsdp_utils.py"),
        (patches.save_a_copy, "utils/fsdp_utils.py"),
        (patches.value_head_without_flash_attention, "utils/model.py"),
        (patches.register_hf_adapter, "workers/rollout/base.py"),
        (patches.keep_linear_weights, "vllm/model_executor/layers/utils.py"),
    ],
)
def test_a_patch_refuses_a_place_that_has_changed(patch, place):
    with pytest.raises(RuntimeError, match=rf"verl {verl.__version__}: .*{place}.* is not what the CPU patch expects"):
        patch(ModuleType("changed"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 7), (10, 7), (2, 5, 7), (7, 49_152)])
def test_log_probabilities_in_blocks_have_verls_own_bits(dtype, shape, monkeypatch):
    from verl.utils import torch_functional

    # A second copy of the module, under another name, so that no import hook has changed it.
    spec = importlib.util.spec_from_file_location("torch_functional_of_verl", torch_functional.__file__)
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    own = changed.logprobs_from_logits_v2
    patches.log_probs_in_blocks(changed)
    assert changed.logprobs_from_logits_v2 is not own
    monkeypatch.setattr(patches, "_LOGITS_OF_A_BLOCK", 3 * shape[-1])  # 3 tokens, so the last block is a shorter one

    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(shape, generator=generator)).to(dtype)
    labels = torch.randint(0, shape[-1], shape[:-1], generator=generator)
    found = []
    for function in (own, changed.logprobs_from_logits_v2):
        given = logits.clone().requires_grad_()
        log_probs = function(given, labels)
        log_probs.square().sum().backward()
        found.append((log_probs.detach(), given.grad))
    for verls, ours in zip(*found, strict=True):
        assert torch.equal(verls, ours)
    exact = torch.log_softmax(logits.double(), -1).gather(-1, labels[..., None])[..., 0]
    assert torch.allclose(found[1][0].double(), exact, atol=0.1 if dtype == torch.bfloat16 else 1e-5)


def test_log_probabilities_of_a_verl_that_looks_different_stay(caplog):
    other = ModuleType("changed")
    other.logprobs_from_logits_v2 = own = lambda logits, labels, more: None
    patches.log_probs_in_blocks(other)
    assert other.logprobs_from_logits_v2 is own
    assert "utils/torch_functional.py" in caplog.text


@needs_cpu_machine
def test_verl_takes_the_fsdp_engine_on_the_cpu():
    import verl.workers.engine.fsdp  # noqa: F401  registers the engines
    from verl.workers.engine import EngineRegistry

    for model_type in ("language_model", "value_model"):
        assert (
            EngineRegistry.get_engine_cls(model_type, "fsdp2").__module__ == "verl.workers.engine.fsdp.transformer_impl"
        )


@needs_cpu_machine
def test_every_device_function_that_verl_calls_exists():
    from verl.utils import memory_utils
    from verl.utils.device import get_torch_device
    from verl.utils.profiler.performance import _get_current_mem_info

    device = get_torch_device()
    memory_utils.aggressive_empty_cache()
    assert _get_current_mem_info() == ("0.00", "0.00", "0.00", "0.00")
    assert device.max_memory_allocated() == device.max_memory_reserved() == 0
    state = device.get_rng_state()
    first = torch.rand(3)
    device.set_rng_state(state)
    assert torch.equal(torch.rand(3), first)


@needs_cpu_machine
def test_a_process_group_starts_and_a_reference_model_is_offloaded(monkeypatch, tmp_path):
    from torch.distributed.fsdp import fully_shard
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray
    from verl.utils.fsdp_utils import CPUOffloadPolicy, fsdp2_sharded_load_from_cpu, fsdp2_sharded_save_to_cpu

    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "DIST_INIT_METHOD": f"file://{tmp_path}/store"}.items():
        monkeypatch.setenv(name, value)
    initialize_global_process_group_ray(timeout_second=None)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        layer = torch.nn.Linear(3, 2)
        expected = layer(torch.ones(1, 3))
        fully_shard(layer, mesh=mesh, offload_policy=CPUOffloadPolicy(pin_memory=True))
        assert torch.equal(layer(torch.ones(1, 3)), expected)
        layer.reshard()
        kept = fsdp2_sharded_save_to_cpu(layer)  # as separate_async does before a step
        with torch.no_grad():
            for weights in layer.parameters():
                weights.add_(1)
        assert not torch.equal(layer(torch.ones(1, 3)), expected)
        layer.reshard()
        fsdp2_sharded_load_from_cpu(layer, *kept)
        assert torch.equal(layer(torch.ones(1, 3)), expected)
    finally:
        destroy_global_process_group()


@needs_cpu_machine
def test_a_critic_is_loaded_without_flash_attention(model_dir):
    from transformers import AutoConfig
    from verl.utils.model import load_valuehead_model

    config = AutoConfig.from_pretrained(model_dir, num_labels=1)
    critic = load_valuehead_model(str(model_dir), torch.float32, config, False)
    assert critic.config._attn_implementation == "sdpa"
    assert critic.num_labels == 1


def test_the_replay_buffer_polls_fast_and_takes_its_settings_from_sampler_kwargs():
    from verl_efficiency.verl.cpu.replay_buffer import FastPollReplayBuffer

    # What trainer/ppo/v1/trainer_base.py:155-162 passes to a custom sampler.
    given = {
        "trainer_mode": "sync",
        "trainer_config": {},
        "max_off_policy_threshold": None,
        "max_off_policy_strategy": "drop",
        "refill_fn": lambda count: None,
    }
    assert FastPollReplayBuffer(**given, sampler_kwargs={}).poll_interval == 0.05
    chosen = FastPollReplayBuffer(**given, sampler_kwargs={"poll_interval": 0.5, "filter_groups_metric": "reward"})
    assert (chosen.poll_interval, chosen.filter_groups_metric) == (0.5, "reward")
    with pytest.raises(TypeError, match="pol_interval"):
        FastPollReplayBuffer(**given, sampler_kwargs={"pol_interval": 0.5})


@pytest.mark.parametrize(("mode", "waits"), [("sync", False), ("colocate_async", True), ("separate_async", True)])
def test_the_replay_buffer_samples_as_verls_own_does_in_this_mode(mode, waits):
    from verl.trainer.ppo.v1.replay_buffer import ReplayBufferAsync

    from verl_efficiency.verl.cpu.replay_buffer import FastPollReplayBuffer

    given = {"max_off_policy_threshold": None, "max_off_policy_strategy": "drop", "sampler_kwargs": {}}
    buffer = FastPollReplayBuffer(trainer_mode=mode, trainer_config={}, refill_fn=lambda count: None, **given)
    assert isinstance(buffer, ReplayBufferAsync) == waits
    assert buffer.poll_interval == 0.05


@pytest.mark.parametrize("bucket_bytes", [1, 2**20])
def test_a_rollout_pool_gets_the_weights_of_the_trainer(bucket_bytes):
    """Two trainer ranks, of which the first sends, and two workers of the pool, over the engine's own store."""
    from verl.checkpoint_engine import CheckpointEngineRegistry

    import verl_efficiency.verl.cpu.checkpoint_engine  # noqa: F401  registers it

    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    engines = [CheckpointEngineRegistry.new("cpu", bucket_size=bucket_bytes, is_master=n == 0) for n in range(4)]
    for _ in range(2):  # two syncs
        metadata = [engine.prepare() for engine in engines]
        trainer, pool = type(engines[0]).build_topology(2, 2, metadata)
        for engine, address in zip(engines, [*trainer["address"], *pool["address"]], strict=True):
            engine.init_process_group(address=address)

        async def sync():
            async def received(engine):
                return {name: value async for name, value in engine.receive_weights()}

            sent = [engine.send_weights(iter(weights.items())) for engine in engines[:2]]
            return (await asyncio.gather(*sent, *map(received, engines[2:])))[2:]

        for found in asyncio.run(sync()):
            assert list(found) == list(weights)
            assert all(torch.equal(found[name], value) for name, value in weights.items())
        for engine in engines:
            engine.finalize()
        weights["a"] += 1


# ---- generation ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return tiny_model(tied=True)


def tiny_model(tied: bool) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=20,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.3,  # far from uniform, so that a wrong log-probability shows
        eos_token_id=EOS,
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model_dir(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    vocabulary = {"<pad>": 0, "<eos>": EOS, **{f"t{index}": index for index in range(2, 20)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>").save_pretrained(path)
    return path


def run(model, rows: list[Completion], sampling: Draw, **settings) -> None:
    """Generate for all of ``rows``; each is yielded once, and complete."""
    finished = []
    for row in generate(model, rows, sampling, **settings):
        assert row.done
        finished.append(id(row))
    assert sorted(finished) == sorted(id(row) for row in rows)


def requests(count: int, max_tokens: int = 40) -> list[Completion]:
    """Prompts of different lengths, so that there is padding."""
    return [
        Completion([2 + (index + step) % 18 for step in range(1 + index % 7)], max_tokens, (7, index))
        for index in range(count)
    ]


def forward_log_probs(model, request: Completion, temperature: float) -> list[float]:
    """The log-probabilities of a response by one forward pass over the whole sequence, without padding or cache."""
    ids = torch.tensor([request.prompt + request.tokens])
    with torch.inference_mode():
        logits_TV = model(ids).logits[0, len(request.prompt) - 1 : -1].float() / temperature
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(request.tokens)[:, None]).squeeze(1).tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("segment", [5, 100])
def test_log_probs_equal_a_forward_pass(model, temperature, segment):
    rows = requests(24)
    run(model, rows, Draw(temperature), eos_ids={EOS}, pad_id=0, segment=segment)
    assert len({len(row.tokens) for row in rows}) > 5  # rows left the batch at different times
    for row in rows:
        assert row.log_probs == pytest.approx(forward_log_probs(model, row, temperature), abs=2e-5)


def test_a_response_ends_at_eos_or_at_its_own_max_tokens(model):
    rows = [Completion(row.prompt, 3 + 5 * (index % 5), row.seed) for index, row in enumerate(requests(60))]
    run(model, rows, Draw(), eos_ids={EOS}, pad_id=0, segment=4)
    assert {row.stopped for row in rows} == {True, False}
    for row in rows:
        assert len(row.tokens) == len(row.log_probs) <= row.max_tokens
        assert (row.tokens.index(EOS) == len(row.tokens) - 1) if row.stopped else EOS not in row.tokens
        assert row.stopped or len(row.tokens) == row.max_tokens


def test_without_eos_ids_every_response_has_max_tokens(model):
    rows = requests(10, max_tokens=33)
    run(model, rows, Draw(), eos_ids=(), pad_id=0)
    assert [len(row.tokens) for row in rows] == [33] * 10
    assert any(EOS in row.tokens[:-1] for row in rows)


def test_a_response_depends_on_its_seed_and_not_on_its_batch(model):
    together = requests(16)
    run(model, together, Draw(), eos_ids={EOS}, pad_id=0)
    alone = requests(16)
    for row in alone:
        run(model, [row], Draw(), eos_ids={EOS}, pad_id=0, segment=3)
    assert [row.tokens for row in alone] == [row.tokens for row in together]
    other = [Completion(row.prompt, row.max_tokens, (8, *row.seed)) for row in together]
    run(model, other, Draw(), eos_ids={EOS}, pad_id=0)
    assert [row.tokens for row in other] != [row.tokens for row in together]


def test_what_the_checkpoint_suggests_for_sampling_does_not_join_in(model):
    model.generation_config.update(repetition_penalty=1.5, top_k=2, eos_token_id=4)
    rows = requests(8)
    run(model, rows, Draw(), eos_ids={EOS}, pad_id=0)
    assert any(4 in row.tokens[:-1] for row in rows)
    for row in rows:
        assert row.log_probs == pytest.approx(forward_log_probs(model, row, 1.0), abs=2e-5)


def test_temperature_zero_takes_the_most_likely_token(model):
    rows = requests(8, max_tokens=10)
    run(model, rows, Draw(temperature=0.0), eos_ids=(), pad_id=0)
    for row in rows:
        ids = torch.tensor([row.prompt + row.tokens])
        with torch.inference_mode():
            most_likely = model(ids).logits[0, len(row.prompt) - 1 : -1].argmax(-1)
        assert row.tokens == most_likely.tolist()


def test_tokens_are_drawn_as_often_as_their_probability_says(model):
    prompt, draws = [3, 4, 5], 8_000
    rows = [Completion(prompt, 1, (index,)) for index in range(draws)]
    run(model, rows, Draw(temperature=1.5), eos_ids=(), pad_id=0)
    with torch.inference_mode():
        expected_V = (model(torch.tensor([prompt])).logits[0, -1] / 1.5).softmax(-1)
    drawn_V = torch.bincount(torch.tensor([row.tokens[0] for row in rows]), minlength=20) / draws
    error_V = (expected_V * (1 - expected_V) / draws).sqrt()
    assert bool(((drawn_V - expected_V).abs() <= 4 * error_V + 1e-4).all())


def test_top_k_and_top_p_leave_only_the_most_likely_tokens(model):
    prompt = [3, 4, 5]
    with torch.inference_mode():
        probs_V, order_V = model(torch.tensor([prompt])).logits[0, -1].softmax(-1).sort(descending=True)
    kept_by_p = int((probs_V.cumsum(0) < 0.8).sum()) + 1
    assert 1 < kept_by_p < 20
    for sampling, kept in ((Draw(top_k=3), 3), (Draw(top_p=0.8), kept_by_p)):
        rows = [Completion(prompt, 1, (index,)) for index in range(2000)]
        run(model, rows, sampling, eos_ids=(), pad_id=0)
        assert {row.tokens[0] for row in rows} == set(order_V[:kept].tolist())
        expected = (probs_V[:kept] / probs_V[:kept].sum()).log().tolist()
        for row in rows[:100]:
            rank = order_V.tolist().index(row.tokens[0])
            assert row.log_probs[0] == pytest.approx(expected[rank], abs=1e-5)


# ---- the server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(model_dir):
    config = RolloutConfig(name="hf", prompt_length=16, response_length=12, dtype="float32", max_num_seqs=64)
    return HFServer(str(model_dir), False, config, replica_rank=0)


VERLS_PARAMS = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": True}


def ask(server: HFServer, prompts: list[list[int]], **params) -> list:
    async def all_at_once():
        calls = [
            server.generate(prompt, {**VERLS_PARAMS, **params}, f"id{index}") for index, prompt in enumerate(prompts)
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(all_at_once())


def test_the_server_answers_many_calls_with_one_batch(server, monkeypatch):
    batches = []

    def counted(model, rows, *args, **kwargs):
        batches.append(len(rows))
        return generate(model, rows, *args, **kwargs)

    monkeypatch.setattr("verl_efficiency.verl.cpu.hf_server.generate", counted)
    outputs = ask(server, [[2, 3], [4, 5, 6]] * 10)
    assert batches == [20]
    assert len({tuple(output.token_ids) for output in outputs[::2]}) > 5  # the same prompt, sampled independently
    for output in outputs:
        assert output.stop_reason == ("completed" if output.token_ids[-1] == EOS else "length")
        assert len(output.log_probs) == len(output.token_ids) <= 12
    assert {output.stop_reason for output in outputs} == {"completed", "length"}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_server_has_the_attention_of_the_trainer(model_dir, monkeypatch, attention):
    started = []

    class Started:
        """What ``ray.remote`` gives: here the server itself, whose calls are awaited at once."""

        def __init__(self, cls):
            self.cls = cls

        def options(self, **_):
            return self

        def remote(self, *arguments):
            started.append(self.cls(*arguments))
            return SimpleNamespace(ready=SimpleNamespace(remote=started[0].ready))

    monkeypatch.setattr(hf_rollout.ray, "remote", Started)
    replica = SimpleNamespace(
        is_reward_model=False,
        is_teacher_model=False,
        model_config=HFModelConfig(path=str(model_dir), override_config={"attn_implementation": attention}),
        config=RolloutConfig(name="hf", prompt_length=16, response_length=12, dtype="float32"),
        replica_rank=0,
        max_concurrency=8,
    )
    replica._beside_the_trainer = functools.partial(hf_rollout.HFReplica._beside_the_trainer, replica)
    asyncio.run(hf_rollout.HFReplica.launch_servers(replica))
    assert started[0].model.config._attn_implementation == attention


def test_the_samples_of_a_prompt_are_the_same_in_every_run(model_dir):
    def run():
        config = RolloutConfig(name="hf", prompt_length=16, response_length=12, dtype="float32")
        return ask(HFServer(str(model_dir), False, config, replica_rank=0), [[2, 3]] * 6)

    assert [output.token_ids for output in run()] == [output.token_ids for output in run()]


def test_calls_beyond_max_num_seqs_and_with_other_sampling_are_served_too(model_dir):
    config = RolloutConfig(name="hf", prompt_length=16, response_length=3, dtype="float32", max_num_seqs=4)
    server = HFServer(str(model_dir), False, config, replica_rank=0)

    async def mixed():
        calls = [
            server.generate([2, 3], {**VERLS_PARAMS, "temperature": index % 2}, f"id{index}") for index in range(11)
        ]
        return await asyncio.gather(*calls)

    outputs = asyncio.run(mixed())
    assert len({tuple(output.token_ids) for output in outputs[::2]}) == 1  # temperature 0


def test_an_error_reaches_every_caller_and_the_server_lives_on(server):
    failed = ask(server, [[2, 3], [999]])
    assert all(isinstance(outcome, IndexError) for outcome in failed)
    assert len(ask(server, [[2, 3]])[0].token_ids) > 0


def test_a_short_response_does_not_wait_for_a_long_one(server):
    finished = []

    async def one(prompt, max_tokens):
        await server.generate(prompt, {**VERLS_PARAMS, "max_tokens": max_tokens, "ignore_eos": True}, "id")
        finished.append((max_tokens, server.busy.locked()))

    async def both():
        await asyncio.gather(one([2, 3], 100), one([4, 5], 1))

    asyncio.run(both())
    assert finished[0] == (1, True)  # while the batch went on
    assert finished[1][0] == 100


def test_an_aborted_request_returns_what_it_has_and_goes_on_after_resuming(model_dir):
    """As verl's client does it: it asks again with the prompt and the tokens so far."""
    config = RolloutConfig(name="hf", prompt_length=16, response_length=12, dtype="float32")
    config.engine_kwargs["hf"] = {"segment": 2}
    server = HFServer(str(model_dir), False, config, replica_rank=0)
    params = {**VERLS_PARAMS, "max_tokens": 5000, "ignore_eos": True}

    async def scenario():
        running = asyncio.create_task(server.generate([2, 3], params, "id"))
        while not server.busy.locked():
            await asyncio.sleep(0.001)
        await server.abort_all_requests()
        first = await running
        parked = asyncio.create_task(server.generate([2, 3, *first.token_ids], {**params, "max_tokens": 3}, "id"))
        await asyncio.sleep(0.05)
        assert not parked.done()
        await server.resume_generation()
        rest = await parked
        waiting = asyncio.create_task(server.generate([2, 3], params, "id"))
        await asyncio.sleep(0)  # it waits for others to share its batch
        await server.abort_all_requests(reject_request=True)
        return first, rest, await waiting, await server.generate([2, 3], params, "id")

    first, rest, waited, rejected = asyncio.run(scenario())
    assert first.stop_reason == waited.stop_reason == rejected.stop_reason == "aborted"
    assert 0 <= len(first.token_ids) < 5000
    assert len(first.token_ids) % 2 == 0
    assert len(first.log_probs) == len(first.token_ids)
    assert (rest.stop_reason, len(rest.token_ids)) == ("length", 3)
    assert waited.token_ids == rejected.token_ids == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_token": 3}, "unknown sampling parameter 'max_token'; did you mean 'max_tokens'"),
        ({"min_p": 0.1}, "unknown sampling parameter 'min_p'"),
        ({"repetition_penalty": 1.1}, "repetition_penalty must be 1.0"),
        ({"max_tokens": 0}, "no room to generate"),
    ],
)
def test_what_is_not_supported_is_refused(params, message):
    config = RolloutConfig(name="hf", prompt_length=16, response_length=12)
    with pytest.raises(ValueError, match=message):
        read_sampling_params({**VERLS_PARAMS, **params}, config, prompt_length=5)


def test_the_default_number_of_new_tokens_is_the_response_length():
    config = RolloutConfig(name="hf", prompt_length=16, response_length=12, temperature=0.6)
    assert read_sampling_params({}, config, prompt_length=16) == (Draw(0.6), 12, False)
    assert read_sampling_params({"max_tokens": 5, "ignore_eos": True}, config, 3) == (Draw(0.6), 5, True)


def test_an_unknown_setting_is_refused_by_name(model_dir):
    config = RolloutConfig(name="hf", engine_kwargs={"hf": {"thread": 2}})
    with pytest.raises(
        SettingsError, match=r"rollout\.engine_kwargs\.hf: unknown setting 'thread'; did you mean 'threads'"
    ):
        HFServer(str(model_dir), False, config, replica_rank=0)


# ---- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_weights_arrive_by_name(tied):
    source, target = tiny_model(tied), tiny_model(tied)
    with torch.no_grad():
        for value in source.parameters():
            value.add_(1.0)
    sent = dict(source.named_parameters())  # of tied weights only one name, as an engine may send them
    load_weights(target, sent)
    check_complete(target, set(sent))
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_wrong_weights_are_refused():
    model = tiny_model(tied=False)
    weights = dict(model.state_dict())
    with pytest.raises(RuntimeError, match=r"does not have: \['model.extra'\]"):
        load_weights(model, {**weights, "model.extra": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"lm_head.weight has shape \(3, 3\) in the trainer and \(20, 32\)"):
        load_weights(model, {"lm_head.weight": torch.zeros(3, 3)})
    with pytest.raises(RuntimeError, match=r"did not send these weights of the rollout model: \['lm_head.weight'\]"):
        check_complete(model, set(weights) - {"lm_head.weight"})


def test_the_server_refuses_an_incomplete_update(server):
    async def update(weights):
        await server.receive_weights(weights)
        await server.finish_weights(3)

    weights = dict(server.model.named_parameters())
    asyncio.run(update(weights))
    assert server.global_steps == 3
    weights.pop("model.norm.weight")
    with pytest.raises(RuntimeError, match=r"model\.norm\.weight"):
        asyncio.run(update(weights))
