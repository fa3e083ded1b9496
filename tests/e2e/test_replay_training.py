"""t_spmo with replay on verl's trainer: the restarts, the reward's inputs and the credit, checked against verl's dumps."""

import json
from collections import Counter, defaultdict
from statistics import fmean

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from tests.e2e.training import read_jsonl, small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BATCH, GROUP, LIMIT, STEPS = 8, 4, 70, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def training(folder):
    pytest.importorskip("verl.trainer.ppo.v1")
    result = train(
        "t_spmo",
        folder,
        "+algorithm.efficiency.replay=3",
        "trainer.save_freq=-1",
        "data.shuffle=False",
        "actor_rollout_ref.actor.policy_loss.loss_mode=recording",
        "reward.custom_reward_function.path=pkg://tests.e2e.recording_reward",
        "reward.custom_reward_function.name=compute_score",
        f"+reward.custom_reward_function.reward_kwargs.record={folder / 'rewards'}",
        "+reward.custom_reward_function.reward_kwargs.reward=accuracy",
        **small_testbed(folder / "data"),
        BATCH=BATCH,
        GROUP=GROUP,
        PROMPT_TOKENS=120,
        RESPONSE_TOKENS=LIMIT,
        STEPS=STEPS,
        RECORD_ADVANTAGES=folder / "advantages",
        VERL_USE_EXTERNAL_MODULES="verl_efficiency.verl.plugin,tests.e2e.recording_loss",
    )
    assert result.run.returncode == 0, result.run.log[-4000:]
    return result


def groups_of(rows):
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"].rsplit("_", 2)[0]].append(row)
    return dict(groups)


def tokens_of(tokenizer, text):
    """The response as generated. The dump leaves out the EOS of responses that are not truncated."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids if len(ids) == LIMIT else [*ids, tokenizer.eos_token_id]


def restarts_of(training, step):
    """uid → (problem, prefix) of the groups of a step whose input continues a rollout of the previous step."""
    found = {}
    for uid, rows in groups_of(training.rollouts[step]).items():
        for old in training.rollouts.get(step - 1, []):
            begun = rows[0]["input"].removeprefix(old["input"])
            if begun and begun != rows[0]["input"] and old["output"].startswith(begun):
                found[uid] = (old["input"], begun)
    return found


def test_a_restart_goes_on_from_a_rollout_of_the_step_before(training):
    for step in range(1, STEPS + 1):
        groups, metrics = groups_of(training.rollouts[step]), training.metrics[step]
        assert [len(rows) for rows in groups.values()] == [GROUP] * BATCH  # none lost, none more
        assert all(len({row["input"] for row in rows}) == 1 for rows in groups.values())
        restarts = restarts_of(training, step)
        assert metrics["t_spmo/replayed_prompts"] == len(restarts)
        assert metrics["t_spmo/replay_too_long"] == 0
    assert training.metrics[1]["t_spmo/replayed_prompts"] == 0
    assert 1 <= training.metrics[2]["t_spmo/replayed_prompts"] <= 3


def test_every_rollout_learns_from_its_continuation_only(training, folder):
    """The loss gets the tokens of the outputs; the prefix belongs to the prompt."""
    recorded = read_jsonl(folder / "advantages")
    tokenizer = AutoTokenizer.from_pretrained(folder / "data" / "model")
    lengths = Counter(len(row) for row in recorded)
    outputs = [row["output"] for step in training.rollouts for row in training.rollouts[step]]
    assert len(recorded) == len(outputs) == STEPS * BATCH * GROUP
    assert lengths == Counter(len(tokens_of(tokenizer, text)) for text in outputs)


def test_the_credit_of_every_token_by_its_definition(training, folder):
    """A(p, v) over every prefix of every group, times N / |U|, in steps without restarts (the first) and with them."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "data" / "model")
    recorded = read_jsonl(folder / "advantages")
    for step in range(1, STEPS + 1):
        part = recorded[(step - 1) * BATCH * GROUP : step * BATCH * GROUP]
        through, responses = defaultdict(list), []
        for uid, rows in groups_of(training.rollouts[step]).items():
            for row in rows:
                responses.append((uid, *tokens_of(tokenizer, row["output"])))
                for length in range(1, len(responses[-1]) + 1):
                    through[responses[-1][:length]].append(row["score"])
        pairs = [prefix for prefix in through if len(prefix) > 1]
        scale = sum(map(len, part)) / len(pairs)
        credit = {pair: scale * (fmean(through[pair]) - fmean(through[pair[:-1]])) for pair in pairs}

        # verl orders the rows of a micro-batch. Each pair counts once, so every credit appears exactly once.
        got = sorted(value for row in part for value in row if value != 0)
        assert got == pytest.approx(sorted(value for value in credit.values() if abs(value) > 1e-9), rel=1e-5)
        for response in responses:  # some rollout of this length has its credited tokens where the definition puts them
            allowed = [credit[response[:end]] for end in range(2, len(response) + 1)]
            assert any(
                all(
                    value == 0 or value == pytest.approx(right, rel=1e-5)
                    for value, right in zip(values, allowed, strict=True)
                )
                for values in part
                if len(values) == len(allowed)
            )
        metrics = training.metrics[step]
        assert metrics["t_spmo/unique_pairs"] == len(pairs)
        assert metrics["t_spmo/credited_tokens"] == pytest.approx(len(got) / sum(map(len, part)))
        assert metrics["actor/loss"] == pytest.approx(-sum(credit.values()) / scale / len(pairs), rel=1e-4, abs=1e-7)


def test_the_reward_is_given_the_whole_text(training, folder):
    told = [json.loads(line) for line in (folder / "rewards").read_text().splitlines()]
    wanted, prefixes = Counter(), []
    for step in range(1, STEPS + 1):
        restarts = restarts_of(training, step)
        for uid, rows in groups_of(training.rollouts[step]).items():
            problem, prefix = restarts.get(uid, (rows[0]["input"], ""))
            # a problem of the step before may itself have been a restart
            for earlier in (restarts_of(training, step - 1) if prefix else {}).values():
                if problem == "".join(earlier):
                    prefix = earlier[1] + prefix
            prefixes += [prefix] * len(rows)
            wanted.update((prefix + row["output"], row["score"]) for row in rows)
    assert Counter((line["solution"], line["result"]["score"]) for line in told) == wanted
    assert (
        sum(1 for prefix in prefixes if prefix) == sum(1 for line in told if "replay_prefix" in line["extra_info"]) > 0
    )
    assert all(line["extra_info"]["response_tokens"] <= LIMIT for line in told)


def test_no_problem_is_passed_over_or_comes_twice(training, folder):
    """Without restarts, the prompts of all steps are the first of the file, in its order."""
    questions = [row[-1]["content"] for row in pq.read_table(folder / "data" / "train.parquet")["prompt"].to_pylist()]
    given = 0
    for step in range(1, STEPS + 1):
        restarts, groups = restarts_of(training, step), groups_of(training.rollouts[step])
        fresh = [rows[0]["input"] for uid, rows in groups.items() if uid not in restarts]
        for question in questions[given : given + len(fresh)]:
            fresh.remove(next(text for text in fresh if question in text))
        given += BATCH - len(restarts)
        assert fresh == []
    assert given < BATCH * STEPS
