"""Every override on a page is one that doctor accepts without a complaint."""

import shlex

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="written for verl 0.9")

from tests.contract.conftest import LAUNCH
from tests.unit.docs_pages import added, all_blocks
from verl_efficiency.verl import doctor

PLACES = {"data.train_files", "data.val_files", "actor_rollout_ref.model.path"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Problems with a difficulty, whose prompts ask for every form of answer on the pages."""
    rows = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"{number}+{number}? Use \\boxed{{}} or <answer>."}],
            "reward_model": {"style": "rule", "ground_truth": str(2 * number)},
            "extra_info": {"index": number, "split": "train", "difficulty": 0.5},
        }
        for number in range(1, 9)
    ]
    file = tmp_path_factory.mktemp("data") / "problems.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def complaints(overrides, file):
    """What doctor says of a configuration, other than that something is well; data and model of a page are replaced."""
    kept = [override for override in overrides if override.split("=")[0].lstrip("+") not in PLACES]
    given = [*LAUNCH, f"data.train_files={file}", f"data.val_files={file}", *kept]
    return [finding.text for finding in doctor.examine_configuration(given) if finding.level != "ok"]


@pytest.mark.parametrize("block", all_blocks("diff", "verl"), ids=lambda block: block.place)
def test_the_lines_that_a_diff_adds(block, file):
    overrides = [word for word in shlex.split(added(block)) if "=" in word]
    assert overrides, block.text
    assert complaints(overrides, file) == []


@pytest.mark.parametrize("block", all_blocks("bash", "verl"), ids=lambda block: block.place)
def test_calls_of_doctor(block, file):
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["verl-efficiency", "doctor"], line
        assert complaints(words[2:], file) == [], line
