#!/usr/bin/env bash
# An answer is compared with the shortest correct one that its problem has ever had (kept with the checkpoints).
# `verl-efficiency methods hapo` lists the settings. The variables are explained in _common.sh.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

train --efficiency.method hapo "$@"
