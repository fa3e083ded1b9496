#!/usr/bin/env bash
# Kimi's length reward for correct answers only, with a tolerance, paused while accuracy is below its best.
# `verl-efficiency methods short_rl` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method short_rl "$@"
