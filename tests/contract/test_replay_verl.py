"""Replay of t_spmo beside verl: batches, the agent loop's prompt, the reward's text, and what is refused at start-up."""

import asyncio

import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="verl 0.8 has no V1 trainer")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils import tensordict_utils as tu

from tests.contract.test_reward_manager import EOS, model, reward  # noqa: F401  # fixtures
from tests.contract.test_start_up import launch, refusal  # noqa: F401  # fixtures
from verl_efficiency.methods.selection.t_spmo import TSpmoSettings
from verl_efficiency.verl.batch import Batch
from verl_efficiency.verl.replay import Replay
from verl_efficiency.verl.replay_loop import AGENT, ReplayAgentLoop

REPLAY = (
    "algorithm.adv_estimator=t_spmo",
    "trainer.v1.trainer_mode=efficiency_sync",
    "reward.reward_manager.name=efficiency",
    "+algorithm.efficiency.replay=2",
)


class Loader:
    """Prompts 0, 1, 2 …, as the trainer's ``_next_train_batch`` hands them out."""

    def __init__(self):
        self.given = self.step = 0

    def __call__(self, number):
        self.step += 1
        numbers = range(self.given, self.given + number)
        self.given += number
        batch = tu.get_tensordict(
            {
                "uid": [f"uid{one}" for one in numbers],
                "raw_prompt": [[{"role": "user", "content": str(one)}] for one in numbers],
                "extra_info": [{"index": one} for one in numbers],
                "dummy_tensor": torch.zeros(number, 1),
            }
        )
        tu.assign_non_tensor_data(batch, "global_steps", self.step)
        return batch


def rolled_out(uids, responses, prompt_tokens=5):
    """Two rollouts per prompt, the first right, in the order of their keys."""
    uids_B = np.repeat(np.array(sorted(uids), dtype=object), 2)
    rows = len(uids_B)
    ids = tuple(torch.tensor(tokens) for tokens in responses) * (rows // 2)
    return Batch(
        keys=tuple(f"{uid}_{row % 2}_0" for row, uid in enumerate(uids_B)),
        uids_B=uids_B,
        real_B=(True,) * rows,
        scores_B=torch.tensor([1.0, 0.0] * (rows // 2)),
        responses_B=ids,
        masks_B=tuple(torch.ones_like(one) for one in ids),
        reward_infos=({},) * rows,
        prompts_B=(torch.zeros(prompt_tokens, dtype=torch.int64),) * rows,
    )


def column(batch, name):
    return list(tu.get(batch, name))


def test_restarts_take_the_place_of_new_prompts():
    loader, replay = Loader(), Replay(TSpmoSettings(replay=8), batch_size=4, prompt_limit=20)
    first = replay.next_batch(loader)
    assert column(first, "uid") == ["uid0", "uid1", "uid2", "uid3"]
    assert column(first, "agent_name") == ["single_turn_agent"] * 4
    assert replay.metrics["t_spmo/replayed_prompts"] == 0

    replay.choose(rolled_out(column(first, "uid"), [[7, 8, 5, EOS], [7, 8, 6, EOS]]), step=1)
    second = replay.next_batch(loader)
    assert len(second) == 4  # of which never more than half are restarts
    assert loader.given == 6
    assert column(second, "agent_name") == ["single_turn_agent"] * 2 + [AGENT] * 2
    assert tu.get(second, "global_steps") == 2
    assert replay.metrics == {
        "t_spmo/replayed_prompts": 2,
        "t_spmo/replay_prefix_tokens": 2,
        "t_spmo/replay_too_long": 0,
    }
    for row in (2, 3):
        info = column(second, "extra_info")[row]
        assert info["replay_prefix"] == [7, 8]
        assert column(second, "raw_prompt")[row][0]["content"] == str(info["index"])  # the same problem
        assert column(second, "uid")[row] not in column(first, "uid")
    assert all(
        "replay_prefix" not in info for info in [*column(first, "extra_info"), *column(second, "extra_info")[:2]]
    )

    only_restarts = column(second, "uid")[2:]
    replay.choose(rolled_out(only_restarts, [[3, 1, EOS], [3, 2, EOS]], prompt_tokens=7), step=2)
    third = replay.next_batch(loader)
    assert [info["replay_prefix"] for info in column(third, "extra_info")[2:]] == [[7, 8, 3]] * 2  # the prefix grows


def test_what_does_not_fit_is_counted_and_left_out():
    loader, replay = Loader(), Replay(TSpmoSettings(replay=2), batch_size=4, prompt_limit=6)
    first = replay.next_batch(loader)
    replay.choose(rolled_out(column(first, "uid"), [[7, 8, 5, EOS], [7, 8, 6, EOS]]), step=1)
    second = replay.next_batch(loader)
    assert column(second, "uid") == ["uid4", "uid5", "uid6", "uid7"]
    assert replay.metrics["t_spmo/replay_too_long"] == 2


def test_padding_and_unknown_rows_are_never_restarted():
    loader, replay = Loader(), Replay(TSpmoSettings(replay=2), batch_size=4, prompt_limit=20)
    replay.next_batch(loader)
    replay.choose(rolled_out(["pad-1", "pad-2"], [[7, 8, 5, EOS], [7, 8, 6, EOS]]), step=1)
    assert replay.restarts == []


def test_the_draw_does_not_depend_on_the_random_uids():
    drawn = []
    for names in ("abcdefgh", "hgfedcba"):
        loader, replay = Loader(), Replay(TSpmoSettings(replay=2), batch_size=8, prompt_limit=20)
        batch = replay.next_batch(loader)
        tu.assign_non_tensor_stack(batch, "uid", list(names))
        replay.prompts.clear()
        replay.remember(batch)
        replay.choose(rolled_out(names, [[7, 8, 5, EOS], [7, 8, 6, EOS]]), step=1)
        drawn.append([tu.get(row, "extra_info")[0]["index"] for row, _ in replay.restarts])
    assert drawn[0] == drawn[1]


def test_the_agent_loop_puts_the_prefix_behind_the_prompt(monkeypatch):
    assert _agent_loop_registry[AGENT]["_target_"] == "verl_efficiency.verl.replay_loop.ReplayAgentLoop"

    async def initial(self, *arguments, **options):
        return [1, 2, 3]

    async def run(self, sampling_params, **row):
        return await self.ct_build_initial_tokens(row["raw_prompt"])

    monkeypatch.setattr(SingleTurnAgentLoop, "ct_build_initial_tokens", initial)
    monkeypatch.setattr(SingleTurnAgentLoop, "run", run)
    loop = object.__new__(ReplayAgentLoop)  # its constructor needs a rollout server
    assert asyncio.run(loop.run({}, raw_prompt=[], extra_info={"replay_prefix": [7, 8]})) == [1, 2, 3, 7, 8]


def test_the_reward_is_given_the_whole_text_and_the_cost_of_the_rest(reward):  # noqa: F811
    told = reward([6, 6, EOS], prompts=[[19, 20, 5, 7]], extra_info={"index": 7, "replay_prefix": [5, 7]})
    assert told["text"].split() == ["3", "5", "4", "4"]
    assert (told["response_tokens"], told["truncated"]) == (3, False)


def test_prompts_come_one_by_one(launch):  # noqa: F811
    assert launch(*REPLAY).data.gen_batch_size == 1
    assert launch(*REPLAY[:3]).data.gen_batch_size is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent", "needs single_turn_agent, not tool_agent"),
        ("actor_rollout_ref.rollout.multi_turn.enable=True", "needs False, not True: turns and tools"),
        ("reward.reward_manager.name=naive", "needs efficiency, not naive"),
        ("reward.reward_model.enable=True", "needs False, not True: a reward model"),
        ("data.gen_batch_size=4", "needs 1, not 4"),
        ("skip.rollout_tq.enable=True", "needs False, not True: stored rollouts"),
        ("trainer.v1.trainer_mode=efficiency_colocate_async", "mixes the rollouts of several steps"),
    ],
)
def test_what_replay_cannot_work_with_is_refused(refusal, override, words):  # noqa: F811
    (line,) = refusal(*REPLAY, override)
    assert line.startswith(f"{override.split('=')[0]}: algorithm.efficiency.replay")
    assert words in line


@pytest.mark.parametrize("name", ["agent_name", "images"])
def test_columns_that_replay_cannot_work_with_are_refused(refusal, tmp_path, name):  # noqa: F811
    pq.write_table(pa.table({"prompt": ["1+1"], name: ["x"]}), tmp_path / "train.parquet")
    lines = refusal(*REPLAY, f"data.train_files={tmp_path / 'train.parquet'}")
    assert any(
        line.startswith(f"data.train_files: algorithm.efficiency.replay needs files without {name}") for line in lines
    )
