"""verl's own loader and reward manager load and call our rewards."""

import asyncio
import json
import logging

import pytest

pytest.importorskip("verl")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.reward import get_custom_reward_fn

from verl_efficiency.data import PackingSettings, pack_rows
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.reward_manager import EfficiencyRewardManager
from verl_efficiency.verl.start_up import check

KEYS = {
    *("score", "acc", "acc_first", "acc_last", "format", "finished", "strays", "problems", "tokens_per_problem"),
    *("correct_by_problem", "answers"),
}


@pytest.fixture(scope="module")
def tokenizer():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<eos>", pad_token="<pad>")


def config(path, name, **reward_kwargs):
    function = {"path": path, "name": name, "reward_kwargs": reward_kwargs}
    return OmegaConf.create({"reward": {"custom_reward_function": function}})


def sample(tokenizer, response, row):
    """One sample as verl's agent loop hands it over: prompt padded left, response padded right."""
    prompt_ids = tokenizer("question")["input_ids"]
    response_ids = [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]
    prompts = [tokenizer.pad_token_id] * 3 + prompt_ids
    responses = response_ids + [tokenizer.pad_token_id] * 5
    mask = [0] * 3 + [1] * (len(prompt_ids) + len(response_ids)) + [0] * 5
    columns = {key: [row[key]] for key in ("data_source", "reward_model", "extra_info")}
    return DataProto.from_dict(
        tensors={
            "prompts": torch.tensor([prompts]),
            "responses": torch.tensor([responses]),
            "attention_mask": torch.tensor([mask]),
        },
        non_tensors={key: np.array(value, dtype=object) for key, value in columns.items()},
    )


def run(tokenizer, cfg, data):
    function = get_custom_reward_fn(cfg)

    async def call():
        return await NaiveRewardManager(cfg, tokenizer, function).run_single(data)

    # The manager takes the running loop when it is built, and calls the reward in a thread of its pool.
    return asyncio.new_event_loop().run_until_complete(call())


@pytest.fixture
def packed():
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{k}+{k}?"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(2 * k)},
            "extra_info": {"index": k, "split": "train"},
        }
        for k in range(3)
    ]
    return pack_rows(rows, PackingSettings(grouping="random"), seed=0)[0]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("pkg://verl_efficiency.rewards", "batched_accuracy"),
        ("pkg://verl_efficiency.rewards.batched_accuracy", "compute_score"),
    ],
)
def test_batched_accuracy_through_verl(tokenizer, packed, path, name):
    truths = json.loads(packed["reward_model"]["ground_truth"])
    response = (
        rf"Answer1::\boxed{{{truths[0]}}} Answer2::\boxed{{77}} Answer3::\boxed{{{truths[2]}"  # the last is cut off
    )
    result = run(tokenizer, config(path, name, format_weight=0.5), sample(tokenizer, response, packed))
    extra = result["reward_extra_info"]
    assert result["reward_score"] == extra["score"] == pytest.approx(1 / 3)
    assert set(extra) == KEYS
    assert extra["correct_by_problem"] == "100"
    assert json.loads(extra["answers"]) == [truths[0], "77", None]
    # What verl does with them: strings are skipped, numbers are averaged.
    assert all(isinstance(value, str | float) for value in extra.values())
    full = rf"Answer1::\boxed{{{truths[0]}}} Answer2::\boxed{{{truths[1]}}} Answer3::\boxed{{{truths[2]}}}"
    result = run(tokenizer, config(path, name, format_weight=0.5), sample(tokenizer, full, packed))
    assert result["reward_score"] == pytest.approx(1.5)


def test_validation_on_single_problems_has_the_same_keys(tokenizer):
    row = {"data_source": "sums", "reward_model": {"ground_truth": "4"}, "extra_info": {"index": 0, "split": "test"}}
    cfg = config("pkg://verl_efficiency.rewards", "batched_accuracy")
    result = run(tokenizer, cfg, sample(tokenizer, r"so \boxed{4}", row))
    assert set(result["reward_extra_info"]) == KEYS
    assert result["reward_extra_info"]["acc"] == 1


@pytest.mark.parametrize(
    ("path", "name"),
    [("pkg://verl_efficiency.rewards", "accuracy"), ("pkg://verl_efficiency.rewards.accuracy", "compute_score")],
)
def test_accuracy_through_verl(tokenizer, path, name):
    row = {"data_source": "sums", "reward_model": {"ground_truth": "1/2"}, "extra_info": {"index": 0}}
    result = run(tokenizer, config(path, name), sample(tokenizer, r"so \boxed{0.5}", row))
    assert (result["reward_score"], result["reward_extra_info"]["status"]) == (1.0, "correct")


def test_a_misspelt_reward_kwarg_raises_through_verl(tokenizer, packed):
    cfg = config("pkg://verl_efficiency.rewards", "batched_accuracy", format_wieght=0.5)
    with pytest.raises(SettingsError, match="did you mean 'format_weight'"):
        run(tokenizer, cfg, sample(tokenizer, "", packed))


def test_real_math_is_graded_from_verls_threads(tokenizer):
    """An answer that only math-verify can judge; called from a pool thread, where its own time-outs do not work."""
    row = {"data_source": "algebra", "reward_model": {"ground_truth": r"(x+1)^2"}, "extra_info": {"index": 0}}
    result = run(
        tokenizer,
        config("pkg://verl_efficiency.rewards", "accuracy"),
        sample(tokenizer, r"\boxed{x^2+2x+1}", row),
    )
    assert result["reward_extra_info"]["status"] == "correct"


# What our reward manager does with a reward that raises


FAULTY = """
import asyncio

def faulty(data_source, solution_str, ground_truth, extra_info, **_):
    "Raises what the response says."
    if solution_str == "bug":
        return undefined
    if solution_str == "stop":
        return next(iter([]))
    if solution_str == "base":
        raise type("TimeoutException", (BaseException,), {})("five seconds")
    if solution_str in ("nan", "inf"):
        return {"score": float(solution_str), "acc": 1.0}
    if solution_str == "none":
        return None
    if solution_str == "keyless":
        return {"acc": 1.0}
    return {"score": 0.5, "acc": 1.0, "note": "fine"}


async def faulty_later(**arguments):
    await asyncio.sleep(0)
    return faulty(**arguments)


def plain(solution_str, **_):
    return 1 / len(solution_str)
"""
ROW = {"data_source": "sums", "reward_model": {"ground_truth": "4"}, "extra_info": {"index": 7}}
GOOD = {"score": 0.5, "acc": 1.0, "note": "fine", "reward_error": 0.0}
KEPT = {"score": 0.0, "acc": 0.0, "note": "", "reward_error": 1.0}


@pytest.fixture
def manage(tokenizer, tmp_path, caplog):
    """Responses through one EfficiencyRewardManager: (score, extras) of each; the log is in ``caplog``."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    caplog.set_level(logging.INFO, logger="verl_efficiency")

    def managed(*responses, name="faulty", row=ROW):
        cfg = config(str(tmp_path / "faulty.py"), name)
        cfg.actor_rollout_ref = {"rollout": {"response_length": 1000}}
        cfg.trainer = {"use_v1": True}

        async def call():
            manager = EfficiencyRewardManager(cfg, tokenizer, get_custom_reward_fn(cfg))
            results = [
                await asyncio.wait_for(manager.run_single(sample(tokenizer, text, row)), 30) for text in responses
            ]
            return [(result["reward_score"], result["reward_extra_info"]) for result in results]

        return asyncio.run(call())

    return managed


@pytest.mark.parametrize("name", ["faulty", "faulty_later"])
@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("bug", "NameError: name 'undefined' is not defined"),
        ("stop", "StopIteration"),
        ("base", "TimeoutException: five seconds"),
        ("nan", "ValueError: the score must be a finite number, got nan"),
        ("inf", "ValueError: the score must be a finite number, got inf"),
        ("none", "TypeError"),
        ("keyless", "KeyError: 'score'"),
    ],
)
def test_a_sample_whose_reward_raises_stays_and_the_cause_is_logged_once(manage, caplog, name, response, words):
    good, *failed, last = manage("fine", response, response, response, "fine", name=name)
    assert good == last == (0.5, GOOD)
    assert failed == [(0.0, KEPT)] * 3
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    message = record.getMessage()
    assert words in message
    assert f"faulty.py:{name} raised" in message
    assert "(data_source 'sums', index 7)" in message
    assert record.exc_info[1].__traceback__ is not None


def test_what_every_reward_has_stands_for_keys_that_are_not_known_yet(manage):
    failed, good = manage("bug", "fine")
    assert failed == (0.0, {"score": 0.0, "acc": 0.0, "reward_error": 1.0})
    assert good == (0.5, GOOD)


def test_every_kind_of_error_is_logged_and_then_their_count(manage, caplog):
    manage(*["fine"] * 5, *["bug"] * 7, *["none"] * 8)
    first, second, count = (record.getMessage() for record in caplog.records)
    assert "raised NameError" in first
    assert "raised TypeError" in second
    assert "has raised for 10 of 15 samples in this worker (NameError: 7, TypeError: 3)" in count


def test_a_plain_number_is_a_reward_too(manage):
    good, failed = manage("four", "", name="plain")
    assert good == (0.25, {"acc": 0.25, "reward_error": 0.0})
    assert failed == (0.0, {"acc": 0.0, "reward_error": 1.0})


@pytest.mark.parametrize("column", ["data_source", "reward_model"])
def test_a_row_that_lacks_a_column_of_verl_is_kept_too(manage, caplog, column):
    ((score, extras),) = manage("fine", row=ROW | {column: None})
    if column == "reward_model":
        assert (score, extras["reward_error"]) == (0.0, 1.0)
        assert "raised TypeError" in caplog.text
    else:
        assert extras == GOOD


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_order_to_stop_passes_through(tokenizer, monkeypatch, caplog, error):
    async def stopped(self, data):
        raise error

    monkeypatch.setattr(NaiveRewardManager, "run_single", stopped)
    cfg = config("pkg://verl_efficiency.rewards", "accuracy")
    cfg.actor_rollout_ref = {"rollout": {"response_length": 20}}
    # By hand, since an event loop that SystemExit leaves keeps a task whose exception nobody reads.
    coroutine = EfficiencyRewardManager(cfg, tokenizer, get_custom_reward_fn(cfg)).run_single(
        sample(tokenizer, "", ROW)
    )
    with pytest.raises(error):
        coroutine.send(None)
    assert not caplog.records


def test_a_reward_of_ours_under_our_manager(tokenizer):
    cfg = config("pkg://verl_efficiency.rewards", "cosine", margin=0)
    cfg.actor_rollout_ref = {"rollout": {"response_length": 20}}

    async def call():
        return await EfficiencyRewardManager(cfg, tokenizer, get_custom_reward_fn(cfg)).run_single(
            sample(tokenizer, r"\boxed{4}", ROW)
        )

    result = asyncio.run(call())
    assert result["reward_score"] == pytest.approx(1.5)  # 9 bytes and the end: half of the limit
    assert (result["reward_extra_info"]["tokens"], result["reward_extra_info"]["reward_error"]) == (10, 0)


# What the start-up check says of a reward


REWARD = "reward.custom_reward_function.path=pkg://verl_efficiency.rewards"
NAME = "reward.custom_reward_function.name"
KWARGS = "+reward.custom_reward_function.reward_kwargs"
OURS = "reward.reward_manager.name=efficiency"
BUDGET = (f"{KWARGS}.b_min=100", f"{KWARGS}.b_max=200")


@pytest.fixture
def problems(compose, tmp_path):
    """The lines of the start-up check, with training and validation files whose rows have this ``extra_info``."""

    def said(*overrides, extra_info=None, validation=None):
        files = []
        for split, row in (("train", extra_info), ("val", validation or extra_info)):
            rows = [{"data_source": "sums", "extra_info": row or {"index": 1}}]
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
            files.append(f"data.{split}_files={tmp_path / split}.parquet")
        return check(compose(REWARD, *files, *overrides))

    return said


def test_good_rewards_pass(problems):
    row = {"difficulty": 0.5, "target_tokens": 100, "length_level": "short"}
    for name in ("accuracy", "batched_accuracy", "composition"):
        assert problems(f"{NAME}={name}") == []
    for name in ("cosine", "lcpo_exact", "lcpo_max", "length_levels", "stop_properly"):
        assert problems(f"{NAME}={name}", OURS, extra_info=row) == []
    assert problems(f"{NAME}=token_budget", OURS, *BUDGET, extra_info=row) == []


@pytest.mark.parametrize("name", ["cosine", "stop_properly", "lcpo_max", "length_levels"])
def test_a_reward_that_needs_the_token_count_needs_our_manager(problems, name):
    row = {"target_tokens": 100, "length_level": "short"}
    (line,) = problems(f"{NAME}={name}", extra_info=row)
    assert line.startswith("reward.reward_manager.name: ")
    assert name in line
    assert "set it to efficiency" in line


@pytest.mark.parametrize(
    ("name", "overrides", "column"),
    [("token_budget", BUDGET, "difficulty"), ("lcpo_max", (), "target"), ("length_levels", (), "level")],
)
def test_a_column_that_is_not_in_the_data_stops_the_start(problems, name, overrides, column):
    lines = problems(f"{NAME}={name}", OURS, *overrides)
    assert len(lines) == 2, "training and validation"
    assert all(line.startswith(f"{KWARGS[1:]}.{column}_column: unknown column 'extra_info.") for line in lines)


def test_a_difficulty_out_of_range_stops_the_start(problems):
    (line,) = problems(
        f"{NAME}=token_budget", OURS, *BUDGET, extra_info={"difficulty": 0.5}, validation={"difficulty": 2.0}
    )
    assert "must be a number in [0, 1] in every row" in line


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((f"{NAME}=token_budget", OURS), "reward_kwargs.b_min: must be a number of tokens above 0"),
        ((f"{NAME}=repetition",), "repetition alone would teach the empty response"),
        (
            (f"{NAME}=composition", f"{KWARGS}.terms=[{{name: acuracy, weight: 1}}]"),
            "terms[0].name: unknown reward 'acuracy'",
        ),
        (
            (f"{NAME}=composition", f"{KWARGS}.terms=[{{name: accuracy, weight: 1, n: 4}}]"),
            "terms[0]: unknown setting 'n'",
        ),
        ((f"{NAME}=composition", f"{KWARGS}.terms=[{{name: stop_properly, weight: 1}}]"), "set it to efficiency"),
    ],
)
def test_a_wrong_reward_stops_the_start(problems, overrides, words):
    (line,) = problems(*overrides)
    assert words in line


def test_a_composition_from_the_command_line_is_called(tokenizer, compose):
    terms = "[{name: accuracy, weight: 1.0}, {name: repetition, weight: 0.1, n: 1}]"
    cfg = compose(REWARD, f"{NAME}=composition", f"{KWARGS}.terms={terms}")
    extra = run(tokenizer, cfg, sample(tokenizer, r"so so \boxed{4}", ROW))["reward_extra_info"]
    assert extra["term_accuracy"] == 1
    assert extra["term_repetition"] == pytest.approx(-0.1 / 7)
