"""verl's own loader and reward manager load and call our rewards."""

import asyncio
import json

import pytest

pytest.importorskip("verl")

import numpy as np
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.reward import get_custom_reward_fn

from verl_efficiency.data import PackingSettings, pack_rows
from verl_efficiency.settings import SettingsError

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
