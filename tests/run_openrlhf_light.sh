#!/usr/bin/env bash
# The light tests of the OpenRLHF side, in their own environment: stock command line, rewards, experience, loss, recipes.
#
#   bash tests/run_openrlhf_light.sh            all of them
#   bash tests/run_openrlhf_light.sh -k reward  arguments of pytest
set -euo pipefail
cd "$(dirname "$0")/.."
source recipes/openrlhf/_environment.sh
light_environment "${OPENRLHF_VENV:-$PWD/.venv-openrlhf}"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONPATH=$PWD/recipes/openrlhf/cpu
exec python -m pytest -o addopts="-ra --strict-markers --import-mode=importlib" \
  --doctest-modules verl_efficiency/openrlhf verl_efficiency/data/openrlhf.py tests/openrlhf "$@"
