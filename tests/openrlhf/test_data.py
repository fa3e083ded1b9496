"""`verl-efficiency pack --format openrlhf`: what OpenRLHF's own data set reads, and what our reward finds in the labels."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from datasets import load_dataset
from transformers import AutoTokenizer

from verl_efficiency.data.openrlhf import read_label, to_openrlhf
from verl_efficiency.openrlhf.reward import RewardError, reward_function

from .conftest import WARM_START


def pack(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "verl_efficiency.cli", "pack", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def problems(tmp_path):
    file = tmp_path / "problems.jsonl"
    rows = [{"question": f"{k}+{k}?", "answer": str(2 * k), "difficulty": k / 8} for k in range(1, 9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_packs_go_through_openrlhfs_data_set_to_the_reward(problems, tmp_path):
    target = tmp_path / "packed.jsonl"
    done = pack(problems, target, "--problems", 2, "--format", "openrlhf", "--keep", "difficulty")
    assert done.returncode == 0, done.stderr

    from openrlhf.datasets import PromptDataset

    tokenizer = AutoTokenizer.from_pretrained(WARM_START)
    args = SimpleNamespace(data=SimpleNamespace(input_key="input", label_key="label", apply_chat_template=True))
    strategy = SimpleNamespace(args=args, is_rank_0=lambda: True)
    rows = PromptDataset(load_dataset("json", data_files=str(target))["train"], tokenizer, strategy)
    assert len(rows) == 4
    reward_func = reward_function("batched_accuracy")
    for source, prompt, label, _ in rows:
        assert source == "problems"
        numbers = [int(number) for number in re.findall(r"(\d+)\+\1\?", prompt)]
        assert len(numbers) == 2
        answer = " ".join(f"Answer{place}::\\boxed{{{2 * k}}}" for place, k in enumerate(numbers, start=1))
        result = reward_func([prompt + answer], [prompt], [label])
        assert (result["rewards"], result["scores"]) == (pytest.approx(1.1), 1.0)
        assert read_label(label)["extra_info"]["n"] == 2
        assert read_label(label)["extra_info"]["difficulty"] == pytest.approx(sum(numbers) / 16)


def test_single_problems(problems, tmp_path):
    target = tmp_path / "single.jsonl"
    assert pack(problems, target, "--problems", 1, "--format", "openrlhf").returncode == 0
    first = json.loads(target.read_text().splitlines()[0])
    assert first["input"] == "1+1?"
    assert reward_function("accuracy")(["1+1?\\boxed{2}"], ["1+1?"], [first["label"]])["scores"] == 1.0


def test_a_system_message_keeps_all_messages():
    system, user = {"role": "system", "content": "short"}, {"role": "user", "content": "1+1?"}
    row = {"data_source": "x", "prompt": [system, user], "reward_model": {"ground_truth": "2"}, "extra_info": {}}
    assert to_openrlhf([row])[0]["input"] == [system, user]


def test_what_is_wrong_is_one_line(problems, tmp_path):
    wrong_file = pack(problems, tmp_path / "x.parquet", "--format", "openrlhf", "--problems", 1)
    assert wrong_file.returncode == 2
    assert "target: must end in .jsonl" in wrong_file.stderr
    wrong_format = pack(problems, tmp_path / "x.jsonl", "--format", "openrhlf")
    assert wrong_format.returncode == 2
    assert "unknown format 'openrhlf'; did you mean 'openrlhf'?" in wrong_format.stderr


@pytest.mark.parametrize("label", ["[1, 2]", '{"a": 1}', "3", "3.50", "\\frac{1}{2}"])
def test_a_plain_label_is_the_answer(label):
    assert read_label(label)["reward_model"]["ground_truth"] == label


@pytest.mark.parametrize("label", [3, 3.0, ["3"], "3", '["3"]'])
def test_a_label_in_every_form_of_one_answer_is_graded(label):
    assert reward_function("accuracy")(["?\\boxed{3}"], ["?"], [label])["scores"] == 1.0
    assert reward_function("accuracy")(["?\\boxed{4}"], ["?"], [label])["scores"] == 0.0


@pytest.mark.parametrize("label", [None, "", True, "a\n#### 3", float("nan")])
def test_a_label_without_an_answer_ends_the_run(label):
    with pytest.raises(
        RewardError, match=r"the reward accuracy raised ValueError: reward_model.ground_truth of .* is "
    ):
        reward_function("accuracy")(["?"], ["?"], [label])
