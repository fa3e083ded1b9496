#!/usr/bin/env bash
# The reward is divided by a factor that grows with the length relative to the group's mean.
# `verl-efficiency methods gr3` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method gr3 "$@"
