"""Evaluation: the numbers against hand-computed ones, generation against a one-by-one loop, the table and the picture."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.evaluation.checkpoint import resolve_model
from verl_efficiency.evaluation.engines import Answer, Engine, Request, Sampling
from verl_efficiency.evaluation.evaluate import evaluate
from verl_efficiency.evaluation.generate import LocalModel, answers, load_model, respond
from verl_efficiency.evaluation.prompts import load_prompts
from verl_efficiency.evaluation.report import report
from verl_efficiency.evaluation.sampling import Completion
from verl_efficiency.evaluation.summary import Row, compare, per_prompt, ratio, strata, summarise
from verl_efficiency.evaluation.tables import evaluation_table
from verl_efficiency.evaluation.training_log import TrainingLog, parse_training_log, read_metric
from verl_efficiency.settings import SettingsError
from verl_efficiency.testbed.checks.task import CHARACTERS
from verl_efficiency.testbed.tokenizer import build_tokenizer

STOP = "0123456789"  # a random model hardly writes one given token, so several of them end a response


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A random Qwen2 (seeded) that stops at digits, with sampling settings that must not leak into an evaluation."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = build_tokenizer(CHARACTERS)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=96,
        initializer_range=0.5,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    stops = [*tokenizer.convert_tokens_to_ids(list(STOP)), tokenizer.eos_token_id]
    model.generation_config = GenerationConfig(
        eos_token_id=stops, pad_token_id=tokenizer.pad_token_id, repetition_penalty=3.0, do_sample=True, top_k=2
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def data_row(text: str, truth: str, **extra) -> dict:
    return {
        "data_source": "chain",
        "prompt": [{"role": "user", "content": text}],
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": extra,
    }


def row(prompt: int, acc: float, tokens: int, **fields) -> Row:
    values = {
        "prompt": prompt,
        "key": f"k{prompt}",
        "problems": 1,
        "acc": acc,
        "score": acc,
        "tokens": tokens,
        "truncated": False,
        "shortest_tokens": None,
        "difficulty": None,
        "response": "",
    }
    return Row(**(values | fields))


# --- generation


def greedy_one_by_one(model, prompt: list[int], stops: set[int], limit: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + limit:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


def test_generation_equals_a_one_by_one_greedy_loop(tiny_model):
    model = load_model(str(tiny_model))
    stops = set(model.tokenizer.convert_tokens_to_ids(list(STOP))) | {model.tokenizer.eos_token_id}
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 70, size=length).tolist() for length in (3, 17, 5, 1, 30, 9, 9, 22)]
    expected = [greedy_one_by_one(model.network, prompt, stops, 12) for prompt in prompts]
    lengths = [len(ids) for ids in expected]
    assert min(lengths) < 12  # some end by themselves,
    assert max(lengths) == 12  # some are cut

    for batch_size in (1, 3, 8):
        responses = respond(model, prompts, Sampling(temperature=0, max_new_tokens=12, batch_size=batch_size))
        assert [response.tokens for response in responses] == expected
        assert [response.stopped for response in responses] == [ids[-1] in stops for ids in expected]


def test_an_end_at_the_very_limit_is_not_truncated(tiny_model):
    model = load_model(str(tiny_model))
    stops = set(model.tokenizer.convert_tokens_to_ids(list(STOP))) | {model.tokenizer.eos_token_id}
    rng = np.random.default_rng(0)
    for prompt in rng.integers(0, 70, size=(20, 4)).tolist():
        natural = greedy_one_by_one(model.network, prompt, stops, 40)
        if 2 <= len(natural) < 40:
            break
    (full,) = respond(model, [prompt], Sampling(temperature=0, max_new_tokens=len(natural)))
    (cut,) = respond(model, [prompt], Sampling(temperature=0, max_new_tokens=len(natural) - 1))
    assert (full.tokens, full.stopped) == (natural, True)
    assert (cut.tokens, cut.stopped) == (natural[:-1], False)


def test_sampling_follows_the_seed_and_the_models_distribution(tiny_model):
    model = load_model(str(tiny_model))
    prompt = [5, 6, 7]
    draws = [prompt] * 4000

    def first_tokens(seed: int) -> list[int]:
        sampling = Sampling(max_new_tokens=1, batch_size=4000, seed=seed)
        return [response.tokens[0] for response in respond(model, draws, sampling)]

    assert first_tokens(1) == first_tokens(1) != first_tokens(2)
    # Neither top_k nor repetition_penalty of the model's own generation_config nor a library default may bend it.
    with torch.no_grad():
        expected_V = model.network(torch.tensor([prompt])).logits[0, -1].softmax(-1).numpy()
    observed_V = np.bincount(first_tokens(1), minlength=len(expected_V)) / 4000
    assert abs(observed_V - expected_V).max() < 5 * np.sqrt(0.25 / 4000)
    assert (observed_V[expected_V > 0.005] > 0).all()


def test_top_p_keeps_the_smallest_nucleus(tiny_model):
    model = load_model(str(tiny_model))
    with torch.no_grad():
        probability_V = model.network(torch.tensor([[5, 6, 7]])).logits[0, -1].softmax(-1)
    sorted_V, tokens_V = probability_V.sort(descending=True)
    nucleus = set(tokens_V[: int((sorted_V.cumsum(0) < 0.5).sum()) + 1].tolist())
    responses = respond(model, [[5, 6, 7]] * 500, Sampling(top_p=0.5, max_new_tokens=1, batch_size=500))
    assert {response.tokens[0] for response in responses} == nucleus


def test_generation_refuses_what_the_model_cannot_hold(tiny_model):
    model = load_model(str(tiny_model))
    with pytest.raises(
        SettingsError, match=r"longest prompt \(10 tokens\) and 90 new ones exceed the model's 96.*at most 86"
    ):
        respond(model, [[1] * 10], Sampling(max_new_tokens=90))
    with pytest.raises(SettingsError, match="dtype: must be"):
        load_model(str(tiny_model), dtype="float33")
    with pytest.raises(SettingsError, match="top_p"):
        Sampling(top_p=0)


# --- where the model lies


def test_resolve_model_finds_the_weights_of_a_verl_run(tiny_model, tmp_path):
    for step in (2, 10):
        weights = tmp_path / "run" / f"global_step_{step}" / "actor" / "huggingface"
        weights.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (weights / name).write_bytes((tiny_model / name).read_bytes())
    latest = str(weights)
    run = tmp_path / "run"
    for place in (run, run / "global_step_10", run / "global_step_10" / "actor", weights):
        assert resolve_model(place) == latest
    assert resolve_model(run / "global_step_2") == latest.replace("global_step_10", "global_step_2")
    assert resolve_model("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"


def test_resolve_model_says_where_it_looked_and_what_to_do(tmp_path):
    # What verl leaves without hf_model: the configuration and the tokenizer, no weights.
    (tmp_path / "global_step_5" / "actor" / "huggingface").mkdir(parents=True)
    (tmp_path / "global_step_5" / "actor" / "huggingface" / "config.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"global_step_5/actor/huggingface.*save_contents.*hf_model"):
        resolve_model(tmp_path)
    with pytest.raises(SettingsError, match="no folder"):
        resolve_model(tmp_path / "absent")


# --- the numbers


def test_ratio_of_constant_weights_is_a_mean_with_its_standard_error():
    values = np.array([3.0, 5.0, 7.0, 9.0])
    # mean 6, sample variance (9 + 1 + 1 + 9) / 3 = 20/3, standard error sqrt(20/3/4) = sqrt(5/3)
    assert ratio(values, np.ones(4)) == pytest.approx((6.0, np.sqrt(5 / 3)))
    assert ratio(values[:1], np.ones(1)) == (3.0, None)


def test_ratio_of_sums_by_hand():
    # R = 30 / 12 = 2.5; residuals 10-10, 12-15, 8-5 = 0, -3, 3; sqrt(3/2 * 18) / 12 = sqrt(27) / 12
    value, error = ratio(np.array([10.0, 12.0, 8.0]), np.array([4.0, 6.0, 2.0]))
    assert (value, error) == pytest.approx((2.5, np.sqrt(27) / 12))


def test_summary_by_hand():
    rows = [
        row(0, 1, 10, shortest_tokens=10),
        row(1, 1, 30, shortest_tokens=10),
        row(2, 0, 40, shortest_tokens=20, truncated=True),
        row(3, 1, 20, shortest_tokens=10),
    ]
    summary = summarise(rows)
    assert summary == pytest.approx(
        {
            "prompts": 4,
            "problems": 4,
            "responses": 4,
            "accuracy": 0.75,
            "accuracy_se": 0.25,  # sqrt(3/16 * 4/3 / 4)
            "tokens_per_problem": 25.0,
            "tokens_per_problem_se": np.sqrt(500 / 3 / 4),  # deviations -15, 5, 15, -5
            "tokens_median": 25.0,
            "tokens_p90": 37.0,  # at 0.9 * 3 = 2.7 between 30 and 40
            "reasoning_tokens_per_problem": None,
            "answer_tokens_per_problem": None,
            "truncated_share": 0.25,
            "shortest_tokens_per_problem": 12.5,
            "over_shortest": 2.0,
            "over_shortest_se": np.sqrt(4 / 3 * 200) / 50,  # residuals -10, 10, 0, 0
        }
    )


def test_samples_of_one_prompt_count_as_one_draw():
    rows = [row(0, 1, 10), row(0, 1, 20), row(1, 0, 40), row(1, 1, 50)]
    summary = summarise(rows)
    assert summary["accuracy"] == 0.75
    assert summary["accuracy_se"] == pytest.approx(0.25)  # of the means 1 and 0.5: their deviation / sqrt(2)
    assert summary["tokens_per_problem"] == 30
    assert summary["tokens_per_problem_se"] == pytest.approx(15)  # of the means 15 and 45
    assert (summary["prompts"], summary["problems"], summary["responses"]) == (2, 2, 4)
    assert summary["over_shortest"] is None


def test_equal_rows_are_one_prompt():
    twice = summarise([row(0, 1, 10, key="a"), row(1, 1, 20, key="a"), row(2, 0, 40, key="b"), row(3, 1, 50, key="b")])
    samples = summarise([row(0, 1, 10), row(0, 1, 20), row(1, 0, 40), row(1, 1, 50)])
    assert (twice["prompts"], twice["problems"]) == (2, 4)
    assert twice == samples | {"problems": 4}


def printed(table) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_reasoning_and_answer_tokens_by_hand():
    rows = [
        row(0, 1, 90, problems=3, reasoning_tokens=60),
        row(1, 1, 30, reasoning_tokens=0),
    ]
    summary = summarise(rows)
    assert (summary["reasoning_tokens_per_problem"], summary["answer_tokens_per_problem"]) == (15, 15)  # 60 and 60 of 4
    table = printed(evaluation_table(result("a", rows)))
    (line,) = [line for line in table.splitlines() if line.lstrip().startswith("all")]
    assert line.split()[-2:] == ["15.0", "15.0"]
    assert "reasoning, answer: the two parts of the tokens per problem." in table
    assert "reasoning" not in printed(evaluation_table(result("a", [row(0, 1, 90, reasoning_tokens=0)])))
    unknown = summarise([*rows, row(2, 1, 10)])
    assert (unknown["reasoning_tokens_per_problem"], unknown["answer_tokens_per_problem"]) == (None, None)


def test_packed_prompts_count_each_problem():
    rows = [
        row(0, 1 / 3, 90, problems=3, shortest_tokens=45),
        row(1, 1, 30, problems=1, shortest_tokens=15),
    ]
    summary = summarise(rows)
    assert summary["problems"] == 4
    assert summary["accuracy"] == pytest.approx(0.5)  # 1 of 3 and 1 of 1
    assert summary["tokens_per_problem"] == 30
    assert summary["tokens_median"] == 30
    assert summary["shortest_tokens_per_problem"] == 15
    assert summary["over_shortest"] == 2


def test_strata_by_value_by_quarter_or_none():
    named = strata([row(0, 1, 5, difficulty=10), row(1, 0, 9, difficulty=2), row(2, 1, 7, difficulty=2)])
    assert {name: summarise(rows)["tokens_per_problem"] for name, rows in named.items()} == {"2": 8, "10": 5}
    assert list(named) == ["2", "10"]
    quarters = strata([row(i, 1, 1, difficulty=i / 20) for i in range(20)])
    assert {name: len(rows) for name, rows in quarters.items()} == {
        "0..0.2": 5,
        "0.25..0.45": 5,
        "0.5..0.7": 5,
        "0.75..0.95": 5,
    }
    assert strata([row(0, 1, 5, difficulty=1), row(1, 1, 5)]) == {}
    with pytest.raises(SettingsError, match="different names"):
        strata([row(i, 1, 1, difficulty=f"name {i}") for i in range(13)])


def result(label: str, rows: list[Row]) -> dict:
    return {
        "label": label,
        "data": "held_out.parquet",
        "summary": summarise(rows),
        "by_difficulty": {},
        "per_prompt": per_prompt(rows),
    }


def test_compare_is_paired():
    before = result("before", [row(0, 1, 10), row(1, 1, 20), row(2, 0, 30), row(3, 0, 40)])
    after = result("after", [row(0, 1, 5), row(1, 1, 10), row(2, 1, 15), row(3, 0, 20)])
    change = compare(before, after)
    # differences 0, 0, 1, 0: mean .25, standard error .25; every response is half as long, so the ratio has no error
    assert change == pytest.approx(
        {
            "prompts": 4,
            "accuracy_change": 0.25,
            "accuracy_change_se": 0.25,
            "tokens_ratio": 0.5,
            "tokens_ratio_se": 0.0,
        }
    )
    shuffled = result("shuffled", [row(2, 1, 15), row(0, 1, 5), row(3, 0, 20), row(1, 1, 10)])
    assert compare(before, shuffled) == change
    other = result("other", [row(0, 1, 10), row(9, 1, 20), row(2, 0, 30), row(3, 0, 40)])
    with pytest.raises(SettingsError, match=r"'before' \(4 prompts\) and 'other' \(4\).*3 prompts shared"):
        compare(before, other)


# --- the whole


def test_evaluate_counts_tokens_and_writes_rows(tiny_model, tmp_path):
    rows = [
        data_row(text, "5", difficulty=len(text), shortest_tokens=4) for text in ("0f5.", "0e2f3.", "0e1f4.", "0f6.")
    ]
    data = write_parquet(tmp_path / "test.parquet", rows)
    out, rows_file = tmp_path / "deep" / "result.json", tmp_path / "rows.jsonl"
    arguments = [str(tiny_model), str(data), "--out", str(out), "--rows", str(rows_file), "--label", "tiny"]
    arguments += ["--max-new-tokens", "16", "--batch-size", "3", "--samples", "2", "--temperature", "0.7"]
    ran = CliRunner().invoke(app, ["evaluate", *arguments], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "tiny" in ran.output

    written = json.loads(out.read_text())
    lines = [json.loads(line) for line in rows_file.read_text().splitlines()]
    assert [line["prompt"] for line in lines] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert written["summary"]["tokens_per_problem"] == pytest.approx(np.mean([line["tokens"] for line in lines]))
    assert written["summary"]["accuracy"] == pytest.approx(np.mean([line["acc"] for line in lines]))
    assert written["summary"]["truncated_share"] == np.mean([line["truncated"] for line in lines])
    assert written["summary"]["over_shortest"] == pytest.approx(np.mean([line["tokens"] for line in lines]) / 4)
    assert set(written["by_difficulty"]) == {"4", "6"}
    assert written["by_difficulty"]["6"]["problems"] == 2
    assert written["sampling"] == {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 16, "batch_size": 3, "seed": 0}
    assert (written["dtype"], written["label"]) == ("float32", "tiny")
    again = evaluate(tiny_model, data, sampling=Sampling(0.7, 1.0, 16, 3, 0), samples=2)
    assert again["per_prompt"] == written["per_prompt"]


def test_a_model_that_is_loaded_here_has_its_reasoning_counted(monkeypatch):
    """With a tokenizer of one token for each character; its ids are their code points."""

    class Characters:
        chat_template = "any"

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [ord(letter) for letter in text]}

        def apply_chat_template(self, messages, **_):
            return messages[-1]["content"]

        def decode(self, ids, skip_special_tokens):
            return "".join(map(chr, ids))

    texts = {"a": "<think>123</think>45", "b": "45", "c": "<think>1234"}

    def written(model, prompts, sampling):
        said = [texts[chr(prompt[0])] for prompt in prompts]
        return [
            Completion([0], 99, (0,), tokens=[*map(ord, text)], stopped=not text.startswith("<think>1234"))
            for text in said
        ]

    monkeypatch.setattr("verl_efficiency.evaluation.generate.respond", written)
    requests = [Request(key, 0, [{"role": "user", "content": key}], row) for row, key in enumerate(texts)]
    found = answers(LocalModel(None, Characters(), frozenset(), 0), requests, Sampling())
    assert [one.reasoning_tokens for one in found] == [3, 0, 4]
    assert [one.tokens for one in found] == [20, 2, 11]


def test_evaluate_grades_packed_problems_one_by_one(tmp_path):
    texts = [r"1:0Answer1::\boxed{5}" + "\n" + r"2:0Answer2::\boxed{7}", r"1:0Answer1::\boxed{5}"]
    answers = [Answer(text, tokens, truncated=False) for text, tokens in zip(texts, (20, 13), strict=True)]
    prompts = ("### Problem 1:0f5.\n### Problem 2:0l7.", "### Problem 1:0r5.\n### Problem 2:0l7.")
    rows = [data_row(prompt, json.dumps(["5", "7"]), shortest_tokens=11) for prompt in prompts]
    data = write_parquet(tmp_path / "pack.parquet", rows)
    engine = Engine("toy", {}, lambda requests, sampling: answers)
    summary = evaluate("toy", data, reward="batched_accuracy", engine=engine)["summary"]
    # Two packs of two: one of the four answers is missing.
    assert (summary["prompts"], summary["problems"], summary["accuracy"]) == (2, 4, 0.75)
    assert summary["tokens_per_problem"] == 33 / 4
    assert summary["over_shortest"] == pytest.approx(33 / 22)


def test_evaluate_refuses_wrong_data_before_it_loads_a_model(tmp_path):
    data = write_parquet(tmp_path / "a.parquet", [data_row("0f5.", "5", index=0)])
    with pytest.raises(SettingsError, match="did you mean 'batched_accuracy'"):
        evaluate("no/model", data, reward="batch_accuracy")
    packed = write_parquet(tmp_path / "packed.parquet", [data_row("1:", '["5", "7"]', n=2)])
    with pytest.raises(SettingsError, match="packs 2; use batched_accuracy"):
        evaluate("no/model", packed, reward="accuracy")
    broken = write_parquet(tmp_path / "broken.parquet", [data_row("1:", "5", n=2)])
    with pytest.raises(SettingsError, match="must be a list of 2 answers"):
        evaluate("no/model", broken, reward="batched_accuracy")
    with pytest.raises(SettingsError, match=r"there is no file .*absent.parquet"):
        load_prompts(tmp_path / "absent.parquet")
    misspelt = write_parquet(tmp_path / "b.parquet", [{"prompts": "0f5.", "reward_model": {"ground_truth": "5"}}])
    with pytest.raises(SettingsError, match="no column 'prompt'; did you mean 'prompts'"):
        load_prompts(misspelt)
    plain = write_parquet(tmp_path / "c.parquet", [{"prompt": "0f5.", "reward_model": {"ground_truth": "5"}}])
    with pytest.raises(SettingsError, match="row 0: prompt is a text, not a list of messages"):
        load_prompts(plain)
    written = write_parquet(tmp_path / "d.parquet", [data_row("0f5.", "5") | {"extra_info": '{"index": 0}'}])
    with pytest.raises(SettingsError, match="row 0: extra_info: must be a mapping, got "):
        load_prompts(written)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """1,000 evaluations of 120 problems with 4 samples each; harder problems take more tokens."""
    rng = np.random.default_rng(0)
    tokens = np.exp(6.125) * 2 * (1 - 2 / np.e)  # E exp(6 − p + 0.125), where the solve rate p has the density 2p
    truth = {"accuracy": 2 / 3, "tokens": tokens, "tokens per correct": tokens * 3 / 2}
    covered = dict.fromkeys(truth, 0)
    for _ in range(1000):
        rate_P = rng.beta(2, 1, 120)
        correct_P = rng.binomial(4, rate_P).astype(float)
        tokens_P = rng.lognormal(6 - rate_P, 0.5, (4, 120)).sum(0)
        sums = {"accuracy": (correct_P, np.full(120, 4.0)), "tokens": (tokens_P, np.full(120, 4.0))}
        sums["tokens per correct"] = (tokens_P, correct_P)
        for name, (above_P, below_P) in sums.items():
            value, error = ratio(above_P, below_P)
            covered[name] += abs(value - truth[name]) <= 1.96 * error
    assert all(930 <= count <= 970 for count in covered.values()), covered


# --- logs, table, picture


def test_training_logs_of_both_loggers(tmp_path):
    jsonl = tmp_path / "run.jsonl"
    entries = [(0, {"val-core/acc": 0.5}), (1, {"response_length/mean": 90.0}), (2, {"response_length/mean": 60})]
    jsonl.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in entries))
    assert read_metric(jsonl) == [(1, 90.0), (2, 60.0)]
    console = tmp_path / "run.log"
    console.write_text(
        "Training Progress: 10%\n"
        "\x1b[36m(TaskRunner pid=12)\x1b[0m step:1 - response_length/max:99.0 - response_length/mean:90.5 - a/b:nan\n"
        "step:2 - response_length/mean:np.float64(6.05e+01) - timing_s/gen:1.5\n"
    )
    assert read_metric(console) == [(1, 90.5), (2, 60.5)]
    with pytest.raises(SettingsError, match="did you mean 'response_length/mean'"):
        read_metric(jsonl, "response_lengths/mean")
    console.write_text("INFO ppo_trainer.py:551] Global step 7: {'rollout/response_length_mean': 81.5, 'kl': nan}\n")
    assert read_metric(console) == [(7, 81.5)]
    console.write_text("Global step 7: {'kl': 0.5}\n")
    with pytest.raises(SettingsError, match=r"response_length/mean \(verl\) or .*response_length_mean \(OpenRLHF\)"):
        read_metric(console)
    with pytest.raises(SettingsError, match=r"of verl \(.*\) or OpenRLHF \("):
        read_metric(tmp_path / "absent.log")
    assert parse_training_log("a=b=c.jsonl:3") == TrainingLog("a", Path("b=c.jsonl"), 3)
    assert parse_training_log("a=c.jsonl") == TrainingLog("a", Path("c.jsonl"), 1)
    with pytest.raises(SettingsError, match="LABEL=FILE"):
        parse_training_log("c.jsonl")


def write_results(tmp_path: Path) -> list[Path]:
    before = result("warm start", [row(i, i != 3, 20 + 10 * i, shortest_tokens=10 + i) for i in range(10)])
    after = result("token_budget", [row(i, 1, 10 + 5 * i, shortest_tokens=10 + i) for i in range(10)])
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    for path, value in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(value))
    return paths


def test_report_prints_changes_and_draws(tmp_path, capsys):
    log = tmp_path / "run.jsonl"
    log.write_text(
        "".join(json.dumps({"step": s, "data": {"response_length/mean": 90 - s}}) + "\n" for s in range(1, 9))
    )
    picture = tmp_path / "pictures" / "report.png"
    changes = report(write_results(tmp_path), [TrainingLog("token_budget", log)], picture)
    assert changes[0]["label"] == "token_budget"
    assert changes[0]["tokens_ratio"] == 0.5
    printed = capsys.readouterr().out
    assert all(number in printed for number in ("-50.0", "+10.0", "90.0"))
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[1] >= 900
    assert pixels.std() > 0.05  # not an empty canvas


def test_report_refuses_what_is_not_comparable(tmp_path):
    before, after = write_results(tmp_path)
    with pytest.raises(SettingsError, match="different for each result of one command"):
        report([before, before])
    other = tmp_path / "other.json"
    other.write_text(json.dumps(result("other", [row(i, 1, 1) for i in range(9)])))
    with pytest.raises(SettingsError, match="not on the same"):
        report([before, other])
    other.write_text("[]")
    with pytest.raises(SettingsError, match="not a result of"):
        report([after, other])


def test_without_matplotlib_the_table_still_prints_and_the_mend_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError, match=r"pip install 'verl-efficiency\[evaluation\]'"):
        report(write_results(tmp_path), out=tmp_path / "a.png")
    assert "token_budget" in capsys.readouterr().out
