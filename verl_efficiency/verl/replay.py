"""Replay for ``t_spmo`` on verl's V1 trainer: ``+algorithm.efficiency.replay=8``.

After each step some rollouts are chosen for a restart (``methods/selection/replay.py``). A restart is a prompt of the next
step: the same problem, followed by the first tokens of the chosen rollout. Generation continues from there ``rollout.n``
times, and the continuations are a group of their own. To verl the prefix is part of the prompt. Lengths, mask, credit and
gradient, and ``extra_info.response_tokens``, are therefore those of the continuation; only the reward reads the whole text. A
restart may be restarted again, with a longer prefix.

verl's own means suffice:

* ``data.gen_batch_size=1`` (set at start-up) lets the trainer ask the data loader for fewer prompts in a step with restarts. No
  prompt is skipped or repeated, and the number of rollouts stays the same. The number of steps per epoch stays too, so the
  last prompts of an epoch move into the next one.
* ``agent_name`` of a row says which agent loop runs it. Restarts name ours (``replay_loop.py``).
* ``extra_info.replay_prefix`` (token ids) tells agent loop and reward manager (``reward.reward_manager.name=efficiency``).

Validation and the first step have no restarts. Restarts are not saved: the first step after a resume has none, and says so.
"""

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.selection.replay import replay_prefixes
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings
from verl_efficiency.verl.batch import Batch
from verl_efficiency.verl.replay_loop import AGENT

PLAIN_AGENT = "single_turn_agent"


class Replay:
    """The driver's side: chooses restarts after a step, and puts them into the next batch.

    Args:
        settings: of the method.
        batch_size: prompts per step; at most half of them are restarts.
        prompt_limit: the most tokens of problem and prefix together.
    """

    def __init__(self, settings: TSpmoSettings, batch_size: int, prompt_limit: int) -> None:
        self.settings = dataclasses.replace(settings, replay=min(settings.replay, batch_size // 2))
        self.batch_size = batch_size
        self.prompt_limit = prompt_limit
        self.prompts: dict[str, TensorDict] = {}  # the prompts of this step: uid → row
        self.restarts: list[tuple[TensorDict, list[int]]] = []
        self.metrics: dict[str, float] = {}
        self.too_long = 0

    def next_batch(self, fetch: Callable[[int], TensorDict]) -> TensorDict:
        """The prompts of a step; ``fetch(number)`` takes that many from the data loader."""
        fresh = fetch(self.batch_size - len(self.restarts))
        tu.assign_non_tensor_stack(fresh, "agent_name", [PLAIN_AGENT] * len(fresh))
        step = tu.pop(fresh, "global_steps")
        batch = tu.concat_tensordict([fresh, *(_restart(row, prefix) for row, prefix in self.restarts)])
        tu.assign_non_tensor_data(batch, "global_steps", step)
        lengths = [len(prefix) for _, prefix in self.restarts]
        self.metrics = {
            "t_spmo/replayed_prompts": float(len(lengths)),
            "t_spmo/replay_prefix_tokens": sum(lengths) / max(len(lengths), 1),
            "t_spmo/replay_too_long": float(self.too_long),
        }
        self.restarts, self.prompts = [], {}
        self.remember(batch)
        return batch

    def remember(self, batch: TensorDict) -> None:
        """These prompts are used in this step."""
        uids = tu.get(batch, "uid")
        self.prompts.update({uid: tu.index_select_tensor_dict(batch, [row]) for row, uid in enumerate(uids)})

    def choose(self, rows: Batch, step: int) -> None:
        """Choose restarts among the rollouts of this step; ``rows`` are in the order of their keys and have prompts."""
        place = {uid: number for number, uid in enumerate(self.prompts)}
        # by the order of the prompts, since uids are random; padding has a uid that no prompt has
        order = sorted(
            (row for row, uid in enumerate(rows.uids_B) if uid in place), key=lambda row: place[str(rows.uids_B[row])]
        )
        rollouts = Rollouts.build(rows.scores_B[order], rows.lengths_B[order], rows.uids_B[order])
        responses = tuple(rows.responses_B[row] for row in order)
        chosen, length = replay_prefixes(dataclasses.replace(rollouts, responses_B=responses), self.settings, step)
        self.too_long = 0
        for number, tokens in zip(chosen.tolist(), length.tolist(), strict=True):
            row = order[number]
            if len(rows.prompts_B[row]) + tokens > self.prompt_limit:
                self.too_long += 1
                continue
            prompt = self.prompts[str(rows.uids_B[row])]
            before = tu.get(prompt, "extra_info")[0].get("replay_prefix", [])
            self.restarts.append((prompt, [*before, *responses[number][:tokens].tolist()]))


def _restart(prompt: TensorDict, prefix: list[int]) -> TensorDict:
    """One row: the same problem under a new uid, for our agent loop."""
    row = prompt.exclude("global_steps")
    tu.assign_non_tensor_stack(row, "uid", [str(uuid.uuid4())])
    tu.assign_non_tensor_stack(row, "agent_name", [AGENT])
    tu.assign_non_tensor_stack(row, "extra_info", [{**tu.get(prompt, "extra_info")[0], "replay_prefix": prefix}])
    return row


def check(config: Any) -> Iterator[str]:
    """What in a composed configuration rules out replay, one line each."""
    rollout = config.actor_rollout_ref.rollout
    needed = [
        ("actor_rollout_ref.rollout.agent.default_agent_loop", rollout.agent.default_agent_loop, (PLAIN_AGENT,),
         "turns and tools cannot be restarted"),
        ("actor_rollout_ref.rollout.multi_turn.enable", rollout.multi_turn.enable, (False,),
         "turns and tools cannot be restarted"),
        ("reward.reward_manager.name", config.reward.reward_manager.name, ("efficiency",),
         "it gives the reward the whole text; verl's reward managers give it only the continuation"),
        ("reward.reward_model.enable", config.reward.reward_model.enable, (False,),
         "a reward model is not given the whole text"),
        ("data.gen_batch_size", config.data.get("gen_batch_size"), (1, None), "restarts replace single prompts"),
        ("skip.rollout_tq.enable", (config.get("skip") or {}).get("rollout_tq", {}).get("enable", False), (False,),
         "stored rollouts have no restarts"),
    ]  # fmt: skip
    for key, value, allowed, reason in needed:
        if value not in allowed:
            yield f"{key}: algorithm.efficiency.replay needs {allowed[0]}, not {value}: {reason}"
    yield from _check_columns(config.data)


def _check_columns(data: Any) -> Iterator[str]:
    import pyarrow.parquet as pq

    from verl_efficiency.verl.checks.files import local_files

    for file in local_files(data.train_files):
        if file.suffix == ".parquet":
            columns = set(pq.read_schema(file).names)
            for column, reason in (
                ("agent_name", "restarts use their own agent loop"),
                *(
                    (data.get(f"{kind}_key"), "prompts with media cannot be restarted")
                    for kind in ("image", "video", "audio")
                ),
            ):
                if column in columns:
                    yield f"data.train_files: algorithm.efficiency.replay needs files without {column} ({file}): {reason}"
