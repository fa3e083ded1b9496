#!/usr/bin/env bash
# Learns from the shortest KEEP of GROUP rollouts. GFPO keeps a quarter to a third of 16 to 24 (4 of 16 is in its text). More
# rollouts cost more to sample.
# `verl-efficiency methods gfpo` shows the settings; _common.sh explains the variables.
set -euo pipefail
source "$(dirname "$0")/_common.sh"

: "${GROUP:=16}"
train --efficiency.method gfpo --efficiency.keep "${KEEP:-$(((GROUP + 3) / 4))}" "$@"
