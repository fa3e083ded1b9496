#!/usr/bin/env bash
# Your own method. SHAPER is the path of a function (my_package.my_module.my_function) that can be imported here.
# `verl-efficiency methods custom` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method custom \
  --efficiency.shaper "${SHAPER:-verl_efficiency.methods.shaping.kimi.kimi}" "$@"
