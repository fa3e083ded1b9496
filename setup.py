"""The long description: README.md with absolute links, since a package index has no files beside it. See pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
SOURCE = re.search(r'^Source = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def absolute(readme: str) -> str:
    """``readme`` with its relative links and pictures on the project's site; a picture is linked in its raw form."""
    readme = re.sub(r"(!\[[^\]]*\]\()(?![a-z]+:|#)", rf"\1{SOURCE}/raw/main/", readme)
    return re.sub(r"(\]\()(?![a-z]+:|#)", rf"\1{SOURCE}/blob/main/", readme)


if __name__ == "__main__":
    setup(long_description=absolute((ROOT / "README.md").read_text()), long_description_content_type="text/markdown")
