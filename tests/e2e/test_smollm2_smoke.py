"""The smoke mode of recipes/smollm2.sh, with a small random model in the place of SmolLM2."""

import json
import os
import random
import sys

import pytest

from tests.e2e.run_tree import run_tree
from tests.e2e.training import ROOT, read_jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_model(folder):
    """A random Llama of one layer, and a tokenizer that has read word problems."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, Qwen2Tokenizer

    sys.path.insert(0, str(ROOT / "recipes" / "smollm2"))
    import words

    sys.path.pop(0)
    texts = [problem.question + problem.solution for problem in words.problems(random.Random(5), 100)]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=400, show_progress=False)
    pairs = json.loads(trained._tokenizer.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=pairs["vocab"],
        merges=[tuple(pair) for pair in pairs["merges"]],
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=1, eos_token_id=end, pad_token_id=end, **size)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    GenerationConfig(eos_token_id=end, pad_token_id=end).save_pretrained(folder)


def test_three_steps_and_a_second_call_that_trains_nothing(tmp_path):
    pytest.importorskip("verl")
    pytest.importorskip("matplotlib")
    write_model(tmp_path / "model")
    runs = tmp_path / "runs"
    known = {"SMOKE": "1", "RUNS": str(runs), "SMOLLM2": str(tmp_path / "model"), "LIMIT": "200"}
    known["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "recipes" / "smollm2.sh")]
    run = run_tree(command, timeout=360, log=tmp_path / "log.txt", env=known)
    assert run.returncode == 0, run.log[-3000:]
    assert run.leftovers == []

    results = json.loads((runs / "results.json").read_text())
    assert results["settings"] == {"STEPS": "3", "BATCH": "4", "GROUP": "4", "LR": "3e-5", "GPUS": "0", "ROLLOUT": "hf"}
    assert len(results["curves"]["0"]["token_budget"]["tokens"]) == 3
    assert results["steps"] == {"token_budget": {"0": 3}}
    (change,) = results["changes"]
    assert (change["label"], change["prompts"]) == ("warm_start", 12)
    rows = read_jsonl(runs / "seed0" / "token_budget.rows.jsonl")
    assert results["summaries"]["token_budget"]["0"]["tokens_per_problem"] == pytest.approx(
        sum(row["tokens"] for row in rows) / 12
    )
    assert (runs / "report.png").stat().st_size > 0
    assert "## Longest of token_budget" in (runs / "examples.md").read_text()

    trained = (runs / "seed0" / "token_budget" / "metrics.jsonl").stat().st_mtime_ns
    again = run_tree(command, timeout=100, log=tmp_path / "again.txt", env=known)
    assert again.returncode == 0, again.log[-3000:]
    assert again.log.count("done before") == 2
    assert (runs / "seed0" / "token_budget" / "metrics.jsonl").stat().st_mtime_ns == trained
