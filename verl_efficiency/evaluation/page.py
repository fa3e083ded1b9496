"""The page of ``report``: one HTML file with everything in it, which opens without a network and without scripts.

Tables are those that the commands print, so their numbers are the same. Pictures are SVG, and their lines and letters take
the colours of the page, for light and dark.
"""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from verl_efficiency.data.files import write_text
from verl_efficiency.evaluation.plot import BEFORE, Panel, draw, style
from verl_efficiency.settings import SettingsError

INK = "#010203"  # drawn in this colour, and then replaced by the page's
LONGEST_TEXT = 4000  # signs of an answer that the page shows


@dataclass(frozen=True)
class HtmlTable:
    """A table as text; ``right`` says which columns hold numbers."""

    title: str
    header: list[str]
    right: list[bool]
    rows: list[list[str]]
    notes: str = ""


@dataclass(frozen=True)
class Answer:
    """A response to show: ``caption`` says of which model, and what it got."""

    caption: str
    text: str


@dataclass(frozen=True)
class Sample:
    """The responses of several models to one problem."""

    title: str
    answers: list[Answer]


@dataclass(frozen=True)
class Section:
    """A part of the page. Panels are drawn by name; tables are those of :mod:`verl_efficiency.evaluation.tables`."""

    title: str
    panels: Mapping[str, Panel] = field(default_factory=dict)
    tables: Sequence[Group | Table] = ()
    samples: Sequence[Sample] = ()
    faults: Sequence[str] = ()
    text: str = ""


def write_page(out: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> None:
    """Write the page.

    Raises:
        SettingsError: jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise SettingsError(f"--out: {error.name} is missing; pip install 'verl-efficiency[evaluation]'") from None
    environment = Environment(autoescape=True, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    number = itertools.count()  # which makes the identifiers of each picture its own, whatever its name
    parts = [
        {
            "title": section.title,
            "figures": {name: Markup(svg(str(next(number)), panel)) for name, panel in section.panels.items()},
            "tables": [html_table(table) for table in section.tables],
            "samples": section.samples,
            "faults": section.faults,
            "text": section.text,
        }
        for section in sections
    ]
    write_text(out, template.render(title=title, lead=lead, sections=parts))


def html_table(table: Group | Table) -> HtmlTable:
    """A printed table, with the notes under it, as text for the page."""
    notes = ""
    if isinstance(table, Group):
        table, notes = table.renderables[0], str(table.renderables[1])  # type: ignore[assignment]
    columns = table.columns  # type: ignore[union-attr]
    rows = [list(row) for row in zip(*([str(cell) for cell in column.cells] for column in columns), strict=True)]
    header = [str(column.header) for column in columns]
    return HtmlTable(str(table.title or ""), header, [column.justify == "right" for column in columns], rows, notes)  # type: ignore[union-attr]


def svg(salt: str, panel: Panel) -> str:
    """A panel as an SVG element that takes its colours from the page.

    ``salt`` makes the identifiers inside different from those of other pictures on the page.
    """
    import matplotlib

    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)
    clear = dict.fromkeys(("axes.facecolor", "savefig.facecolor", "figure.facecolor", "legend.facecolor"), "none")
    settings: Any = ink | clear | {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 11, "axes.titlesize": 11}
    with matplotlib.rc_context(settings):
        figure = draw(panel, size=(4.8, 3.6))
        style(figure)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    for colour, of_page in ((INK, "currentColor"), ("#000000", "currentColor"), (BEFORE, "var(--before)")):
        text = text.replace(colour, of_page)
    return text


def shortened(text: str) -> str:
    """The text, or its beginning and its end with a note between, if it is long.

    >>> len(shortened("x" * 10_000)) < 4100
    True
    """
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} signs left out …]\n{text[-half:]}"
