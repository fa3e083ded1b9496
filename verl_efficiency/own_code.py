"""Checks user code that a framework loads by path: does the file exist, and does it define the requested name?

The checks parse the code. They do not run it, since only the framework's workers should.
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
    """The module in ``pkg://a.b`` or ``pkg://a/b``, as verl reads it, or in a file of this package; None for another file.

    >>> module_name("pkg://verl_efficiency/rewards"), module_name("/my/reward.py")
    ('verl_efficiency.rewards', None)
    >>> module_name(__file__)
    'verl_efficiency.own_code'
    """
    text = str(path or "")
    if text.startswith(_PACKAGE):
        return text.removeprefix(_PACKAGE).replace("/", ".").strip(".")
    file, ours = Path(text.removeprefix(_FILE)).resolve(), Path(__file__).resolve().parent
    if file.suffix != ".py" or ours not in file.parents:
        return None
    return ".".join(file.relative_to(ours.parent).with_suffix("").parts).removesuffix(".__init__")


def check_code(path: Any, name: Any, setting: str) -> Iterator[str]:
    """Problems with verl's ``<setting>.path`` and ``<setting>.name``."""
    try:
        source = _module_file(path) if module_name(path) is not None else source_file(str(path).removeprefix(_FILE))
        problem = None if source is None else lacks(source, name)
    except SettingsError as error:
        plain = module_name(path) is None and "/" not in str(path) and not str(path).endswith(".py")
        yield f"{setting}.path: {error}" + f"; a module is written {_PACKAGE}{path}" * plain
        return
    if problem:
        yield f"{setting}.name: {problem}"


def lacks(source: Path, name: Any) -> str | None:
    """Why the file does not define ``name``; None if it does, or if that cannot be known without running it.

    Raises:
        SettingsError: the file is not Python.
    """
    content = source.read_bytes()
    try:
        names = _defined(ast.parse(content, str(source)).body)
    except (SyntaxError, ValueError) as error:
        raise SettingsError(f"{source} is not Python that this interpreter reads ({error})") from None
    if name is not None and (str(name) in names or names & {"*", "__getattr__"}):
        return None
    if b"globals()" in content:  # the code may define names at run time
        return None
    if name is None:
        return f"is missing; {source} defines {', '.join(sorted(names))}"
    return f"{unknown('name', str(name), names)} (in {source})"


def source_file(path: str) -> Path:
    """The Python file at ``path``.

    Raises:
        SettingsError: the file does not exist, or is not a .py file.
    """
    file = Path(path)
    if not file.exists():
        if str(file).startswith("~") and file.expanduser().exists():
            raise SettingsError(f"~ is not read in this path; write {file.expanduser()}")
        beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        raise SettingsError(f"there is no file {file}{nearest(file.name, beside)}")
    if file.is_dir() or file.suffix != ".py":
        raise SettingsError(f"{file} must be a .py file")
    return file


def _module_file(path: Any) -> Path | None:
    """The source file of a module. Imports neither the module nor its packages."""
    first, *rest = str(module_name(path)).split(".")
    try:
        spec = importlib.util.find_spec(first) if first else None
    except ValueError:  # a module created at run time has no spec
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
    """Names that the statements bind; ``*`` for a star import."""
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
