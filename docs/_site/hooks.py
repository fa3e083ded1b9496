"""What MkDocs calls: it adds the pages that are made of code, and links files of the repository."""

import re
import sys
from pathlib import Path, PurePosixPath

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
import generate  # noqa: E402

MARKS = {  # after the language of a code block; tests/unit/test_docs.py says what each one promises
    "gpu": "needs GPUs",
    "server": "needs a running server",
    "install": "changes your environment",
    "cluster": "needs a Ray cluster",
    "long": "takes minutes to an hour",
}
# A page links the file of a method or reward, so that the link works on GitHub. On the site it leads to that method's page.
PAGES = {method.module.replace(".", "/") + ".py": generate.path_of(method) for method in generate.METHODS}
PICTURES = [str(file.relative_to(ROOT)) for file in (ROOT / "benchmarks" / "results").glob("*.png")]


def on_config(config):
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    for title, folder in (("Rewards", "rewards"), ("Methods", "methods")):
        names = sorted(path for path in generate.pages() if path.startswith(f"{folder}/") and "index" not in path)
        reference.insert(0, {title: [f"{folder}/index.md", *({Path(path).stem: path} for path in names)]})
    return config


def on_files(files, config):
    for path, text in generate.pages().items():
        files.append(File.generated(config, path, content=text))
    for picture in PICTURES:
        files.append(File.generated(config, f"images/{Path(picture).name}", abs_src_path=str(ROOT / picture)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Code blocks say what they need; links to files of the repository become links to its site."""

    def fence(found):
        language, mark = found[1], found[2].partition("=")[0]
        return f'```{language} title="{MARKS[mark]}"' if mark in MARKS else f"```{language}"

    def link(found):
        target, _, anchor = found[1].partition("#")
        place = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent / target
        parts: list[str] = []
        for part in place.parts:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        inside = "/".join(parts)
        if inside.startswith("docs/") and not inside.startswith("docs/examples"):
            return found[0]
        if not (ROOT / inside).exists():
            raise PluginError(f"{page.file.src_uri}: {target} is not in the repository")
        top = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)
        if inside in PICTURES:
            return f"]({top}images/{PurePosixPath(inside).name})"
        if inside in PAGES:
            return f"]({top}{PAGES[inside]})"
        kind = "tree" if (ROOT / inside).is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{inside}{'#' + anchor if anchor else ''})"

    code = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    prose = [re.sub(r"\]\((?![a-z]+:|#|/)([^)\s]+)\)", link, part) for part in code[::2]]
    blocks = [re.sub(r"^```(\w+) ([\w=./]+)$", fence, part, count=1, flags=re.MULTILINE) for part in code[1::2]]
    return "".join(a + b for a, b in zip(prose, [*blocks, ""], strict=True))
