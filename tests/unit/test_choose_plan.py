"""``task-scaling --problems auto``: the bound by hand, the choice of a made-up model, the plan applied to new problems."""

import itertools
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from verl_efficiency.cli import app
from verl_efficiency.data import (
    Band,
    PackingSettings,
    PackPlan,
    load_plan,
    pack_rows_by_plan,
    packs_by_plan,
    read_rows,
    write_rows,
)
from verl_efficiency.evaluation import generate
from verl_efficiency.evaluation.choose_plan import Reply, by_band, choose_plan, loss_at_most
from verl_efficiency.evaluation.engines import Answer, Engine, Sampling
from verl_efficiency.evaluation.results import load_scaling
from verl_efficiency.settings import SettingsError


def row(number, level, **extra):
    return {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": f"name {number} of level {level}"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(number)},
        "extra_info": {"index": number, "split": "test", "difficulty": level} | extra,
    }


ROWS = [row(number, number % 3, group=number % 5) for number in range(240)]
HOLDS = {0: 4, 1: 2, 2: 1}  # the largest pack of each level that the made-up model answers


def exact(asked):
    """Answers packs of one level up to ``HOLDS``, and none that are larger or mixed. 10 tokens a prompt, 5 for each problem."""

    def answer(requests, sampling):
        answers = []
        for request in requests:
            text = request.messages[-1]["content"]
            found = re.findall(r"name (\d+) of level (\d)", text)
            asked.append([int(number) for number, _ in found])
            levels = {int(level) for _, level in found}
            said = [rf"Answer{i}::\boxed{{{number}}}" for i, (number, _) in enumerate(found, start=1)]
            said = said if len(found) > 1 else [rf"\boxed{{{found[0][0]}}}"]
            knows = len(levels) == 1 and len(found) <= HOLDS[levels.pop()]
            answers.append(Answer(" ".join(said) if knows else "", 10 + 5 * len(found), truncated=False))
        return answers

    return answer


def chosen(tmp_path, asked=None, rows=ROWS, given=None, **more):
    write_rows(tmp_path / "data.parquet", rows)
    engine = Engine("toy", {}, exact([] if asked is None else asked))
    options = {
        "by": "extra_info.difficulty",
        "bands": 3,
        "max_loss": 0.15,
        "sampling": Sampling(),
        "label": "toy",
    } | more
    return choose_plan(engine, tmp_path / "data.parquet", given or {}, **options)


# --- the bound


def test_the_bound_of_two_packs_by_hand():
    # 2 packs of 2, one answer lost: loss 1/4, residuals 1 - 2/4 and 0 - 2/4, spread 2 · (1/4 + 1/4) = 1
    assert loss_at_most(np.array([1.0, 0.0]), np.array([2.0, 2.0]), 1) == pytest.approx((1 + 1.645 * math.sqrt(5)) / 8)
    # the same packs, sampled 3 times each: 12 answers, of which 3 are lost; one response still has 2
    spread = 2 * (1.5**2 + 1.5**2)
    found = loss_at_most(np.array([3.0, 0.0]), np.array([6.0, 6.0]), 3)
    assert found == pytest.approx((3 + 1.645 * math.sqrt(spread + 4)) / 16)
    assert loss_at_most(np.array([0.0]), np.array([3.0]), 1) == 1.0  # one pack excludes nothing


@pytest.mark.parametrize("packs", [20, 60, 200])
@pytest.mark.parametrize("whole", [0.0, 0.05])
def test_the_bound_covers_the_loss(packs, whole):
    """In at most about 5 % of 1,000 experiments the true loss is above the bound, also if packs fail as a whole."""
    rng = np.random.default_rng(packs)
    single, packed, size = 0.9, 0.88, 3
    alone = (rng.random((1000, packs, size)) < single).sum(axis=2)
    together = (rng.random((1000, packs, size)) < packed).sum(axis=2) * (rng.random((1000, packs)) >= whole)
    truth = single - packed * (1 - whole)
    bounds = [loss_at_most(lost, np.full(packs, float(size)), 1) for lost in (alone - together).astype(float)]
    assert np.mean(np.array(bounds) >= truth) > 0.93


# --- the choice


def test_each_band_gets_the_largest_size_that_it_holds(tmp_path):
    asked = []
    result = chosen(tmp_path, asked)
    bands = result["auto"]["plan"]["bands"]
    assert bands == [{"up_to": 0.0, "problems": 4}, {"up_to": 1.0, "problems": 2}, {"up_to": 2.0, "problems": 1}]
    tried = [[size["problems"] for size in band["sizes"]] for band in result["auto"]["bands"]]
    assert tried == [[2, 3, 4, 6], [2, 3], [2]]  # up to the first that loses
    assert [band["tokens"] for band in result["auto"]["bands"]] == [15.0] * 3
    lost = result["auto"]["bands"][1]["sizes"][1]
    assert (lost["loss"], lost["kept"]) == (pytest.approx(36 / 40), False)  # 12 packs of 3, which it loses, and 2 of 2

    held_out = result["auto"]["held_out"]
    assert (held_out["problems"], held_out["accuracy"], held_out["loss"], held_out["loss_se"]) == (120, 1.0, 0.0, 0.0)
    # 40 problems of each level: 10 packs of 4, 20 of 2, 40 alone; 10 tokens a prompt and 5 a problem
    assert held_out["prompts_per_problem"] == pytest.approx(70 / 120)
    assert held_out["tokens_per_problem"] == pytest.approx(5 + 10 * 70 / 120)
    assert held_out["loss_by_band"] == [0.0, 0.0, 0.0]
    assert [point["problems"] for point in result["points"]] == [1, 2, 3, 4]
    assert result["points"][0]["accuracy"] == 1.0
    assert result["points"][3]["accuracy"] < 0.3 < result["points"][3]["loss"]


def test_no_problem_chooses_and_checks(tmp_path):
    asked = []
    chosen(tmp_path, asked)
    single = [pack[0] for pack in asked if len(pack) == 1]
    assert sorted(single) == list(range(240))  # each alone once: what is asked alone again is not asked again
    together = {frozenset(pair) for pack in asked for pair in itertools.combinations(sorted(pack), 2)}
    first = set(single[:120])
    assert len(together) > 100
    assert all(len(pair & first) in (0, 2) for pair in together)


def test_sizes_that_cannot_be_filled_are_not_chosen(tmp_path):
    rows = [row(number, 0, group=number % 3) for number in range(240)]
    result = chosen(tmp_path, rows=rows, given={"distinct_by": "extra_info.group"}, bands=1)
    assert [band["problems"] for band in result["auto"]["plan"]["bands"]] == [3]
    assert load_scaling_of(result, tmp_path).packing.distinct_by == "extra_info.group"


def load_scaling_of(result, tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(result))
    return load_plan(tmp_path / "result.json")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"max_loss": 0.01}, "--max-loss"),
        ({"max_loss": 0.0}, "--max-loss"),
        ({"bands": 0}, "--bands"),
        ({"limit": 0}, "--limit"),
        ({"by": "extra_info.dificulty"}, r"did you mean 'extra_info\.difficulty'.*--by characters"),
        ({"by": "data_source"}, "--by: 'data_source' of row 0"),
        ({"given": {"grouping": "stratified"}}, "--set grouping"),
    ],
)
def test_wrong_options_ask_nothing(tmp_path, more, message):
    asked = []
    with pytest.raises(SettingsError, match=message):
        chosen(tmp_path, asked, **more)
    assert not asked


def test_the_number_in_the_error_is_enough(tmp_path):
    with pytest.raises(SettingsError) as error:
        chosen(tmp_path, rows=ROWS[:12], max_loss=0.2)
    needed = int(re.search(r"about (\d+)", str(error.value))[1])
    chosen(tmp_path, rows=ROWS[:needed], max_loss=0.2)


def test_the_loss_of_each_band_by_hand():
    alone = [Reply([number], np.array([2]), 0, 0) for number in range(4)]  # 2 samples, both correct
    own = [Reply([3, 0], np.array([0, 1]), 0, 0), Reply([1, 2], np.array([2, 1]), 0, 0)]
    bands = np.array([0, 0, 1, 1])
    assert by_band(own, alone, bands, samples=2) == {"loss_by_band": [0.25, 0.75]}  # 1 of 4 lost, 3 of 4 lost


# --- the plan

PLAN = PackPlan("extra_info.difficulty", (Band(0.5, 3), Band(1.5, 2)), PackingSettings(grouping="random"))


@given(
    expected=st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0]), max_size=40),
    keys=st.one_of(st.none(), st.lists(st.integers(0, 3), min_size=40, max_size=40)),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_problem_is_in_one_pack_of_its_band(expected, keys, seed):
    packs = packs_by_plan(expected, PLAN, seed, keys and keys[: len(expected)])
    assert sorted(itertools.chain(*packs)) == list(range(len(expected)))
    for pack in packs:
        (size,) = {3 if expected[number] <= 0.5 else 2 if expected[number] <= 1.5 else 1 for number in pack}
        assert 1 <= len(pack) <= size
        assert keys is None or len({keys[number] for number in pack}) == len(pack)
    if keys is None:
        assert sum(len(pack) < 3 for pack in packs if expected[pack[0]] <= 0.5) <= 2  # as few packs as possible, even


def test_rows_of_a_plan():
    rows = [row(number, level) for number, level in enumerate([0, 0, 1, 5])]
    packed = {row["extra_info"]["problem_ids"]: row for row in pack_rows_by_plan(rows, PLAN, seed=1)}
    (pair,) = [ids for ids in packed if len(json.loads(ids)) == 2]
    assert sorted(json.loads(pair)) == [0, 1]
    assert packed[pair]["extra_info"]["n"] == 2
    for number in (2, 3):  # alone: its own prompt and answer
        single = packed[f"[{number}]"]
        assert single["prompt"] == rows[number]["prompt"]
        assert single["reward_model"]["ground_truth"] == str(number)
        assert "n" not in single["extra_info"]


@pytest.mark.parametrize("bands", [(), (Band(1.0, 2), Band(1.0, 1)), (Band(1.0, 0),)])
def test_a_plan_without_bands_or_with_wrong_ones(bands):
    with pytest.raises(SettingsError, match="bands"):
        PackPlan("characters", bands, PackingSettings())


# --- the commands


def test_measure_then_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "transformers_engine", lambda *_: Engine("toy", {"device": "none"}, exact([])))
    write_rows(tmp_path / "dev.parquet", ROWS)
    write_rows(tmp_path / "new.parquet", ROWS[:30])
    out, packs = tmp_path / "plan.json", tmp_path / "packs.parquet"

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    measure = ("evaluate", "task-scaling", "toy", tmp_path / "dev.parquet", "--problems", "auto", "--out", out)
    outcome = run(*measure, "--max-loss", 0.1, "--samples", 2)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    assert load_scaling(out)["auto"]["held_out"]["accuracy"] == 1.0
    outcome = run("pack", tmp_path / "new.parquet", packs, "--problems", out)
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    sizes = [len(json.loads(row["extra_info"]["problem_ids"])) for row in read_rows(packs)]
    assert sorted(sizes) == [1] * 10 + [2] * 5 + [3, 3, 4]

    outcome = run("evaluate", "toy", packs, "--reward", "batched_accuracy", "--out", tmp_path / "e.json")
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    assert json.loads((tmp_path / "e.json").read_text())["summary"]["accuracy"] == 1.0

    report = run("report", out, "--out", tmp_path / "report.html")
    assert report.exit_code == 0, (report.output, report.exception)
    assert "chosen N" in report.output
    assert "held_out" not in (tmp_path / "report.html").read_text()  # the settings of the page
    for wrong in (
        *(("--problems", out, "--grouping", "random"), ("--problems", out, "--set", "separator=x")),
        *(("--problems", out, "--ending", "Think."), ("--problems", tmp_path / "no.json"), ("--problems", "two")),
        ("--set", "problems=2"),
    ):
        outcome = run("pack", tmp_path / "new.parquet", packs, *wrong)
        assert isinstance(outcome.exception, SettingsError), wrong


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"auto": {"plan": {"bands": [{}]}}}'])
def test_a_plan_of_another_kind_is_one_line(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(SettingsError, match=r"--problems: .*p\.json"):
        load_plan(tmp_path / "p.json")
