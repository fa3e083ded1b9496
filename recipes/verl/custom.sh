#!/usr/bin/env bash
# A method of your own: SHAPER is the path of a function (my_package.my_module.my_function) that can be imported here.
# `verl-efficiency methods custom` says what it takes and returns. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train algorithm.adv_estimator=custom \
  +algorithm.efficiency.shaper="${SHAPER:-verl_efficiency.methods.shaping.kimi.kimi}" "$@"
