"""What goes to a package index, and what a repository's visitors find."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import verl_efficiency

ROOT = Path(__file__).parents[2]


def setup_py():
    spec = importlib.util.spec_from_file_location("package_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_are_absolute_for_a_package_index():
    pytest.importorskip("setuptools")
    setup = setup_py()
    source = setup.SOURCE
    assert setup.absolute("[a](docs/a.md#b) ![c](d/c.png) [e](#f) [g](https://h.org)") == (
        f"[a]({source}/blob/main/docs/a.md#b) ![c]({source}/raw/main/d/c.png) [e](#f) [g](https://h.org)"
    )


def test_the_version_is_the_same_everywhere():
    for file, pattern in (("pyproject.toml", r'^version = "(.+)"'), ("CITATION.cff", r"^version: (.+)")):
        found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
        assert found, file
        assert found[1] == verl_efficiency.__version__, file


def test_workflows_name_scripts_that_exist():
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for path in re.findall(r"\btests(?:/\w+)*(?:\.\w+)?", workflow.read_text()):
            assert (ROOT / path).exists(), f"{workflow.name}: {path}"


@pytest.mark.timeout(180)
def test_wheel_and_sdist():
    for needed, version in (("build", "1.2"), ("twine", "6"), ("setuptools", "77")):
        pytest.importorskip(needed, minversion=version, reason="the extra `dev`")
    done = subprocess.run(
        ["bash", str(ROOT / "tests" / "package.sh")],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
