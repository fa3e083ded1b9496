"""``reward.reward_manager.name=efficiency`` inside verl's own reward worker, called by verl's own agent loop."""

import pytest

pytest.importorskip("verl")

import asyncio
from types import SimpleNamespace

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput, AgentLoopWorker
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

LIMIT = 6  # rollout.response_length
WORDS = ["<pad>", "<eos>", *"0123456789", *"+=\\{}", "boxed", "What", "is", "<think>", "</think>", "\\boxed{4}"]
EOS = 1
OPEN, CLOSE, FOUR = (WORDS.index(word) for word in ("<think>", "</think>", "\\boxed{4}"))

REPORTING = """
def report(data_source, solution_str, ground_truth, extra_info, **_):
    told = ("response_tokens", "truncated", "prompt_id", "index", "thinking_opened")
    return {"score": 0.0, "text": solution_str, **{key: extra_info[key] for key in told if key in extra_info}}


async def report_later(**arguments):
    return report(**arguments)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder from which verl loads the tokenizer: one word, one token."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>").save_pretrained(folder)
    return folder


@pytest.fixture
def reward(compose, model, tmp_path):
    """Responses (lists of token ids) through the agent loop's ``_compute_score``; what the reward function said of the last."""
    (tmp_path / "reporting.py").write_text(REPORTING)

    def computed(*responses, prompts=None, overrides=(), function="report", **columns):
        config = compose(
            f"actor_rollout_ref.model.path={model}",
            f"actor_rollout_ref.rollout.response_length={LIMIT}",
            "reward.reward_manager.name=efficiency",
            f"reward.custom_reward_function.path={tmp_path / 'reporting.py'}",
            f"reward.custom_reward_function.name={function}",
            *overrides,
        )
        row = {
            "data_source": "sums",
            "reward_model": {"ground_truth": "4"},
            "raw_prompt": [{"role": "user", "content": "2+2"}],
            "extra_info": {"index": 7},
            **columns,
        }
        row = {name: value for name, value in row.items() if value is not None}
        outputs = [
            AgentLoopOutput(
                prompt_ids=prompt,
                response_ids=response,
                response_mask=[1] * len(response),
                num_turns=2,
                metrics=AgentLoopMetrics(),
            )
            for prompt, response in zip(prompts or [[18, 19]] * len(responses), responses, strict=True)
        ]

        async def compute():
            worker = RewardLoopWorker(config)
            loop = object.__new__(AgentLoopWorker)  # its constructor would start rollout servers
            loop.processor, loop.mm_processor_kwargs = None, None
            loop.reward_loop_worker_handles = [
                SimpleNamespace(compute_score=SimpleNamespace(remote=worker.compute_score))
            ]
            await loop._compute_score(outputs, kwargs=row)

        asyncio.run(compute())
        return outputs[-1].extra_fields["reward_extra_info"]

    return computed


@pytest.mark.parametrize("function", ["report", "report_later"])
def test_the_reward_hears_what_the_response_cost(reward, function):
    told = reward([6, 6, 6, EOS], function=function)
    assert (told["response_tokens"], told["truncated"], told["index"]) == (4, False, 7)
    assert told["text"].split() == ["4", "4", "4"]


@pytest.mark.parametrize(
    ("response", "truncated"),
    [
        ([6] * LIMIT, True),
        ([6] * (LIMIT - 1) + [EOS], False),  # just in time
        ([6] * (LIMIT - 1), False),  # ended by something else, for example a stop word
        ([EOS], False),
    ],
)
def test_truncated_means_cut_off_by_the_limit(reward, response, truncated):
    told = reward(response)
    assert (told["response_tokens"], told["truncated"]) == (len(response), truncated)


def test_a_prompt_has_one_name_in_all_epochs_and_processes(reward, fresh):
    name = reward([6, EOS])["prompt_id"]
    assert reward([5, 5, EOS], extra_info={"index": 99})["prompt_id"] == name
    other = [{"role": "user", "content": "2+3"}]
    assert reward([6, EOS], raw_prompt=other)["prompt_id"] != name
    as_system = [{"role": "system", "content": "2+2"}]
    assert reward([6, EOS], raw_prompt=as_system)["prompt_id"] != name
    code = "from verl_efficiency.adapter.rollouts import prompt_name; print(prompt_name([{'content': '2+2', 'role': 'user'}]))"
    assert fresh(code).stdout.strip() == name


def test_the_tokens_of_several_outputs_are_counted_together(reward):
    told = reward([6, 6, EOS], [5, 5, 5, 5, EOS])
    assert told["response_tokens"] == 8


def test_of_several_outputs_the_last_says_whether_the_response_is_truncated(reward):
    assert not reward([6] * LIMIT, [5, EOS])["truncated"]
    assert reward([5, EOS], [6] * LIMIT)["truncated"]


def test_several_outputs_with_prompts_of_different_length(reward):
    # A context that grows from turn to turn: verl pads prompts and responses to 4 + 5, but the masks to 3 + 5 and 4 + 2 only
    told = reward([6, 6, 6, 6, EOS], [5, EOS], prompts=[[19] * 3, [19] * 4])
    assert (told["response_tokens"], told["text"]) == (5 + 2, "3")


def test_a_row_without_extra_info_and_without_messages(reward):
    told = reward([6, EOS], extra_info=None, raw_prompt=None)
    assert told["response_tokens"] == 2
    assert "prompt_id" not in told


def test_the_data_sets_own_row_is_not_changed(reward):
    extra_info = {"index": 7}
    reward([6, EOS], extra_info=extra_info)
    assert extra_info == {"index": 7}


@pytest.mark.parametrize("name", ["accuracy", "batched_accuracy"])
def test_our_rewards_hear_it(reward, name):
    right = [WORDS.index(word) for word in ("boxed", "4")] + [EOS]
    ours = (
        "reward.custom_reward_function.path=pkg://verl_efficiency.rewards",
        f"reward.custom_reward_function.name={name}",
    )
    told = reward(right, overrides=ours)
    assert told["tokens" if name == "accuracy" else "tokens_per_problem"] == 3


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ([18, 19], False),
        ([19, OPEN], True),
        ([19, OPEN, CLOSE], False),
        ([OPEN, 6, CLOSE, 19, OPEN], True),
        ([OPEN, 19], False),
    ],
)
def test_a_prompt_that_opens_the_thinking(reward, prompt, opened):
    assert reward([6, EOS], prompts=[prompt])["thinking_opened"] is opened


@pytest.mark.parametrize(
    ("prompt", "response", "acc"),
    [
        ([19, OPEN], [6, FOUR, 6, 6, 6, 6], 0),  # cut off in its thinking
        ([19, OPEN], [FOUR, EOS], 0),  # ended in it
        ([19, OPEN], [6, CLOSE, FOUR, EOS], 1),
        ([19, OPEN], [FOUR, CLOSE, 6, EOS], 0),
        ([19, OPEN, CLOSE], [6, FOUR, 6, 6, 6, 6], 1),  # thinking turned off: nothing was opened
        ([19], [OPEN, FOUR, 6, 6, 6, 6], 0),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "batched_accuracy"])
def test_an_answer_in_the_thinking_is_none(reward, name, prompt, response, acc):
    ours = (
        "reward.custom_reward_function.path=pkg://verl_efficiency.rewards",
        f"reward.custom_reward_function.name={name}",
        "+reward.custom_reward_function.reward_kwargs.strip_thinking=true",
    )
    assert reward(response, prompts=[prompt], overrides=ours)["acc"] == acc


def test_by_its_path_instead_of_its_name(reward):
    by_path = (
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.name=EfficiencyRewardManager",
        "reward.reward_manager.module.path=pkg://verl_efficiency.verl.reward_manager",
    )
    assert reward([6, 6, EOS], overrides=by_path)["response_tokens"] == 3


def test_the_score_comes_back(reward, model, tmp_path):
    (tmp_path / "length.py").write_text(
        "def compute_score(extra_info, **_):\n    return -extra_info['response_tokens'] / 10\n"
    )
    told = reward(
        [6, 6, EOS],
        overrides=(f"reward.custom_reward_function.path={tmp_path / 'length.py'}",),
        function="compute_score",
    )
    assert told["acc"] == pytest.approx(-0.3)
