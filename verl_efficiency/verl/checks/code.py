"""Functions and classes of a user's own that verl loads by a path: is the file there, and does it define the name?

The file is read, not run: what it does when imported is for verl's workers, not for the driver.
"""

import ast
import importlib.machinery
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_efficiency.settings import SettingsError, nearest, unknown

_PACKAGE = "pkg://"
_FILE = "file://"


def module_name(path: Any) -> str | None:
    """The module that ``pkg://a.b`` (or ``pkg://a/b``) names, as verl reads it; None for the path of a file.

    >>> module_name("pkg://verl_efficiency/rewards"), module_name("/my/reward.py")
    ('verl_efficiency.rewards', None)
    """
    text = str(path or "")
    return text.removeprefix(_PACKAGE).replace("/", ".").strip(".") if text.startswith(_PACKAGE) else None


def check_code(path: Any, name: Any, setting: str) -> Iterator[str]:
    """Problems with ``<setting>.path`` and ``<setting>.name``, without running the code."""
    try:
        source = _module_file(path) if module_name(path) is not None else _file(str(path))
    except SettingsError as error:
        yield f"{setting}.path: {error}"
        return
    if source is None:  # compiled: nothing to read
        return
    try:
        tree = ast.parse(source.read_bytes(), str(source))
    except (SyntaxError, ValueError) as error:
        yield f"{setting}.path: {source} is not Python that this interpreter reads ({error})"
        return
    names = _defined(tree.body)
    if name is None:
        yield f"{setting}.name: is missing; {path} defines {', '.join(sorted(names))}"
    elif str(name) not in names and not names & {"*", "__getattr__"}:
        yield f"{setting}.name: {unknown('name', str(name), names)} (in {source})"


def _file(path: str) -> Path:
    file = Path(path.removeprefix(_FILE))
    if not file.exists():
        if str(file).startswith("~") and file.expanduser().exists():
            raise SettingsError(f"verl does not read ~ in this path; write {file.expanduser()}")
        beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        module = f"; a module is written {_PACKAGE}{path}" if "/" not in path and not path.endswith(".py") else ""
        raise SettingsError(f"there is no file {file}{nearest(file.name, beside)}{module}")
    if file.is_dir() or file.suffix != ".py":
        raise SettingsError(f"{file} must be a .py file")
    return file


def _module_file(path: Any) -> Path | None:
    """The source file of a module, found without importing it or its packages."""
    first, *rest = str(module_name(path)).split(".")
    try:
        spec = importlib.util.find_spec(first) if first else None
    except ValueError:  # a module that was made by hand
        return None
    if spec is None:
        raise SettingsError(f"there is no package {first!r}{nearest(first, ['verl_efficiency'])} (from {path})")
    full = first
    for part in rest:
        places = list(spec.submodule_search_locations or [])
        found = importlib.machinery.PathFinder.find_spec(f"{full}.{part}", places)
        if found is None:
            known = [module.name for module in pkgutil.iter_modules(places)]
            raise SettingsError(f"{full} has no module {part!r}{nearest(part, known)} (from {path})")
        spec, full = found, f"{full}.{part}"
    if spec.origin is None:
        raise SettingsError(f"{full} is a folder without code; name a module in it (from {path})")
    return Path(spec.origin) if spec.origin.endswith(".py") else None


def _defined(body: list[ast.stmt]) -> set[str]:
    """Names that the statements bind; ``*`` for those of an import that names none."""
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        else:
            for field in ("body", "orelse", "finalbody"):
                names |= _defined(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                names |= _defined(handler.body)
    return names
