"""The table of what works with which verl: one source, measured, and shown in the docs and by doctor."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import compatibility as measured
from verl_efficiency.verl import doctor
from verl_efficiency.verl.compatibility import PARTS, PYTHONS, VERLS, Part, lines, table

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "verl.md").read_text()
COUNTS = json.loads(measured.RESULTS.read_text())


def passed(environment: str, part: str) -> bool:
    counts = COUNTS.get(environment, {}).get(part, {"passed": 0, "failed": 0})
    return counts["passed"] > 0 and counts["failed"] == 0


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("python", "verl"), [(python, verl) for python, verls in PYTHONS.items() for verl in verls])
def test_what_the_table_says_was_measured(python, verl, part):
    assert PARTS[part].works(verl) == passed(f"python {python}, verl {verl}", part)


@pytest.mark.parametrize("python", PYTHONS)
def test_what_needs_no_framework_was_measured_on_every_python(python):
    assert any(passed(name, "base") for name in COUNTS if name.partition(",")[0] == f"python {python}")


def test_the_pythons_with_verl_are_those_of_the_results():
    measured_with: dict[str, set[str]] = {}
    for name in COUNTS:
        python, _, verl = name.removeprefix("python ").partition(", verl ")
        measured_with.setdefault(python, set()).update([verl] if verl else [])
    assert {name: set(verls) for name, verls in PYTHONS.items()} == measured_with


def test_the_guide_shows_the_table():
    shown = GUIDE.split("<!-- compatibility -->")[1].split("<!-- /compatibility -->")[0].strip()
    assert shown == table(), "run: python -m verl_efficiency.verl.compatibility"


def test_every_part_has_tests_that_are_there():
    assert set(measured.TESTS) == {"base", *PARTS}
    for tests in measured.TESTS.values():
        for test in tests:
            file, _, function = test.partition("::")
            text = (ROOT / (file if "/" in file else f"tests/contract/{file}")).read_text()
            assert f"def {function}(" in text or not function


def test_a_part_works_from_its_first_version_on():
    part = Part("x", "0.9.0", "y")
    assert [part.works(verl) for verl in VERLS] == [False, True, True]
    assert lines("0.9.1")[1] == ""


def test_cases_belong_to_a_file_or_to_a_function():
    def case(classname: str, name: str, *inside: str) -> ElementTree.Element:
        element = ElementTree.Element("testcase", classname=classname, name=name)
        element.extend(ElementTree.Element(tag) for tag in inside)
        return element

    one, other = case("tests.contract.test_a", "test_x[1-b]"), case("tests.contract.test_a", "test_xy", "failure")
    in_class = case("tests.contract.test_a.TestA", "test_x", "skipped")
    not_collected = case("", "tests.contract.test_a", "error")
    cases = [one, other, in_class, not_collected, case("tests.contract.test_ab", "test_x")]
    of_file = [case for case in cases if measured.belongs(case, ["tests/contract/test_a.py"])]
    of_function = [case for case in cases if measured.belongs(case, ["tests/contract/test_a.py::test_x"])]
    assert of_file == cases[:4]
    assert of_function == [one, not_collected]
    assert measured.outcome(of_file) == {"passed": 1, "skipped": 1, "failed": 2}


@pytest.mark.parametrize(
    ("verl", "python", "levels", "words"),
    [
        ("0.9.1", "3.11", ["ok", "ok"], []),
        ("0.8.0", "3.11", ["ok", "ok", "warn"], ["efficiency_", "verl>=0.9", "VERL_USE_EXTERNAL_MODULES"]),
        ("0.10.0", "3.11", ["ok", "warn"], ["0.10.0", *VERLS]),
        ("0.9.1", "3.12", ["ok", "ok"], []),
        ("0.9.1", "3.10", ["ok", "ok"], []),
        ("0.9.1", "3.13", ["ok", "warn", "ok"], ["untested with Python 3.13", "tested are 3.10, 3.11, 3.12"]),
        ("0.8.0", "3.12", ["ok", "warn", "ok", "warn"], ["untested with Python 3.12", "tested is 3.11"]),
    ],
)
def test_doctor_says_what_works_with_the_installed_versions(verl, python, levels, words):
    findings = list(doctor._versions(verl, python))
    assert [finding.level for finding in findings] == levels
    warned = " ".join(finding.text for finding in findings if finding.level == "warn")
    assert all(word in warned for word in words)
    assert sys.executable in findings[0].text
