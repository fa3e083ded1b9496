"""verl's own trainer in one process: its trainer class, worker, data set, loss and reward manager, and our estimators.

    python -m benchmarks.comparison.in_process <overrides of verl>

A tiny model on a CPU spends nine tenths of a step between verl's processes: Ray calls, TransferQueue and an agent loop per
rollout. This launch leaves them out. ``PPOTrainerSync.fit`` runs unchanged on four stand-ins:

* :class:`Queue` is TransferQueue in a dictionary;
* :class:`Workers` calls the actor's worker directly, with one rank: verl's ``ActorRolloutRefWorker``, or ours for a method with
  a self-teacher;
* :class:`Rollouts` generates as the rollout ``hf`` does, with the same random numbers: a response depends on the weights, the
  prompt and its seed alone. It answers as verl's single-turn agent loop does, and asks verl's reward manager for the score;
* :class:`Weights` copies the weights to the rollout after a step.

So the training curve is that of ``main_ppo`` up to rounding. ``python benchmarks/compare.py agree`` shows it.
"""

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["VERL_PLATFORM"] = "cpu"  # read when verl is imported
os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}

import numpy as np
import torch
import transfer_queue
import verl  # noqa: F401  # loads the plugin
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from transformers import AutoModelForCausalLM
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.single_controller.ray.base import _unwrap_ray_remote
from verl.trainer.ppo.utils import Role, need_critic, need_reference_policy
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.config import validate_config
from verl.workers.engine_workers import ActorRolloutRefWorker

from verl_efficiency.evaluation.sampling import Completion, Draw, generate
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.settings import require
from verl_efficiency.verl.compose import compose
from verl_efficiency.verl.cpu.hf_server import load_weights, next_seed, read_eos_ids
from verl_efficiency.verl.replay_loop import AGENT
from verl_efficiency.verl.trainer import EfficiencyTrainer


class Queue:
    """TransferQueue's functions on a dictionary: partition → key → field → value of the row."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.tags: dict[str, dict[str, dict[str, Any]]] = {}
        for name in ("kv_batch_put", "kv_batch_get", "kv_list", "kv_clear"):
            setattr(transfer_queue, name, getattr(self, name))

    def kv_batch_put(
        self, keys: Sequence[str], partition_id: str, fields: TensorDict | None = None, tags: Any = None
    ) -> KVBatchMeta:
        rows = self.rows.setdefault(partition_id, {})
        for name in fields.keys() if fields is not None else ():
            values = fields[name]
            for key, value in zip(keys, values.unbind() if isinstance(values, torch.Tensor) else values, strict=True):
                rows.setdefault(key, {})[name] = value
        for key, tag in zip(keys, tags or (), strict=False):
            self.tags.setdefault(partition_id, {}).setdefault(key, {}).update(tag)
        known = self.tags.get(partition_id, {})
        return KVBatchMeta(keys=list(keys), partition_id=partition_id, tags=[known.get(key, {}) for key in keys])

    def kv_batch_get(self, keys: Sequence[str], partition_id: str, select_fields: Any = None) -> TensorDict:
        rows = [self.rows[partition_id][key] for key in keys]
        names = [name for name in select_fields or rows[0] if all(name in row for row in rows)]
        return TensorDict({name: packed([row[name] for row in rows]) for name in names}, batch_size=len(rows))

    def tensors(self, meta: KVBatchMeta) -> TensorDict:
        """What a worker reads: the tensors among the fields that ``meta`` names, or all, and the settings of the call."""
        first = self.rows[meta.partition_id][meta.keys[0]]
        names = [name for name in meta.fields or first if isinstance(first[name], torch.Tensor)]
        data = self.kv_batch_get(meta.keys, meta.partition_id, names)
        tu.assign_non_tensor(data, **meta.extra_info)
        return data

    def kv_list(self, partition_id: str | None = None) -> dict[str, dict[str, Any]]:
        names = [partition_id] if partition_id else list(self.rows)
        return {name: {key: self.tags[name].get(key, {}) for key in self.rows.get(name, {})} for name in names}

    def kv_clear(self, keys: Sequence[str], partition_id: str) -> None:
        for table in (self.rows, self.tags):
            for key in keys:
                table.get(partition_id, {}).pop(key, None)


def packed(values: Sequence[Any]) -> Any:
    """The rows of one field, as TransferQueue returns them."""
    if isinstance(values[0], torch.Tensor):
        if values[0].dim() == 0:
            return torch.stack(list(values))
        return torch.nested.as_nested_tensor(list(values), layout=torch.jagged)
    return NonTensorStack(*values)


class Workers:
    """verl's worker group with one worker, in this process."""

    def __init__(self, worker: type[ActorRolloutRefWorker], config: Any, queue: Queue) -> None:
        self.worker: Any = worker(config.actor_rollout_ref, role="actor")
        self.worker.init_model()
        self.queue = queue
        self._dispatch_info = {"actor": [0]}

    def compute_log_prob(self, batch: KVBatchMeta) -> KVBatchMeta:
        return self._put(batch, self.worker.compute_log_prob(self.queue.tensors(batch)))

    def update_actor(self, batch: KVBatchMeta) -> TensorDict:
        return self.worker.update_actor(self.queue.tensors(batch))

    def start_distillation(self, settings: DistillationSettings) -> None:
        self.worker.start_distillation(settings)

    def teacher_log_probs(self, batch: KVBatchMeta) -> KVBatchMeta:
        return self._put(batch, self.worker.teacher_log_probs(self.queue.tensors(batch)))

    def update_teacher(self) -> None:
        self.worker.update_teacher()

    def _put(self, batch: KVBatchMeta, output: TensorDict) -> KVBatchMeta:
        """Write the tensors that a worker returned for the rows of ``batch``."""
        names = [name for name, value in output.items() if isinstance(value, torch.Tensor)]
        self.queue.kv_batch_put(batch.keys, batch.partition_id, output.select(*names))
        return batch

    def weights(self) -> Mapping[str, torch.Tensor]:
        return dict(self.worker.actor.engine.get_per_tensor_param()[0])


class Weights:
    """verl's checkpoint manager: hands the weights to the rollout."""

    def __init__(self, workers: Workers, rollouts: "Rollouts") -> None:
        self.workers, self.rollouts = workers, rollouts

    def update_weights(self, global_steps: int) -> None:
        load_weights(self.rollouts.model, self.workers.weights())
        self.rollouts.global_steps = global_steps
        self.rollouts.asked_before.clear()

    def sleep_replicas(self) -> None:
        """Nothing to free."""


class Rollouts:
    """verl's agent loops, the rollout server and the reward worker."""

    reward_loop_worker_handles = ()  # not None: rewards come with the rollouts

    def __init__(self, config: Any, tokenizer: Any, queue: Queue) -> None:
        self.tokenizer, self.queue = tokenizer, queue
        rollout = config.actor_rollout_ref.rollout
        self.limit, self.seed = int(rollout.response_length), int(rollout.seed)
        self.sampling = {
            validate: (int(one.n), Draw(float(one.temperature), float(one.top_p), int(one.top_k)))
            for validate, one in ((False, rollout), (True, rollout.val_kwargs))
        }
        self.model = AutoModelForCausalLM.from_pretrained(config.actor_rollout_ref.model.path, dtype=torch.float32)
        self.model.eval()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.rewards = RewardLoopWorker(config)
        self.rewards.reward_manager.loop = self.loop
        self.global_steps = 0
        self.asked_before: Counter[tuple[int, ...]] = Counter()
        self.eos_ids = read_eos_ids(self.model.generation_config.eos_token_id, tokenizer.eos_token_id)

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Generate, score, and put the rows into the queue."""
        validate = bool(tu.get(prompts, "validate", False))
        count, draw = self.sampling[validate]
        columns = {name: values.tolist() for name, values in prompts.items() if isinstance(values, NonTensorStack)}
        rows: list[dict[str, Any]] = []
        asked: list[Completion] = []
        for place in range(len(prompts)):
            row = {name: values[place] for name, values in columns.items()}
            ids = self.tokenizer.apply_chat_template(
                list(row["raw_prompt"]), add_generation_prompt=True, tokenize=True, return_dict=False
            )
            if row.get("agent_name") == AGENT:  # a restart of t_spmo's replay
                ids = [*ids, *row["extra_info"]["replay_prefix"]]
            for session in range(count):
                seed = next_seed((self.seed, 0, self.global_steps), ids, self.asked_before)
                asked.append(Completion(list(ids), self.limit, seed))
                rows.append({**row, "session": session})
        for _ in generate(self.model, asked, draw, eos_ids=self.eos_ids, pad_id=self.tokenizer.pad_token_id or 0):
            pass
        scored = self.loop.run_until_complete(
            asyncio.gather(*(self.score(row, one) for row, one in zip(rows, asked, strict=True)))
        )
        fields = [self.fields(row, one, score) for row, one, score in zip(rows, asked, scored, strict=True)]
        partition = self.queue.rows.setdefault("val" if validate else "train", {})
        tags = self.queue.tags.setdefault("val" if validate else "train", {})
        for row, field in zip(rows, fields, strict=True):
            key = f"{row['uid']}_{row['session']}_0"
            partition[key] = field
            lengths = len(field["prompts"]), len(field["responses"])
            tags[key] = {"status": "success", "prompt_len": lengths[0], "response_len": lengths[1]}
            tags[key] |= {"seq_len": sum(lengths), "global_steps": self.global_steps}
            tags[key] |= {"min_global_steps": self.global_steps, "max_global_steps": self.global_steps}

    async def score(self, row: Mapping[str, Any], one: Completion) -> dict[str, Any]:
        """What verl's reward manager returns for a response."""
        prompt, response = torch.tensor([one.prompt]), torch.tensor([one.tokens])
        ids = torch.cat([prompt, response], dim=1)
        tensors = {"prompts": prompt, "responses": response, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        others = {name: np.array([None], dtype=object) for name in row}
        for name, value in row.items():
            others[name][0] = value
        others["tool_extra_fields"] = np.array([{}], dtype=object)
        others["prompt_len"], others["response_len"] = np.array([len(one.prompt)]), np.array([len(one.tokens)])
        return await self.rewards.reward_manager.run_single(DataProto(TensorDict(tensors, batch_size=1), others))

    def fields(self, row: Mapping[str, Any], one: Completion, score: Mapping[str, Any]) -> dict[str, Any]:
        """A row as verl's agent loop writes it."""
        prompt, response = torch.tensor(one.prompt), torch.tensor(one.tokens)
        scores = torch.zeros(len(one.tokens))
        scores[-1] = score["reward_score"]
        ids = torch.cat([prompt, response])
        return {
            **row,
            **{"prompts": prompt, "responses": response, "input_ids": ids, "position_ids": torch.arange(len(ids))},
            **{"response_mask": torch.ones_like(response), "loss_mask": torch.ones_like(response)},
            **{"rollout_log_probs": torch.tensor(one.log_probs), "rm_scores": scores, "num_turns": 2},
            "extra_fields": {"reward_extra_info": score["reward_extra_info"]},
        }


class Buffer:
    """verl's replay buffer: everything is there at once."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        del global_steps, batch_size
        tags = self.queue.tags[partition_id]
        keys = list(self.queue.rows[partition_id])
        return KVBatchMeta(keys=keys, partition_id=partition_id, tags=[tags[key] for key in keys]), {}


class InProcess(PPOTrainerSync):
    """verl's synchronous trainer on the stand-ins."""

    def _build_replay_buffer(self) -> Buffer:
        self.queue = Queue()
        return Buffer(self.queue)

    def _setup(self) -> None:
        require(not self.use_critic, "use_critic", self.use_critic, "False in one process")
        require(not self.use_reference_policy, "use_kl_loss", self.use_reference_policy, "False in one process")
        resume = self.config.trainer.resume_mode
        require(resume == "disable", "trainer.resume_mode", resume, "disable in one process")
        self._init_tokenizer()
        self._init_dataloader()
        self._init_dump_executor()
        self._init_resource_pool_mgr()
        worker = _unwrap_ray_remote(self.role_worker_mapping[Role.ActorRollout])
        self.actor_rollout_wg = Workers(worker, self.config, self.queue)
        self.agent_loop_manager = self.reward_loop_manager = Rollouts(self.config, self.tokenizer, self.queue)
        self.checkpoint_manager = Weights(self.actor_rollout_wg, self.agent_loop_manager)
        self._load_checkpoint()

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """Log the share of the response tokens that have a gradient: their advantage is not 0."""
        batch = super()._compute_advantage(batch, metrics)
        rows = self.queue.rows[batch.partition_id]
        advantages_N = torch.cat([rows[key]["advantages"] for key in batch.keys])
        metrics["advantages/tokens_with_gradient"] = float((advantages_N != 0).double().mean())
        return batch

    def _reissue_inflight_prompts(self, partition_id: str = "train") -> int:
        return 0

    def _save_checkpoint(self) -> None:
        """The model alone, where verl writes it."""
        folder = (
            Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}" / "actor" / "huggingface"
        )
        load_weights(self.agent_loop_manager.model, self.actor_rollout_wg.weights())
        self.agent_loop_manager.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder.parents[2] / "latest_checkpointed_iteration.txt").write_text(str(self.global_steps))


class EfficiencyInProcess(EfficiencyTrainer, InProcess):
    """Our trainer ``efficiency_sync`` on the stand-ins."""

    verls_mode = "sync"


def configuration(overrides: list[str]) -> Any:
    """verl's configuration, checked by verl and by us."""
    config = compose([], overrides)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    return config


def one_rank() -> None:
    """What Ray would set for a process group of one worker."""
    torch.set_num_threads(1)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        os.environ["MASTER_PORT"] = str(one.getsockname()[1])


def main(overrides: list[str]) -> None:
    """Train with verl's ``overrides``."""
    one_rank()
    config = configuration(overrides)
    ours = config.trainer.v1.trainer_mode == "efficiency_sync"
    trainer = (EfficiencyInProcess if ours else InProcess)(config)
    trainer.init()
    trainer.fit(trainer.agent_loop_manager)


if __name__ == "__main__":
    main(sys.argv[1:])
