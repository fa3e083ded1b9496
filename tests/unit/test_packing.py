"""Packing: who shares a prompt, and what the packed rows say."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_efficiency.commands.pack import packing_settings
from verl_efficiency.data import (
    PackingSettings,
    load_problems,
    pack_parquet,
    pack_rows,
    plan_packs,
    read_rows,
    write_rows,
)
from verl_efficiency.rewards import batched_accuracy
from verl_efficiency.settings import SettingsError, build_settings

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def row(number, question=None, answer=None, system=None, data_source="sums", **extra_info):
    prompt = [{"role": "user", "content": question or f"{number}+{number}?"}]
    if system is not None:
        prompt.insert(0, {"role": "system", "content": system})
    return {
        "data_source": data_source,
        "prompt": prompt,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": answer or str(2 * number)},
        "extra_info": {"index": number, "split": "train", "difficulty": number / 10} | extra_info,
    }


def rows(count, **extra_info):
    return [row(number, **extra_info) for number in range(count)]


# --- who shares a prompt


@pytest.mark.parametrize("grouping", ["random", "stratified", "easy_hard"])
@given(
    count=st.integers(1, 60),
    size=st.integers(1, 5),
    remainder=st.sampled_from(["drop", "smaller", "wrap"]),
    levels=st.integers(1, 50),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_problem_is_used_exactly_once(grouping, count, size, remainder, levels, seed):
    if count < size and remainder != "smaller":
        return
    difficulties = np.random.default_rng(seed).integers(levels, size=count)
    chosen = PackingSettings(problems=size, grouping=grouping, remainder=remainder)
    packs = plan_packs(difficulties, chosen, seed)
    used = Counter(number for pack in packs for number in pack)
    assert all(len(set(pack)) == len(pack) for pack in packs)
    sizes = Counter(map(len, packs))
    left = count % size
    if remainder == "drop":
        assert sizes == {size: count // size}
        assert set(used.values()) == {1}
    elif remainder == "smaller":
        assert sizes == Counter([size] * (count // size) + [left] * (left > 0))
        assert sorted(used) == list(range(count))
        assert set(used.values()) == {1}
    else:
        assert sizes == {size: -(-count // size)}
        assert sorted(used) == list(range(count))
        assert sum(used.values()) - count == (size - left if left else 0)
        assert max(used.values()) <= 2


@pytest.mark.parametrize("grouping", ["random", "stratified", "easy_hard"])
def test_the_plan_is_a_function_of_the_seed(grouping):
    difficulties = np.linspace(0, 1, 90)
    chosen = PackingSettings(grouping=grouping)

    def members(seed):
        return {frozenset(pack) for pack in plan_packs(difficulties, chosen, seed)}

    assert plan_packs(difficulties, chosen, [5, 1]) == plan_packs(difficulties, chosen, [5, 1])
    assert len(members([5, 1]) & members([5, 2])) < 10  # of 30


def test_remainder_drop_leaves_out_others_each_seed():
    chosen = PackingSettings(problems=3, grouping="random")
    left_out = {
        frozenset(range(20)) - {n for pack in plan_packs([0] * 20, chosen, seed) for n in pack} for seed in range(10)
    }
    assert len(left_out) > 5


def test_order_inside_a_pack_does_not_follow_difficulty():
    difficulties = np.arange(3000)
    for grouping in ("stratified", "easy_hard"):
        packs = np.array(plan_packs(difficulties, PackingSettings(grouping=grouping), seed=0))
        by_place = difficulties[packs].mean(axis=0)
        assert np.ptp(by_place) < 150  # a fixed order of strata would give 2000


def test_stratified_packs_take_one_problem_of_each_third_and_are_even():
    difficulties = np.random.default_rng(0).random(3000)
    third = np.argsort(np.argsort(difficulties)) // 1000
    stratified = np.array(plan_packs(difficulties, PackingSettings(), seed=0))
    assert (np.sort(third[stratified], axis=1) == [0, 1, 2]).all()
    by_chance = np.array(plan_packs(difficulties, PackingSettings(grouping="random"), seed=0))
    # One of each third at random: sqrt(3) * (1/3) / sqrt(12) / 3 = 0.0556. Sharing out the last third must beat that clearly.
    assert difficulties[stratified].mean(axis=1).std() < 0.03
    assert difficulties[by_chance].mean(axis=1).std() == pytest.approx(12**-0.5 / 3**0.5, rel=0.1)


@pytest.mark.parametrize(("size", "easy"), [(2, 1), (3, 2), (4, 2), (1, 1)])
def test_easy_hard_packs_take_from_both_ends(size, easy):
    packs = np.array(plan_packs(np.arange(120), PackingSettings(problems=size, grouping="easy_hard"), seed=3))
    is_easy = packs < 120 // size * easy
    assert (is_easy.sum(axis=1) == easy).all()


@pytest.mark.parametrize("grouping", ["random", "stratified", "easy_hard"])
def test_distinct_keys_inside_every_pack(grouping):
    rng = np.random.default_rng(0)
    keys = rng.integers(8, size=900).tolist()
    difficulties = rng.random(900)
    packs = plan_packs(difficulties, PackingSettings(grouping=grouping), seed=0, keys=keys)
    assert len(packs) == 300
    assert sorted(n for pack in packs for n in pack) == list(range(900))
    assert all(len({keys[number] for number in pack}) == 3 for pack in packs)
    if grouping == "stratified":
        assert difficulties[np.array(packs)].mean(axis=1).std() < 0.06


@given(
    counts=st.lists(st.integers(1, 8), min_size=2, max_size=6),
    size=st.integers(2, 4),
    remainder=st.sampled_from(["drop", "smaller"]),
)
@settings(max_examples=200, deadline=None)
def test_distinct_keys_are_found_exactly_where_they_exist(counts, size, remainder):
    keys = [key for key, count in enumerate(counts) for _ in range(count)]
    n_packs, left = divmod(len(keys), size)
    # Full packs hold min(count, packs) of a key; what is over must fit into what is left out, or into one smaller pack.
    surplus = [count - n_packs for count in counts if count > n_packs]
    possible = n_packs > 0 or remainder == "smaller"
    if remainder == "drop":
        possible &= sum(surplus) <= left
    else:
        possible &= all(over == 1 for over in surplus) and len(surplus) <= left and len(counts) >= left
    chosen = PackingSettings(problems=size, grouping="random", remainder=remainder)
    if possible:
        packs = plan_packs(None, chosen, seed=0, keys=keys, count=len(keys))
        assert all(len({keys[number] for number in pack}) == len(pack) for pack in packs)
        assert sum(map(len, packs)) == len(keys) - (left if remainder == "drop" else 0)
    else:
        with pytest.raises(SettingsError, match=r"cannot be satisfied|do not fill one pack"):
            plan_packs(None, chosen, seed=0, keys=keys, count=len(keys))


def test_wrapped_pack_has_distinct_keys():
    keys = list("aabbccd")
    packs = plan_packs(None, PackingSettings(problems=3, grouping="random", remainder="wrap"), 0, keys=keys, count=7)
    assert [len({keys[number] for number in pack}) for pack in packs] == [3, 3, 3]


def test_difficulty_that_is_no_number_is_refused():
    with pytest.raises(SettingsError, match="nan of problem 1 is not a finite number"):
        plan_packs([0.1, float("nan"), 0.3], PackingSettings(), seed=0)
    with pytest.raises(SettingsError, match="grouping: stratified needs a difficulty"):
        plan_packs(None, PackingSettings(), seed=0, count=3)
    with pytest.raises(SettingsError, match="2 problems do not fill one pack of 3"):
        plan_packs([0.1, 0.2], PackingSettings(), seed=0)


# --- what the rows say


def test_packed_row_holds_the_problems_in_the_order_of_its_answers():
    source = [row(n, difficulty=n / 10, shortest_tokens=10 + n) for n in range(7)]
    packed = pack_rows(source, PackingSettings(problems=2, instruction="Do {n}: {answers}."), seed=1)
    assert [entry["extra_info"]["index"] for entry in packed] == [0, 1, 2]
    for entry in packed:
        first, second = json.loads(entry["extra_info"]["problem_ids"])
        assert entry["prompt"] == [
            {
                "role": "user",
                "content": "Do 2: Answer1::\\boxed{…}, Answer2::\\boxed{…}.\n\n"
                f"### Problem 1\n{first}+{first}?\n\n### Problem 2\n{second}+{second}?",
            }
        ]
        assert entry["reward_model"] == {"style": "rule", "ground_truth": f'["{2 * first}", "{2 * second}"]'}
        assert entry["data_source"] == "sums"
        assert entry["ability"] == "math"
        info = entry["extra_info"]
        assert (info["n"], info["split"]) == (2, "train")
        assert json.loads(info["difficulties"]) == [first / 10, second / 10]
        assert info["difficulty"] == pytest.approx((first + second) / 20)
        assert info["shortest_tokens"] == 20 + first + second


def test_one_problem_per_prompt_and_no_instruction():
    packed = pack_rows(rows(1), PackingSettings(problems=1, grouping="random", instruction=""), seed=0)
    assert packed[0]["prompt"][0]["content"] == "### Problem 1\n0+0?"
    assert packed[0]["reward_model"]["ground_truth"] == '["0"]'


def test_singles_keep_their_own_prompt_and_answer():
    source = [row(n, system="Think.") for n in range(20)]
    for entry in source:
        entry["prompt"].insert(1, {"role": "user", "content": "example"})
    packed = pack_rows(
        source, PackingSettings(problems=3, singles=0.25, answer_template="<{index}>…</{index}>"), seed=3
    )
    alone = [entry for entry in packed if "n" not in entry["extra_info"]]
    together = [entry for entry in packed if entry not in alone]
    assert (len(alone), len(together)) == (5, 5)  # a quarter of 20, and 15 in packs of 3
    for entry in alone:
        (number,) = json.loads(entry["extra_info"]["problem_ids"])
        assert entry["prompt"] == source[number]["prompt"]
        assert entry["reward_model"]["ground_truth"] == str(2 * number)
        assert "answer_template" not in entry["extra_info"]
        assert entry["extra_info"]["difficulty"] == number / 10
    assert {entry["extra_info"]["n"] for entry in together} == {3}
    identities = [number for entry in packed for number in json.loads(entry["extra_info"]["problem_ids"])]
    assert sorted(identities) == list(range(20))


def test_singles_are_others_in_each_epoch_and_wait_for_no_difficulty():
    chosen = PackingSettings(problems=2, singles=0.5, grouping="random")
    plans = [plan_packs(None, chosen, [0, epoch], count=40) for epoch in range(2)]
    alone = [{pack[0] for pack in packs if len(pack) == 1} for packs in plans]
    assert [len(one) for one in alone] == [20, 20]
    assert alone[0] != alone[1]
    assert len(plans[0]) == len(plans[1]) == 30
    assert [len(pack) for pack in plans[0]] != sorted(len(pack) for pack in plans[0])  # among the packs, not after them


def test_a_single_without_messages_is_asked_with_its_question():
    source = [row(n) | {"prompt": None, "q": f"{n} and {n}?"} for n in range(4)]
    packed = pack_rows(source, PackingSettings(problems=2, singles=0.5, question="q"), seed=0)
    prompts = [entry["prompt"] for entry in packed if "n" not in entry["extra_info"]]
    assert len(prompts) == 2
    for prompt in prompts:
        assert prompt in [[{"role": "user", "content": f"{n} and {n}?"}] for n in range(4)]


def test_texts_with_braces_and_other_scripts_pass_unchanged():
    question = r"Is $\{x : x^{2} = {index}\}$ = {problem}? Ünïcödé 数"
    packed = pack_rows([row(0, question, r"\frac{数}{2}")], PackingSettings(problems=1), seed=0)
    assert packed[0]["prompt"][0]["content"].endswith("### Problem 1\n" + question)
    assert json.loads(packed[0]["reward_model"]["ground_truth"]) == [r"\frac{数}{2}"]


def test_question_column_replaces_the_prompt():
    source = [row(0, question="raw 0"), row(1, question="raw 1")]
    packed = pack_rows(
        [entry | {"q": entry["prompt"][0]["content"].upper()} for entry in source],
        PackingSettings(problems=2, question="q"),
        seed=0,
    )
    assert "RAW 0" in packed[0]["prompt"][0]["content"]
    assert "raw" not in packed[0]["prompt"][0]["content"]


def test_last_user_message_is_the_question_and_the_system_message_stays_once():
    source = rows(2)
    for entry in source:
        entry["prompt"][:0] = [{"role": "system", "content": "Think."}, {"role": "user", "content": "example"}]
    prompt = pack_rows(source, PackingSettings(problems=2), seed=0)[0]["prompt"]
    assert [message["role"] for message in prompt] == ["system", "user"]
    assert prompt[0]["content"] == "Think."
    assert "example" not in prompt[1]["content"]


def test_what_cannot_share_a_prompt_is_refused():
    with pytest.raises(SettingsError, match="2 different system messages cannot share a prompt"):
        pack_rows([row(0, system="a"), row(1, system="b")], PackingSettings(problems=2), seed=0)
    with pytest.raises(SettingsError, match="2 different system messages cannot share a prompt"):
        pack_rows([row(0, system="a"), row(1)], PackingSettings(problems=2), seed=0)
    with pytest.raises(SettingsError, match=r"2 different extra_info.split values cannot share .*'test', 'train'"):
        pack_rows([row(0), row(1, split="test")], PackingSettings(problems=2), seed=0)


def test_data_sources_that_differ_become_packed():
    source = [row(0), row(1, data_source="products")]
    assert pack_rows(source, PackingSettings(problems=2), seed=0)[0]["data_source"] == "packed"


def test_packed_rows_are_not_packed_again():
    packed = pack_rows(rows(4), PackingSettings(problems=2), seed=0)
    with pytest.raises(SettingsError, match="row 0 is already packed"):
        pack_rows(packed, PackingSettings(problems=2), seed=0)


def test_missing_columns_name_the_nearest():
    with pytest.raises(SettingsError, match=r"difficulty: unknown column 'extra_info.dificulty'; did you mean "
                       "'extra_info.difficulty'"):  # fmt: skip
        pack_rows(rows(3), PackingSettings(difficulty="extra_info.dificulty"), seed=0)
    with pytest.raises(SettingsError, match=r"distinct_by: unknown column 'extra_info.segmnt'; did you mean "
                       "'extra_info.segment'"):  # fmt: skip
        pack_rows(rows(3, segment=1), PackingSettings(distinct_by="extra_info.segmnt"), seed=0)
    with pytest.raises(SettingsError, match=r"unknown column 'extra_info.difficulty'. Known.*--grouping random"):
        pack_rows(
            [row(n) | {"extra_info": {"index": n, "split": "train"}} for n in range(3)], PackingSettings(), seed=0
        )
    without = rows(3)
    without[2]["extra_info"]["difficulty"] = None  # how parquet fills a column that some rows lack
    with pytest.raises(SettingsError, match=r"difficulty: 'extra_info.difficulty' is empty \(null\) in row 2; fill it"):
        pack_rows(without, PackingSettings(), seed=0)
    assert "difficulty" not in pack_rows(without, PackingSettings(grouping="random"), seed=0)[0]["extra_info"]


def test_bad_rows_are_refused():
    source = rows(3)
    source[1]["reward_model"]["ground_truth"] = "1 + 1 = 2\n#### 2"
    with pytest.raises(SettingsError, match=r"ground_truth of row 1 is a worked solution"):
        pack_rows(source, PackingSettings(), seed=0)
    source[1]["reward_model"]["ground_truth"] = 2
    assert '"2"' in pack_rows(source, PackingSettings(), seed=0)[0]["reward_model"]["ground_truth"]
    with pytest.raises(SettingsError, match=r"'extra_info.difficulty' of problem 0 is not a number: 'hard'"):
        pack_rows(rows(3, difficulty="hard"), PackingSettings(), seed=0)
    with pytest.raises(SettingsError, match="at least one problem"):
        pack_rows([], PackingSettings(), seed=0)
    for tokens in ("abc", float("nan")):
        source = rows(3, shortest_tokens=tokens)
        with pytest.raises(SettingsError, match=r"'extra_info.shortest_tokens' of problem 0 is not a number"):
            pack_rows(source, PackingSettings(), seed=0)


def test_the_command_takes_numbers_as_settings():
    assert packing_settings(["singles=0.3", "remainder=wrap", "separator=1"]) == {
        **{"singles": 0.3, "remainder": "wrap", "separator": "1"}
    }
    with pytest.raises(SettingsError, match=r"pack.singles: must be float, got 'x' \(str\)"):
        build_settings(PackingSettings, packing_settings(["singles=x"]), "pack")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"problems": 0}, "data.efficiency.problems: must be a whole number of at least 1, got 0"),
        ({"grouping": "stratfied"}, "did you mean 'stratified'"),
        ({"singles": 1}, "data.efficiency.singles: must be in [0, 1): a share of the problems, got 1"),
        ({"singles": 0.3, "problems": 1}, "data.efficiency.singles: must be 0 with problems=1"),
        ({"remainder": "keep"}, "unknown value 'keep'"),
        ({"dificulty": "x"}, "did you mean 'difficulty'"),
        ({"problem_template": "### {problem}"}, "a text with {index} and {problem}"),
        ({"problem_template": "{idx} {problem}"}, "only placeholders are {index}, {problem}"),
        ({"answer_template": "A{index}:"}, "data.efficiency.answer_template: must be a text with {index} before one …"),
        ({"instruction": "Solve {count}"}, "only placeholders are {n}, {answers}"),
        ({"instruction": "\\boxed{…}"}, "only placeholders are"),
    ],
)
def test_settings_are_refused_by_name(mapping, message):
    with pytest.raises(SettingsError) as caught:
        build_settings(PackingSettings, mapping, "data.efficiency")
    assert message in str(caught.value)


# --- files


def test_parquet_to_parquet(tmp_path):
    source, target = tmp_path / "train.parquet", tmp_path / "new" / "packed.parquet"
    write_rows(source, rows(10))
    report = pack_parquet(source, target, PackingSettings(), seed=4)
    assert read_rows(target) == pack_rows(rows(10), PackingSettings(), seed=4)
    assert (report.problems, report.packs, report.left_out) == (10, 3, 1)
    lengths = [len(entry["prompt"][0]["content"]) for entry in read_rows(target)]
    assert report.longest_characters == max(lengths)
    assert report.mean_characters == pytest.approx(sum(lengths) / 3)
    assert report.spread_of_problems == pytest.approx(np.std(np.arange(10) / 10))
    assert report.spread_of_packs < report.spread_of_problems / 2
    assert "10 problems -> 3 packs (1 problems left out)" in str(report)


def test_a_file_with_singles(tmp_path):
    target = tmp_path / "packed.parquet"
    report = pack_parquet(rows(10), target, PackingSettings(problems=2, singles=0.4, grouping="random"), seed=4)
    assert (report.problems, report.packs, report.singles, report.left_out) == (10, 3, 4, 0)
    assert "10 problems -> 3 packs and 4 prompts of one problem (0 problems left out)" in str(report)
    graded = []
    for entry in read_rows(target):
        numbers = json.loads(entry["extra_info"]["problem_ids"])
        tagged = " ".join(rf"Answer{index}::\boxed{{{2 * number}}}" for index, number in enumerate(numbers, 1))
        text = tagged if len(numbers) > 1 else rf"\boxed{{{2 * numbers[0]}}}"
        graded.append(batched_accuracy("sums", text, entry["reward_model"]["ground_truth"], entry["extra_info"])["acc"])
    assert graded == [1.0] * 7


def test_json_lines(tmp_path):
    path = tmp_path / "sums.jsonl"
    records = [
        {"q": "one\u2028line?", "a": "so 1,000\n#### 1,000", "level": 2},
        {"q": "half?", "a": "#### -0.5", "level": 1},
    ]
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n", encoding="utf-8")
    first, second = load_problems(path, question="q", answer="a", answer_after="####", keep=["level"])
    assert first == {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": "one\u2028line?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "1,000"},
        "extra_info": {"index": 0, "split": "train", "level": 2},
    }
    assert second["reward_model"]["ground_truth"] == "-0.5"
    with pytest.raises(SettingsError, match="answer: unknown column 'answer'"):
        load_problems(path, question="q")
    with pytest.raises(SettingsError, match=r"answer: .*sums.jsonl line 1 has no .A:. .--answer-after."):
        load_problems(path, question="q", answer="a", answer_after="A:")


def test_json_lines_with_numbers_as_answers(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "a", "answer": 27.0}\n{"question": "b", "answer": 0.5}\n')
    assert [entry["reward_model"]["ground_truth"] for entry in load_problems(path)] == ["27", "0.5"]
    path.write_text('{"question": "a", "answer": [1]}\n\n{"question": "b", "answer": [1, 2]}\n')
    with pytest.raises(SettingsError, match=r"answer: .*x.jsonl line 3 is a list of answers, \[1, 2\]"):
        load_problems(path)


@pytest.mark.skipif(not SHARED.exists(), reason="public data sets are not beside the repository")
def test_packed_gsm8k_keeps_every_index_text_and_answer(tmp_path):
    source = SHARED / "gsm8k_test.jsonl"
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").split("\n") if line]
    target = tmp_path / "gsm8k.parquet"
    problems = load_problems(source, answer_after="####", data_source="gsm8k", split="test")
    report = pack_parquet(problems, target, PackingSettings(grouping="random", remainder="smaller"), seed=0)
    assert report.packs == 440
    assert report.left_out == 0
    seen = []
    for entry in read_rows(target):
        ids = json.loads(entry["extra_info"]["problem_ids"])
        answers = json.loads(entry["reward_model"]["ground_truth"])
        content = entry["prompt"][0]["content"]
        sections = content.split("### Problem ")[1:]
        assert len(ids) == len(answers) == len(sections) == entry["extra_info"]["n"]
        for place, (index, answer, section) in enumerate(zip(ids, answers, sections, strict=True), start=1):
            assert section.rstrip("\n") == f"{place}\n{records[index]['question']}".rstrip("\n")
            assert records[index]["answer"].endswith(f"\n#### {answer}")
            assert f"Answer{place}::\\boxed{{…}}" in content
        seen += ids
    assert sorted(seen) == list(range(len(records))) == list(range(1319))
