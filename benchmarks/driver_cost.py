"""What our adapters cost on the driver at 16,384 rollouts of 8,192 tokens: seconds, and bytes read, stored or sent.

    python benchmarks/driver_cost.py [--before FOLDER] [--parts read,names,...]

``--before`` names a checkout of an older version, which is measured in turn with this one. Every measurement is a process of
its own, which imports the package from one of the two. Where a part would need more memory than this machine has, a stated
share of the rows is measured. ``wall_s`` follows the load of the machine; ``cpu_s`` is the processor time of the process. Both
are the lowest of the repeats. Parts:

* ``read``: what ``efficiency_sync`` reads from TransferQueue in each step, for methods with different needs. TransferQueue
  itself is replaced by copies in memory, so the time is the least that reading can take.
* ``prompts``: the teacher's prompts of 5,000 routed rollouts (1,250 groups, 4 each) of about 10,000 tokens each. They are made
  in a thread during the student's pass, so only what is left to do after that pass is on the critical path. A sleep stands in
  for the pass, as long as at a million tokens per second (about a model of 1.5B on eight H100).
* ``targets``: top-K targets (K = 100) of 5,000 rollouts of 8,900 tokens; computed from the size of a target.
* ``names``: names of the groups in OpenRLHF.
* ``average``: host memory of the teacher's average in OpenRLHF, for the parameters of Qwen2.5-7B on 8 ranks; computed.
* ``logits``: memory that OpenRLHF's distillation loss takes beside the logits of 1,024 tokens of a vocabulary of 151,936,
  half of them routed.
* ``ratio``: π/π_old at equal weights, as the self-teacher's loss computes it from bf16 logits on verl without
  flash-attention's cross-entropy. It must be 1.
* ``state``: the second of two checkpoints of ``variance_routing`` with 20,000 stored responses of 8,000 characters, a tenth of
  them new since the first.
* ``estimators``: ``token_budget`` over verl's ``grpo_vectorized`` in turn, at 1,024 tokens a row, one thread.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

ROWS, TOKENS, GROUP, K = 16384, 8192, 8, 100
ROUTED_GROUPS, ROUTED = 1250, 5000
SHARE_OF_PROMPTS = 10  # one group in ten is measured
PASS_S = ROWS * TOKENS / 1e6
READ = {"kimi": {}, "sample_routing": {}, "t_spmo": {}, "grlc": {}}
ROOT = Path(__file__).resolve().parents[1]


def timed(work: Callable[[], Any], repeats: int = 1) -> dict[str, float]:
    """The lowest wall and processor time of ``repeats`` calls."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall_s": round(min(walls), 3), "cpu_s": round(min(cpus), 3)}


def peak_gib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_read() -> dict:
    """Bytes and time of ``read_batch``. The stored rows share one tensor; what is read is copied."""
    import torch
    import transfer_queue
    from transfer_queue import KVBatchMeta
    from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

    from verl_efficiency.methods.catalog import ESTIMATORS
    from verl_efficiency.verl.batch import read_batch

    row = {
        "uid": "u",
        "responses": torch.arange(TOKENS),
        "response_mask": torch.ones(TOKENS, dtype=torch.int64),
        "rm_scores": torch.ones(TOKENS),
        "prompts": torch.arange(1024),
        "raw_prompt": [{"role": "user", "content": "?" * 4096}],
        "extra_fields": {"reward_extra_info": {"acc": 1.0}},
    }
    read: dict[str, int] = {}

    def get(keys: list, partition_id: str, select_fields: list) -> dict:
        found = {}
        for name in select_fields:
            if isinstance(row[name], torch.Tensor):
                found[name] = nested_tensor_from_tensor_list([row[name]] * len(keys), ragged_idx=1)
                read["bytes"] += found[name].values().nbytes
            else:
                found[name] = [row[name]] * len(keys)
        return found

    transfer_queue.kv_batch_get = get
    keys = [f"u{number // GROUP}_{number % GROUP}_0" for number in range(ROWS)]
    meta = KVBatchMeta(keys, [{}] * ROWS, "train", None, {})
    results = {}
    for name, given in READ.items():
        settings = ESTIMATORS[name].build_settings(given, name)
        if hasattr(settings, "reads"):
            call = lambda settings=settings: read_batch(meta, settings.reads)  # noqa: E731
        else:
            with_prompts = name in ("sample_routing", "grlc")
            call = lambda with_prompts=with_prompts: read_batch(meta, with_prompts=with_prompts)  # noqa: E731
        read["bytes"] = 0
        results[name] = timed(call)
        results[name]["gib_read"] = round(read["bytes"] / 2**30, 3)
    return results


def tokenizer_of_our_own() -> Any:
    """A byte-level BPE of 8,000 tokens, trained on the sources of this package, with a chat template."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    made = ByteLevelBPETokenizer()
    made.train([str(file) for file in sorted((ROOT / "verl_efficiency").rglob("*.py"))], vocab_size=8000)
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, eos_token="<|im_end|>", chat_template=template, model_max_length=10**9
    )


def measure_prompts() -> dict:
    """Time of the teacher's prompts, of a tenth of the groups."""
    import torch

    from verl_efficiency.adapter.teacher import Teacher
    from verl_efficiency.methods.catalog import ESTIMATORS
    from verl_efficiency.methods.rollouts import Rollouts

    tokenizer = tokenizer_of_our_own()
    text = "\n".join(file.read_text() for file in sorted((ROOT / "verl_efficiency").rglob("*.py")))
    ids = tokenizer(text)["input_ids"]
    groups = ROUTED_GROUPS // SHARE_OF_PROMPTS
    questions = [text[number * 40 : number * 40 + 6000] for number in range(groups)]
    one = torch.tensor([[*ids[number * 97 % 20000 :][: TOKENS - 1], 0] for number in range(groups)])
    responses = [one[row // GROUP] for row in range(groups * GROUP)]

    class Measured(Teacher):
        def messages(self, row: int) -> list[Mapping]:
            return [{"role": "user", "content": questions[row // GROUP]}]

        def response(self, row: int) -> Any:
            return responses[row]

    method = ESTIMATORS["sample_routing"]
    settings = method.build_settings({"max_reprompt_len": 12000}, method.name)
    teacher = Measured(method, settings, tokenizer)
    scores = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * groups)
    labels = [row // GROUP for row in range(groups * GROUP)]
    plan = teacher.plan(Rollouts.build(scores, torch.full_like(scores, TOKENS), labels))
    beside = hasattr(teacher, "prompts")

    def make() -> list:
        return teacher.prompts(plan) if beside else [teacher._prompt(plan, row, responses) for row in plan.taught]

    cpu = time.process_time()
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(make)
        if beside:
            time.sleep(PASS_S / SHARE_OF_PROMPTS)  # of the student's pass
        waiting = time.perf_counter()
        tokens = statistics.fmean(map(len, found.result()))
        waited = time.perf_counter() - waiting
    seconds = {"critical_path_wall_s": waited, "cpu_s": time.process_time() - cpu}
    return {
        **{key: round(value * SHARE_OF_PROMPTS, 2) for key, value in seconds.items()},
        "pass_s": round(PASS_S) if beside else 0,
        "rows": ROUTED,
        "tokens_per_prompt": round(tokens),
        "measured_share": 1 / SHARE_OF_PROMPTS,
    }


def measure_targets() -> dict:
    """Bytes of the targets through TransferQueue and in the workers."""
    from verl_efficiency.methods.teacher import DistillationSettings

    settings = DistillationSettings(distillation_topk=K)
    count = ROUTED * 8900
    if hasattr(settings, "target_dtype"):
        from verl_efficiency.verl.targets import bytes_per_token

        through, kept = 0, count * bytes_per_token(settings)
    else:
        through = kept = count * K * (4 + 4)
    return {
        "gib_through_transfer_queue": round(through / 2**30, 2),
        "gib_in_the_workers_together": round(kept / 2**30, 2),
    }


def measure_names() -> dict:
    """Time of ``Batch.rollouts``, which names the groups, and counts the tokens of each rollout."""
    import torch

    from verl_efficiency.methods.catalog import ESTIMATORS
    from verl_efficiency.openrlhf.batch import Batch

    whole = torch.randint(150_000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    texts = tuple(f"question {row // GROUP}" for row in range(ROWS))
    mask_BL = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    batch = Batch(
        *(torch.arange(ROWS), mask_BL, torch.zeros(ROWS), texts, ("",) * ROWS, GROUP),
        *((whole[0, :1],) * ROWS, tuple(whole)),
    )
    settings = ESTIMATORS["kimi"].build_settings({}, "kimi")
    lengths = timed(lambda: mask_BL.sum(-1), 3)
    times = timed(lambda: batch.rollouts(settings), 2)
    return {key: round(times[key] - lengths[key], 3) for key in times}


def measure_average() -> dict:
    """GiB of the average in the main memory of the rank with the most, and of 8 ranks together."""
    hidden, inner, key, layers = 3584, 18944, 512, 28
    each = {
        "q": hidden**2 + hidden,
        "k": hidden * key + key,
        "v": hidden * key + key,
        "o": hidden**2,
        "norms": 2 * hidden,
    }
    each |= dict.fromkeys(("up", "gate", "down"), hidden * inner)
    sizes = {f"{layer}.{name}": size for layer in range(layers) for name, size in each.items()}
    sizes |= {"embedding": 152064 * hidden, "head": 152064 * hidden, "norm": hidden}
    ranks, total = 8, sum(sizes.values())
    try:
        from verl_efficiency.openrlhf.average import owners
    except ImportError:
        load = [total] * ranks
    else:
        owner_of = owners(sizes, ranks)
        load = [sum(size for name, size in sizes.items() if owner_of[name] == rank) for rank in range(ranks)]
    return {"gib_largest_rank": round(4 * max(load) / 2**30, 2), "gib_together": round(4 * sum(load) / 2**30, 2)}


def measure_logits() -> dict:
    """Memory beside the logits, and time, of the loss and its gradient. vLLM has no part in it, so a stub does."""
    for name in ("vllm", "vllm.inputs", "vllm.utils"):
        sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None), __version__="0.29.0")
    sys.path.insert(0, str(ROOT / "recipes" / "openrlhf" / "cpu"))
    import openrlhf_on_cpu  # noqa: F401
    import torch

    from verl_efficiency.methods.teacher import DistillationSettings
    from verl_efficiency.openrlhf.actor import EfficiencyPolicyLoss

    generator, vocabulary, width = torch.Generator().manual_seed(0), 151_936, 513
    logits = torch.randn(2, width, vocabulary, generator=generator).requires_grad_()
    mask = torch.ones(2, width - 1, dtype=torch.int64)
    loss = EfficiencyPolicyLoss()
    loss.settings, loss.logits = DistillationSettings(distillation_topk=K), logits
    ids = torch.arange(K).expand(width - 1, K).float()
    teacher = torch.randn(width - 1, K, generator=generator) - 12
    loss.targets = [torch.cat([torch.ones(width - 1, 1), ids, teacher], 1), torch.empty(0)]
    log_probs = torch.randn(2, width - 1, generator=generator, requires_grad=True)
    base = peak_gib()

    def work() -> None:
        loss._divergence(log_probs, log_probs.detach(), mask).sum().backward()

    times = timed(work)
    gradient = logits.nbytes / 2**30
    return {**times, "gib_beside_logits_and_gradient": round(peak_gib() - base - gradient, 2)}


def measure_ratio() -> dict:
    """The least and the largest ratio over 512 tokens with random logits."""
    import torch
    from tensordict import TensorDict
    from verl.utils.torch_functional import logprobs_from_logits

    from verl_efficiency.methods.teacher import DistillationSettings
    from verl_efficiency.verl.distillation_loss import DistillationLoss

    def one_row(values: torch.Tensor) -> torch.Tensor:
        return torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, len(values)]))

    generator, vocabulary, count = torch.Generator().manual_seed(0), 32_000, 512
    logits = (4 * torch.randn(count, vocabulary, generator=generator)).bfloat16()
    ids = torch.randint(vocabulary, (count,), generator=generator)
    old = logprobs_from_logits(logits, ids.roll(-1))
    fields = {
        "input_ids": ids,
        "distil_mask": torch.ones(count - 1, dtype=torch.bool),
        "distil_topk_ids": torch.arange(K, dtype=torch.int32).expand(count - 1, K).contiguous(),
        "distil_teacher_logps": torch.full((count - 1, K), -12.0),
    }
    data = TensorDict({name: one_row(values) for name, values in fields.items()}, batch_size=1)
    loss = DistillationLoss.__new__(DistillationLoss)  # only the logits are read here, so it needs no stock loss
    loss.settings = DistillationSettings(distillation_topk=K)
    ratio = (loss._from_logits(logits, data)["log_probs"][0].double() - old.double()).exp()
    return {"least": round(ratio.min().item(), 4), "largest": round(ratio.max().item(), 4)}


def measure_state() -> dict:
    """Bytes that the second checkpoint writes, and its time."""
    import tempfile

    from verl_efficiency.methods.routing.variance_routing import StoredResponses

    count, text = 20_000, "x" * 7_990
    state = StoredResponses()

    def store(numbers: range) -> None:
        for number in numbers:
            state.texts[f"{number:09}"], state.lengths[f"{number:09}"] = f"{number:010}{text}", 2000

    try:
        from verl_efficiency.adapter.state import StateFiles
    except ImportError:  # the older version writes everything into one file
        from verl_efficiency.adapter.state import dump

        def write(folder: Path) -> None:
            (folder / "verl_efficiency.json").write_text(json.dumps(dump({"variance_routing": state})))
    else:
        files = StateFiles()

        def write(folder: Path) -> None:
            files.write({"variance_routing": state}, folder)

    with tempfile.TemporaryDirectory() as parent:
        first, second = Path(parent) / "1", Path(parent) / "2"
        first.mkdir()
        second.mkdir()
        store(range(count * 9 // 10))
        write(first)
        store(range(count * 9 // 10, count))
        times = timed(lambda: write(second))
        found = [file.stat() for file in second.rglob("*") if file.is_file()]
        new = sum(one.st_size for one in found if one.st_nlink == 1)  # the others are links to files of the first
    return {**times, "mib_written": round(new / 2**20, 1)}


def measure_estimators() -> dict:
    """Least, median and largest ratio of 7 turns, in a process whose allocator does what it does by default."""
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    import verl_efficiency.verl.plugin  # noqa: F401

    scores = torch.zeros(ROWS, 1024)
    scores[::2, -1] = 1.0
    given = {
        "token_level_rewards": scores,
        "response_mask": torch.ones(ROWS, 1024, dtype=torch.int64),
        "index": np.repeat(np.arange(ROWS // GROUP), GROUP).astype(str).astype(object),
        "config": OmegaConf.create({"efficiency": {}}),
    }
    seconds = []
    for _ in range(8):
        for name in ("grpo_vectorized", "token_budget"):
            start = time.perf_counter()
            get_adv_estimator_fn(name)(**given)
            seconds.append(time.perf_counter() - start)
    ratios = sorted(ours / theirs for theirs, ours in list(zip(seconds[::2], seconds[1::2], strict=True))[1:])
    return {
        "least": round(ratios[0], 2),
        "median": round(statistics.median(ratios), 2),
        "largest": round(ratios[-1], 2),
    }


PARTS = {
    "read": measure_read,
    "prompts": measure_prompts,
    "targets": measure_targets,
    "names": measure_names,
    "average": measure_average,
    "logits": measure_logits,
    "ratio": measure_ratio,
    "state": measure_state,
    "estimators": measure_estimators,
}


def measured(part: str, tree: Path, python: str) -> dict:
    """The result of a part with the package of ``tree``, from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "1"}
    environment |= {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    command = [python, str(Path(__file__).resolve()), "--measure", part]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{part} with {tree}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def commit(tree: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument(
        "--openrlhf-python", default=sys.executable, help="an interpreter that has OpenRLHF, for logits"
    )
    parser.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "driver_cost.json")
    options = parser.parse_args()
    if options.measure:
        result = PARTS[options.measure]()
        print(json.dumps({**result, "process_gib": round(peak_gib(), 2)}))
        return
    trees = {**({"before": options.before.resolve()} if options.before else {}), "now": ROOT}
    result = json.loads(options.output.read_text()) if options.output.exists() else {"results": {}}
    result |= {
        "question": "what the adapters cost on the driver, and what they store and send",
        "rows": ROWS,
        "tokens": TOKENS,
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "machine": {
            "cpus": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
    }
    for part in options.parts.split(","):
        python = options.openrlhf_python if part == "logits" else sys.executable
        result["results"][part] = {name: measured(part, tree, python) for name, tree in trees.items()}
        print(part, json.dumps(result["results"][part], indent=1), flush=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
