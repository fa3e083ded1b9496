"""How much memory and time a recipe needs, by formula. Nothing here was measured.

Memory of one GPU, with P parameters, W GPUs, T tokens of a micro-batch, h hidden and f feed-forward units, l layers, V tokens
in the vocabulary, b = 2 bytes (bf16)::

    states      16 P / W          fp32 weights, gradients and two Adam moments, sharded by FSDP over all GPUs
                4 P / W + 16 A    with LoRA: fp32 base weights, and A = 2 · rank · l · (8 h + 3 f) adapter weights as above
                + 4 P / W         the average that a self-teacher keeps
    activations b T (l h + 8 h + 3 f)   with gradient checkpointing: the input of every layer, and one layer again
    logits      (b + 4 + b) T V   in bf16, in fp32 for the log-probabilities, and their gradient
    rollout     share · memory    what vLLM takes; it gives its memory back during the update
    peak        2 GiB (CUDA, NCCL) + states + the larger of rollout and activations + logits

Time of one step, with N = batch · group rollouts of L tokens on average, R = W / tensor_parallel rollout replicas and
c = min(256, N / R, what the KV cache of the rollout holds) rollouts at once::

    decode step  (b P + c · (prompt + L/2) · kv) / (tensor_parallel · 60 % of the bandwidth),   kv = 2 b l · heads · size
    rollout      N / (R c) · L decode steps, then (response − L) steps of a single rollout: the longest one ends alone
    update       tokens · 10 P / (W · 40 % of the compute): 2 P forward for the old log-probabilities, 8 P for the update with
                 recomputation; 2 P more for a self-teacher

The 60 % and 40 % are our assumption; attention is left out. Validation, saving and start-up come on top.
"""

from dataclasses import dataclass

from recipes.cluster.table import MACHINES, MODELS, Machine, Model, Recipe

GIB, BF16, FP32 = 2**30, 2, 4
TEACHERS = ("sample_routing", "self_distillation")
MOST_AT_ONCE = 256  # verl's default of rollout.max_num_seqs


@dataclass(frozen=True)
class Estimate:
    """Memory of one GPU in GiB, time of one step in seconds; ``fits`` says whether the peak leaves a tenth of the card free."""

    states: float
    update: float
    rollout: float
    peak: float
    rollout_seconds: float
    update_seconds: float
    fits: bool

    @property
    def step_seconds(self) -> float:
        """Rollout and update, which follow each other."""
        return self.rollout_seconds + self.update_seconds


def micro_batch(recipe: Recipe) -> int:
    """Tokens of a micro-batch: one longest row, and for a self-teacher one with the answer of a sibling in its prompt."""
    return (recipe.prompt + recipe.response) * (2 if recipe.method in TEACHERS else 1)


def estimate(recipe: Recipe) -> Estimate:
    """The formulas above."""
    model, machine = MODELS[recipe.model], MACHINES[recipe.machine]
    world = machine.gpus * machine.nodes
    states = _states(recipe, model, world) / GIB
    tokens = micro_batch(recipe)
    activations = BF16 * tokens * (model.layers * model.hidden + 8 * model.hidden + 3 * model.feed_forward) / GIB
    logits = (BF16 + FP32 + BF16) * tokens * model.vocabulary / GIB
    rollout = recipe.vllm_share * machine.memory
    peak = 2 + states + max(rollout, activations + logits)
    rollout_seconds, update_seconds = _seconds(recipe, model, machine)
    return Estimate(
        states=states,
        update=activations + logits,
        rollout=rollout,
        peak=peak,
        rollout_seconds=rollout_seconds,
        update_seconds=update_seconds,
        fits=peak <= 0.9 * machine.memory,
    )


def _states(recipe: Recipe, model: Model, world: int) -> float:
    teacher = FP32 * model.parameters / world if recipe.method in TEACHERS else 0
    if recipe.lora:
        adapter = 2 * recipe.lora * model.layers * (8 * model.hidden + 3 * model.feed_forward)
        return FP32 * model.parameters / world + 16 * adapter + teacher
    return 16 * model.parameters / world + teacher


def _seconds(recipe: Recipe, model: Model, machine: Machine) -> tuple[float, float]:
    world = machine.gpus * machine.nodes
    shared = recipe.tensor_parallel
    rollouts = recipe.batch * recipe.group
    per_replica = rollouts / (world / shared)
    kv = 2 * BF16 * model.layers * model.kv_heads * model.head_size
    cache = recipe.vllm_share * machine.memory * GIB * shared - BF16 * model.parameters
    at_once = min(MOST_AT_ONCE, per_replica, cache / kv / (recipe.prompt + recipe.length))
    speed = shared * 0.6 * machine.bandwidth * 1e12
    decode = (BF16 * model.parameters + at_once * (recipe.prompt + recipe.length / 2) * kv) / speed
    alone = BF16 * model.parameters / speed
    rollout = per_replica / at_once * recipe.length * decode + (recipe.response - recipe.length) * alone
    passes = 12 if recipe.method in TEACHERS else 10
    tokens = rollouts * (recipe.prompt / 2 + recipe.length)  # prompts are far shorter than their limit
    return rollout, tokens * passes * model.parameters / (world * 0.4 * machine.compute * 1e12)
