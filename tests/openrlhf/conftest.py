"""OpenRLHF without Ray's processes, vLLM, flash-attn and a GPU: what cannot be imported is a stub, everything else is real.

Runs in its own environment: ``bash tests/run_openrlhf_light.sh``.
"""

import importlib.machinery
import os
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WARM_START = ROOT / "verl_efficiency" / "testbed" / "checks" / "warm_start"

os.environ.update(
    DS_ACCELERATOR="cpu", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0"
)
sys.path.insert(0, str(ROOT / "recipes" / "openrlhf" / "cpu"))
import openrlhf_on_cpu  # noqa: E402, F401


def _stub(name: str, **attributes: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    module.__dict__.update(attributes)
    sys.modules[name] = module
    return module


class SamplingParams(types.SimpleNamespace):
    """vLLM's, of which the executor reads max_tokens and logprobs."""


_vllm = _stub("vllm", __version__="0.29.0", SamplingParams=SamplingParams)
_vllm.inputs = _stub("vllm.inputs", TokensPrompt=dict)  # type: ignore[attr-defined]
_vllm.utils = _stub("vllm.utils", random_uuid=lambda: "id")  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """48 problems of the testbed, as `verl-efficiency pack --format openrlhf` writes them, each with a length asked for."""
    from verl_efficiency.data.openrlhf import write_openrlhf
    from verl_efficiency.testbed.prepare import problems, row
    from verl_efficiency.testbed.tasks import task_named

    checks = task_named("checks")
    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    drawn = problems(checks, "train", 48, seed=0)
    rows = [row(checks, problem, "train", number) for number, problem in enumerate(drawn)]
    asked = {"target_tokens": 30, "length_level": "short"}
    write_openrlhf(file, [one | {"extra_info": one["extra_info"] | asked} for one in rows])
    return file


@pytest.fixture(scope="session")
def stock(data) -> list[str]:
    """Flags of OpenRLHF for the testbed's model on this machine."""
    return f"""--actor.model_name_or_path {WARM_START} --ds.attn_implementation sdpa --actor.num_gpus_per_node 1
        --vllm.num_engines 1 --vllm.sync_backend gloo --algo.kl.init_coef 0 --data.prompt_dataset {data}
        --data.input_key input --data.label_key label --data.apply_chat_template --data.max_len 128
        --rollout.max_new_tokens 40 --rollout.batch_size 2 --rollout.n_samples_per_prompt 4 --rollout.micro_batch_size 3
        --train.batch_size 8 --train.micro_batch_size 4 --actor.adam.lr 1e-3 --actor.lr_scheduler constant
        --actor.lr_warmup_ratio 0""".split()
