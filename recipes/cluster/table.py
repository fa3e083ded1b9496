"""The settings of every recipe for real machines: models, machines, recipes. No code, only data.

``python -m recipes.cluster.launch`` prints this table with estimates of memory and time, and starts a recipe.
What a paper does not publish is our choice; the comment at each recipe says which is which.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Model:
    """A model of the hub, and of its config.json what the estimates need."""

    hub: str
    parameters: float
    layers: int
    hidden: int
    feed_forward: int
    kv_heads: int
    head_size: int = 128
    vocabulary: int = 151_936


@dataclass(frozen=True)
class Machine:
    """A cluster of equal GPUs; memory in GiB, bandwidth in TB/s, dense bf16 compute in TFLOP/s, as their makers state them."""

    gpus: int
    nodes: int
    memory: int
    bandwidth: float
    compute: float
    card: str


@dataclass(frozen=True)
class Recipe:
    """One launch: ``recipes/verl/train.sh METHOD`` with these variables and overrides.

    Attributes:
        method: its name, or that of a script of recipes/verl.
        model, machine: keys of the tables below.
        train, val: names of recipes/cluster/data.py.
        prompt, response: token limits.
        batch, group: prompts per step and rollouts per prompt.
        length: mean tokens of a response when training starts, for the estimate of the time only; a guess from the papers.
        lora: rank of the adapter; 0 trains all weights.
        tensor_parallel: GPUs that share one copy of the rollout model.
        vllm_share: share of a GPU's memory that vLLM takes during rollouts.
        variables: more variables of recipes/verl/_common.sh.
        overrides: more settings of verl.
    """

    about: str
    method: str
    model: str
    machine: str
    train: str
    val: str
    prompt: int
    response: int
    batch: int
    group: int
    lr: float
    steps: int
    length: int
    lora: int = 0
    tensor_parallel: int = 1
    vllm_share: float = 0.6
    variables: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


MODELS = {
    "qwen2-1.5b": Model("Qwen/Qwen2-1.5B", 1.54e9, 28, 1536, 8960, kv_heads=2),
    "qwen3-1.7b": Model("Qwen/Qwen3-1.7B", 1.72e9, 28, 2048, 6144, kv_heads=8),
    "r1-distill-1.5b": Model("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.78e9, 28, 1536, 8960, kv_heads=2),
    "justrl-1.5b": Model("hbx/JustRL-DeepSeek-1.5B", 1.78e9, 28, 1536, 8960, kv_heads=2),
    "qwen3-4b-thinking": Model("Qwen/Qwen3-4B-Thinking-2507", 4.02e9, 36, 2560, 9728, kv_heads=8),
    "qwen3-8b": Model("Qwen/Qwen3-8B", 8.19e9, 36, 4096, 12288, kv_heads=8),
    "qwen3-14b": Model("Qwen/Qwen3-14B", 14.77e9, 40, 5120, 17408, kv_heads=8),
}

MACHINES = {
    "1x24": Machine(1, 1, 24, 1.01, 165, "RTX 4090"),
    "1x80": Machine(1, 1, 80, 2.04, 312, "A100 80 GB"),
    "8x80": Machine(8, 1, 80, 2.04, 312, "A100 80 GB"),
    "2x8x80": Machine(8, 2, 80, 2.04, 312, "A100 80 GB"),
}

# Sampling at validation as in DeepSeek-R1 and SRPO; thinking off as in SRPO.
SAMPLED = tuple(
    f"actor_rollout_ref.rollout.val_kwargs.{setting}"
    for setting in ("do_sample=True", "temperature=0.6", "top_p=0.95", "n=16")
)
NO_THINKING = ("+data.apply_chat_template_kwargs.enable_thinking=False",)
WARM_UP = ("actor_rollout_ref.actor.optim.lr_warmup_steps=10",)

# Published of BCR (arXiv 2604.02322): models, 3,000 groups of 3 problems from DeepMath-103K with even mean difficulty, 5,120
# and 8,000 tokens per group. Batch, rollouts, learning rate and steps are our choice: 47 steps of 64 prompts are one epoch.
BCR = {"method": "batched_accuracy", "train": "deepmath_9k", "val": "aime25", "variables": {"PROBLEMS": "3"}}
BCR |= {"batch": 64, "group": 8, "lr": 1e-6, "steps": 470, "prompt": 2048, "overrides": SAMPLED}

# Published of S-GRPO and T-SPMO (arXiv 2504.20834): Qwen2-1.5B, LoRA, one GPU of 40 GB, SVAMP and multiplication of three-digit
# numbers, exact match. Everything else is our choice.
LORA_PAPER = {"model": "qwen2-1.5b", "machine": "1x24", "prompt": 256, "response": 512, "batch": 16, "group": 8}
LORA_PAPER |= {"lr": 1e-5, "steps": 500, "length": 150, "lora": 16, "vllm_share": 0.4}

RECIPES = {
    "token_budget_qwen3_1.7b_lora": Recipe(
        "start here with one gaming card",
        method="token_budget",
        model="qwen3-1.7b",
        machine="1x24",
        train="math",
        val="math500",
        prompt=512,
        response=3072,
        batch=32,
        group=8,
        lr=2e-5,
        steps=200,
        length=800,
        lora=32,
        vllm_share=0.45,
        overrides=NO_THINKING,
    ),
    "token_budget_r1_1.5b": Recipe(
        "a reasoning model on one large card",
        method="token_budget",
        model="r1-distill-1.5b",
        machine="1x80",
        train="dapo",
        val="aime25",
        prompt=1024,
        response=8192,
        batch=32,
        group=8,
        lr=1e-6,
        steps=300,
        length=5000,
        vllm_share=0.5,
        overrides=SAMPLED,
    ),
    "token_budget_r1_1.5b_8gpus": Recipe(
        "the same at the size at which length papers report R1-Distill-1.5B",
        method="token_budget",
        model="r1-distill-1.5b",
        machine="8x80",
        train="dapo",
        val="aime25",
        prompt=1024,
        response=16384,
        batch=128,
        group=8,
        lr=1e-6,
        steps=300,
        length=7000,
        overrides=SAMPLED,
    ),
    "bcr_justrl_1.5b": Recipe(
        "BCR, the paper's model, data and limit, 1.5B",
        model="justrl-1.5b",
        machine="8x80",
        response=5120,
        length=4600,
        **BCR,
    ),
    "bcr_qwen3_4b_thinking": Recipe(
        "BCR, the paper's model, data and limit, 4B",
        model="qwen3-4b-thinking",
        machine="8x80",
        response=8000,
        length=7600,
        **BCR,
    ),
    # Published of SRPO (arXiv 2604.02288): model, limits, batch 32, 8 rollouts, lr 5e-6, warm-up 10, thinking off, 8 GPUs, and
    # what the recipe of the method sets. Its data (science questions, tool use) is not among ours: DAPO-Math-17k is.
    "srpo_qwen3_8b": Recipe(
        "SRPO, the paper's model and settings, on mathematics",
        method="sample_routing",
        model="qwen3-8b",
        machine="8x80",
        train="dapo",
        val="aime25",
        prompt=2048,
        response=8192,
        batch=32,
        group=8,
        lr=5e-6,
        steps=500,
        length=1500,
        vllm_share=0.5,
        overrides=(*NO_THINKING, *WARM_UP, *SAMPLED),
    ),
    "token_budget_qwen3_14b_2nodes": Recipe(
        "two nodes of eight GPUs on a Ray cluster",
        method="token_budget",
        model="qwen3-14b",
        machine="2x8x80",
        train="dapo",
        val="aime25",
        prompt=1024,
        response=8192,
        batch=128,
        group=8,
        lr=1e-6,
        steps=200,
        length=5000,
        tensor_parallel=2,
        overrides=SAMPLED,
    ),
    "s_grpo_svamp": Recipe(
        "S-GRPO, the paper's model and task", method="s_grpo", train="svamp", val="svamp_test", **LORA_PAPER
    ),
    "t_spmo_svamp": Recipe(
        "T-SPMO, the paper's model and task", method="t_spmo", train="svamp", val="svamp_test", **LORA_PAPER
    ),
    "s_grpo_multiplication": Recipe(
        "S-GRPO, the paper's model and task",
        method="s_grpo",
        train="multiplication",
        val="multiplication_test",
        **LORA_PAPER,
    ),
    "t_spmo_multiplication": Recipe(
        "T-SPMO, the paper's model and task",
        method="t_spmo",
        train="multiplication",
        val="multiplication_test",
        **LORA_PAPER,
    ),
}
