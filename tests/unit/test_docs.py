"""Every command on a page runs, or says what it needs; every verdict on the grading page is what the grader says."""

import dataclasses
import doctest
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.docs_pages import MARKS, PAGES, ROOT, added, all_blocks, blocks
from verl_efficiency.grading import Status, extract_answer, grade
from verl_efficiency.methods.catalog import METHODS
from verl_efficiency.openrlhf.options import take_options
from verl_efficiency.testbed.prepare import prepare
from verl_efficiency.testbed.tasks import task_named

RUN = [page for page in PAGES if any((block.language, block.mark) == ("bash", "test") for block in blocks(page))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def inspect_log():
    """A log as ``inspect log dump`` prints it, made by hand: two problems, two epochs.

    Right and in one text; cut off; right and in parts, after its reasoning; and a sample without an output.
    """

    def sample(number, epoch, target, content, tokens, stop="stop"):
        message = {"content": content, "source": "generate", "role": "assistant"}
        usage = {"input_tokens": 9, "output_tokens": tokens, "total_tokens": 9 + tokens}
        output = {"model": "m", "choices": [{"message": message, "stop_reason": stop}], "usage": usage}
        score = {"match": {"value": "C", "answer": target}}
        return {
            "id": number,
            "epoch": epoch,
            "input": "?",
            "target": target,
            "messages": [message],
            "output": output,
        } | {"scores": score}

    parts = [{"type": "reasoning", "reasoning": r"\boxed{1}"}, {"type": "text", "text": r"So \boxed{6}."}]
    samples = [
        sample(1, 1, "4", r"It is \boxed{4}.", 30),
        sample(1, 2, "4", "It is", 100, "max_tokens"),
        sample(2, 1, "6", parts, 50),
        sample(2, 2, "6", "", 0),
    ]
    samples[-1]["output"] = {"model": "m", "choices": []}
    return {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}, "samples": samples}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The files that the pages speak of: raw problems, a model with its problems, stored responses, a folder of rollouts."""
    folder = tmp_path_factory.mktemp("small")
    task = task_named("checks")
    prepare(task, folder, 0, {"train": 24, "test": 12})
    (folder / "model").rename(folder / "MODEL")
    raw = [{"question": f"What is {n} + {n}?", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(1, 13)]
    responses = [
        {
            "problem": number,
            "question": f"What is {number} + {number}?",
            "answer": str(2 * number),
            "response": f"So it is \\boxed{{{2 * number + (sample == 2)}}}",
            "tokens": 20 + 10 * sample + number,
        }
        for number in range(1, 7)
        for sample in range(4)
    ]
    shorter = [row | {"tokens": row["tokens"] // 2} for row in responses]
    for name, rows in (("gsm8k", raw), ("rows", responses), ("before", responses), ("after", shorter)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = [
        {
            "key": f"problem {number}",
            "difficulty": number / 8,
            "acc": float(sample != 3),
            "tokens": 100 + 40 * number + 10 * sample,
        }
        for number in range(8)
        for sample in range(4)
    ]
    (folder / "rollouts").mkdir()
    (folder / "rollouts" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    (folder / "log.json").write_text(json.dumps(inspect_log()))
    solutions = [
        {
            "data_source": "mine",
            "prompt": [{"role": "user", "content": f"{n} + {n}?"}],
            "reward_model": {"style": "rule", "ground_truth": f"It is {2 * n}.\n#### {2 * n}"},
            "extra_info": {"split": "train", "index": n},
        }
        for n in range(1, 13)
    ]
    pq.write_table(pa.Table.from_pylist(solutions), folder / "solutions.parquet")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_is_done_with_it(page):
    for block in blocks(page):
        if block.mark.startswith("e2e="):
            runner = ROOT / block.mark.removeprefix("e2e=")
            assert runner.is_file(), block.place
            for script in re.findall(r"\b(?:recipes|tests|benchmarks)/[\w/]+\.\w+", block.text):
                assert Path(script).name in runner.read_text(), f"{block.place}: {script} is not run by {runner.name}"
        elif block.language in MARKS:
            assert block.mark in MARKS[block.language], f"{block.place}: mark it as one of {MARKS[block.language]}"
        else:
            assert block.language in ("text", "toml", "yaml", "json"), f"{block.place}: {block.language!r}"


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / "recipes").rglob("*.md")], ids=name_of)
def test_links_lead_to_files_of_the_repository(page):
    """So they work on GitHub, where the pages of the site that are made of code do not exist."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", prose)
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_commands(page, small, tmp_path):
    """One folder for a page: what a block writes is there for the next."""
    for file in small.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    shim = tmp_path / "bin" / "verl-efficiency"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -m verl_efficiency.cli "$@"\n')
    shim.chmod(0o755)
    path = f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    for block in blocks(page):
        if block.mark != "test":
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.place}\n{block.text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    if page.name == "evaluation.md":
        (read,) = json.loads((tmp_path / "inspect.json").read_text())["rows"]
        assert (read["responses"], read["problems"], read["accuracy"], read["tokens"]) == (3, 2, 2 / 3, 60)
        assert read["truncated"] == 1 / 3


@pytest.mark.parametrize("block", all_blocks("diff", "openrlhf"), ids=lambda block: block.place)
def test_flags_of_openrlhf(block):
    words = shlex.split(added(block))
    options, rest = take_options(words[words.index("verl_efficiency.openrlhf.train") + 1 :])
    assert options.method is not None or options.reward is not None
    assert not any("efficiency" in word for word in rest)


def verdicts():
    text = (ROOT / "docs" / "guides" / "grading.md").read_text()
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (right|wrong)\b", text, re.MULTILINE)
    return [pytest.param(*row, id=f"{row[0]} for {row[1]}") for row in rows]


@pytest.mark.parametrize(("answer", "gold", "said"), verdicts())
def test_the_grading_page_says_what_the_grader_says(answer, gold, said):
    verdict = grade(extract_answer(answer) if "boxed" in answer else answer, gold)
    assert verdict.correct == (said == "right"), verdict


def test_the_grading_page_has_examples_and_every_status():
    assert len(verdicts()) >= 20
    text = (ROOT / "docs" / "guides" / "grading.md").read_text()
    assert all(f"`{status.value}`" in text for status in Status)


@pytest.fixture(scope="module")
def generated():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs" / "_site")
        return importlib.import_module("generate")


def test_the_examples_of_the_generator(generated):
    assert doctest.testmod(generated).failed == 0
    assert doctest.testmod(generated.measured).failed == 0


def test_every_setting_and_paper_is_in_the_reference(generated):
    pages = generated.pages()
    for method in METHODS:
        assert generated.path_of(method) in pages
        for field in dataclasses.fields(method.settings_class()):
            assert f"| `{field.name}` |" in pages["reference/settings.md"], f"{method.name}.{field.name}"
        for number in re.findall(r"\d{4}\.\d{5}", method.paper):
            assert f"https://arxiv.org/abs/{number}" in pages["reference/papers.md"]


def test_the_tables_on_the_pages_are_those_of_the_results_files(generated):
    for name in generated.measured.PAGES:
        text = (ROOT / "docs" / name).read_text()
        marked = generated.measured.MARKED.findall(text)
        assert len(marked) == text.count("<!-- measured ") > 0
        assert generated.measured.fill(text) == text, "run: python docs/_site/measured.py"


def made_table(generated, question, folder):
    """The lines that take the place of the old table."""
    marked = f"<!-- measured {question} -->\nold\n<!-- /measured -->"
    return generated.measured.fill(marked, folder).splitlines()[1:-1]


def test_what_was_measured_by_hand(generated, tmp_path):
    def row(arm, accuracy, tokens, **more):
        base = {
            "arm": arm,
            "kind": "published",
            "value": None,
            "seeds": 1,
            "accuracy": accuracy,
            "tokens": tokens,
            "above_frontier": tokens - 20,
        }
        return base | dict.fromkeys(("accuracy_interval", "tokens_interval", "above_frontier_interval")) | more

    levels = {"accuracy_by_level": [1.0, 0.5], "reaches_floor": True}
    trials = [{"value": value, "accuracy": 0.9, "tokens": 25.0} for value in (0.1, 0.2)]
    tuned = {"kind": "tuned", "value": 0.1, "strength": "weight", "tried": trials}
    rows = [
        row("grpo", 0.985, 52.5, **levels),
        row("kimi", 0.9, 23.0, **{**levels, "reaches_floor": False}),
        row("kimi", 0.97, 25.0, seeds=3, **tuned, **{**levels, "accuracy_interval": 0.01, "tokens_interval": 2.0}),
    ]
    file = tmp_path / "pareto.json"
    file.write_text(json.dumps({"steps": 100, "rows": rows}))
    table = made_table(generated, "pareto", tmp_path)
    assert table[2] == "| `grpo` | 98.5 % | 50 % | 52.5 | 32.5 | 1 |"
    assert table[3] == "| `kimi` | 90.0 % ↓ | 50 % | 23.0 | 3.0 | 1 |"
    assert len(table) == 4
    tuned_table = made_table(generated, "pareto_tuned", tmp_path)
    shown = "| `kimi` | `weight` | **0.1**, 0.2 | 97.0 ± 1.0 % | 50 % | 25.0 ± 2.0 | 5.0 | 3 | 90.0 % @ 23.0 |"
    assert tuned_table[2:] == [shown]
    of_method = generated.measured.of_method
    kimi, laser, laser_d = (next(one for one in METHODS if one.name == name) for name in ("kimi", "laser", "laser_d"))
    text = of_method(kimi, tmp_path)
    assert "100 steps" in text
    for figure in ("98.5 % at 52.5", "90.0 % at 23.0 tokens (1 seed)", "`kimi` with `weight=0.1`, tuned: 97.0 ± 1.0 %"):
        assert figure in text
    file.write_text(json.dumps({"steps": 100, "rows": [*rows, row("laser_d", 0.95, 36.0, **levels)]}))
    assert "95.0 % at 36.0" in of_method(laser_d, tmp_path)
    assert of_method(laser, tmp_path) == ""  # another method, whose name only begins like it
    of_reward = next(one for one in METHODS if one.name == "cosine" and one.hook == "reward")
    assert of_method(of_reward) == ""
    for question, arm in (("routing", "self_distillation"), ("few_tokens", "t_spmo")):
        (tmp_path / f"{question}.json").write_text(
            json.dumps({"steps": 50, "rows": [row("grpo", 0.9, 40.0, **levels), row(arm, 0.6, 30.0, **levels)]})
        )
        text = of_method(next(one for one in METHODS if one.name == arm), tmp_path)
        for figure in ("50 steps", "90.0 % at 40.0", "60.0 % at 30.0 tokens (1 seed)"):
            assert figure in text


def test_tables_of_the_other_questions_by_hand(generated, tmp_path):
    def answer(question, **content):
        (tmp_path / f"{question}.json").write_text(json.dumps(content))
        return made_table(generated, question, tmp_path)

    scored = {"accuracy": 0.95, "accuracy_interval": None, "tokens": 27.04, "tokens_interval": None, "seeds": 2}
    packed = scored | {"arm": "bcr_2", "problems": 2, "limit_per_problem": 33.0, "binds": True}
    points = [{"problems": size, "accuracy": 1 - size / 10, "tokens_per_problem": 40 / size} for size in (1, 2)]
    table = answer("bcr", rows=[packed, packed | {"binds": False}], task_scaling=[{"model": "grpo", "points": points}])
    assert table[2:4] == [
        "| `bcr_2` | 2 | 33 | 95.0 % | 27.0 | 2 |",
        "| `bcr_2` | 2 | 33, never reached | 95.0 % | 27.0 | 2 |",
    ]
    assert table[-3] == "| model | N = 1 | N = 2 |"
    assert table[-1] == "| `grpo` | 90.0 % @ 40.0 | 80.0 % @ 20.0 |"

    row = scored | {"arm": "easy_habit.data", "warm_start": "notes_easy_habit", "tokens_by_level": [16.2, 57.6]}
    table = answer("difficulty", rows=[row | {"saved_against_flat": 0.146}, row | {"saved_against_flat": None}])
    assert table[2] == "| `notes_easy_habit` | `data` | 95.0 % | 27.0 | 2 | 16 58 | 15 % |"
    assert table[3].endswith("| 16 58 | – |")

    row = scored | {"arm": "early.penalty_4", "warm_start": "notes_early", "accuracy_by_level": [1.0, 0.42]}
    row |= {"lost_at": [None, 20], "told": {"length collapse": [30, None], "explosion": [None, None]}}
    table = answer("collapse", rows=[row, row | {"lost_at": [None, None], "told": {}}])
    assert table[2].endswith("| 42 % | 2 (step 20) | length collapse (step 30) |")
    assert table[3].endswith("| 42 % | none | nothing |")

    forms = [scored | {"method": "kimi", "form": form} for form in ("published", "dr_grpo")]
    table = answer("normalisation", rows=[*forms, forms[0] | {"method": "alp"}])
    assert table[2:] == ["| `kimi` | 95.0 % @ 27.0 | 95.0 % @ 27.0 |", "| `alp` | 95.0 % @ 27.0 | – |"]


def test_the_table_of_the_language_model_by_hand(generated, tmp_path):
    def score(accuracy, tokens):
        return {"accuracy": accuracy, "tokens_per_problem": tokens}

    found = {
        "compared_with": "grpo",
        "summaries": {
            "grpo": {"1": score(0.9, 60.0), "2": score(0.92, 61.0), "3": score(0.91, 62.0)},
            # Seed 0 is left out: grpo was not trained with it.
            "token_budget": {"0": score(0.1, 9.0), **{seed: score(0.905, 42.0) for seed in ("1", "2", "3")}},
            "warm_start": {"0": score(0.9, 60.0)},
        },
    }

    def made():
        (tmp_path / "smollm2.json").write_text(json.dumps(found))
        return made_table(generated, "smollm2", tmp_path)[2:]

    # Points: +.5, −1.5, −.5. Tokens: −30.00, −31.15, −32.26 %. With three values the interval is 4.30 s / √3.
    assert made() == [
        "| `warm_start` | 90.0 % | 60.0 | – | – | 90.0 % @ 60.0 |",
        "| `grpo` | 91.0 % | 61.0 | – | – | 90.0 % @ 60.0, 92.0 % @ 61.0, 91.0 % @ 62.0 |",
        "| `token_budget` | 90.5 % | 42.0 | −0.5 ± 2.5 | −31.1 ± 2.8 | 90.5 % @ 42.0, 90.5 % @ 42.0, 90.5 % @ 42.0 |",
    ]
    del found["summaries"]["token_budget"]["3"]  # two are too few for an interval
    assert made()[2].startswith("| `token_budget` | 90.5 % | 42.0 | −0.5 | −30.6 |")


def test_the_tables_of_the_pack_plan_by_hand(generated, tmp_path):
    measured = {"accuracy": 0.975, "accuracy_se": 0.004, "loss": -0.012, "loss_se": 0.005, "tokens_per_problem": 61.25}
    measured |= {"tokens_per_problem_se": 2.0, "prompts_per_problem": 0.5}
    tried = [{"problems": 2, "loss": -0.001, "at_most": 0.012}, {"problems": 3, "loss": 0.2, "at_most": 0.25}]
    bands = [{"problems": 30, "tokens": 28.6, "sizes": tried}, {"problems": 12, "tokens": 91.0, "sizes": tried[:1]}]
    found = {
        "points": [{"problems": 1, **measured}, {"problems": 2, **measured, "loss_by_band": [-0.02, 0.004]}],
        "auto": {
            "bands": bands,
            "plan": {"bands": [{"problems": 2}, {"problems": 1}]},
            "held_out": {"problems": 40, **measured, "loss_by_band": [0.01, 0.0]},
        },
    }
    (tmp_path / "pack_plan.json").write_text(json.dumps(found))
    lines = made_table(generated, "pack_plan", tmp_path)
    assert [line for line in lines if line and "---" not in line] == [
        "42 problems chose:",
        "| answer alone | loss at N = 2, at most | loss at N = 3, at most | chosen |",
        "| 29 tokens | −0.1, 1.2 | +20.0, 25.0 | 2 |",
        "| 91 tokens | −0.1, 1.2 |  | 1 |",
        "40 others checked:",
        "| N | accuracy, % | loss, points | of each band | tokens per problem | prompts per problem |",
        "| 1 | 97.5 ± 0.4 |  |  | 61.2 ± 2.0 | 0.50 |",
        "| 2 | 97.5 ± 0.4 | −1.2 ± 0.5 | −2.0  +0.4 | 61.2 ± 2.0 | 0.50 |",
        "| auto | 97.5 ± 0.4 | −1.2 ± 0.5 | +1.0  +0.0 | 61.2 ± 2.0 | 0.50 |",
    ]


def test_the_table_of_large_files_by_hand(generated, tmp_path):
    run = {"command": "grade", "seconds": 41.4, "peak_memory_mb": 1422}
    found = {"rows": 1_000_000, "file_mb": 294, "runs": [run | {"ray": False}, run | {"ray": True}]}
    (tmp_path / "large_files.json").write_text(json.dumps(found))
    assert made_table(generated, "large_files", tmp_path) == [
        "| 1,000,000 rows, 294 MB | seconds | peak memory, MB |",
        "| --- | --- | --- |",
        "| `grade` | 41 | 1,422 |",
        "| `grade`, `--ray` | 41 | 1,422 |",
    ]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="the extra `docs`")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_site_builds_with_a_page_for_every_method(site):
    for method in METHODS:
        folder = "rewards" if method.hook == "reward" else "methods"
        assert method.summary.split("`")[0][:40] in (site / folder / method.name / "index.html").read_text()


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\" >]+)", page.read_text())
        loaded += re.findall(
            r"<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+href=\"?(https?:[^\" >]+)", page.read_text()
        )
        assert not loaded, f"{page.relative_to(site)}: {loaded}"
