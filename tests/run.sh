#!/usr/bin/env bash
# The test command: installs what it needs into .venv and .venv-openrlhf, then lint, types, tests, and real training runs on the
# CPU. OpenRLHF's whole loop needs its own environment: bash tests/run_openrlhf.sh.
#
#   bash tests/run.sh                all of it
#   bash tests/run.sh tests/unit     only these tests, no lint
set -euo pipefail
cd "$(dirname "$0")/.."
source recipes/_environment.sh
environment "${VENV:-$PWD/.venv}" cpu,evaluation,smollm2,docs,dev

# verl 0.8.0 for the contract tests of estimators and rewards: the package alone, beside the dependencies of 0.9.1.
export VERL_EFFICIENCY_VERL080=${VERL_EFFICIENCY_VERL080:-$VIRTUAL_ENV/verl-0.8.0}
if [[ ! -d $VERL_EFFICIENCY_VERL080/verl ]]; then
  python -m pip install --quiet --no-deps --target "$VERL_EFFICIENCY_VERL080" verl==0.8.0
fi

export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
if (($#)); then
  exec python -m pytest "$@"
fi
ruff check .
ruff format --check .
mypy
# Two processes share the files: 2 cores are what CI has, and a training run leaves one of them idle half of the time.
python -m pytest -n 2 --dist loadfile --durations 40 --doctest-modules verl_efficiency tests
bash tests/run_openrlhf_light.sh
