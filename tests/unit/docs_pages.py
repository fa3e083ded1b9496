"""The pages that people read, and the code blocks in them. The word after a block's language says what is done with it::

bash test          run in a folder with small data (tests/unit/test_docs.py)
bash e2e=FILE      run by that test or script, which names each script of the block
bash gpu, server, cluster, install, long     not run: the word says what it needs, and the site shows it
bash verl          calls of `verl-efficiency doctor`, answered without a complaint (tests/contract/test_docs_verl.py)
diff verl          the added lines are overrides that doctor accepts (tests/contract/test_docs_verl.py)
diff openrlhf      the added lines are flags that our OpenRLHF launcher accepts
python test        run
python sketch      not run: names in it are yours
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "examples" not in path.parts)]
NOT_RUN = {"gpu", "server", "cluster", "install", "long"}
MARKS = {
    "bash": {"test", "verl", *NOT_RUN},
    "diff": {"verl", "openrlhf"},
    "python": {"test", "sketch"},
}


class Block(NamedTuple):
    """A code block: page, line of its fence, language, mark and text."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r"^```(\S*) ?([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text[: match.start()].count("\n") + 1, *match.groups()) for match in found]


def all_blocks(language: str, mark: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if (block.language, block.mark) == (language, mark)]


def added(block: Block) -> str:
    """The lines that a diff adds, as one command line."""
    return " ".join(line[1:].rstrip(" \\") for line in block.text.splitlines() if line.startswith("+"))
