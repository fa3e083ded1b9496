#!/usr/bin/env bash
# Tokens over TARGET cost, at a price that rises while the mean length is over TARGET and falls otherwise.
# `verl-efficiency methods leash` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method leash --efficiency.target_length "${TARGET:-4096}" "$@"
