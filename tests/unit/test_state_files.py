"""State in checkpoint folders: complete, written in full or not at all, and missed where it is missing."""

import json
import logging
import os
import shutil
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from verl_efficiency.adapter import average, response_files, state
from verl_efficiency.adapter.response_files import FOLDER, ResponseFiles
from verl_efficiency.adapter.state import FILE_NAME, STARTS_AGAIN, StateFiles
from verl_efficiency.data import files
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.settings import SettingsError

LEASH, STORING = ESTIMATORS["leash"], ESTIMATORS["variance_routing"]


def stored(**responses):
    """Prompts and their responses; a response is as long as its text."""
    return StoredResponses(dict(responses), {prompt: len(text) for prompt, text in responses.items()})


def rows_of(folder):
    """Per file of a checkpoint, the prompts in it."""
    names = json.loads((folder / FILE_NAME).read_text())["variance_routing"]["files"]
    return [[json.loads(line)["prompt"] for line in (folder / name).read_text().split("\n")[:-1]] for name in names]


def save(store, responses, folder):
    store.write({"variance_routing": responses}, folder)
    return folder


def test_plain_states_go_through_a_checkpoint(tmp_path):
    leash = LEASH.new_state()
    leash.price = 0.1 + 0.2
    assert StateFiles().write({"leash": leash}, tmp_path) == [tmp_path / FILE_NAME]
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {"leash": {"price": 0.1 + 0.2}}
    assert StateFiles().read(LEASH, tmp_path) == leash
    assert state.dump({"leash": leash, "kimi": None}) == {"leash": {"price": 0.1 + 0.2}}


def test_a_checkpoint_writes_only_new_responses_and_is_complete(tmp_path):
    store, responses = StateFiles(), stored(a="aaaa", b="Ünicode\n\u2028", c="cc")
    first = save(store, responses, tmp_path / "1")
    responses.texts["a"], responses.lengths["a"] = "aa", 2  # a shorter one
    responses.texts["d"], responses.lengths["d"] = "d", 1
    second = save(store, responses, tmp_path / "2")
    third = save(store, responses, tmp_path / "3")  # nothing new
    assert rows_of(first) == [["a", "b", "c"]]
    assert rows_of(second) == rows_of(third) == [["a", "b", "c"], ["a", "d"]]
    assert (first / FOLDER / "0.jsonl").samefile(third / FOLDER / "0.jsonl")
    assert StateFiles().read(STORING, first) == stored(a="aaaa", b="Ünicode\n\u2028", c="cc")
    shutil.rmtree(first)
    shutil.rmtree(second)
    assert StateFiles().read(STORING, third) == responses == stored(a="aa", b="Ünicode\n\u2028", c="cc", d="d")


def test_a_resumed_run_goes_on_from_the_files_of_its_checkpoint(tmp_path):
    first = save(StateFiles(), stored(a="a", b="b"), tmp_path / "1")
    abandoned = save(StateFiles(), stored(x="x"), tmp_path / "2")
    resumed = StateFiles()
    responses = resumed.read(STORING, first)
    responses.texts["c"], responses.lengths["c"] = "c", 1
    assert save(resumed, responses, tmp_path / "2") == abandoned
    assert rows_of(abandoned) == [["a", "b"], ["c"]]
    assert rows_of(first) == [["a", "b"]]
    assert StateFiles().read(STORING, abandoned) == stored(a="a", b="b", c="c")


def test_no_responses_yet(tmp_path):
    save(StateFiles(), StoredResponses(), tmp_path)
    assert StateFiles().read(STORING, tmp_path) == StoredResponses()


def test_everything_is_written_again_where_the_last_files_are_gone_or_links_fail(tmp_path, monkeypatch):
    store = StateFiles()
    shutil.rmtree(save(store, stored(a="a", b="b"), tmp_path / "1"))
    assert rows_of(save(store, stored(a="a", b="b", c="c"), tmp_path / "2")) == [["a", "b", "c"]]

    def no_links(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    assert rows_of(save(store, stored(a="a", b="b", c="c", d="d"), tmp_path / "3")) == [["a", "b", "c", "d"]]


def test_a_checkpoint_has_few_files_and_few_replaced_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(response_files, "MOST_FILES", 3)
    store, responses = StateFiles(), StoredResponses()
    counts = []
    for step, prompt in enumerate("abcde"):
        responses.texts[prompt], responses.lengths[prompt] = prompt, 1
        counts.append(len(rows_of(save(store, responses, tmp_path / f"{step}"))))
    assert counts == [1, 2, 3, 1, 2]

    store, shorter = StateFiles(), []
    for step, length in enumerate((9, 8, 7)):
        shorter.append(rows_of(save(store, stored(a="a" * length), tmp_path / f"shorter_{step}")))
    assert shorter == [[["a"]], [["a"], ["a"]], [["a"]]]  # a third row would be two replaced ones for one response


@pytest.mark.parametrize("fault", ["deleted", "cut off"])
def test_a_file_of_responses_that_is_missing_or_damaged_stops_the_run(tmp_path, fault):
    save(StateFiles(), stored(a="a"), tmp_path)
    file = tmp_path / FOLDER / "0.jsonl"
    file.unlink() if fault == "deleted" else file.write_text(file.read_text()[:-4])
    with pytest.raises(SettingsError, match=str(file)):
        StateFiles().read(STORING, tmp_path)


@pytest.mark.parametrize(
    ("saved", "names"),
    [
        (None, ["state of leash", f"{STARTS_AGAIN}`"]),
        ({}, ["state of leash"]),
        ({"hapo": {}, "a_dlp": {}}, ["state of leash", "holds the state of a_dlp, hapo"]),
        ({"leash": {"prise": 1.0}}, ["'prise'", "'price'"]),
        ('{"leash": {', [FILE_NAME, "cannot be read"]),
    ],
)
def test_a_checkpoint_without_the_state_is_refused(tmp_path, saved, names):
    if saved is not None:
        (tmp_path / FILE_NAME).write_text(saved if isinstance(saved, str) else json.dumps(saved))
    with pytest.raises(SettingsError) as error:
        StateFiles().read(LEASH, tmp_path)
    assert all(name in str(error.value) for name in [*names, str(tmp_path) if saved is None else ""])


@dataclass
class Own:
    files: list[str] = field(default_factory=list)


def test_a_state_of_the_users_own_may_have_any_field(tmp_path):
    method = SimpleNamespace(name="own", new_state=Own, restored_state=lambda saved: Own(**saved))
    StateFiles().write({"own": Own(["a"])}, tmp_path)
    assert StateFiles().read(method, tmp_path) == Own(["a"])


def test_what_the_refusal_says_starts_the_state_again(tmp_path, caplog):
    with pytest.raises(SettingsError) as error:
        StateFiles().read(LEASH, tmp_path)
    command, target = str(error.value).split("`")[1].split()
    assert (command, target) == ("touch", str(tmp_path / STARTS_AGAIN))
    (tmp_path / STARTS_AGAIN).touch()
    with caplog.at_level(logging.WARNING):
        assert StateFiles().read(LEASH, tmp_path) is None
    assert "state of leash" in caplog.text
    StateFiles().write({"leash": LEASH.new_state()}, tmp_path)
    assert StateFiles().read(LEASH, tmp_path) == LEASH.new_state()  # a state that is there is read in any case


class Full(OSError):
    pass


@pytest.mark.parametrize("what", ["state", "responses", "average"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, what):
    """The disk is full in the middle of a write."""
    weights = average.WeightAverage({"w": torch.ones(3)}, 0.5)
    weights.file = lambda folder: folder / "teacher.pt"
    save(StateFiles(), stored(a="a"), tmp_path)
    weights.save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def half(path):
        path.write_text("half")
        raise Full

    if what == "average":
        monkeypatch.setattr(torch, "save", lambda _, path: half(path))
        action = weights.save
    elif what == "responses":
        monkeypatch.setattr(response_files, "write_lines", lambda path, _: _write(path, half))
        action = lambda folder: ResponseFiles().write(stored(b="b"), folder)  # noqa: E731
    else:
        monkeypatch.setattr(state, "write_text", lambda path, _: _write(path, half))
        action = lambda folder: StateFiles().write({"leash": LEASH.new_state()}, folder)  # noqa: E731
    with pytest.raises(Full):
        action(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def _write(path, half):
    with files.replacing(path) as beside:
        half(beside)
