"""The packages that a run needs, at the versions installed here, without PyTorch; ``wheels.sh`` downloads them."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("verl-efficiency[cpu,evaluation]", "psutil", "setuptools", "wheel")
LEFT_OUT = ("torch", "triton", "verl-efficiency")  # the machine has PyTorch; the package is this checkout


def closure() -> dict[str, str]:
    """Name and version of every distribution that the roots need here, sorted; what is not installed is not needed."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root) for root in ROOTS]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            known = distribution(name)
        except PackageNotFoundError:
            continue
        if name == "verl-efficiency" or not _left_out(name):
            waiting += _needed(known.requires or [], requirement.extras)
        if not _left_out(name):
            found[name] = known.version
    return dict(sorted(found.items()))


def _left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith("nvidia-")


def _needed(requires: list[str], extras: set[str]) -> Iterator[Requirement]:
    for text in requires:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in closure().items()))
