"""A reward raises for some samples of a real run: the dump holds every sample, the log names the cause, the run succeeds.

One step of the stock trainer and a validation after it.
"""

import re
from collections import Counter

import pytest

from tests.e2e.training import small_testbed, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BATCH, GROUP = 8, 4
VALIDATION = 24  # problems of the small testbed
REWARD = '''
from verl_efficiency.rewards import stop_properly


def sometimes(data_source, solution_str, ground_truth, extra_info, **settings):
    """Fails for about a third of the responses, in the same way every time."""
    broken = len(solution_str) // (len(solution_str) % 3)
    return stop_properly(data_source, solution_str, ground_truth, extra_info, **settings)
'''


def raises(response: str) -> bool:
    return len(response) % 3 == 0


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    pytest.importorskip("verl")
    folder = tmp_path_factory.mktemp("raising")
    (folder / "broken_reward.py").write_text(REWARD)
    return train(
        "stop_properly",
        folder,
        f"reward.custom_reward_function.path={folder / 'broken_reward.py'}",
        "reward.custom_reward_function.name=sometimes",
        "reward.num_workers=1",  # each worker logs for itself
        "trainer.save_freq=-1",
        "trainer.test_freq=1",
        BATCH=BATCH,
        GROUP=GROUP,
        PROMPT_TOKENS=64,
        RESPONSE_TOKENS=190,
        STEPS=1,
        **small_testbed(folder / "data"),
    )


def test_the_run_ends_well(training):
    assert training.run.returncode == 0, training.run.log[-3000:]
    assert sorted(training.metrics) == [1]


def test_no_sample_disappears(training):
    (rows,) = training.rollouts.values()
    assert len(rows) == BATCH * GROUP
    groups = Counter(row["uid"].rsplit("_", 2)[0] for row in rows)
    assert set(groups.values()) == {GROUP}
    assert len(groups) == BATCH
    broken = [row for row in rows if raises(row["output"])]
    assert 0 < len(broken) < len(rows), "the reward raises for some, not for all"
    assert {row["score"] for row in broken} == {0}


def test_the_others_are_scored_as_ever(training):
    (rows,) = training.rollouts.values()
    for row in rows:
        if not raises(row["output"]):
            boxes = re.findall(r"\\boxed\{(\d+)\}", row["output"])
            assert row["score"] in (0, float(bool(boxes) and boxes[-1] == row["gts"]))


def test_the_log_names_the_cause_once(training):
    lines = training.lines("REWARD ERROR: ")
    cause = r"broken_reward.py:sometimes raised ZeroDivisionError: .*\(data_source 'testbed', index \d+\)"
    assert len([line for line in lines if re.search(cause, line)]) == 1, lines
    (rows,) = training.rollouts.values()
    if sum(raises(row["output"]) for row in rows) >= 10:  # else the validation may or may not have added enough
        assert [line for line in lines if "has raised for 10 of " in line], "and then their count"
    assert len(lines) <= 2
    assert training.lines("broken = len(solution_str) // (len(solution_str) % 3)"), "the traceback"
    assert not training.lines("Error in _run_prompt")


def test_validation_shows_the_share(training):
    (share,) = [value for name, value in training.metrics[1].items() if re.search(r"reward_error/mean@1$", name)]
    assert 0 < share < 1
    assert (share * VALIDATION) == pytest.approx(round(share * VALIDATION))
