"""The packages that a run needs, at the versions installed here, without PyTorch; ``wheels.sh`` downloads them.

It reads pyproject.toml with ``tomllib``, which takes Python 3.11.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("cpu", "evaluation", "smollm2")  # of this checkout
MORE = ("psutil", "setuptools")
LEFT_OUT = ("torch", "triton")  # the machine has PyTorch


def closure(more: tuple[str, ...] = MORE) -> dict[str, str]:
    """Name and version of every distribution that this checkout and ``more`` need here, sorted.

    Raises:
        SystemExit: some are not installed; the machine with the GPU would lack them too.
    """
    found: dict[str, str] = {}
    missing: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [*_own_requirements(), *map(Requirement, more)]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name in LEFT_OUT or name.startswith("nvidia-"):
            continue
        seen.add(key)
        try:
            known = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        found[name] = known.version
        waiting += _needed(known.requires or [], requirement.extras)
    if missing:
        names = sorted(missing)
        raise SystemExit(f"not installed here: {', '.join(names)}; pip install {' '.join(names)}")
    return dict(sorted(found.items()))


def _own_requirements() -> Iterator[Requirement]:
    """What pyproject.toml asks for. What pip knows of an editable installation may be older."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield from map(Requirement, project["dependencies"])
    for extra in EXTRAS:
        yield from map(Requirement, project["optional-dependencies"][extra])


def _needed(requires: list[str], extras: set[str]) -> Iterator[Requirement]:
    for text in requires:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in closure().items()))
