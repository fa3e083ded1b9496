"""Rewards through OpenRLHF's own executors: what is learned, logged and filtered by; and that no error is lost."""

import asyncio
import os
import pickle
import sys
import tempfile
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer
from vllm import SamplingParams

from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.openrlhf.reward import RewardError, agent_executor, reward_function
from verl_efficiency.openrlhf.start_up import reward_file
from verl_efficiency.settings import SettingsError

from .conftest import WARM_START
from .world import ScriptedEngine, label

PROMPT = "<|im_start|>0f3.<|im_end|>\n<|im_start|>"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(WARM_START)


def executor_of(path: str, agent: bool):
    """As RolloutRayActor loads it (vllm_engine.py:17 and :62), in another process than the one that made the path."""
    path = pickle.loads(pickle.dumps(path))
    from openrlhf.trainer.ray.vllm_engine import _load_agent_executor
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    return _load_agent_executor(path) if agent else SingleTurnAgentExecutor([path])


def run(executor, tokenizer, answers: list[str], truth: str, limit: int = 40) -> list[dict]:
    """As ``generate_responses`` runs it: all samples of a prompt at once."""
    engine = ScriptedEngine(tokenizer, answers)
    params = SamplingParams(max_tokens=limit, logprobs=None)

    async def gather() -> list[dict]:
        calls = [executor.execute(PROMPT, truth, params, 128, tokenizer, engine) for _ in answers]
        return await asyncio.gather(*calls)

    return asyncio.run(gather())


FILE = """
from verl_efficiency.openrlhf.reward import agent_executor, reward_function
reward_func = reward_function({0!r})
AgentExecutor = agent_executor({0!r})
"""


@pytest.fixture
def own_file(tmp_path):
    """A reward file that a user writes, with both forms."""

    def written(name):
        (tmp_path / "own.py").write_text(FILE.format(name))
        return str(tmp_path / "own.py")

    return written


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_that_runs_not_alone_has_a_file_on_every_machine(name, tmp_path, monkeypatch, tokenizer):
    if name in ("repetition", "token_budget"):
        with pytest.raises(SettingsError, match=f"--efficiency.reward: {name} "):
            reward_file(name)
        return
    sent = pickle.dumps(reward_file(name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # another machine
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # Python's default, which some machines turn off
    arrived = pickle.loads(sent)
    assert Path(arrived).is_relative_to(tmp_path)
    row = label("3", length_level="short", target_tokens=10)
    (result,) = run(executor_of(arrived, agent=True), tokenizer, ["\\boxed{3}<|im_end|>"], row)
    assert result["reward"] > 0


def test_a_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reward_file("accuracy")
    (mode,) = {folder.stat().st_mode & 0o777 for folder in tmp_path.iterdir()}
    assert mode == 0o700
    real = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: real + 1)
    (folder,) = tmp_path.iterdir()
    folder.rename(tmp_path / f"verl_efficiency_{real + 1}")
    with pytest.raises(SettingsError, match="TMPDIR"):
        reward_file("accuracy")


@pytest.mark.parametrize("agent", [False, True])
@pytest.mark.parametrize("truth", ["3", label("3")])
def test_accuracy(agent, truth, tokenizer, own_file):
    executor = executor_of(own_file("accuracy"), agent)
    right, wrong = run(executor, tokenizer, ["0f0+3=3\\boxed{3}<|im_end|>", "\\boxed{4}<|im_end|>"], truth)
    assert (right["reward"], right["scores"]) == (1.0, 1.0)
    assert (wrong["reward"], wrong["scores"]) == (0.0, 0.0)
    assert right["extra_logs"]["reward/finished"] == 1.0
    assert right["extra_logs"]["reward/tokens"] == (11.0 if agent else -1.0)  # only the agent knows


@pytest.mark.parametrize("agent", [False, True])
def test_batched_accuracy_scores_are_plain_correctness(agent, tokenizer, own_file):
    executor = executor_of(own_file("batched_accuracy"), agent)
    answer = "1:Answer1::\\boxed{2}\n2:Answer2::\\boxed{9}<|im_end|>"
    (result,) = run(executor, tokenizer, [answer], label('["2", "4"]', n=2))
    assert result["reward"] == pytest.approx(0.5 + 0.1)  # and the format
    assert result["scores"] == 0.5
    logs = result["extra_logs"]
    assert (logs["reward/acc_first"], logs["reward/acc_last"], logs["reward/format"]) == (1.0, 0.0, 1.0)
    assert "reward/correct_by_problem" not in logs  # a text cannot be logged


def test_a_truncated_response_has_no_format_where_the_agent_knows_it(tokenizer):
    executor = executor_of(reward_file("batched_accuracy"), agent=True)
    answer = "1:Answer1::\\boxed{2}\n2:Answer2::\\boxed{4}"  # the engine says that it was cut off
    (result,) = run(executor, tokenizer, [answer], label('["2", "4"]', n=2))
    assert result["extra_logs"]["reward/format"] == 0.0


def test_composition_logs_every_term(tokenizer, own_file):
    executor = executor_of(own_file("composition"), agent=False)
    (result,) = run(executor, tokenizer, ["\\boxed{3}<|im_end|>"], "3")
    assert result["extra_logs"]["reward/term_accuracy"] == 1.0
    assert "reward/term_repetition" in result["extra_logs"]
    assert result["scores"] == 1.0


def test_an_answer_in_a_thinking_that_the_prompt_opens_and_nobody_closes():
    reward_func = reward_function("accuracy", strip_thinking=True)
    for prompt, response, score in (
        ("2+1?<think>\n", r"maybe \boxed{3}", 0.0),
        ("2+1?<think>\n", r"hm</think>\boxed{3}", 1.0),
        ("2+1? Use <think> tags.", r"\boxed{3}", 1.0),
    ):
        assert reward_func([prompt + response], [prompt], ["3"])["rewards"] == score, (prompt, response)


MARKED = """
from verl_efficiency.openrlhf.reward import agent_executor, reward_function
reward_func = reward_function("accuracy", marker="=")
AgentExecutor = agent_executor("accuracy", marker="=")
"""


@pytest.mark.parametrize("agent", [False, True])
def test_a_marked_answer_before_the_end_token(agent, tokenizer, tmp_path):
    """OpenRLHF decodes with special tokens: after a marker stands ``3<|im_end|>``."""
    file = tmp_path / "reward.py"
    file.write_text(MARKED)
    answers = ["0+3=3<|im_end|>", "0+3=4<|im_end|>", "0+3=3", "0+3=3<|im_end|><|im_end|>\n"]
    results = run(executor_of(str(file), agent), tokenizer, answers, "3")
    assert [result["reward"] for result in results] == [1.0, 0.0, 1.0, 1.0]


END_TOKENS = [
    *(
        "<|im_end|>",
        "<|endoftext|>",
        "</s>",
        "<|eot_id|>",
        "<eos>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "<end_of_turn>",
    ),
    *(
        "[PAD]",
        "<pad>",
        "[PAD]" * 40,
        "<pad>" * 500,
        "<|im_end|>\n<|endoftext|>",
        "</s></s> <pad><pad>\n",
        "<|return|>",
        "[EOS]",
    ),
    *("<|im_end|>" + "<|endoftext|>" * 3000, "<｜▁pad▁｜>" * 3, "<|reserved_special_token_7|>", " \n </s>"),
]


@pytest.mark.parametrize("end", END_TOKENS)
def test_every_reward_reads_the_response_without_special_tokens_at_its_end(end):
    seen = []

    def spy(data_source, solution_str, ground_truth, extra_info):
        seen.append(solution_str)
        return 0.0

    prompt, response = "<|im_start|>user\n2+1?<|im_end|>\n<|im_start|>assistant\n", "so\n#### 3"
    reward_function(spy)([prompt + response + end], [prompt], ["3"])
    assert seen == [response]
    for name, settings in (("accuracy", {"marker": "####"}), ("batched_accuracy", {"marker": "####"})):
        score = reward_function(name, **settings)
        assert score([prompt + response + end], [prompt], ["3"])["scores"] == 1.0
        assert score([prompt + response + end], [prompt], ["4"])["scores"] == 0.0
    form = {"answer_template": "Answer {index}: …"}
    packed = reward_function("batched_accuracy", **form)
    assert packed([f"{prompt}Answer 1: 3\nAnswer 2: 9{end}"], [prompt], [label('["3", "9"]', n=2)])["scores"] == 1.0


def test_special_tokens_are_no_repetition():
    terms = [{"name": "repetition", "weight": 1.0, "n": 2}]
    score = reward_function("composition", terms=terms)
    assert score(["2+1? It is 3" + "<|im_end|>" * 50], ["2+1?"], ["3"])["rewards"] == 0.0
    assert score(["2+1? It is It is It is 3<|im_end|>"], ["2+1?"], ["3"])["rewards"] < 0.0


@pytest.mark.parametrize(
    "response",
    [
        r"HTML ends a strike with </s>, so \boxed{3}",
        r"<|im_end|> is a token. \boxed{3} and so on",
        "The text [PAD] stands for padding. \\boxed{3} ",
        r"\boxed{3} and a<b, b>c, |x|>",
        r"\boxed{3} [1]",
        "\\boxed{3}\n",
    ],
)
def test_a_text_that_speaks_of_a_special_token_is_not_cut(response):
    seen = []

    def spy(data_source, solution_str, ground_truth, extra_info):
        seen.append(solution_str)
        return 0.0

    reward_function(spy)(["2+1?" + response], ["2+1?"], ["3"])
    assert seen == [response]
    assert reward_function("accuracy")(["2+1?" + response + "</s>"], ["2+1?"], ["3"])["rewards"] == 1.0


@pytest.mark.parametrize("padding", ["<|endoftext|>" * 9, "[PAD]" * 9, "<s>", "<pad><pad><s>", "<|begin_of_text|>"])
def test_padding_and_a_start_token_before_the_prompt(padding):
    score = reward_function("accuracy", marker="####")
    for prompt in ("2+1?", "<|im_start|>user\n2+1?<|im_end|>\n<|im_start|>assistant\n", "<s>[INST] 2+1? [/INST]"):
        assert score([f"{padding}{prompt}#### 3<|im_end|>"], [prompt], ["3"])["rewards"] == 1.0
    with pytest.raises(RewardError, match="does not begin with its prompt"):
        score([padding + "2+2?#### 3"], ["2+1?"], ["3"])


def test_agent_tells_the_exact_cost(tokenizer, tmp_path):
    file = tmp_path / "agent.py"
    file.write_text(
        textwrap.dedent("""
        from verl_efficiency.openrlhf.reward import agent_executor
        def spy(data_source, solution_str, ground_truth, extra_info):
            return {"score": 0.0, **{name: extra_info[name] for name in ("response_tokens", "response_limit", "truncated")}}
        AgentExecutor = agent_executor(spy)
        """)
    )
    ended, cut = run(executor_of(str(file), agent=True), tokenizer, ["123<|im_end|>", "12345"], "3", limit=5)
    assert ended["extra_logs"] == {
        "reward/response_tokens": 4.0, "reward/response_limit": 5.0, "reward/truncated": 0.0,
    }  # fmt: skip
    assert cut["extra_logs"]["reward/response_tokens"] == 5.0
    assert cut["extra_logs"]["reward/truncated"] == 1.0


@pytest.mark.parametrize("name", ["length_levels", "lcpo_exact", "lcpo_max", "cosine", "stop_properly"])
def test_rewards_that_count_tokens(name, tokenizer):
    columns = {"length_level": "short", "target_tokens": 10}
    (result,) = run(
        executor_of(reward_file(name), agent=True), tokenizer, ["\\boxed{3}<|im_end|>"], label("3", **columns)
    )
    assert result["reward"] > 0
    assert result["scores"] == 1.0
    with pytest.raises(SettingsError, match=f"the reward {name} .*--train.agent_func_path"):
        reward_function(name)


def test_wrong_settings_are_refused_when_the_file_is_loaded():
    with pytest.raises(
        SettingsError, match=r"the reward length_levels: unknown setting 'shrt'; did you mean 'short'\?"
    ):
        agent_executor("length_levels", shrt=0.2)
    with pytest.raises(SettingsError, match=r"unknown reward 'acuracy'; did you mean 'accuracy'\?"):
        reward_function("acuracy")


RAISING = """
import verl_efficiency.openrlhf.reward as ours
calls = []
def brittle(data_source, solution_str, ground_truth, extra_info):
    calls.append(1)
    if len(calls) in {failing}:
        raise {error}
    return {{"score": 1.0, "acc": 1.0}}
reward_func = ours.reward_function(brittle)
AgentExecutor = ours.agent_executor(brittle)
"""


@pytest.mark.parametrize("agent", [False, True])
@pytest.mark.parametrize("failing", [{1}, {3}, set(range(1, 9))], ids=["first", "third", "every"])
@pytest.mark.parametrize("error", ["ValueError('no such unit')", "StopIteration()", "SystemExit(1)"])
def test_a_reward_that_raises_ends_the_run_with_one_clear_error(agent, failing, error, tokenizer, tmp_path):
    file = tmp_path / "reward.py"
    file.write_text(RAISING.format(failing=failing, error=error))
    executor = executor_of(str(file), agent)
    with pytest.raises(RewardError) as raised:
        run(executor, tokenizer, ["1<|im_end|>"] * 8, label("3"))
    message = str(raised.value)
    assert message.startswith(f"the reward brittle raised {error.partition('(')[0]}")
    assert "no such unit" in message or "ValueError" not in error
    assert repr(PROMPT) in message
    assert '"ground_truth": "3"' in message
    assert f"(in brittle, {file}:7)" in message


def test_the_term_of_a_composition_that_raises_is_named(tokenizer, tmp_path, monkeypatch):
    (tmp_path / "my_terms.py").write_text(
        "def half(data_source, solution_str, ground_truth, extra_info):\n    return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    terms = [{"name": "accuracy", "weight": 1.0}, {"name": "pkg://my_terms:half", "weight": 1.0}]
    with pytest.raises(RewardError, match=r"composition raised ZeroDivisionError: .* \(in half, .*my_terms.py:2\)"):
        reward_function("composition", terms=terms)([PROMPT + "1"], [PROMPT], ["3"])


@pytest.mark.parametrize(
    ("returned", "cause"),
    [("float('nan')", "a dict with one as 'score', got nan"), ("{'acc': 1.0}", "got {'acc': 1.0}"),
     ("{'score': 1.0, solution_str: 1.0}", "the same numbers for every sample"), ("'good'", "got 'good'")],
)  # fmt: skip
def test_what_is_no_score_is_an_error_too(returned, cause, tokenizer, tmp_path):
    file = tmp_path / "reward.py"
    text = RAISING.format(failing=set(), error="ValueError()").replace('{"score": 1.0, "acc": 1.0}', returned)
    file.write_text(text)
    with pytest.raises(RewardError, match=cause):
        run(executor_of(str(file), agent=False), tokenizer, ["1<|im_end|>", "2<|im_end|>"], "3")


def test_a_query_without_its_prompt_is_refused():
    with pytest.raises(RewardError, match=r"a query does not begin with its prompt.*--train.agent_func_path"):
        reward_function("accuracy")(["f3.\\boxed{3}"], [PROMPT], ["3"])


def test_a_reward_of_somebody_else_that_was_swallowed_is_named():
    from verl_efficiency.openrlhf.experience import require_rewards

    good = SimpleNamespace(rewards=torch.tensor([1.0]))
    bad = SimpleNamespace(rewards=None, prompts=[PROMPT], labels=["3"])
    require_rewards([good, good], "x.py")
    require_rewards([bad], None)  # a reward model will score them
    for samples in ([bad, good], [good, good, bad], [bad, bad]):
        with pytest.raises(RuntimeError, match=r"the reward \(x.py\) gave nothing for . of . rollouts") as raised:
            require_rewards(samples, "x.py")
        assert repr(PROMPT) in str(raised.value)
