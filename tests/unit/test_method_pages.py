"""The pages of ``verl-efficiency methods NAME`` are made from the catalog and the docstrings."""

import dataclasses
import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from verl_efficiency import cli
from verl_efficiency.methods.catalog import METHODS
from verl_efficiency.methods.launch import command
from verl_efficiency.methods.page import inline, markdown, meanings, page

by_name = pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{method.hook}")


@by_name
def test_a_page_says_all_that_a_user_needs(method):
    text = page(method)
    assert text.startswith(f"## {method.name} ({method.hook})\n\n{method.summary}")
    assert method.paper in text
    assert command(method) in text
    for field in dataclasses.fields(method.settings_class()):
        default = "null" if field.default is None else str(field.default).replace("\n", "\\n")
        assert f"| `{field.name}` | `{default}` | " in text
    assert text.count("```") % 2 == 0
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"^ {4}|^>>>|::$|``", prose, re.MULTILINE), "nothing of the docstring's own markup is left"


@by_name
def test_the_command_line_shows_the_page(method, monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=200))  # it takes its width when it is made
    shown = CliRunner().invoke(cli.app, ["methods", method.name])
    assert shown.exit_code == 0
    words = set(re.findall(r"\w+", shown.output))
    assert set(re.findall(r"\w+", page(method))) - {"text", "python"} <= words, "wrapped, drawn, and otherwise the same"


def test_markup():
    docstring = """One sentence with ``code`` and :func:`a.b`.

    Formula, of two parts::

        r = s

        t = u

    After it.

    >>> 1 + 1
    2

    Args:
        s: left out.
    """
    assert markdown(docstring) == (
        "One sentence with `code` and `a.b`.\n\nFormula, of two parts:\n\n```text\nr = s\n\nt = u\n```\n\nAfter it.\n\n"
        "```python\n>>> 1 + 1\n2\n```"
    )
    assert inline("``x | y`` and `z`") == "`x | y` and `z`"


def test_meanings_come_from_bases_too_and_the_nearest_wins():
    class Base:
        """A base.

        Attributes:
            one, two: numbers
                over two lines.
            three: not that one.
        """

    class Child(Base):
        """A child.

        Args:
            three: this: with a colon.
        """

    assert meanings(Child) == {
        "one": "numbers over two lines.",
        "two": "numbers over two lines.",
        "three": "this: with a colon.",
    }
