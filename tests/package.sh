#!/usr/bin/env bash
# Wheel and sdist: built, checked, installed, started.
#
#   bash tests/package.sh          installs without dependencies, beside those of this Python (seconds)
#   bash tests/package.sh bare     installs with all of them into an empty environment (minutes, downloads torch)
#
# DIST=folder keeps the files. Needs the packages build and twine.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dist=${DIST:-$work/dist}
mkdir -p "$dist"

# A copy of what git knows: setuptools leaves its build folders beside the sources, and an old one would end up in the wheel.
git ls-files -z | grep -zv '^docs/\|^benchmarks/\|^tests/' | xargs -0 cp --parents -t "$work"
isolation=()
[[ ${1:-} == bare ]] || isolation=(--no-isolation --skip-dependency-check) # the setuptools of this environment will do
python -m build "${isolation[@]}" --outdir "$dist" "$work" > "$work/build.log" 2>&1 || { tail -n 30 "$work/build.log" && exit 1; }
python -m twine check --strict "$dist"/*

if [[ ${1:-} == bare ]]; then
  python -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 "$dist"/*.whl
else
  python -m venv --without-pip "$work/venv"
  site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  python -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-deps "$dist"/*.whl
  python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
    > "$site/zz_dependencies.pth"
fi

mkdir "$work/elsewhere" && cd "$work/elsewhere" # the sources must not be what is imported
unset PYTHONPATH
bin=$work/venv/bin
"$bin/verl-efficiency" --help > help
grep -q doctor help
"$bin/verl-efficiency" methods kimi > /dev/null
"$bin/python" - "$dist" "$work/venv" <<'CHECKS'
import importlib.metadata, re, resource, subprocess, sys, tarfile, zipfile
from pathlib import Path

dist, venv = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
import verl_efficiency
found = Path(verl_efficiency.__file__).resolve()
assert venv in found.parents, f"imported from {found}"
assert importlib.metadata.version("verl-efficiency") == verl_efficiency.__version__
points = importlib.metadata.distribution("verl-efficiency").entry_points
assert {"verl.plugins", "console_scripts"} <= {point.group for point in points}
(wheel,) = dist.glob("*.whl")
(sdist,) = dist.glob("*.tar.gz")
files = zipfile.ZipFile(wheel).namelist()
for wanted in ("py.typed", "testbed/checks/warm_start/model.safetensors"):
    assert f"verl_efficiency/{wanted}" in files, f"{wanted} is not in the wheel"
other = {name.split("/")[0] for name in files} - {"verl_efficiency"}
assert len(other) == 1, f"the wheel has more than the package: {other}"
names = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
text = importlib.metadata.metadata("verl-efficiency")["Description"]
relative = re.findall(r"\]\((?![a-z]+:|#)[^)]+\)", text)
assert not relative, f"links that do not work on a package index: {relative}"
def seconds(*command):
    """Processor time of a start, the least of three: the time by the clock says more about what else runs here."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)
python = sys.executable
start = seconds(python, "-c", "import verl_efficiency") - seconds(python, "-c", "pass")
print(f"wheel {wheel.stat().st_size / 1e3:.0f} kB, sdist {sdist.stat().st_size / 1e3:.0f} kB")
print(f"processor time: import verl_efficiency {1000 * start:.0f} ms beyond Python's own start,", end=" ")
print(f"verl-efficiency --help {seconds(Path(python).parent / 'verl-efficiency', '--help'):.2f} s")
CHECKS
