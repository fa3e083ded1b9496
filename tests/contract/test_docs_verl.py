"""Every override on a page is one that doctor accepts without a complaint."""

import shlex

import pytest

pytest.importorskip("verl.trainer.ppo.v1", reason="written for verl 0.9")

from tests.unit.docs_pages import added, all_blocks
from verl_efficiency.verl import doctor

PLACES = {"data.train_files", "data.val_files", "actor_rollout_ref.model.path"}


@pytest.fixture
def complaints(monkeypatch, compose):
    """What doctor says of a configuration, other than that something is well; the data are small files that are there."""

    def of(overrides):
        kept = [override for override in overrides if override.split("=")[0].lstrip("+") not in PLACES]
        monkeypatch.setattr(doctor, "_hydra", lambda overrides: compose(*overrides))
        return [finding.text for finding in doctor._configuration(kept) if finding.level != "ok"]

    return of


@pytest.mark.parametrize("block", all_blocks("diff", "verl"), ids=lambda block: block.place)
def test_the_lines_that_a_diff_adds(block, complaints):
    overrides = [word for word in shlex.split(added(block)) if "=" in word]
    assert overrides, block.text
    assert complaints(overrides) == []


@pytest.mark.parametrize("block", all_blocks("bash", "verl"), ids=lambda block: block.place)
def test_calls_of_doctor(block, complaints):
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["verl-efficiency", "doctor"], line
        assert complaints(words[2:]) == [], line
