"""One step of the stock trainer on packed GSM8K problems: every problem is followed from the source to the dump.

Without ``../shared/data`` the test makes its own problems.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.training import ROOT, read_jsonl, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BATCH, GROUP, PROBLEMS, RESPONSE_TOKENS = 8, 4, 3, 16
RIGHT_INDEX = r"Answer{}::\boxed{{"


def source_problems() -> list[dict]:
    """Problems with ``question`` and a whole number after ``####``, from GSM8K or made here."""
    file = Path(os.environ.get("VERL_EFFICIENCY_DATA", ROOT.parent / "shared" / "data")) / "gsm8k_test.jsonl"
    if file.exists():
        return read_jsonl(file)
    return [
        {"question": f"Zoë has {a} figs - each costs €{b}.\n\nWhat do they cost?", "answer": f"{a}·{b}\n#### {a * b}"}
        for a in range(1, 13)
        for b in range(1, 13)
    ]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """(training, folder, question → answer of the source)."""
    pytest.importorskip("verl")
    from tests.e2e import markov_model
    from verl_efficiency.data.parquet import load_problems, write_rows

    folder = tmp_path_factory.mktemp("real_text")
    problems = [p | {"final": p["answer"].split("####")[1].strip()} for p in source_problems()]
    common = [answer for answer, _ in Counter(p["final"] for p in problems).most_common(6)]
    problems = [p for p in problems if p["final"] in common][:96]
    (folder / "source.jsonl").write_text("".join(json.dumps(p) + "\n" for p in problems))
    write_rows(folder / "train.parquet", load_problems(folder / "source.jsonl", answer_after="####"))

    values = {f"{answer}}}\n": 1 / len(common) for answer in common}
    indices = [RIGHT_INDEX.format(index) for index in range(1, PROBLEMS + 2)]
    transitions = {"\n": {indices[0]: 0.8, indices[1]: 0.2}}
    transitions |= dict.fromkeys(indices, values)
    following = {indices[0]: 0.1, indices[1]: 0.35, indices[2]: 0.35, indices[3]: 0.05, "<|im_end|>": 0.15}
    transitions |= dict.fromkeys(values, following)
    markov_model.write(folder / "model", transitions)
    result = train(
        "batched_accuracy",
        folder,
        "+data.efficiency.grouping=random",
        f"reward.custom_reward_function.path={Path(__file__).parent / 'recording_reward.py'}",
        "reward.custom_reward_function.name=compute_score",
        "+reward.custom_reward_function.reward_kwargs.reward=batched_accuracy",
        f"+reward.custom_reward_function.reward_kwargs.record={folder / 'rewards.jsonl'}",
        MODEL=folder / "model",
        TRAIN=folder / "train.parquet",
        VAL=folder / "train.parquet",
        BATCH=BATCH,
        GROUP=GROUP,
        PROBLEMS=PROBLEMS,
        PROMPT_TOKENS=3000,
        RESPONSE_TOKENS=RESPONSE_TOKENS,
        STEPS=1,
    )
    return result, folder, {problem["question"]: problem["final"] for problem in problems}


def problems_of(prompt: str) -> list[tuple[int, str]]:
    """(index, text) of the problems in a dumped prompt."""
    body = prompt.removesuffix("\nassistant\n")
    parts = re.split(r"### Problem (\d+)\n", body)[1:]
    return [(int(index), text.removesuffix("\n\n")) for index, text in zip(parts[::2], parts[1::2], strict=True)]


def test_it_trains_one_step_with_every_sample(training):
    result, _, _ = training
    assert result.run.returncode == 0, result.run.log[-3000:]
    assert list(result.metrics) == [1]
    assert len(result.rollouts[1]) == BATCH * GROUP


def test_every_problem_keeps_its_index_and_answer(training):
    result, _, answers = training
    seen = Counter()
    for row in result.rollouts[1]:
        problems = problems_of(row["input"])
        assert [index for index, _ in problems] == list(range(1, PROBLEMS + 1))
        assert json.loads(row["gts"]) == [answers[text] for _, text in problems]
        seen.update(text for _, text in problems)
    assert set(seen.values()) == {GROUP}, "no problem twice in one step"


def expected_score(row: dict, tokens: int) -> float:
    """The definition on the text. The last answer of an index counts. Format: all answers, once, in order, not truncated."""
    given = re.findall(r"Answer(\d+)::\\boxed\{([^}]*)\}", row["output"])
    last = {int(index): answer for index, answer in given}
    truths = json.loads(row["gts"])
    accuracy = sum(last.get(index) == truth for index, truth in enumerate(truths, start=1)) / len(truths)
    in_order = [int(index) for index, _ in given] == list(range(1, len(truths) + 1))
    return accuracy + 0.1 * (in_order and tokens < RESPONSE_TOKENS)


def test_every_score_is_right(training):
    from transformers import AutoTokenizer

    result, folder, _ = training
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = result.rollouts[1]
    for row in rows:
        tokens = len(tokenizer(row["output"], add_special_tokens=False)["input_ids"])
        assert row["score"] == pytest.approx(expected_score(row, tokens)), row["output"]
    assert len({row["score"] for row in rows}) > 2, "the responses differ, or this test would say little"


def test_the_reward_knows_which_problems_it_grades(training):
    result, folder, answers = training
    questions = [row["question"] for row in read_jsonl(folder / "source.jsonl")]
    by_output = {}
    for row in result.rollouts[1]:
        by_output.setdefault((row["output"], row["gts"]), row)
    for record in read_jsonl(folder / "rewards.jsonl"):
        ids = json.loads(record["extra_info"]["problem_ids"])
        truths = json.dumps([answers[questions[number]] for number in ids])
        row = next(
            r
            for (output, gts), r in by_output.items()
            if output == record["solution"] and json.loads(gts) == json.loads(truths)
        )
        assert row["score"] == pytest.approx(record["result"]["score"])
        assert len(record["result"]["correct_by_problem"]) == PROBLEMS
