"""The command line: what starting it imports, and that options which commands share reach each of them."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from verl_efficiency.cli import app

HEAVY = {
    *("torch", "transformers", "numpy", "pyarrow", "matplotlib", "sympy", "math_verify", "openai", "ray", "verl"),
    *("openrlhf", "hydra", "omegaconf", "yaml", "asyncio", "unittest"),
}
LISTING = "import sys, json; print(json.dumps(sorted(name for name in sys.modules)), file=sys.stderr)"


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{LISTING}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["evaluate", "model", "--help"]])
def test_help_imports_nothing_heavy(words):
    help_of = f"from verl_efficiency.cli import app\ntry: app({words})\nexcept SystemExit: pass"
    loaded = modules_after(help_of)
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    packages = ("grading", "rewards", "data", "methods", "evaluation", "adapter", "openrlhf")
    assert {
        name for name in loaded if name.startswith(tuple(f"verl_efficiency.{package}" for package in packages))
    } == set()


def test_the_package_imports_nothing_but_itself():
    assert modules_after("import verl_efficiency") - modules_after("") == {"verl_efficiency"}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("live", "strategies out limit max-new-tokens"),
        ("model", "out rows label reward limit max-new-tokens"),
        ("task-scaling", "problems max-loss out png baseline label set limit max-new-tokens"),
        ("offline", "prompt-tokens difficulty max-tokens budget price-out price-in png"),
        ("strategies", "weight samples caps seed"),
    ],
)
def test_commands_have_their_own_options_and_the_shared_ones(command, options):
    shared = {
        "model": "samples temperature top-p batch-size seed device dtype chat-template server engine engine-args store "
        "concurrency retries timeout tokenizer",
        "offline": "problem response correct answer answer-after answer-in-box marker strip-thinking tokens tokenizer out",
    }
    shared |= {"live": shared["model"], "task-scaling": shared["model"], "strategies": shared["offline"]}
    output = CliRunner().invoke(app, ["evaluate", command, "--help"], env={"COLUMNS": "200"}).output
    for option in (*options.split(), *shared[command].split()):
        assert f"--{option} " in output


WITHOUT_VERL = """
import sys
from importlib.machinery import PathFinder

class Base(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = ("verl", "hydra", "omegaconf", "ray", "transfer_queue", "tensordict")
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Base
from verl_efficiency.cli import app
app(["doctor"])
"""


def test_doctor_says_in_one_line_that_verl_is_missing():
    """With the dependencies of the base install alone."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_VERL], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL verl is not installed in this environment: pip install verl==")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
