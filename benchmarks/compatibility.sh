#!/usr/bin/env bash
# The compatibility table: the tests of each part, in an environment per Python and per version of verl.
#
#   bash benchmarks/compatibility.sh
#
#   PYTHONS="3.10 3.12"   which Pythons (default: 3.10 3.11 3.12; python3.X must be on the path,
#                         with pyenv: PATH=$(pyenv prefix 3.12)/bin:$PATH)
#   VERLS="0.8.0"         which versions of verl (default: 0.8.0 0.9.0 0.9.1); the last one on every Python, others on 3.11
#   WORK=folder           where the environments are made (default: .venv-compatibility, 3 GB each); what is there is used
set -euo pipefail
cd "$(dirname "$0")/.."
work=${WORK:-$PWD/.venv-compatibility}
newest=0.9.1
mkdir -p "$work"
for version in ${PYTHONS:-3.10 3.11 3.12}; do
  python=$work/base$version/bin/python
  if [[ ! -x $python ]]; then
    "python$version" -m venv "$work/base$version"
    "$python" -m pip install --quiet torch==2.13.0 . pytest pytest-timeout hypothesis packaging
  fi
  "$python" -m benchmarks.compatibility
  for verl in ${VERLS:-0.8.0 0.9.0 $newest}; do
    [[ $verl == "$newest" || $version == 3.11 ]] || continue
    python=$work/verl$version/bin/python
    if [[ ! -x $python ]]; then
      "python$version" -m venv "$work/verl$version"
      "$python" -m pip install --quiet torch==2.13.0 -e '.[cpu]' pytest pytest-timeout hypothesis packaging
    fi
    # An older verl: the package alone, in front of the newest one and beside its dependencies.
    path=$PWD
    if [[ $verl != "$newest" ]]; then
      [[ -d $work/verl-$verl ]] || "$python" -m pip install --quiet --no-deps --target "$work/verl-$verl" "verl==$verl"
      path=$PWD:$work/verl-$verl
    fi
    modules=
    [[ $verl == 0.8.* ]] && modules=verl_efficiency.verl.plugin
    PYTHONPATH=$path VERL_USE_EXTERNAL_MODULES=$modules "$python" -m benchmarks.compatibility
  done
done
