#!/usr/bin/env bash
# Any of the length-shaped methods by name: SHAPER=kimi bash recipes/openrlhf/length_shaped.sh
# `verl-efficiency methods length_shaped` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method length_shaped --efficiency.shaper "${SHAPER:-arora}" "$@"
